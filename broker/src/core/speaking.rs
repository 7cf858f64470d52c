//! What follows from a worker's words: ready, begun, leaving, a reply, rubbish.

use hornpipe_proto::worker::ReplyStatus;
use hornpipe_proto::{Status, Token};

use super::action::{Action, ExitReason, Note};
use super::crew::{Tongue, Worker};
use super::event::{Details, Ending, Home, Speech};
use super::flight::Outcome;
use super::ids::{Place, WorkerId};
use super::loss::{Fate, Loss};
use super::requests::Held;
use super::settings::{ADOPTION_GRACE, LAST_WORDS};
use super::timers::Timer;
use super::worker_state::WorkerState;
use super::{Core, Turn};

/// A request in one worker's hands.
#[derive(Debug, Clone, Copy)]
pub(super) struct InHand {
    pub(super) token: Token,
    /// Which job of its connection this is.
    ordinal: u64,
    begun: bool,
    ahead: bool,
}

impl<B: Clone> Core<B> {
    pub(super) fn worker_joined(&mut self, worker: WorkerId, home: Home, turn: &mut Turn<'_, B>) {
        if let Home::Local(place) = home
            && !self.roster.contains(place)
        {
            // Its process has just been reaped: what it says is of no use, but
            // its connection is, until it ends.
            self.crew.join(worker, home, turn.now);
            self.crew.withhold(worker);
            self.timers.arm(turn.now.after(LAST_WORDS), Timer::LastWords(worker));
            return;
        }
        self.crew.join(worker, home, turn.now);
        match home {
            Home::External => turn.note(Note::ExternalJoined { worker, name: None }),
            Home::Local(place) => {
                if let Some(earlier) = self.roster.connect(place, worker) {
                    // A program that reopened its socket: the old one may still
                    // deliver a reply, but gets nothing new.
                    self.crew.withhold(earlier);
                }
                self.timers.disarm(Timer::Reconnect(place));
                if self.roster.is_leaving(place) {
                    self.crew.withhold(worker);
                    // What it was to finish is gone with its earlier connection.
                    self.leave_when_free(worker, turn);
                }
                if self.roster.process(place).is_some_and(|process| process.halted) {
                    self.crew.set_halted(worker);
                }
            }
        }
    }

    pub(super) fn worker_hello(&mut self, worker: WorkerId, details: &Details, turn: &mut Turn<'_, B>) {
        self.learn(worker, &Speech::Native(details.clone()));
        self.recognise(worker, turn);
        self.note_return(worker, details.instance.is_some(), turn);
        let adopted = self.crew.place_of(worker).is_some_and(|place| self.roster.is_adopted(place));
        if adopted {
            // It lived before this router and has a request of its predecessor's in
            // hand, or will say `waiting` in a moment.
            self.crew.set_processing(worker);
            self.became_ready(worker, turn);
            self.expect_return(worker, turn);
        }
    }

    /// Should this router die, a process that has said that it returns is waited for.
    fn note_return(&mut self, worker: WorkerId, returns: bool, turn: &mut Turn<'_, B>) {
        if let Some(place) = self.crew.place_of(worker).filter(|_place| returns)
            && self.roster.will_return(place)
        {
            turn.act(Action::Remember(self.memory()));
        }
    }

    /// What it has in hand ends in time, like every attempt; then it says so.
    fn expect_return(&mut self, worker: WorkerId, turn: &Turn<'_, B>) {
        if let (Some(timeout), Some(place)) = (self.settings.timeout, self.crew.place_of(worker)) {
            let deadline = turn.now.after(timeout).after(self.settings.cancel_grace);
            self.timers.arm(deadline, Timer::Adoption(place));
        }
    }

