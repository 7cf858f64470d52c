//! Who gets which request: an idle worker first, the one idle longest; the request that is
//! next for it.

use hornpipe_proto::{Status, Token};

use super::action::{Action, Assignment};
use super::crew::{Tongue, Worker};
use super::event::Wants;
use super::ids::{RequestId, WorkerId};
use super::parts::WINDOW;
use super::record::Record;
use super::timers::Timer;
use super::{Core, Turn};

/// Said of a request that one worker alone could have had.
pub(super) const GONE: &str = "its worker has gone";

impl<B: Clone> Core<B> {
    pub(super) fn dispatch(&mut self, turn: &mut Turn<'_, B>) {
        self.release_from_the_gone(turn);
        while self.dispatches()
            && let Some((worker, request)) = self.next_match()
        {
            let token = self.generator.token();
            self.assign(request, worker, token, turn);
        }
        self.limit_reservations(turn);
    }

    fn assign(&mut self, request: RequestId, id: WorkerId, token: Token, turn: &mut Turn<'_, B>) {
        let Some(worker) = self.crew.worker(id) else { return };
        let (detailed, ordinal) = (worker.tongue == Tongue::Native, worker.sent + 1);
        let Some(handed) = self.hand_over(request, (id, token, ordinal), turn.now) else { return };
        let (request, attempt, left, body) = handed;
        self.crew.give(id, token, turn.now);
        self.journal_run(token, false, turn);
        let held = self.requests.held(token);
        let window = held.and_then(|held| held.window.as_ref()).filter(|_| detailed).map(|_counted| WINDOW);
        if held.is_some_and(|held| held.key.is_some()) {
            self.crew.mark_keyed(id, token);
        }
        let assignment =
            Assignment { worker: id, token, ordinal, request, attempt, left, detailed, window, body };
        turn.act(Action::Assign(assignment));
        self.wear_by_job(id, turn);
    }

    /// A worker that takes a request, and one for it, if there are both.
    pub(super) fn next_match(&self) -> Option<(WorkerId, RequestId)> {
        self.next_reserved().or_else(|| {
            let worker = self.crew.least_loaded()?;
            Some((worker, self.requests.backlog.next(worker)?))
        })
    }

    /// The same where the request waits for this very worker.
    fn next_reserved(&self) -> Option<(WorkerId, RequestId)> {
        let backlog = &self.requests.backlog;
        let own = |worker: WorkerId| {
            let request = backlog.next(worker)?;
            (self.requests.reserved_for(request) == Some(worker)).then_some((worker, request))
        };
        // Whichever are fewer: either may be a thousand.
        if backlog.awaited().len() <= self.crew.eligible().len() {
            backlog.awaited().filter(|worker| self.crew.is_eligible(*worker)).find_map(own)
        } else {
            self.crew.eligible().filter(|worker| backlog.is_awaited(*worker)).find_map(own)
        }
    }

    /// Whether a request that wants this would be handed out as it arrives.
    pub(super) fn goes_at_once(&self, wants: &Wants) -> bool {
        let backlog = &self.requests.backlog;
        let owner = wants.affinity.as_ref().and_then(|key| backlog.affinities.worker_of(key));
        let owner = wants.worker.or(owner);
        let claimed = wants.exclusive.as_ref().is_some_and(|key| backlog.is_claimed(key));
        let free = match owner {
            Some(worker) => self.crew.is_eligible(worker),
            None => self.crew.least_loaded().is_some(),
        };
        free && !claimed && backlog.len() == 0 && self.dispatches()
    }

    /// Nobody waits for a worker that takes nothing more.
    fn release_from_the_gone(&mut self, turn: &mut Turn<'_, B>) {
        for worker in self.crew.take_ceased() {
            // It may have come back in the same moment.
            if !self.serves(worker) {
                for request in self.requests.worker_gone(worker) {
                    self.refuse(request, Status::Lost, GONE.into(), turn);
                }
            }
        }
    }

    /// Tells what workers of ours can do, where that has changed.
    pub(super) fn tell_capacities(&mut self, turn: &mut Turn<'_, B>) {
        let changed = self.crew.take_changed();
        if !self.settings.lends_workers {
            return;
        }
        for worker in changed {
            let requests = self.crew.worker(worker).map_or(0, Worker::lends);
            turn.act(Action::Capacity { worker, requests });
        }
    }

    /// Nobody waits too long for one worker while others would do.
    fn limit_reservations(&mut self, turn: &Turn<'_, B>) {
        for request in self.requests.backlog.take_newly_reserved() {
            let strict = self.requests.record(request).is_none_or(Record::waits_for_one);
            if !strict && self.requests.reserved_for(request).is_some() {
                let until = turn.now.after(self.settings.affinity_wait);
                self.timers.arm(until, Timer::Affinity(request));
            }
        }
    }
}
