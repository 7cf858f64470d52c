//! Every request from its arrival to its answer: what waits, what is held by a
//! worker, and the accounts of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::{Status, Token};

use super::action::{Action, Note};
use super::ended::Times;
use super::event::Request;
use super::flight::{self, Outcome, Plan};
pub(super) use super::held::Held;
use super::ids::{ClientId, RequestId, Timestamp, WorkerId};
use super::loss::Attempt;
use super::timers::Timer;
use super::{Core, Turn};

#[derive(Debug)]
pub(super) struct Requests<B> {
    table: BTreeMap<RequestId, Record<B>>,
    /// Waiting requests; a retried one stands before all that came later.
    backlog: BTreeMap<i64, RequestId>,
    held: BTreeMap<Token, Held>,
    by_client: BTreeMap<ClientId, BTreeSet<RequestId>>,
    held_bytes: u64,
    next_order: i64,
    first_order: i64,
    /// Of `held`, how many somebody still waits for.
    in_flight: usize,
}

#[derive(Debug)]
pub(super) struct Record<B> {
    pub(super) client: ClientId,
    pub(super) name: Option<Arc<str>>,
    pub(super) body: B,
    pub(super) size: u64,
    arrived: Timestamp,
    /// Since when it has waited for a worker, the last time it did.
    waiting_since: Timestamp,
    pub(super) times: Times,
    deadline: Option<Timestamp>,
    /// How many workers have had it.
    pub(super) attempt: u32,
    /// How many may.
    pub(super) attempts: u32,
    /// How earlier attempts ended.
    pub(super) losses: Vec<Attempt>,
    /// Its number in quarantine, if it comes from there.
    pub(super) quarantined_as: Option<u64>,
    whereabouts: Whereabouts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    Backlog { order: i64 },
    Worker { token: Token },
}

impl<B> Record<B> {
    /// Since when it waits for a worker, if it does.
    pub(super) fn waiting_since(&self) -> Option<Timestamp> {
        match self.whereabouts {
            Whereabouts::Backlog { .. } => Some(self.waiting_since),
            Whereabouts::Worker { .. } => None,
        }
    }
}

impl<B> Default for Requests<B> {
    fn default() -> Self {
        Self {
            table: BTreeMap::new(),
            backlog: BTreeMap::new(),
            held: BTreeMap::new(),
            by_client: BTreeMap::new(),
            held_bytes: 0,
            next_order: 0,
            first_order: 0,
            in_flight: 0,
        }
    }
}

impl<B> Requests<B> {
    pub(super) fn backlog_len(&self) -> usize {
        self.backlog.len()
    }

