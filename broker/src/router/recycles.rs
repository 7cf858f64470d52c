//! Operators who wait for the end of one process, which another one replaces.

use std::collections::BTreeMap;

use hornpipe_proto::control::{ControlResponse, RecycleOutcome, RecycleReport};

use super::control::Operator;
use super::notes::in_words;
use super::{Body, Router};
use crate::core::{Event, ExitReason, Note, Place, Services, Slot};

/// Never more than there are connections: whoever has left is forgotten with the next
/// who asks.
#[derive(Debug, Default)]
pub(super) struct Recycles {
    waiting: BTreeMap<Operator, Place>,
}

impl Recycles {
    /// Who has waited for the end of this process.
    fn ended(&mut self, place: Place) -> Vec<Operator> {
        self.waiting.extract_if(.., |_operator, awaited| *awaited == place).map(|(one, _)| one).collect()
    }
}

impl Router {
    /// `None` if the response is known only later.
    pub(super) fn obey_recycle(
        &mut self,
        operator: Operator,
        slot: Slot,
        wait: bool,
    ) -> Option<ControlResponse> {
        let Some(place) = self.core.serving_in(slot).last() else {
            return Some(ControlResponse::Refused { message: self.why_nothing_is_recycled(slot) });
        };
        if wait {
            let control = &self.sockets.control;
            self.recycles.waiting.retain(|operator, _place| control.knows(*operator));
            self.recycles.waiting.insert(operator, place);
        }
        self.pending.push_back(Event::Recycle { slot });
        self.settle();
        (!wait).then_some(ControlResponse::Recycle(RecycleReport {
            slot: slot.0,
            incarnation: place.incarnation.0,
            outcome: RecycleOutcome::Started,
        }))
    }

    fn why_nothing_is_recycled(&self, slot: Slot) -> String {
        let Slot(number) = slot;
        if self.core.has_slot(slot) {
            format!("no worker serves in slot {number}: another process is on its way already")
        } else {
            format!("there is no slot {number}")
        }
    }

    /// Answers those who have waited for the process that has ended.
    pub(super) fn tell_of_recycled(&mut self, place: Place, reason: &ExitReason) {
        for operator in self.recycles.ended(place) {
            let response = ControlResponse::Recycle(RecycleReport {
                slot: place.slot.0,
                incarnation: place.incarnation.0,
                outcome: RecycleOutcome::Ended {
                    reason: in_words(reason),
                    successor: successor(&self.core, place),
                },
            });
            self.sockets.control.respond(operator, &response);
        }
    }
}

/// What serves in the slot now, as far as anything does.
fn successor(core: &Services<Body>, place: Place) -> Option<u32> {
    core.serving_in(place.slot).filter(|other| *other != place).last().map(|other| other.incarnation.0)
}

/// The process whose end this is the news of.
pub(super) fn end(note: &Note) -> Option<(Place, &ExitReason)> {
    match note {
        Note::WorkerLeft { place, reason, .. } => Some((*place, reason)),
        _no_end => None,
    }
}
