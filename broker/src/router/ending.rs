//! The end of a router's work: what is said of it, and with what the broker exits.

use tracing::{error, info};

use super::Router;
use crate::core::{Finish, ServiceId};
use crate::link::ToParent;

impl Router {
    pub(super) fn finish(&mut self, service: ServiceId, finish: &Finish) {
        self.end_streams(finish);
        let label = self.label(service);
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
                error!(service = label, "workers cannot start: the program cannot be executed");
                3
            }
            Finish::CannotStart { spoke: true } => {
                error!(service = label, "workers cannot start: see their last words above");
                3
            }
            Finish::CannotStart { spoke: false } => {
                let hint = self.setup.service(service).map_or("", |service| service.silent_workers_hint);
                error!(
                    service = label,
                    "workers cannot start, and sent no message before they ended: see their last words above{hint}"
                );
                3
            }
        };
        self.exit_code = Some(exit_code);
        self.parent.send(ToParent::Finished { exit_code });
    }
}
