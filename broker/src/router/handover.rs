//! Making room for the next router: the frontend is not read while what was accepted is
//! finished, and at the very end what lies in its pipes is refused.
//!
//! Who connects meanwhile is accepted by the next router.

use hornpipe_proto::control::ControlResponse;

use super::control::Operator;
use super::{Router, clock};
use crate::core::Phase;

/// Somebody may send faster than he is refused; most have one request out.
const LATE_LIMIT: usize = 1_000_000;

/// What an upgrade means to this router.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Who asked for it, and has heard nothing yet.
    asker: Option<Operator>,
}

impl Router {
    pub(super) fn is_handing_over(&self) -> bool {
        matches!(self.core.phase(), Phase::HandingOver | Phase::HandedOver)
    }

    /// An operator wants another router. The answer comes when the parent has one to offer.
    pub(super) fn ask_for_upgrade(&mut self, operator: Operator) -> Option<ControlResponse> {
        if self.handover.asker.is_some() || self.is_handing_over() {
            return Some(ControlResponse::Refused { message: "another upgrade is under way".into() });
        }
        self.handover.asker = Some(operator);
        self.parent.send(crate::link::ToParent::Upgrade);
        None
    }

    /// Tells who asked for the upgrade what has come of it, as soon as that is known.
    pub(super) fn answer_asker(&mut self) {
        let refused = self.parent.upgrade_refused.take();
        let response = match refused {
            Some(message) => ControlResponse::Refused { message },
            None if self.is_handing_over() => ControlResponse::Upgrading,
            None => return,
        };
        if let Some(operator) = self.handover.asker.take() {
            self.sockets.control.respond(operator, &response);
        }
    }

    /// Refuses what has come too late, in a way that cannot be misunderstood: the refusal
    /// is held back in the kernel until the connection ends, so that a client learns of
    /// both at once. Told first, it would send its next request into a connection that
    /// nobody reads any more, and wait for ever.
    pub(super) fn part(&mut self) {
        let mut events = Vec::new();
        self.sockets.frontend.read_the_rest();
        for _message in 0..LATE_LIMIT {
            let Some(received) = self.sockets.frontend.receive(&mut self.frames) else { break };
            self.sockets.frontend.hold_back(received.connection);
            self.clients.read(&received, &mut self.frames, &mut events);
            self.pending.extend(events.drain(..));
            self.settle();
        }
        self.retry_clients(clock::now());
    }
}
