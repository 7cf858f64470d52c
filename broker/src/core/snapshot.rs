//! The state of everything, for `status`.

use std::sync::Arc;
use std::time::Duration;

use super::action::{ExitReason, Footprint};
use super::autoscale::Cause;
use super::busy_time::BusyTime;
use super::counters::Counters;
use super::crew::Worker;
use super::degraded::Degraded;
use super::flight::{Exit, Flight};
use super::ids::{Generation, Incarnation, Place, Slot, Timestamp, WorkerId};
use super::pause::PauseMode;
use super::processes::age;
use super::reload::is_renewed;
use super::roster::{Process, SlotRecord};
use super::worker_state::WorkerState;
use super::{Core, Phase};

#[derive(Debug, Clone)]
pub struct Snapshot {
    pub phase: Phase,
    pub phase_word: &'static str,
    pub pool: PoolSnapshot,
    pub queue: QueueSnapshot,
    pub counters: Counters,
    /// Requests with a worker whose client still waits.
    pub in_flight: u64,
    /// How long workers have held requests, all together.
    pub busy: BusyTime,
    pub workers: Vec<WorkerSnapshot>,
    pub external: Vec<ExternalSnapshot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolSnapshot {
    pub target: u32,
    pub min: u32,
    pub max: u32,
    pub ready: u32,
    pub processing: u32,
    pub generation: Generation,
    pub reload: Option<ReloadSnapshot>,
    /// Whether the target follows the load.
    pub autoscale: bool,
    pub last_change: Option<TargetChange>,
    /// What is missing, if anything is.
    pub degraded: Option<Degraded>,
    /// Whether requests are held back or refused, and for how long already.
    pub paused: Option<(PauseMode, Duration)>,
}

/// A reload under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadSnapshot {
    pub from: Generation,
    pub to: Generation,
    /// How many slots are of the new generation.
    pub renewed: u32,
}

/// The last change of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetChange {
    pub from: u32,
    pub to: u32,
    pub cause: Cause,
    pub ago: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueSnapshot {
    pub backlog_len: u64,
    /// Requests that wait for the run of another with the same key.
    pub joined: u64,
    pub backlog_limit: u64,
    pub held_bytes: u64,
    pub held_bytes_limit: u64,
    pub oldest: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSnapshot {
    pub service: Arc<str>,
    pub slot: Slot,
    pub pid: Option<i32>,
    pub incarnation: Incarnation,
    pub generation: Generation,
    /// `None` between two processes.
    pub state: Option<WorkerState>,
    pub age: Duration,
    pub served: u64,
    /// Its memory, once it was measured.
    pub footprint: Option<Footprint>,
    /// How long it has had its present request.
    pub processing: Option<Duration>,
    /// Which job of which connection that is, if it has one at a time.
    pub present: Option<(WorkerId, u64)>,
    /// Requests that it was handed ahead of their time and has not begun.
    pub ahead: u32,
    pub last_exit: Option<(ExitReason, Duration)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalSnapshot {
    /// `None` until it is known.
    pub service: Option<Arc<str>>,
    pub name: Option<String>,
    pub state: WorkerState,
    pub age: Duration,
    pub served: u64,
}

/// One slot, with what is recorded of it, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSnapshot {
    pub workers: Vec<WorkerSnapshot>,
    /// Processes that an earlier router started: what it gave them is not known.
    pub adopted: Vec<Incarnation>,
    pub exits: Vec<Exit>,
    /// Those that are over, then those under way.
    pub flights: Vec<Flight>,
}

/// The sizes of the core's tables.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    pub requests: usize,
    /// Requests in workers' hands, whether or not somebody still waits for them.
    pub held: usize,
    pub bytes: u64,
    pub keys: usize,
    pub affinities: usize,
    pub connections: usize,
    pub processes: usize,
    pub slots: usize,
    pub timers: usize,
    /// Slots of which anything is recorded, and the most requests recorded of one.
    pub recorders: usize,
    pub flights: usize,
}

impl<B: Clone> Core<B> {
    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn target(&self) -> u32 {
        self.pool.target
    }

    /// How far the reload is that is under way, if one is.
    pub fn reload_under_way(&self) -> Option<ReloadSnapshot> {
        let to = self.pool.reload.as_ref().map(|reload| reload.generation)?;
        let renewed = self.roster.wanted().filter(|(_slot, record)| is_renewed(record, to)).count();
        let renewed = u32::try_from(renewed).unwrap_or(u32::MAX);
        Some(ReloadSnapshot { from: self.pool.generation, to, renewed })
    }

    /// What serves, unless a reload has begun to replace it.
    pub fn generation(&self) -> Generation {
        self.pool.generation
    }

    /// The last generation ever begun.
    pub fn last_generation(&self) -> Generation {
        self.pool.last_generation
    }

    pub fn backlog_len(&self) -> usize {
        self.requests.backlog_len()
    }

    /// Requests that wait for the run of another with the same key.
    pub fn joined_len(&self) -> usize {
        self.keys.joined_len()
    }

    /// Whether somebody serves its requests, or is about to.
    pub fn has_workers(&self) -> bool {
        self.crew.anybody_serves() || self.pool.target > 0 && self.phase != Phase::Failing
    }

    /// How many workers are idle, and how many have a request in hand.
    pub fn occupations(&self) -> (usize, usize) {
        let count = |wanted| self.crew.iter().filter(|(_, worker)| worker.state() == wanted).count();
        (count(WorkerState::Waiting), count(WorkerState::Processing))
    }

    /// Requests with a worker whose client still waits.
    pub fn in_flight_len(&self) -> usize {
        self.requests.in_flight_len()
    }

