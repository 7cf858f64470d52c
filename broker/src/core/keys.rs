//! Idempotency keys: the work of one key is run once while its window lasts.
//!
//! A request whose key is being worked on joins that run and hears what it brings. One whose
//! key has been answered within the window gets the same reply. A run that fails frees its
//! key, once its worker has let go. Nothing is forgotten early: where there is no room for
//! another key, the request is refused. What outlives the router: `journal.rs`; what an
//! earlier one has left: `inherited.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::{Status, Token};

use super::action::{Action, Spent};
use super::admission::Objection;
use super::event::Request;
use super::flight::Outcome;
use super::ids::{ClientId, RequestId, Timestamp};
use super::inherited::Inherited;
use super::journal::Entry;
use super::timers::Timer;
use super::{Core, Phase, Turn};

#[derive(Debug)]
pub(super) struct Keys<B> {
    table: BTreeMap<Arc<str>, Key<B>>,
    /// Requests that wait for another's run.
    joined: BTreeMap<RequestId, Joined>,
    /// When each reply that is kept, and each count of attempts, may be forgotten.
    expiry: BTreeSet<(Timestamp, Arc<str>)>,
    /// Bytes of the replies that are kept.
    bytes: u64,
    /// Keys of which nothing is known any more, and nobody has been told so.
    freed: Vec<Arc<str>>,
    pub(super) inherited: Inherited,
}

#[derive(Debug)]
pub(super) enum Key<B> {
    /// A request waits or runs under it, and others wait for the same reply.
    Open { run: RequestId, joined: BTreeSet<RequestId> },
    /// Its request is over without a reply, and a worker still has it.
    Ending { token: Token },
    /// A worker has it, and the router to which its clients spoke is gone.
    Unclaimed { token: Token },
    /// So many workers had it, none has it any more, and the router to which its clients spoke
    /// is gone.
    Tried { attempt: u32, until: Timestamp },
    /// It was answered.
    Done(Done<B>),
}

#[derive(Debug)]
pub(super) struct Done<B> {
    /// `None` if it was too large to be kept.
    pub(super) reply: Option<(Vec<B>, B)>,
    pub(super) size: u64,
    pub(super) attempt: u32,
}

/// A request that waits for another's run.
#[derive(Debug)]
struct Joined {
    key: Arc<str>,
    client: ClientId,
    name: Option<Arc<str>>,
    size: u64,
    arrived: Timestamp,
}

impl<B> Default for Keys<B> {
    fn default() -> Self {
        Self {
            table: BTreeMap::new(),
            joined: BTreeMap::new(),
            expiry: BTreeSet::new(),
            bytes: 0,
            freed: Vec::new(),
            inherited: Inherited::default(),
        }
    }
}

impl<B> Keys<B> {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn joined_len(&self) -> usize {
        self.joined.len()
    }

    fn has_joined(&self, request: RequestId) -> bool {
        self.joined.contains_key(&request)
    }

    /// Others that wait for this run.
    fn joined_to(&self, key: &str) -> Vec<RequestId> {
        match self.table.get(key) {
            Some(Key::Open { joined, .. }) => joined.iter().copied().collect(),
            Some(Key::Ending { .. } | Key::Unclaimed { .. } | Key::Tried { .. } | Key::Done(_)) | None => {
                Vec::new()
            }
        }
    }

    /// A worker has let go of what it had under this key. Returns whether that was work which
    /// nobody has asked for since an earlier router.
    pub(super) fn let_go(&mut self, key: &Arc<str>, token: Token) -> bool {
        let unclaimed = self.is_unclaimed(key, token);
        if unclaimed || matches!(self.table.get(key), Some(Key::Ending { token: held }) if *held == token) {
            self.free(key);
        }
        unclaimed
    }

