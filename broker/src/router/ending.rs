//! The end of a router: what it says of it, and to whom.

use tracing::{error, info};

use super::Router;
use crate::core::Finish;
use crate::link::ToParent;

impl Router {
    pub(super) fn finish(&mut self, finish: &Finish) {
        self.end_streams(finish);
        let exit_code = match finish {
            Finish::HandedOver => {
                self.exit_code = Some(0);
                return self.parent.send(ToParent::HandedOver);
            }
            Finish::Stopped => {
                info!("stopped");
                0
            }
            Finish::CannotExecute => {
                error!("workers cannot start: the program cannot be executed");
                3
            }
            Finish::CannotStart { spoke: true } => {
                error!("workers cannot start: see their last words above");
                3
            }
            Finish::CannotStart { spoke: false } => {
                let hint = self.setup.silent_workers_hint;
                error!(
                    "workers cannot start, and sent no message before they ended: see their last words above{hint}"
                );
                3
            }
        };
        self.exit_code = Some(exit_code);
        self.parent.send(ToParent::Finished { exit_code });
    }
}