    /// Requests with a worker whose client still waits.
    pub(super) fn in_flight_len(&self) -> usize {
        self.in_flight
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
        self.by_client.contains_key(&client)
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Since when the one that has waited longest waits.
    pub(super) fn oldest_waiting(&self) -> Option<Timestamp> {
        // Those that came back stand before all others: they are few, and in no order of
        // waiting, because one that no worker has touched has waited all the time.
        let returned = self.backlog.range(..0);
        let arrived = self.backlog.range(0..).next();
        let since = |(_order, request): (&i64, &RequestId)| {
            self.table.get(request).map(|record| record.waiting_since)
        };
        returned.chain(arrived).filter_map(since).min()
    }

    pub(super) fn held(&self, token: Token) -> Option<&Held> {
        self.held.get(&token)
    }

    pub(super) fn held_mut(&mut self, token: Token) -> Option<&mut Held> {
        self.held.get_mut(&token)
    }

    pub(super) fn record_mut(&mut self, request: RequestId) -> Option<&mut Record<B>> {
        self.table.get_mut(&request)
    }

    /// A place at the head of the line.
    pub(super) fn first_order(&mut self) -> i64 {
        self.first_order -= 1;
        self.first_order
    }

    fn insert(&mut self, request: RequestId, record: Record<B>) {
        self.held_bytes += record.size;
        self.by_client.entry(record.client).or_default().insert(request);
        self.table.insert(request, record);
    }

    /// Takes the request out of every account.
    fn remove(&mut self, request: RequestId, outcome: Outcome) -> Option<Record<B>> {
        let record = self.table.remove(&request)?;
        self.held_bytes -= record.size;
        if let Some(others) = self.by_client.get_mut(&record.client) {
            others.remove(&request);
            if others.is_empty() {
                self.by_client.remove(&record.client);
            }
        }
        match record.whereabouts {
            Whereabouts::Backlog { order } => {
                self.backlog.remove(&order);
            }
            Whereabouts::Worker { token } => {
                if let Some(held) = self.held.get_mut(&token) {
                    held.request = None;
                    held.outcome = Some(outcome);
                    self.in_flight -= 1;
                }
            }
        }
        Some(record)
    }

    pub(super) fn check(&self) {
        let held = self.held.values().filter(|held| held.request.is_some()).count();
        debug_assert_eq!(held, self.in_flight, "held requests are miscounted");
        debug_assert_eq!(self.table.len(), self.backlog.len() + held, "a request is nowhere, or twice");
        let bytes: u64 = self.table.values().map(|record| record.size).sum();
        debug_assert_eq!(bytes, self.held_bytes, "held bytes are miscounted");
    }
}

/// Arrival.
impl<B: Clone> Core<B> {
    pub(super) fn admit(&mut self, request: Request<B>, turn: &mut Turn<'_, B>) {
        self.counters.received += 1;
        if let Some((status, why)) = self.objection(&request) {
            self.counters.turn_away(status);
            self.tell_refusal(&request, status, turn);
            turn.act(Action::Refuse { request: request.request, status, attempt: 0, message: why });
            return;
        }
        let order = self.requests.next_order;
        self.requests.next_order += 1;
        self.enqueue(request, order, None, turn);
    }

    /// Puts it into the line; `quarantined_as` is its number, if it comes from there.
    pub(super) fn enqueue(
        &mut self,
        request: Request<B>,
        order: i64,
        quarantined_as: Option<u64>,
        turn: &Turn<'_, B>,
    ) {
        let deadline = request.timeout.map(|timeout| turn.now.after(timeout));
        if let Some(deadline) = deadline {
            self.timers.arm(deadline, Timer::Request(request.request));
        }
        let attempts = request.attempts.unwrap_or(self.settings.attempts);
        let record = Record {
            client: request.client,
            name: request.name,
            body: request.body,
            size: request.size,
            arrived: turn.now,
            waiting_since: turn.now,
            times: Times::default(),
            deadline,
            attempt: 0,
            attempts: attempts.clamp(1, self.settings.attempts.max(1)),
            losses: Vec::new(),
            quarantined_as,
            whereabouts: Whereabouts::Backlog { order },
        };
        self.requests.insert(request.request, record);
        self.requests.backlog.insert(order, request.request);
        self.limit_wait(request.request, turn.now);
    }

    /// It may wait only so long, from this moment on.
    fn limit_wait(&mut self, request: RequestId, since: Timestamp) {
        if let Some(timeout) = self.settings.queue_timeout {
            self.timers.arm(since.after(timeout), Timer::Queue(request));
        }
    }

    pub(super) fn objection(&self, request: &Request<B>) -> Option<(Status, String)> {
        let limits = &self.settings;
        if let Some((status, why)) = self.closed_because() {
            return Some((status, why.into()));
        }
        if let Some(service) = request.service.as_ref().filter(|service| ***service != *limits.service) {
            let service: String = service.chars().take(64).collect();
            return Some((Status::NoService, format!("no service {} here", service.escape_debug())));
        }
        if request.size > limits.body_limit {
            let why = format!("the body has {} bytes, at most {} are taken", request.size, limits.body_limit);
            return Some((Status::TooLarge, why));
        }
        let idle =
            self.crew.least_loaded().is_some() && self.requests.backlog.is_empty() && self.dispatches();
        if self.requests.backlog.len() >= limits.backlog_limit && !idle {
            return Some((Status::Busy, format!("{} requests are waiting", self.requests.backlog.len())));
        }
        if self.requests.held_bytes + request.size > limits.held_bytes_limit {
            return Some((Status::Busy, format!("{} bytes are waiting", self.requests.held_bytes)));
        }
        None
    }