    pub(super) fn worker_waiting(&mut self, worker: WorkerId, speech: &Speech, turn: &mut Turn<'_, B>) {
        self.learn(worker, speech);
        let returns = matches!(speech, Speech::Native(Details { instance: Some(_), .. }));
        self.note_return(worker, returns, turn);
        self.recognise(worker, turn);
        self.expect_beats(worker, turn);
        for held in self.in_hand(worker) {
            if held.ordinal == 0 {
                self.come_back_without(worker, held.token, turn);
                continue;
            }
            let lost = match speech {
                // It counts what it receives, so it has received this one.
                Speech::Native(details) => held.ordinal <= details.seen,
                // Its word may have crossed the job, unless it has begun it.
                Speech::Plain | Speech::PlainReadyByReply | Speech::Beating { .. } => held.begun,
            };
            if lost && held.ahead {
                self.lost_if_begun(held.token, Loss::Forgotten, turn);
            } else if lost {
                self.let_go(worker, held.token, &Loss::Forgotten, turn);
            }
        }
        let Some(state) = self.crew.worker(worker).map(Worker::state) else { return };
        self.crew.trust(worker);
        self.crew.set_waiting(worker);
        if state != WorkerState::Exiting {
            self.became_ready(worker, turn);
            self.leave_when_free(worker, turn);
        }
    }

    pub(super) fn worker_processing(&mut self, worker: WorkerId, speech: &Speech, turn: &mut Turn<'_, B>) {
        self.learn(worker, speech);
        self.recognise(worker, turn);
        let Some(record) = self.crew.worker(worker) else { return };
        let (state, held): (_, Vec<Token>) = (record.state(), record.held().collect());
        if state != WorkerState::Waiting || !held.is_empty() {
            self.crew.set_processing(worker);
        }
        if state == WorkerState::Starting {
            self.became_ready(worker, turn);
        }
        for token in held {
            if let Some(held) = self.requests.held_mut(token) {
                held.begun = true;
            }
        }
    }

    pub(super) fn worker_exiting(
        &mut self,
        worker: WorkerId,
        speech: &Speech,
        (reason, ending): (Option<String>, Option<Ending>),
        turn: &mut Turn<'_, B>,
    ) {
        self.learn(worker, speech);
        self.recognise(worker, turn);
        self.crew.set_exiting(worker);
        // How one of ours ends is for the parent to say.
        let ending = ending.filter(|_ending| self.crew.place_of(worker).is_none());
        let loss = ending.map_or(Loss::Announced, |ending| Loss::Ended(Fate::elsewhere(ending)));
        for held in self.in_hand(worker) {
            match speech {
                _ if held.ordinal == 0 => self.come_back_without(worker, held.token, turn),
                Speech::Native(_) if held.ahead => {
                    self.lost_if_begun(held.token, Loss::Announced, turn);
                }
                Speech::Native(details) if held.ordinal > details.seen => {
                    self.untouched(worker, held.token, turn);
                }
                Speech::Native(_) | Speech::Plain | Speech::PlainReadyByReply | Speech::Beating { .. } => {
                    self.let_go(worker, held.token, &loss, turn);
                }
            }
        }
        match self.crew.place_of(worker) {
            Some(place) => self.process_announced_exit(place, reason, turn),
            None => self.crew.withhold(worker),
        }
    }

    pub(super) fn worker_replied(
        &mut self,
        worker: WorkerId,
        token: Token,
        (status, message, size, body): (ReplyStatus, Option<String>, u64, B),
        turn: &mut Turn<'_, B>,
    ) {
        self.recognise_by(token, worker, turn);
        if self.requests.held(token).is_none_or(|held| held.worker != worker) {
            self.stale_reply(worker, turn);
            return;
        }
        self.begin_ahead(token, turn);
        let Some(held) = self.take_back(token) else { return };
        let outcome = match status {
            ReplyStatus::Ok => Outcome::Answered,
            ReplyStatus::Retry => Outcome::Retry,
            ReplyStatus::Error => Outcome::Refused(Status::Error),
        };
        self.record_flight(&held, outcome, Some(size), turn.now);
        self.crew.take(worker, token, turn.now);
        self.begin_next(worker, turn);
        if self.is_probe(worker, token) {
            self.probe_answered(worker, status, message, turn);
            return;
        }
        let run = turn.now.since(held.since);
        self.crew.count_reply(worker, run);
        self.pace.observe(run);
        if held.request.is_none() && !held.unclaimed {
            self.counters.stale_replies += 1;
        }
        let message = || message.unwrap_or_else(|| "the handler failed".into());
        match (status, held.request) {
            (ReplyStatus::Ok, _) => self.answer(&held, (body, size), turn),
            (ReplyStatus::Retry, _) => self.retry(&held, message(), turn),
            (ReplyStatus::Error, Some(request)) => self.refuse(request, Status::Error, message(), turn),
            (ReplyStatus::Error, None) => (),
        }
        if held.is_inherited() {
            // Who has come back says so, after what it owes to the router of before.
            self.expect_word(worker, turn);
        } else if self.crew.worker(worker).is_some_and(|worker| worker.tongue != Tongue::Plain) {
            self.crew.set_waiting(worker);
        }
        self.process_served(worker, turn);
        self.leave_when_free(worker, turn);
    }

