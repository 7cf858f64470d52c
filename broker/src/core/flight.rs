//! The flight recorder: the last requests of each slot, and how its last processes
//! ended. Which request killed my worker?

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::Status;

use super::Core;
use super::action::ExitReason;
use super::crew::Worker;
use super::ids::{ClientId, Place, RequestId, Slot, Timestamp};
use super::loss::Loss;
use super::requests::Held;
use super::roster::{Process, Roster};

/// Flights of one slot.
const FLIGHTS: usize = 64;

/// Ends of processes of one slot.
const EXITS: usize = 8;

/// Recorders of slots that are closed.
const CLOSED: usize = 16;

/// One request in the hands of one process of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    pub place: Place,
    pub request: RequestId,
    /// The client's own name for it, if it gave one.
    pub name: Option<Arc<str>>,
    pub client: ClientId,
    pub attempt: u32,
    /// Bytes of its body.
    pub size: u64,
    /// Bytes of the reply's.
    pub reply_size: Option<u64>,
    /// In the queue, before this attempt.
    pub wait: Duration,
    /// With the worker.
    pub run: Duration,
    /// `None` while the worker has it.
    pub outcome: Option<Outcome>,
    /// Bytes that the process had for itself, as last measured before and after.
    pub memory: (Option<u64>, Option<u64>),
}

/// How an attempt ended, seen from its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// The client has heard this, from the worker or before it let go.
    Refused(Status),
    /// Another worker is to try it.
    Retry,
    /// Nobody waited any more.
    Dropped,
    Lost(Loss),
}

/// What is known of a request when a worker gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) request: RequestId,
    pub(super) name: Option<Arc<str>>,
    pub(super) client: ClientId,
    pub(super) size: u64,
    pub(super) wait: Duration,
    pub(super) memory: Option<u64>,
}

/// How a process of a slot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub place: Place,
    pub pid: Option<i32>,
    pub reason: ExitReason,
    pub at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Recorder {
    slots: BTreeMap<Slot, Recording>,
}

/// What is kept of one slot, oldest first.
#[derive(Debug)]
struct Recording {
    flights: VecDeque<Flight>,
    exits: VecDeque<Exit>,
    /// When anything was added.
    latest: Timestamp,
}

impl Recording {
    fn new() -> Self {
        Self {
            flights: VecDeque::with_capacity(FLIGHTS),
            exits: VecDeque::new(),
            latest: Timestamp::default(),
        }
    }
}

fn push<T>(ring: &mut VecDeque<T>, limit: usize, one: T) {
    if ring.len() >= limit {
        ring.pop_front();
    }
    ring.push_back(one);
}

impl Recorder {
    pub(super) fn flights(&self, slot: Slot) -> impl DoubleEndedIterator<Item = &Flight> {
        self.slots.get(&slot).into_iter().flat_map(|recording| &recording.flights)
    }

    pub(super) fn exits(&self, slot: Slot) -> impl Iterator<Item = &Exit> {
        self.slots.get(&slot).into_iter().flat_map(|recording| &recording.exits)
    }

    pub(super) fn knows(&self, slot: Slot) -> bool {
        self.slots.contains_key(&slot)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The longest ring, for tests that look for leaks.
    pub(super) fn longest(&self) -> usize {
        self.slots.values().map(|recording| recording.flights.len()).max().unwrap_or(0)
    }

    pub(super) fn exit(&mut self, exit: Exit) {
        let recording = self.slots.entry(exit.place.slot).or_insert_with(Recording::new);
        recording.latest = exit.at;
        push(&mut recording.exits, EXITS, exit);
    }

    /// Forgets closed slots, the longest silent first, while there are too many.
    pub(super) fn prune(&mut self, roster: &Roster) {
        while self.slots.len() > roster.slots_len() + CLOSED {
            let closed = self.slots.iter().filter(|(slot, _)| roster.slot(**slot).is_none());
            let oldest = closed.min_by_key(|(slot, recording)| (recording.latest, **slot));
            let Some(slot) = oldest.map(|(slot, _)| *slot) else { return };
            self.slots.remove(&slot);
        }
    }
}

/// Bytes that the process had for itself when it was last measured.
pub(super) fn memory_of(roster: &Roster, place: Place) -> Option<u64> {
    roster.process(place).and_then(Process::footprint).map(|footprint| footprint.private_bytes)
}

impl Held {
    /// `None` for a probe, which is nobody's request.
    fn flight(&self, place: Place, outcome: Option<Outcome>, now: Timestamp) -> Option<Flight> {
        let plan = self.plan.as_ref()?;
        Some(Flight {
            place,
            request: plan.request,
            name: plan.name.clone(),
            client: plan.client,
            attempt: self.attempt,
            size: plan.size,
            reply_size: None,
            wait: plan.wait,
            run: now.since(self.since),
            outcome,
            memory: (plan.memory, None),
        })
    }
}

impl<B: Clone> Core<B> {
    /// The worker has let go of a request. What its client heard before goes before what
    /// became of it.
    pub(super) fn record_flight(
        &mut self,
        held: &Held,
        outcome: Outcome,
        reply_size: Option<u64>,
        now: Timestamp,
    ) {
        if held.plan.is_some() {
            self.counters.times.processing.observe(now.since(held.since));
        }
        let Some(place) = self.crew.place_of(held.worker) else { return };
        let outcome = held.outcome.clone().unwrap_or(outcome);
        let Some(mut flight) = held.flight(place, Some(outcome), now) else { return };
        flight.reply_size = reply_size;
        flight.memory.1 = memory_of(&self.roster, place);
        let recording = self.recorder.slots.entry(place.slot).or_insert_with(Recording::new);
        recording.latest = now;
        push(&mut recording.flights, FLIGHTS, flight);
    }

    /// What the process holds at this moment.
    pub(super) fn flights_under_way(&self, place: Place, now: Timestamp) -> Vec<Flight> {
        let workers = self.crew.of(place);
        let tokens = workers.iter().filter_map(|worker| self.crew.worker(*worker)).flat_map(Worker::held);
        // What it has not begun has not been under way.
        let held = tokens.filter_map(|token| self.requests.held(token)).filter(|held| !held.ahead);
        held.filter_map(|held| held.flight(place, held.outcome.clone(), now)).collect()
    }

    /// What the process had last, oldest first.
    pub(super) fn flights_before(&self, place: Place, count: usize) -> Vec<Flight> {
        let of_it = self.recorder.flights(place.slot).rev().filter(|flight| flight.place == place);
        let mut last: Vec<Flight> = of_it.take(count).cloned().collect();
        last.reverse();
        last
    }
}