    pub(super) fn refuse_unreadable(&mut self, request: RequestId, why: String, turn: &mut Turn<'_, B>) {
        self.counters.received += 1;
        self.counters.turn_away(Status::Malformed);
        self.tell_unknown(request, Status::Malformed, turn);
        turn.act(Action::Refuse { request, status: Status::Malformed, attempt: 0, message: why });
    }

    pub(super) fn client_left(&mut self, client: ClientId, turn: &mut Turn<'_, B>) {
        for request in self.requests.by_client.remove(&client).unwrap_or_default() {
            if let Some(record) = self.requests.remove(request, Outcome::Dropped) {
                self.close_account(request, &record, turn.now);
                self.counters.dropped += 1;
                self.tell_end(request, &record, (Outcome::Dropped, None), turn);
                turn.act(Action::Forget { request });
            }
        }
    }
}

impl<B> Core<B> {
    /// It has ended, in whatever way.
    fn close_account(&mut self, request: RequestId, record: &Record<B>, now: Timestamp) {
        self.timers.disarm(Timer::Request(request));
        self.timers.disarm(Timer::Queue(request));
        let times = &mut self.counters.times;
        times.request.observe(now.since(record.arrived));
        if let Whereabouts::Backlog { .. } = record.whereabouts {
            times.queue_wait.observe(now.since(record.waiting_since));
        }
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
            begun: false,
            outcome: None,
            plan: None,
        };
        self.requests.held.insert(token, held);
    }
}

/// Into a worker's hands and out again.
impl<B: Clone> Core<B> {
    /// The first waiting request, now held by `worker` under `token`.
    pub(super) fn hand_over(
        &mut self,
        (worker, token, ordinal): (WorkerId, Token, u64),
        now: Timestamp,
    ) -> Option<(RequestId, u32, Option<Duration>, B)> {
        let (_order, request) = self.requests.backlog.pop_first()?;
        let record = self.requests.table.get_mut(&request)?;
        self.timers.disarm(Timer::Queue(request));
        let place = self.crew.place_of(worker);
        let plan = Plan {
            request,
            name: record.name.clone(),
            client: record.client,
            size: record.size,
            wait: now.since(record.waiting_since),
            memory: place.and_then(|place| flight::memory_of(&self.roster, place)),
        };
        self.counters.times.queue_wait.observe(plan.wait);
        record.attempt += 1;
        record.times.hand_over(record.waiting_since, place, now);
        record.whereabouts = Whereabouts::Worker { token };
        let deadline = self.settings.timeout.map(|timeout| now.after(timeout));
        let left = [record.deadline, deadline].into_iter().flatten().min().map(|end| now.until(end));
        let handed = (request, record.attempt, left, record.body.clone());
        if let Some(deadline) = deadline {
            self.timers.arm(deadline, Timer::Attempt(token));
        }
        if record.attempt > 1 {
            self.counters.retried += 1;
        }
        let attempt = record.attempt;
        let held = Held {
            worker,
            request: Some(request),
            since: now,
            attempt,
            ordinal,
            begun: false,
            outcome: None,
            plan: Some(plan),
        };
        self.requests.held.insert(token, held);
        self.requests.in_flight += 1;
        Some(handed)
    }

    /// The worker no longer holds `token`. What it held must be answered or
    /// put back by the caller.
    pub(super) fn take_back(&mut self, token: Token) -> Option<Held> {
        let held = self.requests.held.remove(&token)?;
        if held.request.is_some() {
            self.requests.in_flight -= 1;
        }
        self.timers.disarm(Timer::Attempt(token));
        self.timers.disarm(Timer::Cancelled(token));
        Some(held)
    }

    /// Puts a request that `take_back` returned at the head of the line, where it has
    /// waited since then.
    pub(super) fn put_back(&mut self, request: RequestId, since: Timestamp) {
        let order = self.requests.first_order();
        if let Some(record) = self.requests.table.get_mut(&request) {
            record.whereabouts = Whereabouts::Backlog { order };
            record.times.put_back(since);
            record.waiting_since = since;
            self.requests.backlog.insert(order, request);
            self.limit_wait(request, since);
        }
    }

