//! WHAT TO DO. Events and the time go in, actions come out.
//!
//! The core cannot block, fail, read a clock, touch a socket or fork. Bodies
//! pass through as `B` and are never looked at. Everything it decides is played
//! by the simulation in `tests/`, against a model that counts from both sides.

mod event;
mod action;
mod ids;
mod settings;
mod requests;
mod record;
mod admission;
mod askers;
mod backlog;
mod lines;
mod few;
mod affinity;
mod withdrawal;
mod parts;
mod deadlines;
mod keys;
mod journal;
mod inherited;
mod held;
mod holding;
mod loss;
mod quarantine;
mod flight;
mod ended;
mod dispatch;
mod prefetch;
mod crew;
mod worker;
mod withheld;
mod busy_time;
mod speaking;
mod liveness;
mod worker_state;
mod roster;
mod processes;
mod leaving;
mod pool;
mod configure;
mod autoscale;
mod spares;
mod fork_room;
mod degraded;
mod telling;
mod reload;
mod recycle;
mod probe;
mod pause;
mod stopping;
mod handover;
mod backoff;
mod timers;
mod room;
mod generator;
mod counters;
mod histograms;
mod exit_kind;
mod readiness;
mod snapshot;
mod services;
mod placement;

pub use action::{
    Action, Assignment, ExitReason, Finish, Footprint, LastFlights, Memory, Note, Probe, RecycleCause, Spent,
};
pub use affinity::AFFINITY_KEYS;
pub use autoscale::Cause;
pub use backlog::AGING;
pub use busy_time::BusyTime;
pub use counters::{Counters, Reloads};
pub use degraded::Degraded;
pub use ended::Ended;
pub use event::{Details, Ending, Event, Home, Request, Speech, Stop, Wants};
pub use exit_kind::ExitKind;
pub use flight::{Exit, Flight, Outcome};
pub use generator::Generator;
pub use histograms::{BOUNDS_US, Histogram, Times};
pub use ids::{ClientId, Generation, Incarnation, Place, RequestId, ServiceId, Slot, Timestamp, WorkerId};
pub use journal::{Begun, Entry, Holder};
pub use loss::{Attempt, DeathCause, Fate, Loss};
pub use parts::{KEPT_PARTS, WINDOW};
pub use pause::{Pause, PauseMode};
pub use placement::Placement;
pub use prefetch::MAX_AHEAD;
pub use quarantine::{Poisoned, Quarantine};
pub use readiness::Unready;
pub use services::{Decision, MAX_SERVICES, SLOTS_APART, ServiceSnapshot, Services};
pub use settings::{AutoscaleRules, DEFAULT_SERVICE, MAX_CREDITS, MAX_WORKERS, Settings, SpareRules};
pub use snapshot::{
    ExternalSnapshot, PoolSnapshot, QueueSnapshot, ReloadSnapshot, SlotSnapshot, Snapshot, Tables,
    TargetChange, WorkerSnapshot,
};
pub use stopping::Phase;
pub use telling::Telling;
pub use worker_state::WorkerState;

pub(crate) use room::give_back;

use hornpipe_proto::Token;

use admission::Pace;
use crew::Crew;
use flight::Recorder;
use keys::Keys;
use pool::Pool;
use requests::Requests;
use roster::Roster;
use timers::{Timer, Timers};

/// The decisions of one broker.
#[derive(Debug)]
pub struct Core<B> {
    settings: Settings,
    phase: Phase,
    pause: Option<Pause>,
    requests: Requests<B>,
    keys: Keys<B>,
    pace: Pace,
    quarantine: Quarantine<B>,
    /// Requests whose time is over, and of which it is not known whether a worker has begun them.
    overdue: Vec<RequestId>,
    recorder: Recorder,
    crew: Crew,
    roster: Roster,
    pool: Pool,
    timers: Timers,
    counters: Counters,
    generator: Generator,
}

/// One event being handled: when, and what follows from it.
#[derive(Debug)]
pub(super) struct Turn<'a, B> {
    now: Timestamp,
    actions: &'a mut Vec<Action<B>>,
}

impl<B> Turn<'_, B> {
    fn act(&mut self, action: Action<B>) {
        self.actions.push(action);
    }

    fn note(&mut self, note: Note) {
        self.actions.push(Action::Note(note));
    }
}

impl<B: Clone> Core<B> {
    /// A broker that has no workers yet: the first event, which may be `Tick`,
    /// makes it ask for them. `memory` is what an earlier router left behind.
    pub fn new(settings: Settings, generator: Generator, memory: Option<&Memory>) -> Self {
        let mut crew = Crew::default();
        crew.set_prefetch(settings.prefetch);
        let mut requests = Requests::default();
        if settings.autoscale.is_some() {
            requests.keep_ages();
        }
        Self {
            pool: Pool::new(&settings, memory),
            roster: Roster::new(settings.first_slot, memory),
            settings,
            phase: Phase::Starting,
            pause: memory.and_then(|memory| memory.pause),
            requests,
            keys: Keys::default(),
            pace: Pace::default(),
            quarantine: Quarantine::default(),
            overdue: Vec::new(),
            recorder: Recorder::default(),
            crew,
            timers: Timers::default(),
            counters: Counters::default(),
            generator,
        }
    }

