//! Requests handed over ahead of their time: to busy workers that answer so quickly that what
//! follows would otherwise wait for a round trip. Nobody gets one while a worker is idle, nobody
//! has more ahead than fits the budget, and what has not begun when it should have is taken back.
//!
//! A worker that is handed something ahead shares a word of memory with the router, in which it
//! claims each job as it begins it (`hornpipe_proto::claim`). So it is known at once, and without
//! asking the worker, which of its jobs it has begun and which it never will.

use std::time::Duration;

use hornpipe_proto::Token;

use super::action::{Action, Assignment};
use super::held::OnceBegun;
use super::ids::{Place, RequestId, Timestamp, WorkerId};
use super::loss::Loss;
use super::parts::WINDOW;
use super::record::Record;
use super::timers::Timer;
use super::{Core, Phase, Turn};

/// No worker has more ahead of it, however quick it is: what is sent to it must be held somewhere.
pub const MAX_AHEAD: usize = 64;

/// A reply counts as much as this many before it.
const WEIGHT: u32 = 4;

/// A request in the hands of a worker that is still at another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    pub(super) token: Token,
    /// When it was handed over.
    pub(super) since: Timestamp,
}

/// How long a worker has taken for its last requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tempo {
    /// `None` unless its last reply came within the budget.
    mean: Option<Duration>,
    /// How many requests it is likely to answer within the budget.
    room: usize,
}

impl Tempo {
    /// It has taken so long.
    pub(super) fn observe(&mut self, run: Duration, budget: Duration) {
        if run > budget {
            return self.distrust();
        }
        // After a slow one it is trusted with one first, and then with more.
        let before = self.mean.unwrap_or(budget);
        let mean = (before * (WEIGHT - 1) + run) / WEIGHT;
        self.mean = Some(mean);
        self.room = fitting(mean, budget);
    }

    /// It has taken too long already.
    pub(super) fn distrust(&mut self) {
        *self = Self::default();
    }

    pub(super) fn room(self) -> usize {
        self.room
    }
}

/// How many requests of this length fit, if not more than ever go ahead. Without a division by
/// 128 bits: this follows each reply.
fn fitting(run: Duration, budget: Duration) -> usize {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let fit = nanoseconds(budget) / nanoseconds(run).max(1);
    usize::try_from(fit).unwrap_or(MAX_AHEAD).min(MAX_AHEAD)
}

/// After this time what has not begun is taken back: twice what it should have taken.
fn patience(budget: Duration) -> Duration {
    budget * 2
}

/// Handing over.
impl<B: Clone> Core<B> {
    /// To busy workers, while no worker is idle.
    pub(super) fn dispatch_ahead(&mut self, turn: &mut Turn<'_, B>) {
        let Some(budget) = self.settings.prefetch.filter(|_| self.hands_ahead()) else { return };
        while let Some((worker, request)) = self.next_ahead() {
            self.assign_ahead(request, worker, turn);
            if !self.timers.is_armed(Timer::Ahead(worker)) {
                self.timers.arm(turn.now.after(patience(budget)), Timer::Ahead(worker));
            }
        }
    }

    fn hands_ahead(&self) -> bool {
        let serves = self.phase == Phase::Serving && self.pause.is_none() && !self.settings.fresh;
        serves && self.crew.least_loaded().is_none()
    }

    fn next_ahead(&self) -> Option<(WorkerId, RequestId)> {
        let worker = self.crew.takers().find(|worker| self.may_wear_more(*worker))?;
        let request = self.requests.backlog.next(worker)?;
        // The order of the line stays: nobody goes before one that waits for an idle worker.
        let fits = self.requests.record(request).is_some_and(Record::wants_any_worker);
        fits.then_some((worker, request))
    }

    fn assign_ahead(&mut self, request: RequestId, id: WorkerId, turn: &mut Turn<'_, B>) {
        let Some(ordinal) = self.crew.worker(id).map(|worker| worker.sent + 1) else { return };
        let token = self.generator.token();
        let Some(handed) = self.hold_ahead(request, (id, token, ordinal), turn.now) else { return };
        let (request, attempt, left, body) = handed;
        self.crew.give_ahead(id, token, turn.now);
        self.counters.prefetched += 1;
        let (detailed, window) = (true, Some(WINDOW));
        let assignment =
            Assignment { worker: id, token, ordinal, request, attempt, left, detailed, window, body };
        turn.act(Action::Assign(assignment));
    }

