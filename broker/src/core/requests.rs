//! Every request from its arrival to its answer: what waits, what is held by a
//! worker, and the accounts of both.

use std::sync::Arc;

use hornpipe_proto::{Status, Token};
use rustc_hash::FxHashMap;

use super::action::Action;
use super::askers::Askers;
use super::backlog::{Backlog, End};
use super::event::Request;
use super::flight::Outcome;
pub(super) use super::held::Held;
use super::ids::{ClientId, RequestId, Timestamp};
pub(super) use super::record::Record;
use super::room::give_back;
use super::timers::Timer;
use super::{Core, Turn};

#[derive(Debug)]
pub(super) struct Requests<B> {
    /// Boxed, as the held are: they are large, and the map moves what it holds.
    pub(super) table: FxHashMap<RequestId, Box<Record<B>>>,
    pub(super) backlog: Backlog,
    pub(super) held: FxHashMap<Token, Box<Held>>,
    pub(super) askers: Askers,
    pub(super) held_bytes: u64,
    /// Of `held`, how many are not over.
    pub(super) in_flight: usize,
    /// Of the waiting and of those in flight, how many have no client any more.
    pub(super) orphans_waiting: usize,
    pub(super) orphans_in_flight: usize,
}

/// In the order in which they came: the table has none.
fn sorted(requests: impl Iterator<Item = RequestId>) -> Vec<RequestId> {
    let mut requests: Vec<RequestId> = requests.collect();
    requests.sort_unstable();
    requests
}

impl<B> Default for Requests<B> {
    fn default() -> Self {
        Self {
            table: FxHashMap::default(),
            backlog: Backlog::default(),
            held: FxHashMap::default(),
            askers: Askers::default(),
            held_bytes: 0,
            in_flight: 0,
            orphans_waiting: 0,
            orphans_in_flight: 0,
        }
    }
}

impl<B> Requests<B> {
    /// Waiting requests of clients.
    pub(super) fn backlog_len(&self) -> usize {
        self.backlog.len() - self.orphans_waiting
    }

    /// Requests with a worker whose client still waits.
    pub(super) fn in_flight_len(&self) -> usize {
        self.in_flight - self.orphans_in_flight
    }

    /// All that is to be done, whether or not a client waits for it.
    pub(super) fn work_len(&self) -> usize {
        self.backlog.len() + self.in_flight
    }

    /// The work goes on without its client.
    pub(super) fn orphan(&mut self, request: RequestId) {
        let Some(record) = self.table.get_mut(&request) else { return };
        record.orphan = true;
        if record.spot().is_some() {
            self.orphans_waiting += 1;
            self.askers.waits_no_more(record.client);
        } else {
            self.orphans_in_flight += 1;
        }
        self.askers.close(record.client, request, record.name.as_ref(), record.size);
    }

    pub(super) fn record(&self, request: RequestId) -> Option<&Record<B>> {
        self.table.get(&request).map(Box::as_ref)
    }

    /// Requests in workers' hands, also those that nobody waits for.
    pub(super) fn all_held_len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether the client has asked for something that is not over.
    pub(super) fn has_some_of(&self, client: ClientId) -> bool {
        self.askers.has_some_of(client)
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Since when the one that has waited longest waits, whatever it waits for. Looks at all.
    pub(super) fn oldest_waiting(&self) -> Option<Timestamp> {
        let waiting = self.table.values().filter(|record| record.spot().is_some());
        waiting.map(|record| record.waiting_since).min()
    }

    /// Everybody who waits, in the order of their numbers.
    fn waiting(&self) -> Vec<RequestId> {
        let waiting = self.table.iter().filter(|(_request, record)| record.spot().is_some());
        sorted(waiting.map(|(request, _record)| *request))
    }

    pub(super) fn held(&self, token: Token) -> Option<&Held> {
        self.held.get(&token).map(Box::as_ref)
    }

    pub(super) fn held_mut(&mut self, token: Token) -> Option<&mut Held> {
        self.held.get_mut(&token).map(Box::as_mut)
    }

    pub(super) fn record_mut(&mut self, request: RequestId) -> Option<&mut Record<B>> {
        self.table.get_mut(&request).map(Box::as_mut)
    }

    pub(super) fn knows(&self, request: RequestId) -> bool {
        self.table.contains_key(&request)
    }

    pub(super) fn insert(&mut self, request: RequestId, record: Record<B>) {
        self.held_bytes += record.size;
        self.askers.open(record.client, request, record.name.as_ref(), record.size);
        self.table.insert(request, Box::new(record));
    }

    /// Takes the request out of every account.
    pub(super) fn remove(&mut self, request: RequestId, outcome: Outcome) -> Option<Box<Record<B>>> {
        let mut record = self.table.remove(&request)?;
        self.held_bytes -= record.held_bytes();
        match record.token() {
            None => {
                if record.orphan {
                    self.orphans_waiting -= 1;
                } else {
                    self.askers.waits_no_more(record.client);
                }
                self.leave_backlog(request, &mut record);
            }
            Some(token) => {
                if let Some(held) = self.held.get_mut(&token) {
                    held.request = None;
                    held.outcome = Some(outcome);
                    self.in_flight -= 1;
                    self.orphans_in_flight -= usize::from(record.orphan);
                }
            }
        }
        if !record.orphan {
            self.askers.close(record.client, request, record.name.as_ref(), record.size);
        }
        give_back(&mut self.table);
        Some(record)
    }

    pub(super) fn check(&self) {
        let held = self.held.values().filter(|held| held.request.is_some()).count();
        debug_assert_eq!(held, self.in_flight, "held requests are miscounted");
        debug_assert_eq!(self.table.len(), self.backlog.len() + held, "a request is nowhere, or twice");
        let bytes: u64 = self.table.values().map(|record| record.held_bytes()).sum();
        debug_assert_eq!(bytes, self.held_bytes, "held bytes are miscounted");
        self.check_backlog();
    }
}

impl<B: Clone> Core<B> {
    /// Puts it into the line; `quarantined_as` is its number, if it comes from there.
    pub(super) fn enqueue(
        &mut self,
        request: Request<B>,
        end: End,
        quarantined_as: Option<u64>,
        turn: &Turn<'_, B>,
    ) {
        let (id, client) = (request.request, request.client);
        let mut record = self.record_of(request, turn.now);
        if quarantined_as.is_some() {
            record.past_mut().quarantined_as = quarantined_as;
        }
        if let Some(key) = record.key() {
            record.attempt = self.open_key(Arc::clone(key), id);
        }
        self.requests.insert(id, record);
        self.requests.askers.waits(client);
        self.requests.join_backlog(id, end);
        self.limit_wait(id, turn.now);
    }

