//! A small world for idempotency keys: clients that ask, ask again, leave and take back;
//! workers that answer, fail, die and are late. What becomes of requests without keys is
//! played elsewhere; here it is that the work of one key runs once while its window lasts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hornpipe::core::{
    Action, Assignment, ClientId, Core, Details, Event, Generator, Home, Request, RequestId, Settings,
    Speech, Stop, Timestamp, Wants, WorkerId,
};
use hornpipe_proto::Token;
use hornpipe_proto::worker::ReplyStatus;

use super::random::Random;

/// What one run has seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Requests answered with the reply of a run.
    pub answered: u64,
    /// Of those, how many had not run themselves.
    pub repeated: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// Clients that left something running.
    pub dropped: u64,
    /// Runs of keys.
    pub runs: u64,
}

/// Replies are numbers; requests have 0.
type Body = u64;

struct World {
    seed: u64,
    step: u64,
    random: Random,
    now: Timestamp,
    settings: Settings,
    core: Core<Body>,
    last: u64,
    /// Requests that have not had their last action, and their keys.
    open: BTreeMap<RequestId, (ClientId, Option<Arc<str>>)>,
    /// Whom a worker has had, in this world.
    ran: BTreeSet<RequestId>,
    workers: BTreeMap<WorkerId, Hand>,
    /// The last success of each key, and until when it counts.
    done: BTreeMap<Arc<str>, (Body, Timestamp)>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Hand {
    seen: u64,
    held: BTreeMap<Token, (RequestId, Option<Arc<str>>)>,
}

/// Plays one run: `events` events of chaos, then the end.
///
/// # Panics
/// If the core breaks a law.
pub fn run(seed: u64, events: u64) -> Tally {
    let mut world = World::new(seed);
    world.tell(Event::Tick);
    for _ in 0..3 {
        world.join();
    }
    for _ in 0..events {
        world.step += 1;
        world.happen();
    }
    world.end();
    world.tally
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings {
            workers: 0,
            min: 0,
            attempts: random.between(1, 3),
            timeout: random.pick(None, &[Some(Duration::from_millis(200))]),
            queue_timeout: random.pick(None, &[None, Some(Duration::from_millis(300))]),
            cancel_grace: Duration::from_millis(50),
            key_window: random.pick(Duration::from_secs(2), &[Duration::from_millis(100)]),
            keys_limit: random.pick(10_000, &[3]),
            key_bytes_limit: random.pick(1 << 20, &[5]),
            tell_ends: random.percent(50),
            ..Settings::default()
        };
        let mut bytes = [1; 32];
        bytes.iter_mut().zip(seed.to_le_bytes()).for_each(|(to, from)| *to = from);
        Self {
            seed,
            step: 0,
            random,
            now: Timestamp(Duration::from_secs(1000)),
            core: Core::new(settings.clone(), Generator::new(1, bytes), None),
            settings,
            last: 0,
            open: BTreeMap::new(),
            ran: BTreeSet::new(),
            workers: BTreeMap::new(),
            done: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    fn name(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn happen(&mut self) {
        let pause = self.random.millis(0, 40);
        let until = self.now.after(pause);
        while let Some(deadline) = self.core.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.tell(Event::Tick);
        }
        self.now = until;
        match self.random.below(20) {
            0..=7 => self.ask(),
            8..=14 => self.reply(),
            15 => self.die(),
            16 => self.leave(),
            17 | 18 => self.take_back(),
            _ if self.workers.len() < 4 => self.join(),
            _ => (),
        }
    }

    fn ask(&mut self) {
        let request = RequestId(self.name());
        let client = ClientId(1 + self.random.below(4));
        let key: Option<&str> = self.random.pick(None, &[Some("a"), Some("b"), Some("c"), Some("d")]);
        let key: Option<Arc<str>> = key.map(Arc::from);
        let timeout = if self.random.percent(40) { Some(self.random.millis(1, 600)) } else { None };
        self.open.insert(request, (client, key.clone()));
        let exclusive = self.random.percent(20).then(|| Arc::from("x"));
        self.tell(Event::Request(Request {
            request,
            client,
            name: Some(request.to_string().into()),
            service: None,
            timeout,
            attempts: None,
            size: 1,
            wants: Wants { key, exclusive, ..Wants::default() },
            body: 0,
        }));
    }

    fn some_worker(&mut self) -> Option<WorkerId> {
        let busy: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, hand)| !hand.held.is_empty())
            .map(|(worker, _)| *worker)
            .collect();
        let first = busy.first().copied()?;
        Some(self.random.pick(first, &busy))
    }

