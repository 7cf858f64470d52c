//! One service of several, where the router has to do with it.

use hornpipe_proto::control::ControlResponse;

use super::frame::Body;
use super::{Router, clock, reloads};
use crate::core::{Event, Note, ServiceId};
use crate::link::ToParent;

impl Router {
    /// The same with one event for one service, after all that is pending.
    pub(super) fn settle_in(&mut self, service: ServiceId, event: Event<Body>) {
        self.settle();
        self.core.handle_in(service, event, clock::now(), &mut self.decisions);
        self.settle();
    }

    /// The name of a service where it is said: that of the default one is not.
    pub(super) fn label(&self, service: ServiceId) -> Option<&str> {
        (service != ServiceId::DEFAULT).then(|| self.core.name(service))
    }

    /// What a reload means to those who wait for its end, should this be the end.
    pub(super) fn follow_reload(&mut self, service: ServiceId, note: &Note, last_words: Vec<String>) {
        if let Note::ReloadFinished { generation } = note {
            self.parent.send(ToParent::Settled { recipe: service.0, generation: generation.0 });
        }
        let core = self.core.core(service);
        if let Some(mut report) = core.and_then(|core| reloads::end(note, core, last_words)) {
            report.service = self.label(service).map(ToOwned::to_owned);
            self.reloads.record(service, &report, clock::wall());
            for (operator, report) in self.reloads.ended(service, &report) {
                self.sockets.control.respond(operator, &ControlResponse::Reload(report));
            }
        }
    }
}