    /// A reply that nobody waits for. It gives no credit, but is a sign of life.
    pub(super) fn stale_reply(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        self.counters.stale_replies += 1;
        self.expect_word(worker, turn);
    }

    /// It has replied to what an earlier router gave it, and now it should say how it is.
    fn expect_word(&mut self, worker: WorkerId, turn: &Turn<'_, B>) {
        if let Some(place) = self.crew.place_of(worker)
            && self.roster.is_adopted(place)
        {
            // A plain worker says `waiting` next; one that is ready by its reply never will.
            self.timers.arm(turn.now.after(ADOPTION_GRACE), Timer::Adoption(place));
        }
    }

    pub(super) fn worker_malformed(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        self.counters.malformed_workers += 1;
        let Some(record) = self.crew.worker(worker) else { return };
        let native = record.tongue == Tongue::Native;
        let place = self.crew.place_of(worker);
        turn.note(Note::WorkerMalformed { worker, place });
        self.withdraw(worker, turn);
        for InHand { token, .. } in self.in_hand(worker).into_iter().filter(|held| !held.ahead) {
            if let Some(request) = self.requests.held(token).and_then(|held| held.request) {
                self.refuse(request, Status::Error, "its worker sent an unreadable message".into(), turn);
            }
            // One that goes on and counts its jobs will say which of these it has had.
            if place.is_some() || !native {
                self.let_go(worker, token, &Loss::Malformed, turn);
            }
        }
        match place {
            Some(place) => self.expel(place, ExitReason::Malformed, turn),
            None => self.crew.distrust(worker),
        }
    }

    /// What it holds is lost, and over this connection nothing more can come.
    pub(super) fn worker_out_of_turn(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        self.counters.malformed_workers += 1;
        if self.crew.worker(worker).is_some() {
            turn.note(Note::WorkerMalformed { worker, place: self.crew.place_of(worker) });
            self.worker_left(worker, turn);
        }
    }

    /// The connection is gone. If its process may have gone with it, that is known in
    /// a moment, and decides what is said of the requests it holds.
    pub(super) fn worker_left(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        let busy = self.crew.worker(worker).is_some_and(Worker::is_busy);
        let runs = self.crew.place_of(worker).is_some_and(|place| self.roster.contains(place));
        if busy && runs {
            self.crew.cut(worker);
            self.timers.arm(turn.now.after(LAST_WORDS), Timer::LastWords(worker));
        } else {
            self.connection_over(worker, turn);
        }
    }

    /// Nothing more can come of the connection: what it holds is lost.
    pub(super) fn connection_over(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        let fate = self.crew.worker(worker).and_then(|record| record.fate.clone());
        let loss = fate.map_or(Loss::Disconnected, Loss::Ended);
        for held in self.in_hand(worker) {
            // It may have begun this one, for all that is known.
            self.begin_ahead(held.token, turn);
            self.let_go(worker, held.token, &loss, turn);
        }
        self.timers.disarm(Timer::LastWords(worker));
        self.timers.disarm(Timer::Ahead(worker));
        self.timers.disarm(Timer::Silence(worker));
        let Some(record) = self.crew.remove(worker) else { return };
        match record.home {
            Home::External => turn.note(Note::ExternalLeft { worker }),
            Home::Local(place) => self.disconnected((worker, record.sent), place, turn),
        }
    }