    /// Takes in one event. Perform `actions` in order, then come back.
    pub fn handle(&mut self, event: Event<B>, now: Timestamp, actions: &mut Vec<Action<B>>) {
        let turn = &mut Turn { now, actions };
        if let Some(worker) = event.speaker() {
            self.crew.hear(worker, now);
        }
        match event {
            Event::Request(request) => self.admit(request, turn),
            Event::UnreadableRequest { request, why } => self.refuse_unreadable(request, why, turn),
            Event::IgnoredClientMessage => self.counters.ignored_clients += 1,
            Event::ClientLeft { client } => self.client_left(client, turn),
            Event::Cancel { client, name } => self.cancel_named(client, &name, turn),
            Event::CancelKey { key, .. } => self.cancel_key(&key, turn),
            Event::Delivered { request, parts } => self.parts_delivered(request, parts, turn),
            Event::PartUndelivered { request } => self.part_undelivered(request, turn),
            Event::Joined { worker, home } => self.worker_joined(worker, home, turn),
            Event::Hello { worker, details } => self.worker_hello(worker, &details, turn),
            Event::Waiting { worker, speech } => self.worker_waiting(worker, &speech, turn),
            Event::Processing { worker, speech } => self.worker_processing(worker, &speech, turn),
            Event::Exiting { worker, speech, reason, ending } => {
                self.worker_exiting(worker, &speech, (reason, ending), turn);
            }
            Event::Reply { worker, token, status, message, size, body } => {
                self.worker_replied(worker, token, (status, message, size, body), turn);
            }
            Event::Part { worker, token, size, body } => {
                self.worker_sent_part((worker, token), (size, body), turn);
            }
            Event::StrayReply { worker } => self.stale_reply(worker, turn),
            Event::OutOfTurn { worker } => self.worker_out_of_turn(worker, turn),
            Event::Malformed { worker } => self.worker_malformed(worker, turn),
            Event::WorkerLeft { worker } => self.worker_left(worker, turn),
            Event::WorkersLeft { workers } => {
                // Nothing is handed out before the end of the turn.
                for worker in workers {
                    self.worker_left(worker, turn);
                }
            }
            Event::Undelivered { worker, token } => self.undelivered(worker, token, turn),
            Event::Withdrawn { worker, begun } => self.worker_withdrawn(worker, begun, turn),
            Event::Stranger => self.counters.strangers += 1,
            Event::Recalled { key, entry, .. } => {
                self.recall(key, entry);
                return;
            }
            Event::Adopted { place, generation, pid, started } => {
                self.process_adopted(place, generation, (pid, started), turn);
                // Others may follow: until all are known, their slots would count as empty.
                return;
            }
            Event::Started { place, pid } => self.process_started(place, pid, turn),
            Event::NotStarted { place, why } => {
                self.process_ended(place, &ExitReason::NotStarted(why), turn);
            }
            Event::Halted { place } => self.process_halted(place, turn),
            Event::Continued { place } => self.process_continued(place, turn),
            Event::Exited { place, ending } => self.process_ended(place, &ending.into(), turn),
            Event::Measured { place, footprint } => self.measured(place, footprint, turn),
            Event::Grow => self.scale_by(1, turn),
            Event::Shrink => self.scale_by(-1, turn),
            Event::ScaleTo { target } => self.scale_to(target, turn),
            Event::ScaleBy { change } => self.scale_by(change, turn),
            Event::Configure { settings } => self.configure(*settings, turn),
            Event::Reload { surge } => self.reload(surge, turn),
            Event::Recycle { slot } => self.recycle(slot, turn),
            Event::Pause { mode } => self.pause_pool(mode, turn),
            Event::Resume => self.resume_pool(turn),
            Event::Stop(stop) => self.stop(stop, turn),
            Event::RetryPoison { number, request } => self.retry_poison(number, request, turn),
            Event::DropPoison { number } => self.drop_poison(number),
            Event::DropAllPoison => self.drop_all_poison(),
            Event::HandOver => self.hand_over_pool(turn),
            // That somebody waits for a service is a matter of the services, and that a worker
            // lives has been noted.
            Event::Sought { service: _ } | Event::Heartbeat { worker: _ } | Event::Tick => (),
        }
        self.miss_the_gone(turn);
        self.fire_timers(turn);
        self.assess_pool(turn);
        self.assess_pause(turn);
        self.journal_freed(turn);
        self.dispatch(turn);
        self.follow_load(turn);
        self.balance(turn);
        if self.crew.some_have_ceased() {
            // What waited for them goes to others, who may be idle.
            self.dispatch(turn);
        }
        self.dispatch_ahead(turn);
        self.assess_health(turn);
        self.assess_stop(turn);
        self.assess_handover(turn);
        self.journal_freed(turn);
        self.tell_capacities(turn);
        self.debug_check();
    }