    fn reply(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        let Some((token, (request, key))) =
            self.workers.get_mut(&worker).and_then(|hand| hand.held.pop_first())
        else {
            return;
        };
        let status =
            self.random.pick(ReplyStatus::Ok, &[ReplyStatus::Ok, ReplyStatus::Error, ReplyStatus::Retry]);
        let body = self.name();
        if let Some(key) = key.filter(|_| status == ReplyStatus::Ok && self.core.knows(request)) {
            self.done.insert(key, (body, self.now.after(self.settings.key_window)));
        }
        self.tell(Event::Reply { worker, token, status, message: None, size: 1, body });
    }

    fn die(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        self.workers.remove(&worker);
        self.tell(Event::WorkerLeft { worker });
        self.join();
    }

    fn join(&mut self) {
        let worker = WorkerId(self.name());
        let credits = self.random.between(1, 3);
        self.workers.insert(worker, Hand::default());
        let details = Details { name: None, service: None, credits, seen: 0, claims: false };
        self.tell(Event::Joined { worker, home: Home::External });
        self.tell(Event::Waiting { worker, speech: Speech::Native(details) });
    }

    fn leave(&mut self) {
        let client = ClientId(1 + self.random.below(4));
        self.tell(Event::ClientLeft { client });
    }

    fn take_back(&mut self) {
        let open: Vec<(RequestId, ClientId)> =
            self.open.iter().map(|(request, (client, _))| (*request, *client)).collect();
        let Some(first) = open.first().copied() else { return };
        let (request, client) = self.random.pick(first, &open);
        if self.random.percent(70) {
            self.tell(Event::Cancel { client, name: request.to_string().into() });
        } else {
            let key = self.random.pick("a", &["b", "c", "d"]).into();
            self.tell(Event::CancelKey { service: None, key });
        }
    }

    fn end(&mut self) {
        self.tell(Event::Stop(Stop::Finish));
        for _ in 0..2000 {
            if self.workers.values().any(|hand| !hand.held.is_empty()) {
                self.reply();
            }
            if let Some(deadline) = self.core.next_deadline() {
                self.now = self.now.max(deadline);
            }
            self.tell(Event::Tick);
        }
        law!(self, self.open.is_empty(), "over, and {:?} are open", self.open);
        let tables = self.core.tables();
        law!(self, (tables.requests, tables.held) == (0, 0), "over, and {tables:?}");
    }
}

/// What the core orders, and what must hold.
impl World {
    fn tell(&mut self, event: Event<Body>) {
        let mut actions = Vec::new();
        self.core.handle(event, self.now, &mut actions);
        for action in actions {
            match action {
                Action::Answer { request, body, .. } => self.answered(request, body),
                Action::Refuse { request, .. } => {
                    self.close(request);
                    self.tally.refused += 1;
                }
                Action::Forget { request } => {
                    self.close(request);
                    self.tally.dropped += 1;
                }
                Action::Assign(job) => self.assigned(&job),
                _ => (),
            }
        }
        self.check();
    }

    fn close(&mut self, request: RequestId) -> Option<Arc<str>> {
        let closed = self.open.remove(&request);
        law!(self, closed.is_some(), "{request} has had its last action before");
        closed.and_then(|(_client, key)| key)
    }

    fn answered(&mut self, request: RequestId, body: Body) {
        self.tally.answered += 1;
        self.tally.repeated += u64::from(!self.ran.contains(&request));
        let key = self.close(request);
        let reply = key.as_ref().and_then(|key| self.done.get(key)).map(|(reply, _until)| *reply);
        law!(self, key.is_none() || reply == Some(body), "{request} gets {body}, and its key {reply:?}");
    }

    fn assigned(&mut self, job: &Assignment<Body>) {
        let request = job.request;
        self.ran.insert(request);
        let key = self.core.key_of(request);
        if let Some(key) = &key {
            self.tally.runs += 1;
            let held = |hand: &Hand| hand.held.values().any(|(_request, held)| held.as_ref() == Some(key));
            law!(self, !self.workers.values().any(held), "{request} runs beside another of its key {key}");
            let done = self.done.get(key).is_some_and(|(_body, until)| *until > self.now);
            law!(self, !done, "{request} runs, and its key {key} was answered");
        }
        if let Some(hand) = self.workers.get_mut(&job.worker) {
            hand.seen += 1;
            hand.held.insert(job.token, (request, key));
        }
    }

    fn check(&self) {
        let counters = self.core.counters();
        let ended = counters.answered + counters.refused_total() + counters.dropped;
        let open = self.open.len();
        law!(self, counters.received == ended + open as u64, "{counters:?}, and {open} are open");
        let (waiting, running) = (self.core.backlog_len(), self.core.in_flight_len());
        let joined = self.core.joined_len();
        law!(self, waiting + running + joined == open, "{waiting}, {running}, {joined}, and {open} are open");
        let keys = self.core.tables().keys;
        law!(self, keys <= self.settings.keys_limit, "{keys} keys are remembered");
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            repeated: self.repeated + other.repeated,
            refused: self.refused + other.refused,
            dropped: self.dropped + other.dropped,
            runs: self.runs + other.runs,
        }
    }
}