    fn disconnected(&mut self, (worker, given): (WorkerId, u64), place: Place, turn: &mut Turn<'_, B>) {
        let latest = self.roster.disconnect(place, worker, given);
        if latest || !self.is_busy(place) {
            self.process_disconnected(place, turn);
        }
    }

    /// A job that could not be handed over: the connection is no good, and its
    /// process must open another.
    pub(super) fn undelivered(&mut self, worker: WorkerId, token: Token, turn: &mut Turn<'_, B>) {
        let Some(held) = self.requests.held(token).filter(|held| held.worker == worker) else { return };
        let ordinal = held.ordinal;
        self.untouched(worker, token, turn);
        self.crew.withhold(worker);
        // Should others have come through, the worker has counted one less.
        for later in self.in_hand(worker).into_iter().filter(|later| later.ordinal > ordinal) {
            if let Some(held) = self.requests.held_mut(later.token) {
                held.ordinal -= 1;
            }
        }
        if let Some(place) = self.crew.place_of(worker) {
            self.disconnected((worker, 0), place, turn);
        }
    }

    /// What the worker holds, the last given first: put back in this order, the
    /// first given is at the head of the line again.
    pub(super) fn in_hand(&self, worker: WorkerId) -> Vec<InHand> {
        let tokens = self.crew.worker(worker).into_iter().flat_map(Worker::held);
        let in_hand = |token: Token| {
            self.requests.held(token).map(|held| InHand {
                token,
                ordinal: held.ordinal,
                begun: held.begun,
                ahead: held.ahead,
            })
        };
        let mut all: Vec<InHand> = tokens.filter_map(in_hand).collect();
        all.sort_by_key(|held| std::cmp::Reverse(held.ordinal));
        all
    }

    /// The worker never had it.
    pub(super) fn untouched(&mut self, worker: WorkerId, token: Token, turn: &mut Turn<'_, B>) {
        if self.requests.held(token).is_some_and(Held::has_sent_parts) {
            return self.let_go(worker, token, &Loss::Announced, turn);
        }
        self.probe_lost(worker, token, turn);
        if let Some(held) = self.take_back(token) {
            self.untry(&held);
            self.untry_unclaimed(&held, turn);
        }
        self.crew.take(worker, token, turn.now);
    }

    pub(super) fn let_go(&mut self, worker: WorkerId, token: Token, loss: &Loss, turn: &mut Turn<'_, B>) {
        self.probe_lost(worker, token, turn);
        if let Some(held) = self.take_back(token) {
            self.lose(&held, loss.clone(), turn);
        }
        self.crew.take(worker, token, turn.now);
        self.wear_by_loss(worker, turn);
    }

    fn learn(&mut self, worker: WorkerId, speech: &Speech) {
        let named = match speech {
            Speech::Native(Details { service, .. }) | Speech::Beating { service, .. } => service.as_deref(),
            Speech::Plain | Speech::PlainReadyByReply => None,
        };
        let served_here = named.is_none_or(|service| *service == *self.settings.service);
        self.crew.learn(worker, speech, served_here);
    }

    /// The worker's request has been answered `timeout`; the worker still has it.
    pub(super) fn worker_stuck(&mut self, worker: WorkerId, token: Token, turn: &mut Turn<'_, B>) {
        self.close_window(token);
        let Some(record) = self.crew.worker(worker).filter(|record| !record.cut) else { return };
        if record.tongue == Tongue::Native {
            turn.act(Action::Cancel { worker, token });
            self.timers.arm(turn.now.after(self.settings.cancel_grace), Timer::Cancelled(token));
        } else if let Some(place) = self.crew.place_of(worker) {
            turn.note(Note::WorkerStuck { place, why: "no reply in time" });
            self.expel(place, ExitReason::Timeout, turn);
        }
    }

    pub(super) fn cancel_ignored(&mut self, token: Token, turn: &mut Turn<'_, B>) {
        let Some(worker) = self.requests.held(token).map(|held| held.worker) else { return };
        if let Some(place) = self.crew.place_of(worker) {
            turn.note(Note::WorkerStuck { place, why: "cancel ignored" });
            self.expel(place, ExitReason::Timeout, turn);
        }
    }
}
