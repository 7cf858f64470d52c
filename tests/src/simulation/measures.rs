//! What is timed and counted apart: the model measures the same by another hand, from what
//! it has seen go in and come out, and the sums must be equal to the nanosecond.

use std::time::Duration;

use hornpipe::core::{ExitKind, RequestId, Timestamp};

use super::books::{Asked, Sheet};
use super::model::Model;
use super::{Core, PROBE};

/// The model's own watch.
#[derive(Debug, Default)]
pub(super) struct Measures {
    /// Times from arrival to end, all together.
    pub(super) requests: Duration,
    /// Refusals in the step of the arrival: of those that were never admitted, and of some others.
    pub(super) refused_at_once: u64,
    /// Assignments, and the waits before them.
    pub(super) assigned: u64,
    /// Ends of requests that waited.
    pub(super) ended_waiting: u64,
    /// Waits of both, all together.
    pub(super) waits: Duration,
    /// Attempts that have ended, and how long they took.
    pub(super) attempts: u64,
    pub(super) processing: Duration,
    /// Connections with something in hand, after the last step.
    pub(super) in_hand: u32,
    /// How long there were such, all together.
    busy: Duration,
    /// Up to when that is counted.
    counted_until: Timestamp,
    /// Workers that became ready, and were not there before.
    pub(super) started: u64,
    pub(super) spawned: u64,
    pub(super) exited: u64,
    pub(super) returned: u64,
}

impl Model {
    /// Before anything is heard: what was in hand until now was so all the time.
    pub(super) fn count_busy(&mut self, now: Timestamp) {
        let passed = now.since(self.measures.counted_until);
        self.measures.busy += passed * self.measures.in_hand;
        self.measures.counted_until = now;
    }

    pub(super) fn check_measures(&self, core: &Core) {
        let (counters, own) = (core.counters(), &self.measures);
        let times = &counters.times;
        let ended = self.answered + self.refused + self.dropped;
        let (admitted, away) = (times.request.count(), counters.turned_away);
        law!(self, admitted + away == ended, "{admitted} timed and {away} turned away, of {ended}");
        law!(self, away <= own.refused_at_once, "{away} turned away, at most {}", own.refused_at_once);
        let sum = times.request.sum();
        law!(self, sum == own.requests, "requests took {sum:?}, not {:?}", own.requests);

        let (waits, least) = (times.queue_wait.count(), own.assigned + own.ended_waiting);
        let most = least + own.refused_at_once;
        law!(self, least <= waits && waits <= most, "{waits} waits, not {least} to {most}");
        let sum = times.queue_wait.sum();
        law!(self, sum == own.waits, "they waited {sum:?}, not {:?}", own.waits);

        let attempts = times.processing.count();
        law!(self, attempts == own.attempts, "{attempts} attempts have ended, not {}", own.attempts);
        let sum = times.processing.sum();
        law!(self, sum == own.processing, "attempts took {sum:?}, not {:?}", own.processing);

        let busy = core.busy_time(self.now);
        let busy = busy.local + busy.external;
        law!(self, busy == own.busy, "busy for {busy:?}, not {:?}", own.busy);

        let started = times.start.count();
        law!(self, started == own.started, "{started} starts are timed, not {}", own.started);
        law!(self, counters.spawned == own.spawned, "spawned {}, not {}", counters.spawned, own.spawned);
        law!(self, counters.exited == own.exited, "exited {}, not {}", counters.exited, own.exited);
        let exits: u64 = counters.exits().map(|(_kind, count)| count).sum();
        law!(self, exits == counters.exited, "{exits} ends by kind, of {}", counters.exited);
        law!(self, counters.exits().count() == ExitKind::ALL.len(), "a kind of end is missing");
        law!(self, counters.returned == own.returned, "returned {}, not {}", counters.returned, own.returned);
    }

    /// A worker has let go of what it had.
    pub(super) fn count_attempt(&mut self, sheet: &Sheet) {
        if sheet.request != PROBE {
            self.measures.attempts += 1;
            self.measures.processing += self.now.since(sheet.since);
        }
    }

    /// A request has had its last action.
    pub(super) fn measure_end(&mut self, request: RequestId, asked: &Asked) {
        let waits = self.waits(asked);
        self.measures.requests += asked.arrived.map(|arrived| self.now.since(arrived)).unwrap_or_default();
        let arrives = self.arrival.as_ref().is_some_and(|arrival| arrival.request == request);
        if arrives || asked.arrived.is_none() {
            self.measures.refused_at_once += 1;
        } else if waits {
            self.measures.ended_waiting += 1;
            self.measures.waits += self.now.since(asked.since);
        }
    }
}