    /// What is kept of a request that is taken in. Its own time begins.
    pub(super) fn record_of(&mut self, request: Request<B>, now: Timestamp) -> Record<B> {
        let (id, attempts) = (request.request, self.attempts_for(request.attempts));
        let record = Record::new(request, attempts, now);
        if let Some(deadline) = record.own_deadline() {
            self.timers.arm(deadline, Timer::Request(id));
        }
        record
    }

    /// How many workers may try a request whose client says so.
    pub(super) fn attempts_for(&self, wanted: Option<u32>) -> u32 {
        wanted.unwrap_or(self.settings.attempts).clamp(1, self.settings.attempts.max(1))
    }

    /// It may wait only so long, from this moment on.
    pub(super) fn limit_wait(&mut self, request: RequestId, since: Timestamp) {
        if let Some(timeout) = self.settings.queue_timeout {
            self.timers.arm(since.after(timeout), Timer::Queue(request));
        }
    }
}

impl<B> Core<B> {
    /// It has ended, in whatever way.
    pub(super) fn close_account(&mut self, request: RequestId, record: &Record<B>, now: Timestamp) {
        self.timers.disarm(Timer::Request(request));
        self.timers.disarm(Timer::Queue(request));
        self.timers.disarm(Timer::Affinity(request));
        let times = &mut self.counters.times;
        times.request.observe(now.since(record.arrived()));
        if let Some(since) = record.waiting_since() {
            times.queue_wait.observe(now.since(since));
        }
    }
}

/// The last word on a request.
impl<B: Clone> Core<B> {
    /// `size` is that of the reply.
    pub(super) fn answer(&mut self, held: &Held, (body, size): (B, u64), turn: &mut Turn<'_, B>) {
        let Some(request) = held.request else {
            if held.unclaimed {
                self.keep_reply((held.key.as_ref(), held.attempt), (&[], &body), size, turn);
            }
            return;
        };
        if let Some(why) = self.end_is_too_large(request, size) {
            return self.refuse(request, Status::TooLarge, why, turn);
        }
        if let Some(mut record) = self.requests.remove(request, Outcome::Answered) {
            let (parts, size) = record.take_partial().finish(size);
            self.close_account(request, &record, turn.now);
            if let Some(number) = record.quarantined_as() {
                self.quarantine.retry_succeeded(number);
            }
            let (key, attempt) = (record.key(), record.attempt);
            let joined = self.keep_reply((key, attempt), (&parts, &body), size, turn);
            if !record.orphan {
                self.counters.answered += 1;
                self.tell_end(request, &record, (Outcome::Answered, Some(size)), turn);
                let (spent, parts, body) = (record.spent(turn.now), parts.clone(), body.clone());
                turn.act(Action::Answer { request, attempt, spent, parts, body });
            }
            self.answer_joined(joined, (&parts, &body), (attempt, size), turn);
        }
    }

    pub(super) fn refuse(
        &mut self,
        request: RequestId,
        status: Status,
        message: String,
        turn: &mut Turn<'_, B>,
    ) {
        if let Some(record) = self.requests.remove(request, Outcome::Refused(status)) {
            self.close_account(request, &record, turn.now);
            if let Some(number) = record.quarantined_as() {
                self.quarantine.retry_failed(number);
            }
            let (attempt, spent) = (record.attempt, record.spent(turn.now));
            let token = record.token().filter(|token| self.requests.held.contains_key(token));
            let key = (record.key(), token);
            if record.orphan {
                self.key_failed(key, (status, attempt, &message), turn);
                return;
            }
            self.counters.refuse(status);
            self.tell_end(request, &record, (Outcome::Refused(status), None), turn);
            self.key_failed(key, (status, attempt, &message), turn);
            turn.act(Action::Refuse { request, status, attempt, spent, retry_after: None, message });
        }
    }

    pub(super) fn refuse_waiting(&mut self, status: Status, message: &str, turn: &mut Turn<'_, B>) {
        for request in self.requests.waiting() {
            self.refuse(request, status, message.into(), turn);
        }
    }

    pub(super) fn refuse_everything(&mut self, status: Status, message: &str, turn: &mut Turn<'_, B>) {
        for request in sorted(self.requests.table.keys().copied()) {
            self.refuse(request, status, message.into(), turn);
        }
    }
}
