//! Time that is over: a client's own, that in the queue, and that of one attempt.

use hornpipe_proto::{Status, Token};

use super::action::Note;
use super::ids::RequestId;
use super::timers::Timer;
use super::{Core, Turn};

impl<B: Clone> Core<B> {
    /// The client's own time is over.
    pub(super) fn request_deadline(&mut self, request: RequestId, turn: &mut Turn<'_, B>) {
        if self.joined_deadline(request, turn) || self.own_deadline(request, turn) {
            return;
        }
        let Some(record) = self.requests.record(request) else { return };
        if let Some(token) = record.ahead() {
            return self.ask_whether_begun(request, token, turn);
        }
        match record.token() {
            None if record.attempt == 0 => {
                self.refuse(request, Status::Expired, "its time ran out in the queue".into(), turn);
            }
            None => {
                let message = "its time ran out while it waited for another worker".into();
                self.refuse(request, Status::Timeout, message, turn);
            }
            Some(token) => self.time_out(token, None, turn),
        }
    }

    /// It has waited long enough for a worker.
    pub(super) fn queue_deadline(&mut self, request: RequestId, turn: &mut Turn<'_, B>) {
        let Some(record) = self.requests.record(request) else { return };
        let status = if record.attempt == 0 { Status::Expired } else { Status::Timeout };
        let waited = record.waiting_since().map(|since| turn.now.since(since)).unwrap_or_default();
        self.refuse(request, status, format!("no worker was free for {waited:?}"), turn);
    }

    /// The worker has had its time.
    pub(super) fn attempt_deadline(&mut self, token: Token, turn: &mut Turn<'_, B>) {
        self.time_out(token, None, turn);
    }

    /// `why` if it is not the time that it has taken.
    pub(super) fn time_out(&mut self, token: Token, why: Option<String>, turn: &mut Turn<'_, B>) {
        let Some(held) = self.requests.held(token) else { return };
        let (worker, request, attempt) = (held.worker, held.request, held.attempt);
        // The client's time and the attempt's end at two moments: one is enough.
        self.timers.disarm(Timer::Attempt(token));
        let after = turn.now.since(held.since);
        if let Some(request) = request {
            let place = self.crew.place_of(worker);
            let size = self.requests.record(request).map_or(0, |record| record.size);
            turn.note(Note::RequestTimedOut { request, place, attempt, after, size });
            let message = why.unwrap_or_else(|| format!("no reply within {after:?}"));
            self.refuse(request, Status::Timeout, message, turn);
        } else {
            self.nobody_claims(token, turn);
        }
        self.worker_stuck(worker, token, turn);
    }
}