    pub(super) fn is_unclaimed(&self, key: &str, token: Token) -> bool {
        matches!(self.table.get(key), Some(Key::Unclaimed { token: held }) if *held == token)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Key<B>> {
        self.table.get(key)
    }

    /// Whatever was known of it is known no more.
    pub(super) fn set(&mut self, key: Arc<str>, state: Key<B>) {
        let ends = if let Key::Tried { until, .. } = state { Some(until) } else { None };
        if let Some(Key::Tried { until, .. }) = self.table.insert(Arc::clone(&key), state) {
            self.expiry.remove(&(until, Arc::clone(&key)));
        }
        self.expiry.extend(ends.map(|until| (until, key)));
    }

    pub(super) fn free(&mut self, key: &Arc<str>) {
        match self.table.remove(key) {
            Some(Key::Tried { until, .. }) => drop(self.expiry.remove(&(until, Arc::clone(key)))),
            Some(Key::Done(done)) => self.bytes -= done.size,
            Some(Key::Open { .. } | Key::Ending { .. } | Key::Unclaimed { .. }) | None => (),
        }
        self.freed.push(Arc::clone(key));
    }

    pub(super) fn none_freed(&self) -> bool {
        self.freed.is_empty()
    }

    /// Keys of which nothing is known any more.
    pub(super) fn take_freed(&mut self) -> Vec<Arc<str>> {
        let freed = std::mem::take(&mut self.freed);
        freed.into_iter().filter(|key| !self.table.contains_key(key)).collect()
    }

    /// A reply that is kept until then.
    pub(super) fn keep(&mut self, key: Arc<str>, done: Done<B>, until: Timestamp) {
        self.bytes += done.size;
        self.set(Arc::clone(&key), Key::Done(done));
        self.expiry.insert((until, key));
    }

    /// Nobody waits under this number any more. Returns what it was.
    fn part(&mut self, request: RequestId) -> Option<Joined> {
        let gone = self.joined.remove(&request)?;
        if let Some(Key::Open { joined, .. }) = self.table.get_mut(&gone.key) {
            joined.remove(&request);
        }
        Some(gone)
    }
}

/// Arrival.
impl<B: Clone> Core<B> {
    /// Why a request with a new key is not taken in, if it is not.
    pub(super) fn objection_to_key(&self, request: &Request<B>) -> Option<Objection> {
        let key = request.wants.key.as_ref()?;
        let limits = &self.settings;
        let full = self.keys.len() >= limits.keys_limit || self.keys.bytes >= limits.key_bytes_limit;
        let known = self.keys.get(key).is_some();
        (full && !known).then(|| Objection::busy("no more keys can be remembered".into(), None))
    }

    /// Hands a request to the run, or to the reply, that its key has. Gives it back if there
    /// is neither.
    pub(super) fn join(&mut self, request: Request<B>, turn: &mut Turn<'_, B>) -> Option<Request<B>> {
        let Some(key) = request.wants.key.clone() else { return Some(request) };
        let Some(found) = self.keys.table.get(&key) else { return Some(request) };
        if let Some(objection) = self.unfit(&request) {
            self.turn_away(&request, objection, turn);
            return None;
        }
        match found {
            Key::Open { run, .. } => {
                let run = *run;
                self.join_run(key, run, &request, turn);
            }
            Key::Unclaimed { token } => {
                let token = *token;
                self.claim(token, request, turn);
            }
            Key::Tried { attempt, .. } => {
                let attempt = *attempt;
                return self.try_again(&key, attempt, request, turn);
            }
            Key::Ending { .. } => {
                let why = "an earlier run of this key is still being stopped".into();
                self.turn_away(&request, Objection::busy(why, None), turn);
            }
            Key::Done(Done { reply: Some(reply), size, attempt }) => {
                let ((parts, body), attempt, size) = (reply.clone(), *attempt, *size);
                self.counters.answered += 1;
                let who = (request.request, request.client, request.name.clone(), request.size);
                let outcome = (Outcome::Answered, Some(size));
                self.tell_end_without_run(who, outcome, (attempt, Duration::ZERO), turn);
                let (request, spent) = (request.request, Spent::default());
                turn.act(Action::Answer { request, attempt, spent, parts, body });
            }
            Key::Done(Done { reply: None, .. }) => {
                let why = "it was run before, and its reply was too large to be kept";
                self.turn_away(&request, Objection::new(Status::Lost, why), turn);
            }
        }
        None
    }

