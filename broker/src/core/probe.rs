//! A reload's processes may have to prove themselves: each is sent one request of
//! the broker's own when it says that it is ready, and gets no other before it
//! has answered. One that fails ends the reload.

use hornpipe_proto::Token;
use hornpipe_proto::worker::ReplyStatus;

use super::action::{Action, ExitReason, Note, Probe};
use super::crew::{Tongue, Worker};
use super::held::{Held, OnceBegun};
use super::ids::{Place, Timestamp, WorkerId};
use super::roster::Stage;
use super::timers::Timer;
use super::worker_state::WorkerState;
use super::{Core, Turn};

impl<B: Clone> Core<B> {
    /// Whether the worker's process has to prove itself, or is about to.
    pub(super) fn is_to_be_probed(&self, worker: WorkerId) -> bool {
        let place = self.crew.place_of(worker);
        let Some(process) = place.and_then(|place| self.roster.process(place)) else { return false };
        match process.stage {
            Stage::Probing { .. } => true,
            Stage::Booting => {
                let reload = self.pool.reload.as_ref();
                self.settings.probe_timeout.is_some()
                    && reload.is_some_and(|reload| reload.generation == process.generation)
            }
            Stage::Adopted | Stage::Serving | Stage::Leaving { .. } => false,
        }
    }

    /// Whether an earlier router started the process as a newcomer: whether it has
    /// answered its probe is not known here, so the reload begins its slot again.
    pub(super) fn is_unproven_heir(&self, place: Place) -> bool {
        let Some(process) = self.roster.process(place) else { return false };
        let replaces = self.roster.slot(place.slot).is_some_and(|record| {
            record.staying().any(|(incarnation, other)| {
                incarnation < place.incarnation && other.generation < process.generation
            })
        });
        self.settings.probe_timeout.is_some() && process.stage == Stage::Adopted && replaces
    }

    /// Sends the worker its probe, as soon as it waits for something.
    pub(super) fn probe(&mut self, id: WorkerId, turn: &mut Turn<'_, B>) {
        let (Some(place), Some(left)) = (self.crew.place_of(id), self.settings.probe_timeout) else { return };
        let Some(worker) = self.crew.worker(id).filter(|worker| worker.state() == WorkerState::Waiting)
        else {
            return;
        };
        let (detailed, ordinal) = (worker.tongue == Tongue::Native, worker.sent + 1);
        self.crew.set_unproven(id);
        let Some(process) = self.roster.process_mut(place).filter(|process| process.stage == Stage::Booting)
        else {
            // It has had its probe over an earlier connection.
            return;
        };
        let token = self.generator.token();
        process.stage = Stage::Probing { token };
        self.timers.disarm(Timer::Boot(place));
        self.timers.arm(turn.now.after(left), Timer::Probe(place));
        self.hold_probe((id, token, ordinal), turn.now);
        self.crew.give(id, token, turn.now);
        self.counters.probed += 1;
        turn.act(Action::Probe(Probe { worker: id, token, ordinal, left, detailed }));
    }

    pub(super) fn is_probing(&self, place: Place) -> bool {
        matches!(self.roster.process(place).map(|process| &process.stage), Some(Stage::Probing { .. }))
    }

    /// Whether this is the probe that the worker's process has in hand.
    pub(super) fn is_probe(&self, worker: WorkerId, token: Token) -> bool {
        let place = self.crew.place_of(worker);
        let process = place.and_then(|place| self.roster.process(place));
        process.is_some_and(|process| process.stage == Stage::Probing { token })
    }

    pub(super) fn probe_answered(
        &mut self,
        worker: WorkerId,
        status: ReplyStatus,
        message: Option<String>,
        turn: &mut Turn<'_, B>,
    ) {
        let Some(place) = self.crew.place_of(worker) else { return };
        match status {
            ReplyStatus::Ok => self.probe_passed(worker, place, turn),
            ReplyStatus::Error | ReplyStatus::Retry => {
                let message = message.unwrap_or_else(|| "the handler failed".into());
                self.probe_failed(place, &format!("its probe was answered with an error: {message}"), turn);
            }
        }
    }

    fn probe_passed(&mut self, worker: WorkerId, place: Place, turn: &mut Turn<'_, B>) {
        for connection in self.crew.of(place) {
            self.crew.set_proven(connection);
        }
        if self.crew.worker(worker).is_some_and(|worker| worker.tongue != Tongue::Plain) {
            self.crew.set_waiting(worker);
        }
        if self.crew.worker(worker).is_some_and(Worker::serves) {
            self.somebody_is_ready(turn);
        }
        self.timers.disarm(Timer::Probe(place));
        if let Some(process) = self.roster.process(place) {
            let generation = process.generation;
            self.generation_proven(generation);
        }
        self.process_ready(place, turn);
    }

    pub(super) fn probe_deadline(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        if self.is_probing(place) {
            turn.note(Note::WorkerStuck { place, why: "its probe was not answered in time" });
            let time = self.settings.probe_timeout;
            let time = time.map_or("in time".to_owned(), |left| format!("within {left:?}"));
            let reason = format!("its probe was not answered {time}");
            self.probe_failed(place, &reason, turn);
        }
    }

    /// The worker has let go of something: of its probe, perhaps.
    pub(super) fn probe_lost(&mut self, worker: WorkerId, token: Token, turn: &mut Turn<'_, B>) {
        if self.is_probe(worker, token)
            && let Some(place) = self.crew.place_of(worker)
        {
            self.probe_failed(place, "its probe was lost", turn);
        }
    }

    fn probe_failed(&mut self, place: Place, reason: &str, turn: &mut Turn<'_, B>) {
        self.expel(place, ExitReason::Unproven, turn);
        self.living_newcomer_failed(place, reason, turn);
    }
}

/// Probes: in a worker's hands, and nobody waits for them.
impl<B: Clone> Core<B> {
    pub(super) fn hold_probe(&mut self, (worker, token, ordinal): (WorkerId, Token, u64), now: Timestamp) {
        let held = Held {
            worker,
            request: None,
            since: now,
            attempt: 0,
            ordinal,
            number: ordinal,
            begun: false,
            ahead: false,
            once_begun: OnceBegun::Runs,
            outcome: None,
            exclusive: None,
            key: None,
            unclaimed: false,
            plan: None,
            window: None,
        };
        self.requests.held.insert(token, Box::new(held));
    }
}
