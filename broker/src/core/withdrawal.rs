//! Requests that their clients no longer want: taken back by a word, or by leaving.

use std::sync::Arc;

use hornpipe_proto::Status;

use super::action::Action;
use super::crew::Tongue;
use super::flight::Outcome;
use super::ids::{ClientId, RequestId};
use super::record::Record;
use super::{Core, Turn};

impl<B: Clone> Core<B> {
    /// The client is gone: what waits is dropped, and so is what runs, if the service says so.
    pub(super) fn client_left(&mut self, client: ClientId, turn: &mut Turn<'_, B>) {
        for request in self.requests.askers.of(client) {
            if self.outlives_client(request, turn) {
                continue;
            }
            let record = self.requests.record(request);
            // A reply that runs to a client ends with it.
            let (token, runs) =
                record.as_ref().map_or((None, false), |record| (record.token(), record.has_gone_out()));
            let ahead = record.and_then(Record::ahead);
            self.forget(request, turn);
            if let Some(token) = ahead {
                self.drop_ahead(token, self.settings.cancel_on_disconnect, turn);
            } else if let Some(token) = token.filter(|_| runs || self.settings.cancel_on_disconnect) {
                self.break_off(token, turn);
            }
        }
    }

    /// Nobody waits for it any more.
    fn forget(&mut self, request: RequestId, turn: &mut Turn<'_, B>) {
        if let Some(record) = self.requests.remove(request, Outcome::Dropped) {
            self.close_account(request, &record, turn.now);
            self.counters.dropped += 1;
            self.tell_end(request, &record, (Outcome::Dropped, None), turn);
            turn.act(Action::Forget { request });
        }
    }

    /// The client takes back its request of this name.
    pub(super) fn cancel_named(&mut self, client: ClientId, name: &Arc<str>, turn: &mut Turn<'_, B>) {
        match self.requests.askers.named(client, name) {
            Some(request) => {
                if let Some(unwanted) = self.take_back_from_run(request, turn) {
                    self.cancel(unwanted, turn);
                }
            }
            // The answer and this have crossed.
            None => self.counters.ignored_clients += 1,
        }
    }

    /// The work of this key is ended, for all who wait for it.
    pub(super) fn cancel_key(&mut self, key: &str, turn: &mut Turn<'_, B>) {
        if let Some(run) = self.run_of_key(key) {
            self.cancel(run, turn);
        } else if !self.forget_key(key, turn) {
            self.counters.ignored_clients += 1;
        }
    }

    fn cancel(&mut self, request: RequestId, turn: &mut Turn<'_, B>) {
        let token = self.requests.record_mut(request).and_then(|record| record.token());
        self.refuse(request, Status::Cancelled, "taken back by its client".into(), turn);
        if let Some(token) = token {
            self.break_off(token, turn);
        }
    }

    /// The worker need not finish. One that cannot be told so finishes all the same: it is
    /// not worth its life.
    pub(super) fn break_off(&mut self, token: hornpipe_proto::Token, turn: &mut Turn<'_, B>) {
        let Some((worker, ahead)) = self.requests.held(token).map(|held| (held.worker, held.ahead)) else {
            return;
        };
        if ahead {
            self.drop_ahead(token, true, turn);
        } else if self.crew.worker(worker).is_some_and(|record| record.tongue == Tongue::Native) {
            self.worker_stuck(worker, token, turn);
        }
    }
}