    fn join_run(&mut self, key: Arc<str>, run: RequestId, request: &Request<B>, turn: &mut Turn<'_, B>) {
        if self.keys.joined_len() >= self.settings.backlog_limit {
            let why = format!("{} requests wait for others of their keys", self.keys.joined_len());
            return self.turn_away(request, Objection::busy(why, None), turn);
        }
        let deadline = request.timeout.map(|timeout| turn.now.after(timeout));
        if let Some(deadline) = deadline {
            self.timers.arm(deadline, Timer::Request(request.request));
        }
        self.requests.askers.open(request.client, request.request, request.name.as_ref(), 0);
        if let Some(Key::Open { joined, .. }) = self.keys.table.get_mut(&key) {
            joined.insert(request.request);
        }
        let (client, name, size) = (request.client, request.name.clone(), request.size);
        let arrived = turn.now;
        self.keys.joined.insert(request.request, Joined { key, client, name, size, arrived });
        if let Some(record) = self.requests.record_mut(run) {
            record.prolong(deadline);
        }
        self.arm_deadline(run);
    }

    /// The request is the first of its key, as far as this router knows. Returns how many workers
    /// have had its work.
    pub(super) fn open_key(&mut self, key: Arc<str>, run: RequestId) -> u32 {
        let tried = match self.keys.get(&key) {
            Some(Key::Tried { attempt, .. }) => *attempt,
            _ => 0,
        };
        self.keys.set(key, Key::Open { run, joined: BTreeSet::new() });
        tried
    }

    /// Its client's time, while there is one, or that of the last who waits for the same.
    fn arm_deadline(&mut self, run: RequestId) {
        let Some(record) = self.requests.record(run) else { return };
        let end = if record.orphan { record.deadline() } else { record.own_deadline() };
        match end {
            Some(end) => self.timers.arm(end, Timer::Request(run)),
            None => self.timers.disarm(Timer::Request(run)),
        }
    }
}

/// The end of a run, and of those who wait for it.
impl<B: Clone> Core<B> {
    /// The work of a key has been done: its reply is for those who come later too. Returns who
    /// else waits for it.
    pub(super) fn keep_reply(
        &mut self,
        (key, attempt): (Option<&Arc<str>>, u32),
        (parts, body): (&[B], &B),
        size: u64,
        turn: &mut Turn<'_, B>,
    ) -> Vec<RequestId> {
        let Some(key) = key else { return Vec::new() };
        let joined = self.keys.joined_to(key);
        let kept = self.keys.bytes + size <= self.settings.key_bytes_limit;
        let reply = kept.then(|| (parts.to_vec(), body.clone()));
        let size = if kept { size } else { 0 };
        let until = turn.now.after(self.settings.key_window);
        // Before anybody is told: what is told must be true after the death of this router too.
        let entry = Entry::Done { reply: reply.clone(), size, attempt, until };
        turn.act(Action::Journal { key: Arc::clone(key), entry });
        self.keys.keep(Arc::clone(key), Done { reply, size, attempt }, until);
        self.arm_expiry();
        joined
    }

    /// They wait for this reply.
    pub(super) fn answer_joined(
        &mut self,
        all: Vec<RequestId>,
        (parts, body): (&[B], &B),
        (attempt, size): (u32, u64),
        turn: &mut Turn<'_, B>,
    ) {
        for request in all {
            let Some(joined) = self.part(request) else { continue };
            self.counters.answered += 1;
            self.tell_end_of_joined(request, &joined, (Outcome::Answered, Some(size)), attempt, turn);
            let spent = Spent { wait: turn.now.since(joined.arrived), ..Spent::default() };
            let (parts, body) = (parts.to_vec(), body.clone());
            turn.act(Action::Answer { request, attempt, spent, parts, body });
        }
    }