    /// When `Tick` must be sent at the latest.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// How many things the core keeps in mind, for tests that look for leaks.
    #[doc(hidden)]
    pub fn tables(&self) -> Tables {
        Tables {
            requests: self.requests.len() + self.keys.joined_len(),
            keys: self.keys.len(),
            held: self.requests.all_held_len(),
            bytes: self.requests.held_bytes(),
            affinities: self.requests.backlog.affinities.len(),
            connections: self.crew.len(),
            processes: self.roster.processes().count(),
            slots: self.roster.slots().count(),
            timers: self.timers.len(),
            recorders: self.recorder.len(),
            flights: self.recorder.longest(),
        }
    }

    /// Whether this connection could take a request, now or later: what a test cannot see
    /// from outside while a busy worker is to leave after its request.
    #[doc(hidden)]
    pub fn serves(&self, worker: WorkerId) -> bool {
        self.crew.worker(worker).is_some_and(crew::Worker::serves)
    }

    /// The slots there are, and whether each of them is empty.
    #[doc(hidden)]
    pub fn slots(&self) -> impl Iterator<Item = (Slot, bool)> {
        self.roster.slots().map(|(slot, record)| (slot, record.processes.is_empty()))
    }

    /// Whether a worker has something under this token in its hands.
    pub fn holds(&self, token: Token) -> bool {
        self.requests.held(token).is_some()
    }

    /// Whether the request is not over, with a client or without one.
    #[doc(hidden)]
    pub fn knows(&self, request: RequestId) -> bool {
        self.requests.record(request).is_some()
    }

    /// The key that it came with.
    #[doc(hidden)]
    pub fn key_of(&self, request: RequestId) -> Option<std::sync::Arc<str>> {
        self.requests.record(request)?.key().cloned()
    }

    /// How often each class has been passed over in a row, the highest first.
    #[doc(hidden)]
    pub fn passed_over(&self) -> [u32; 3] {
        self.requests.backlog.passed_over()
    }

    fn fire_timers(&mut self, turn: &mut Turn<'_, B>) {
        while let Some(timer) = self.timers.pop_due(turn.now) {
            match timer {
                Timer::Request(request) => self.request_deadline(request, turn),
                Timer::Queue(request) => self.queue_deadline(request, turn),
                Timer::Affinity(request) => self.requests.open_to_all(request),
                Timer::Attempt(token) => self.attempt_deadline(token, turn),
                Timer::Part(token) => self.part_deadline(token, turn),
                Timer::Cancelled(token) => self.cancel_ignored(token, turn),
                Timer::Ahead(worker) => self.ahead_deadline(worker, turn),
                Timer::Missed(token) => self.miss(token, &Loss::Disconnected, turn),
                Timer::LastWords(worker) => self.connection_over(worker, turn),
                Timer::Silence(worker) => self.silence_deadline(worker, turn),
                Timer::Boot(place) => self.boot_deadline(place, turn),
                Timer::Adoption(place) => self.adoption_deadline(place, turn),
                Timer::Reconnect(place) => self.reconnect_deadline(place, turn),
                Timer::Halted(place) => self.halt_deadline(place, turn),
                Timer::Leaving(place) => self.leaving_deadline(place, turn),
                Timer::Probe(place) => self.probe_deadline(place, turn),
                Timer::Proven(place) => self.newcomer_proven(place, turn),
                Timer::Healthy(place) => self.roster.forgive(place),
                Timer::Age(place) => self.age_deadline(place, turn),
                Timer::Idle(place) => self.idle_deadline(place, turn),
                Timer::Memory(place) => self.memory_deadline(place, turn),
                Timer::Backoff(_slot) => self.roster.disturb(),
                Timer::ForkRoom => self.roster.disturb(),
                Timer::ScaleUp => self.pool.autoscale.up_timer_fired(),
                Timer::ScaleDown => self.pool.autoscale.down_timer_fired(),
                // The idle are counted in this turn.
                Timer::SpareCheck => (),
                Timer::Mended => self.mended(turn),
                Timer::Keys => self.forget_replies(turn.now),
                Timer::Drain => self.stop(Stop::Now, turn),
                Timer::HandOver => self.handover_deadline(turn),
                Timer::LastCall => self.last_call_is_over(turn),
            }
        }
    }

    fn debug_check(&self) {
        if cfg!(debug_assertions) {
            self.requests.check();
            self.crew.check(&self.requests);
            self.roster.check(&self.crew);
            debug_assert!(
                self.next_match().is_none() || !self.dispatches(),
                "an idle worker while a request waits"
            );
        }
    }
}

#[cfg(test)]
mod tests;