    /// The worker has replied: it is at the next one now, if it has any.
    pub(super) fn begin_next(&mut self, id: WorkerId, turn: &Turn<'_, B>) {
        let Some(worker) = self.crew.worker(id) else { return };
        let next = worker.ahead().next().map(|ahead| ahead.token);
        // Unless it holds what it has begun: it runs one at a time.
        let free = worker.held().len() == worker.ahead().len();
        if let Some(token) = next.filter(|_| free) {
            self.begin_ahead(token, turn);
        }
    }

    /// The worker has begun it, if that was not known.
    pub(super) fn begin_ahead(&mut self, token: Token, turn: &Turn<'_, B>) {
        if let Some(worker) = self.requests.held(token).filter(|held| held.ahead).map(|held| held.worker) {
            self.begin(token, turn.now);
            self.crew.begin(worker, token);
        }
    }
}

/// Taking back.
impl<B: Clone> Core<B> {
    /// What the worker has had for so long should have begun.
    pub(super) fn ahead_deadline(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        let oldest = self.crew.worker(worker).and_then(|worker| worker.ahead().next().copied());
        let Some(Ahead { since, .. }) = oldest else { return };
        let until = since.after(patience(self.settings.prefetch.unwrap_or_default()));
        if turn.now < until {
            self.timers.arm(until, Timer::Ahead(worker));
        } else {
            self.crew.count_delay(worker);
            self.withdraw(worker, turn);
        }
    }

    /// Takes back all that the worker has not begun. `Withdrawn` says what that was.
    pub(super) fn withdraw(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        if self.crew.begin_withdrawing(worker) {
            turn.act(Action::Withdraw { worker });
        }
    }

    /// Of all workers.
    pub(super) fn withdraw_everything(&mut self, turn: &mut Turn<'_, B>) {
        let workers: Vec<WorkerId> = self.crew.iter().map(|(id, _worker)| id).collect();
        for worker in workers {
            self.withdraw(worker, turn);
        }
    }

    /// Of the connections of one process.
    pub(super) fn withdraw_from(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        for worker in self.crew.of(place) {
            self.withdraw(worker, turn);
        }
    }

    /// The worker has begun its jobs up to this one, and never will begin the others.
    pub(super) fn worker_withdrawn(&mut self, worker: WorkerId, begun: u64, turn: &mut Turn<'_, B>) {
        let ordered = self.crew.end_withdrawing(worker);
        if !ordered {
            // Its connection is gone: it is given nothing more.
            self.crew.withhold(worker);
        }
        self.timers.disarm(Timer::Ahead(worker));
        let held: Vec<Token> = self.in_hand(worker).into_iter().map(|held| held.token).collect();
        for token in held {
            let Some(held) = self.requests.held(token) else { continue };
            let (ahead, once_begun) = (held.ahead, held.once_begun.clone());
            if begun < held.number {
                self.counters.withdrawn += u64::from(ahead);
                self.untouched(worker, token, turn);
            } else if ahead {
                self.begin_ahead(token, turn);
                match once_begun {
                    OnceBegun::Runs => (),
                    OnceBegun::BreakOff => self.break_off(token, turn),
                    OnceBegun::Lost(loss) => self.let_go(worker, token, &loss, turn),
                }
            }
        }
        if self.crew.worker(worker).is_some_and(|one| ordered && !one.is_busy()) {
            self.crew.set_waiting(worker);
        }
        self.leave_when_free(worker, turn);
        for request in std::mem::take(&mut self.overdue) {
            self.request_deadline(request, turn);
        }
    }

    /// The worker has let go of this one, if it has begun it.
    pub(super) fn lost_if_begun(&mut self, token: Token, loss: Loss, turn: &mut Turn<'_, B>) {
        if let Some(held) = self.requests.held_mut(token) {
            held.once_begun = OnceBegun::Lost(loss);
            let worker = held.worker;
            self.withdraw(worker, turn);
        }
    }

    /// The request's time is over, and whether its worker has begun it is not known.
    pub(super) fn ask_whether_begun(&mut self, request: RequestId, token: Token, turn: &mut Turn<'_, B>) {
        let Some(worker) = self.requests.held(token).map(|held| held.worker) else { return };
        self.overdue.push(request);
        self.withdraw(worker, turn);
    }

    /// Nobody wants it any more, and whether its worker has begun it is not known.
    pub(super) fn drop_ahead(&mut self, token: Token, breaks_off: bool, turn: &mut Turn<'_, B>) {
        if let Some(held) = self.requests.held_mut(token) {
            if breaks_off && held.once_begun == OnceBegun::Runs {
                held.once_begun = OnceBegun::BreakOff;
            }
            let worker = held.worker;
            self.withdraw(worker, turn);
        }
    }
}