    /// The work of a key has failed: all who wait hear so, and the key is free once no worker
    /// has it any more. `token` is set while one has.
    pub(super) fn key_failed(
        &mut self,
        (key, token): (Option<&Arc<str>>, Option<Token>),
        (status, attempt, message): (Status, u32, &str),
        turn: &mut Turn<'_, B>,
    ) {
        let Some(key) = key else { return };
        for request in self.keys.joined_to(key) {
            self.refuse_joined(request, (status, attempt, message.into()), turn);
        }
        match token {
            // Its client asks again, at the next router, and finds the worker at it.
            Some(token) if self.phase == Phase::HandingOver => {
                self.keys.set(Arc::clone(key), Key::Unclaimed { token });
            }
            Some(token) => self.end_key(Arc::clone(key), token, turn),
            None => self.keys.free(key),
        }
    }

    /// Nobody waits for the work that a worker has.
    pub(super) fn end_key(&mut self, key: Arc<str>, token: Token, turn: &mut Turn<'_, B>) {
        self.keys.set(key, Key::Ending { token });
        self.journal_run(token, true, turn);
    }

    fn refuse_joined(
        &mut self,
        request: RequestId,
        (status, attempt, message): (Status, u32, String),
        turn: &mut Turn<'_, B>,
    ) {
        let Some(joined) = self.part(request) else { return };
        self.counters.refuse(status);
        self.tell_end_of_joined(request, &joined, (Outcome::Refused(status), None), attempt, turn);
        let spent = Spent { wait: turn.now.since(joined.arrived), ..Spent::default() };
        turn.act(Action::Refuse { request, status, attempt, spent, retry_after: None, message });
    }

    /// It waits for another's run no more.
    fn part(&mut self, request: RequestId) -> Option<Joined> {
        let joined = self.keys.part(request)?;
        self.timers.disarm(Timer::Request(request));
        self.requests.askers.close(joined.client, request, joined.name.as_ref(), 0);
        Some(joined)
    }

    pub(super) fn arm_expiry(&mut self) {
        match self.keys.expiry.first() {
            Some((at, _key)) => self.timers.arm(*at, Timer::Keys),
            None => self.timers.disarm(Timer::Keys),
        }
    }

    /// The window of some replies is over.
    pub(super) fn forget_replies(&mut self, now: Timestamp) {
        while self.keys.expiry.first().is_some_and(|(at, _key)| *at <= now) {
            let Some((_at, key)) = self.keys.expiry.pop_first() else { break };
            self.keys.free(&key);
        }
        self.arm_expiry();
    }
}

/// Clients that wait no longer.
impl<B: Clone> Core<B> {
    /// The time of a request is over that waits for another's run. False if it does not.
    pub(super) fn joined_deadline(&mut self, request: RequestId, turn: &mut Turn<'_, B>) -> bool {
        let Some(joined) = self.keys.joined.get(&request) else { return false };
        let run = match self.keys.table.get(&joined.key) {
            Some(Key::Open { run, .. }) => self.requests.record(*run),
            Some(Key::Ending { .. } | Key::Unclaimed { .. } | Key::Tried { .. } | Key::Done(_)) | None => {
                None
            }
        };
        let attempt = run.map_or(0, |record| record.attempt);
        let (status, message) = Self::ended_by_time(attempt);
        self.refuse_joined(request, (status, attempt, message.into()), turn);
        true
    }

    fn ended_by_time(attempt: u32) -> (Status, &'static str) {
        if attempt == 0 {
            (Status::Expired, "its time ran out in the queue")
        } else {
            (Status::Timeout, "its time ran out before the run of its key was over")
        }
    }

