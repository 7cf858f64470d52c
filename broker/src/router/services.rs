//! One service of several, where the router has to do with it.

use super::frame::Body;
use super::{Router, clock};
use crate::core::{Event, ServiceId};

impl Router {
    /// The same with one event for one service, after all that is pending.
    pub(super) fn settle_in(&mut self, service: ServiceId, event: Event<Body>) {
        self.settle();
        let mut decisions = std::mem::take(&mut self.decisions);
        self.core.handle_in(service, event, clock::now(), &mut decisions);
        self.perform_all(decisions);
        self.settle();
    }

    /// The name of a service where it is said: that of the default one is not.
    pub(super) fn label(&self, service: ServiceId) -> Option<&str> {
        (service != ServiceId::DEFAULT).then(|| self.core.name(service))
    }
}