    /// How long workers have held requests, all together, up to now.
    pub fn busy_time(&self, now: Timestamp) -> BusyTime {
        self.crew.busy_time(now)
    }

    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let workers: Vec<_> =
            self.roster.slots().flat_map(|(slot, record)| self.slot(slot, record, now)).collect();
        let external: Vec<_> = self
            .crew
            .iter()
            .filter(|(id, _worker)| self.crew.place_of(*id).is_none())
            .map(|(_id, worker)| ExternalSnapshot {
                service: Some(Arc::clone(&self.settings.service)),
                name: worker.name.clone(),
                state: worker.state(),
                age: now.since(worker.joined),
                served: worker.served,
            })
            .collect();
        let states =
            || workers.iter().filter_map(|worker| worker.state).chain(external.iter().map(|one| one.state));
        let count = |wanted: WorkerState| states().filter(|state| *state == wanted).count();
        let counted = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let processing = count(WorkerState::Processing);
        Snapshot {
            phase: self.phase,
            phase_word: self.phase_word(),
            pool: PoolSnapshot {
                target: self.pool.target,
                min: self.settings.min,
                max: self.settings.max,
                ready: counted(processing + count(WorkerState::Waiting)),
                processing: counted(processing),
                generation: self.pool.generation,
                reload: self.reload_under_way(),
                autoscale: self.settings.autoscale.is_some() || self.settings.spares.is_some(),
                last_change: self.pool.last_change.map(|change| TargetChange {
                    from: change.from,
                    to: change.to,
                    cause: change.cause,
                    ago: now.since(change.at),
                }),
                degraded: self.degraded(),
                paused: self.paused_for(now),
            },
            queue: QueueSnapshot {
                backlog_len: self.requests.backlog_len() as u64,
                joined: self.keys.joined_len() as u64,
                backlog_limit: self.settings.backlog_limit as u64,
                held_bytes: self.requests.held_bytes(),
                held_bytes_limit: self.settings.held_bytes_limit,
                oldest: self.requests.oldest_waiting().map(|since| now.since(since)),
            },
            counters: self.counters.clone(),
            in_flight: self.requests.in_flight_len() as u64,
            busy: self.busy_time(now),
            workers,
            external,
        }
    }

    /// Whether there is such a slot.
    pub fn has_slot(&self, slot: Slot) -> bool {
        self.roster.slot(slot).is_some()
    }

    /// Everything about one slot, also of a closed one while it is remembered.
    pub fn slot_snapshot(&self, slot: Slot, now: Timestamp) -> Option<SlotSnapshot> {
        let record = self.roster.slot(slot);
        if record.is_none() && !self.recorder.knows(slot) {
            return None;
        }
        let processes = || record.into_iter().flat_map(|record| &record.processes);
        let mut flights: Vec<Flight> = self.recorder.flights(slot).cloned().collect();
        for (incarnation, _process) in processes() {
            flights.extend(self.flights_under_way(Place { slot, incarnation: *incarnation }, now));
        }
        let adopted = processes().filter(|(_, process)| process.adopted).map(|(incarnation, _)| *incarnation);
        Some(SlotSnapshot {
            workers: record.map(|record| self.slot(slot, record, now)).unwrap_or_default(),
            adopted: adopted.collect(),
            exits: self.recorder.exits(slot).cloned().collect(),
            flights,
        })
    }

    fn slot(&self, slot: Slot, record: &SlotRecord, now: Timestamp) -> Vec<WorkerSnapshot> {
        let last_exit = record.last_exit.as_ref().map(|(reason, at)| (reason.clone(), now.since(*at)));
        if record.processes.is_empty() {
            return vec![WorkerSnapshot {
                service: Arc::clone(&self.settings.service),
                slot,
                pid: None,
                incarnation: self.roster.last_incarnation(slot),
                generation: self.pool.generation,
                state: None,
                age: Duration::ZERO,
                served: 0,
                footprint: None,
                processing: None,
                present: None,
                ahead: 0,
                last_exit,
            }];
        }
        let one = |(incarnation, process): (&Incarnation, &Process)| {
            let worker = process.worker.and_then(|worker| self.crew.worker(worker));
            WorkerSnapshot {
                service: Arc::clone(&self.settings.service),
                slot,
                pid: process.pid,
                incarnation: *incarnation,
                generation: process.generation,
                state: Some(state(process, worker)),
                age: age(process, now),
                served: process.served,
                footprint: process.footprint(),
                processing: worker
                    .and_then(|worker| self.processing_since(worker))
                    .map(|since| now.since(since)),
                present: process.worker.zip(worker.and_then(Worker::present)),
                ahead: worker.map_or(0, |worker| u32::try_from(worker.ahead().len()).unwrap_or(u32::MAX)),
                last_exit: last_exit.clone(),
            }
        };
        record.processes.iter().map(one).collect()
    }

    fn processing_since(&self, worker: &Worker) -> Option<Timestamp> {
        let held = worker.held().filter_map(|token| self.requests.held(token));
        held.filter(|held| !held.ahead).map(|held| held.since).min()
    }

    /// The process that is to be in that place: its generation, and its pid once it runs.
    pub fn process(&self, place: Place) -> Option<(Generation, Option<i32>)> {
        self.roster.process(place).map(|process| (process.generation, process.pid))
    }

    /// Where the process stands, for whoever finds it in the log.
    pub fn pid_of(&self, place: Place) -> Option<i32> {
        self.roster.process(place).and_then(|process| process.pid)
    }
}

fn state(process: &Process, worker: Option<&Worker>) -> WorkerState {
    if process.is_leaving() && worker.is_none_or(|worker| !worker.is_busy()) {
        return WorkerState::Exiting;
    }
    let proven = worker.filter(|worker| !worker.is_unproven());
    proven.map_or(WorkerState::Starting, Worker::state)
}