    /// The time of the request's own client is over, and others wait on. False if nobody does.
    pub(super) fn own_deadline(&mut self, request: RequestId, turn: &mut Turn<'_, B>) -> bool {
        let Some(record) = self.requests.record(request) else { return false };
        if record.orphan || record.deadline().is_some_and(|end| end <= turn.now) {
            return false;
        }
        let attempt = record.attempt;
        let (status, message) = Self::ended_by_time(attempt);
        self.leave_run(request, &Outcome::Refused(status), message, turn);
        true
    }

    /// The client is gone, and what it asked under a key goes on. False if it had none.
    pub(super) fn outlives_client(&mut self, request: RequestId, turn: &mut Turn<'_, B>) -> bool {
        if let Some(joined) = self.part(request) {
            self.counters.dropped += 1;
            self.tell_end_of_joined(request, &joined, (Outcome::Dropped, None), 0, turn);
            turn.act(Action::Forget { request });
            return true;
        }
        if self.requests.record(request).is_none_or(|record| record.key().is_none()) {
            return false;
        }
        self.leave_run(request, &Outcome::Dropped, "", turn);
        true
    }

    /// One of those who wait takes its request back. Returns the run that nobody wants any
    /// more, which may be its own.
    pub(super) fn take_back_from_run(
        &mut self,
        request: RequestId,
        turn: &mut Turn<'_, B>,
    ) -> Option<RequestId> {
        let message = "taken back by its client";
        if self.keys.has_joined(request) {
            let key = self.keys.joined.get(&request).map(|joined| Arc::clone(&joined.key))?;
            self.refuse_joined(request, (Status::Cancelled, 0, message.into()), turn);
            let Some(Key::Open { run, joined }) = self.keys.table.get(&key) else { return None };
            let (run, last) = (*run, joined.is_empty());
            let orphan = self.requests.record(run).is_some_and(|record| record.orphan);
            return (last && orphan).then_some(run);
        }
        let key = self.requests.record(request).and_then(|record| record.key().cloned());
        let others = key.is_some_and(|key| !self.keys.joined_to(&key).is_empty());
        if others {
            self.leave_run(request, &Outcome::Refused(Status::Cancelled), message, turn);
            return None;
        }
        Some(request)
    }

    /// The run that an explicit word by its key ends.
    pub(super) fn run_of_key(&self, key: &str) -> Option<RequestId> {
        match self.keys.table.get(key)? {
            Key::Open { run, .. } => Some(*run),
            Key::Ending { .. } | Key::Unclaimed { .. } | Key::Tried { .. } | Key::Done(_) => None,
        }
    }

    /// The client hears its last of a request whose run goes on without it.
    fn leave_run(&mut self, request: RequestId, outcome: &Outcome, message: &str, turn: &mut Turn<'_, B>) {
        self.requests.orphan(request);
        let Some(record) = self.requests.record(request) else { return };
        let (attempt, spent) = (record.attempt, record.spent(turn.now));
        self.tell_end(request, record, (outcome.clone(), None), turn);
        if let Outcome::Refused(status) = *outcome {
            self.counters.refuse(status);
            let message = message.into();
            turn.act(Action::Refuse { request, status, attempt, spent, retry_after: None, message });
        } else {
            self.counters.dropped += 1;
            turn.act(Action::Forget { request });
        }
        self.arm_deadline(request);
    }

    fn tell_end_of_joined(
        &self,
        request: RequestId,
        joined: &Joined,
        (outcome, reply_size): (Outcome, Option<u64>),
        attempt: u32,
        turn: &mut Turn<'_, B>,
    ) {
        let who = (request, joined.client, joined.name.clone(), joined.size);
        let wait = turn.now.since(joined.arrived);
        self.tell_end_without_run(who, (outcome, reply_size), (attempt, wait), turn);
    }
}