    /// The worker never got it: as if it had not been tried.
    pub(super) fn untry(&mut self, held: &Held) {
        let Some(request) = held.request else { return };
        if let Some(record) = self.requests.table.get_mut(&request) {
            if record.attempt > 1 {
                self.counters.retried -= 1;
            }
            record.attempt -= 1;
            let since = record.waiting_since;
            self.put_back(request, since);
        }
    }

    /// `size` is that of the reply.
    pub(super) fn answer(&mut self, held: &Held, (body, size): (B, u64), turn: &mut Turn<'_, B>) {
        let Some(request) = held.request else { return };
        if let Some(record) = self.requests.remove(request, Outcome::Answered) {
            self.close_account(request, &record, turn.now);
            if let Some(number) = record.quarantined_as {
                self.quarantine.retry_succeeded(number);
            }
            self.counters.answered += 1;
            self.tell_end(request, &record, (Outcome::Answered, Some(size)), turn);
            turn.act(Action::Answer { request, attempt: record.attempt, body });
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
            if let Some(number) = record.quarantined_as {
                self.quarantine.retry_failed(number);
            }
            self.counters.refuse(status);
            self.tell_end(request, &record, (Outcome::Refused(status), None), turn);
            turn.act(Action::Refuse { request, status, attempt: record.attempt, message });
        }
    }

    pub(super) fn refuse_waiting(&mut self, status: Status, message: &str, turn: &mut Turn<'_, B>) {
        let waiting: Vec<RequestId> = self.requests.backlog.values().copied().collect();
        for request in waiting {
            self.refuse(request, status, message.into(), turn);
        }
    }

    pub(super) fn refuse_everything(&mut self, status: Status, message: &str, turn: &mut Turn<'_, B>) {
        let all: Vec<RequestId> = self.requests.table.keys().copied().collect();
        for request in all {
            self.refuse(request, status, message.into(), turn);
        }
    }

    /// The client's own time is over.
    pub(super) fn request_deadline(&mut self, request: RequestId, turn: &mut Turn<'_, B>) {
        let Some(record) = self.requests.table.get(&request) else { return };
        match record.whereabouts {
            Whereabouts::Backlog { .. } if record.attempt == 0 => {
                self.refuse(request, Status::Expired, "its time ran out in the queue".into(), turn);
            }
            Whereabouts::Backlog { .. } => {
                let message = "its time ran out while it waited for another worker".into();
                self.refuse(request, Status::Timeout, message, turn);
            }
            Whereabouts::Worker { token } => self.time_out(token, turn),
        }
    }

    /// It has waited long enough for a worker.
    pub(super) fn queue_deadline(&mut self, request: RequestId, turn: &mut Turn<'_, B>) {
        let Some(record) = self.requests.table.get(&request) else { return };
        let status = if record.attempt == 0 { Status::Expired } else { Status::Timeout };
        let waited = turn.now.since(record.waiting_since);
        self.refuse(request, status, format!("no worker was free for {waited:?}"), turn);
    }

    /// The worker has had its time.
    pub(super) fn attempt_deadline(&mut self, token: Token, turn: &mut Turn<'_, B>) {
        self.time_out(token, turn);
    }

    fn time_out(&mut self, token: Token, turn: &mut Turn<'_, B>) {
        let Some(held) = self.requests.held.get(&token) else { return };
        let (worker, request, attempt) = (held.worker, held.request, held.attempt);
        // The client's time and the attempt's end at two moments: one is enough.
        self.timers.disarm(Timer::Attempt(token));
        let after = turn.now.since(held.since);
        if let Some(request) = request {
            let place = self.crew.place_of(worker);
            let size = self.requests.table.get(&request).map_or(0, |record| record.size);
            turn.note(Note::RequestTimedOut { request, place, attempt, after, size });
            let message = format!("no reply within {after:?}");
            self.refuse(request, Status::Timeout, message, turn);
        }
        self.worker_stuck(worker, token, turn);
    }
}
