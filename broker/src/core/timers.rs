//! Every deadline of the core, in order. A timer is armed for one moment at
//! most: arming it again moves it, and what it waits for disarms it when it ends.

use std::collections::BTreeSet;

use hornpipe_proto::Token;
use rustc_hash::FxHashMap;

use super::ids::{Place, RequestId, Slot, Timestamp, WorkerId};
use super::room::give_back;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// The client waits no longer.
    Request(RequestId),
    /// It has waited long enough for a worker.
    Queue(RequestId),
    /// It has waited long enough for the worker of its affinity key.
    Affinity(RequestId),
    /// The worker has had its time.
    Attempt(Token),
    /// The next part of its reply should have come.
    Part(Token),
    /// The worker has ignored `cancel`.
    Cancelled(Token),
    /// What the worker was handed ahead of its time should have begun.
    Ahead(WorkerId),
    /// The worker that has this since an earlier router should have been heard of.
    Missed(Token),
    /// The connection of an ended process has still not said its end.
    LastWords(WorkerId),
    /// The worker should have given a sign of life.
    Silence(WorkerId),
    /// The process should be ready.
    Boot(Place),
    /// The process of an earlier router should have been heard.
    Adoption(Place),
    /// The process should be connected again.
    Reconnect(Place),
    /// The process has been stopped for too long.
    Halted(Place),
    /// The next step of making a process leave is due.
    Leaving(Place),
    /// The process should have answered its probe.
    Probe(Place),
    /// The first newcomer of a reload has lived long enough to trust the rest.
    Proven(Place),
    /// The process has lived long enough to trust its slot.
    Healthy(Place),
    /// The process is as old as it may be.
    Age(Place),
    /// The process may have been idle for as long as it may be.
    Idle(Place),
    /// The memory of a busy process is due to be measured.
    Memory(Place),
    /// The slot may be filled again.
    Backoff(Slot),
    /// Slots that back off may fork again.
    ForkRoom,
    /// A request may have waited so long that the pool grows.
    ScaleUp,
    /// Workers may have been idle for so long that the pool shrinks.
    ScaleDown,
    /// The idle workers are counted.
    SpareCheck,
    /// Every slot has been filled for long enough to say so.
    Mended,
    /// The first of the replies that are kept for repetitions may be forgotten.
    Keys,
    /// The drain time is over.
    Drain,
    /// What was accepted must be answered: the next router waits.
    HandOver,
    /// Clients that were answered last have had time to ask again.
    LastCall,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    order: BTreeSet<(Timestamp, Timer)>,
    armed: FxHashMap<Timer, Timestamp>,
}

impl Timers {
    pub(super) fn arm(&mut self, at: Timestamp, timer: Timer) {
        if let Some(earlier) = self.armed.insert(timer, at) {
            self.order.remove(&(earlier, timer));
        }
        self.order.insert((at, timer));
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        if let Some(at) = self.armed.remove(&timer) {
            self.order.remove(&(at, timer));
            give_back(&mut self.armed);
        }
    }

    /// Nothing that was awaited of this process matters any more.
    pub(super) fn disarm_process(&mut self, place: Place) {
        use Timer::{Adoption, Age, Boot, Halted, Healthy, Idle, Leaving, Memory, Probe, Proven, Reconnect};
        for timer in [Boot, Adoption, Reconnect, Halted, Leaving, Probe, Proven, Healthy, Age, Idle, Memory] {
            self.disarm(timer(place));
        }
    }

    pub(super) fn is_armed(&self, timer: Timer) -> bool {
        self.armed.contains_key(&timer)
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.armed.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _timer)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        let due = self.order.first().is_some_and(|(at, _timer)| *at <= now);
        let (_at, timer) = due.then(|| self.order.pop_first()).flatten()?;
        self.armed.remove(&timer);
        give_back(&mut self.armed);
        Some(timer)
    }
}
