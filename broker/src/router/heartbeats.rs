//! The broker's own heartbeats, to workers whose protocols have them.
//!
//! Each such worker has one moment at which it is next due, so a turn of the loop has as much
//! to do as is due, and a bounded part of that. Who has not been heard for a while gets none: it
//! is busy and does not read, and they would pile up in its connection.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::{Timestamp, WorkerId};

/// At most so many in one turn of the loop; what is due beyond that follows in the next.
const BATCH: usize = 256;

/// So many intervals of silence, and a worker is left in peace until it is heard again.
const LIVENESS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    pulses: BTreeMap<WorkerId, Pulse>,
    due: BTreeSet<(Timestamp, WorkerId)>,
}

#[derive(Debug, Clone, Copy)]
struct Pulse {
    interval: Duration,
    heard: Timestamp,
    /// When it gets the next one; `None` while it is silent.
    due: Option<Timestamp>,
}

impl Heartbeats {
    /// It has said something, and is one of those that expect heartbeats so often.
    pub(super) fn hear(&mut self, worker: WorkerId, interval: Duration, now: Timestamp) {
        let due = now.after(interval);
        let pulse = self.pulses.entry(worker).or_insert(Pulse { interval, heard: now, due: None });
        pulse.heard = now;
        if pulse.due.is_none() {
            pulse.due = Some(due);
            self.due.insert((due, worker));
        }
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        if let Some(due) = self.pulses.remove(&worker).and_then(|pulse| pulse.due) {
            self.due.remove(&(due, worker));
        }
    }

    /// Who is to get one now.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<WorkerId> {
        let mut all = Vec::new();
        while all.len() < BATCH
            && let Some((at, worker)) = self.due.first().copied().filter(|(at, _)| *at <= now)
        {
            self.due.remove(&(at, worker));
            let Some(pulse) = self.pulses.get_mut(&worker) else { continue };
            let silent = pulse.heard.after(pulse.interval * LIVENESS) < now;
            pulse.due = (!silent).then(|| now.after(pulse.interval));
            if let Some(next) = pulse.due {
                self.due.insert((next, worker));
                all.push(worker);
            }
        }
        all
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _worker)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_worker_that_is_heard_gets_one_each_interval() {
        let mut beats = Heartbeats::default();
        beats.hear(WorkerId(1), INTERVAL, at(10));
        assert_eq!(beats.next_deadline(), Some(at(11)));
        assert_eq!(beats.take_due(at(10)), []);
        for second in 11..20 {
            beats.hear(WorkerId(1), INTERVAL, at(second));
            assert_eq!(
                beats.take_due(at(second)),
                [WorkerId(1)],
                "hearing more of it brings no more of them"
            );
            assert_eq!(beats.take_due(at(second)), []);
        }
        beats.forget(WorkerId(1));
        assert_eq!((beats.next_deadline(), beats.take_due(at(99))), (None, vec![]));
    }

    #[test]
    fn one_that_is_silent_is_left_in_peace_until_it_is_heard() {
        let mut beats = Heartbeats::default();
        beats.hear(WorkerId(1), INTERVAL, at(10));
        let sent: usize = (11..1000).map(|second| beats.take_due(at(second)).len()).sum();
        assert!(sent <= 4, "{sent} wait for it");
        assert_eq!(beats.next_deadline(), None, "nothing is to be done for it");
        beats.hear(WorkerId(1), INTERVAL, at(1000));
        assert_eq!(beats.take_due(at(1001)), [WorkerId(1)]);
    }

    #[test]
    fn many_at_once_are_several_turns() {
        let mut beats = Heartbeats::default();
        for number in 0..1000 {
            beats.hear(WorkerId(number), INTERVAL, at(10));
        }
        let mut turns = Vec::new();
        while beats.next_deadline() == Some(at(11)) {
            turns.push(beats.take_due(at(11)).len());
        }
        assert_eq!(turns, [256, 256, 256, 232]);
    }
}
