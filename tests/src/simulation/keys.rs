//! A small world for idempotency keys: clients that ask, ask again, leave and take back;
//! workers that answer, fail, die and are late, and routers that die. What becomes of requests
//! without keys is played elsewhere; here it is that the work of one key runs once while its
//! window lasts.

mod tally;
mod hands;
mod deaths;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hornpipe::core::{
    Action, Assignment, ClientId, Core, Ending, Entry, Event, Generator, Home, Memory, Place, Request,
    RequestId, Settings, Stop, Timestamp, Wants, WorkerId,
};
use hornpipe_proto::Token;
use hornpipe_proto::worker::ReplyStatus;

use self::deaths::Fuse;
use self::hands::Hand;
pub use self::tally::Tally;
use super::random::{Random, seed_bytes};

/// Replies are numbers; requests have 0.
type Body = u64;

/// What the broker orders of others.
#[derive(Debug, Clone, Copy)]
enum Order {
    Spawn(Place),
    Kill(Place),
    Dismiss(WorkerId),
    Withdraw(WorkerId),
}

struct World {
    seed: u64,
    step: u64,
    random: Random,
    /// Of a hundred requests, how many have no key.
    keyless: u32,
    now: Timestamp,
    settings: Settings,
    core: Core<Body>,
    last: u64,
    /// Requests that have not had their last action, and their keys.
    open: BTreeMap<RequestId, (ClientId, Option<Arc<str>>)>,
    /// Whom a worker has had, in this world.
    ran: BTreeSet<RequestId>,
    workers: BTreeMap<WorkerId, Hand>,
    /// Workers that have yet to come back since the router died.
    away: Vec<Hand>,
    /// The last success of each key, and until when it counts.
    done: BTreeMap<Arc<str>, (Body, Timestamp)>,
    /// What outlives the router.
    journal: BTreeMap<Arc<str>, Entry<Body>>,
    memory: Option<Memory>,
    life: u32,
    fuse: Fuse,
    /// What others have yet to do about what was ordered.
    orders: VecDeque<Order>,
    tally: Tally,
}

/// Plays one run: `events` events of chaos, then the end.
///
/// # Panics
/// If the core breaks a law.
pub fn run(seed: u64, events: u64) -> Tally {
    let mut world = World::new(seed);
    world.tell(Event::Tick);
    for _ in 0..2 {
        world.join();
    }
    for _ in 0..events {
        world.step += 1;
        if world.random.percent(2) {
            world.fuse = Fuse::Burning { actions: world.random.below(4) };
        }
        world.happen();
        if world.fuse != Fuse::None {
            world.start_anew();
        }
    }
    world.end();
    world.tally
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let workers = random.pick(1, &[0, 2]);
        let settings = Settings {
            workers,
            min: workers,
            max: workers,
            attempts: random.between(1, 3),
            timeout: random.pick(None, &[Some(Duration::from_millis(200))]),
            queue_timeout: random.pick(None, &[None, Some(Duration::from_millis(300))]),
            prefetch: random
                .pick(None, &[20, 200, 2000, 2000].map(|budget| Some(Duration::from_millis(budget)))),
            cancel_grace: Duration::from_millis(50),
            key_window: random.pick(Duration::from_secs(2), &[Duration::from_millis(100)]),
            keys_limit: random.pick(10_000, &[3]),
            key_bytes_limit: random.pick(1 << 20, &[5]),
            tell_ends: random.percent(50),
            ..Settings::default()
        };
        // Only those without a key are handed over ahead of their time.
        let keyless = random.pick(20, &[60]);
        Self {
            seed,
            step: 0,
            random,
            keyless,
            now: Timestamp::new(Duration::from_secs(1000)),
            core: Core::new(settings.clone(), Generator::new(1, seed_bytes(seed)), None),
            settings,
            last: 0,
            open: BTreeMap::new(),
            ran: BTreeSet::new(),
            workers: BTreeMap::new(),
            away: Vec::new(),
            done: BTreeMap::new(),
            journal: BTreeMap::new(),
            memory: None,
            life: 1,
            fuse: Fuse::None,
            orders: VecDeque::new(),
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
            if self.fuse == Fuse::Dead {
                return;
            }
        }
        self.now = until;
        if self.random.percent(40) {
            self.come_back();
        }
        match self.random.below(20) {
            0..=7 => self.ask(),
            8..=14 => self.reply(),
            15 => self.die(),
            16 => self.leave(),
            17 | 18 => self.take_back(),
            _ if self.workers.len() + self.away.len() < 4 => self.join(),
            _ => (),
        }
    }

    fn ask(&mut self) {
        let request = RequestId(self.name());
        let client = ClientId(1 + self.random.below(4));
        let key =
            (!self.random.percent(self.keyless)).then(|| self.random.pick("a", &["b", "c", "d"]).into());
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
        let Some(hand) = self.workers.get_mut(&worker) else { return };
        let Some(token) = hand.current() else { return };
        let status =
            self.random.pick(ReplyStatus::Ok, &[ReplyStatus::Ok, ReplyStatus::Error, ReplyStatus::Retry]);
        self.last += 1;
        let body = self.last;
        let was_stale = hand.stale.remove(&token);
        hand.finish(token, status, body);
        let (returns, speech) = (was_stale && hand.stale.is_empty(), hand.speech());
        self.send(worker, token, status, body);
        // It owes nothing more to a router of before.
        if returns && self.workers.contains_key(&worker) {
            self.tell(Event::Waiting { worker, speech });
        }
        self.go(worker);
    }

    /// A reply is on its way. Whether it is read is seen by what is written down.
    fn send(&mut self, worker: WorkerId, token: Token, status: ReplyStatus, body: Body) {
        let was_open = self.is_written_as_begun(token);
        self.tell(Event::Reply { worker, token, status, message: None, size: 1, body });
        let mut written = self.done.values();
        let written = written.any(|(done, _until)| *done == body);
        // One that nobody waited for leaves nothing but that its key is free.
        let read = self.fuse != Fuse::Dead || written || (was_open && !self.is_written_as_begun(token));
        let hand = self.workers.get_mut(&worker);
        let kept = hand.into_iter().flat_map(|hand| hand.kept.iter_mut()).find(|kept| kept.token == token);
        if let Some(kept) = kept {
            kept.read |= read;
        }
    }

    fn is_written_as_begun(&self, token: Token) -> bool {
        self.journal.values().any(|entry| matches!(entry, Entry::Begun(begun) if begun.token == token))
    }

    fn die(&mut self) {
        if !self.away.is_empty() && self.random.percent(30) {
            let gone = self.away.swap_remove(0);
            self.bury(gone.place);
            return;
        }
        let Some(worker) = self.some_worker() else { return };
        self.end_worker(worker);
        if self.workers.len() + self.away.len() < 3 {
            self.join();
        }
    }

    fn end_worker(&mut self, worker: WorkerId) {
        if let Some(mut hand) = self.workers.remove(&worker) {
            self.take_back_unbegun(worker, &mut hand);
            self.tell(Event::WorkerLeft { worker });
            self.bury(hand.place);
        }
    }

    fn bury(&mut self, place: Option<Place>) {
        if let Some(place) = place {
            self.tell(Event::Exited { place, ending: Ending::Signal(9) });
        }
    }

    /// What it has not begun by now it never will.
    fn take_back_unbegun(&mut self, worker: WorkerId, hand: &mut Hand) {
        if let Some(event) = hand.withdraw(worker) {
            self.tell(event);
        }
    }

    /// It goes if it was told to, and has nothing more in hand.
    fn go(&mut self, worker: WorkerId) {
        if self.workers.get(&worker).is_some_and(|hand| hand.leaving && hand.held.is_empty()) {
            self.end_worker(worker);
        }
    }

    fn join(&mut self) {
        let name = self.name();
        let mut hand = Hand::new(name, None, self.random.percent(70), self.random.between(1, 3));
        hand.claims = hand.is_single() && self.random.percent(70);
        self.greet(WorkerId(name), hand);
    }

    fn greet(&mut self, worker: WorkerId, hand: Hand) {
        let (home, speech) = (hand.place.map_or(Home::External, Home::Local), hand.speech());
        self.workers.insert(worker, hand);
        self.tell(Event::Joined { worker, home });
        self.tell(Event::Waiting { worker, speech });
    }

    fn leave(&mut self) {
        let client = ClientId(1 + self.random.below(4));
        self.tell(Event::ClientLeft { client });
    }

    fn take_back(&mut self) {
        let open: Vec<(RequestId, ClientId)> =
            self.open.iter().map(|(request, (client, _))| (*request, *client)).collect();
        let first = open.first().copied().filter(|_| self.random.percent(70));
        let Some(first) = first else { return self.take_key_back() };
        let (request, client) = self.random.pick(first, &open);
        self.tell(Event::Cancel { client, name: request.to_string().into() });
    }

    /// Also work for which no client of this router has asked.
    fn take_key_back(&mut self) {
        let key: Arc<str> = self.random.pick("a", &["b", "c", "d"]).into();
        self.tell(Event::CancelKey { service: None, key: Arc::clone(&key) });
        let goes_on = matches!(self.journal.get(&key), Some(Entry::Begun(begun)) if !begun.over);
        law!(self, !goes_on || self.fuse == Fuse::Dead, "{key} was taken back, and its run goes on");
    }

    fn end(&mut self) {
        while !self.away.is_empty() {
            self.come_back();
        }
        if self.life > 1 {
            // What died with a router before is missed for a while.
            self.finish(500);
        }
        self.tell(Event::Stop(Stop::Finish));
        self.finish(2000);
        law!(self, self.open.is_empty(), "over, and {:?} are open", self.open);
        let tables = self.core.tables();
        law!(self, (tables.requests, tables.held) == (0, 0), "over, and {tables:?}");
    }
}

impl World {
    fn finish(&mut self, steps: u32) {
        for _ in 0..steps {
            if self.workers.values().any(|hand| !hand.held.is_empty()) {
                self.reply();
            }
            if let Some(deadline) = self.core.next_deadline() {
                self.now = self.now.max(deadline);
            }
            self.tell(Event::Tick);
        }
    }
}

/// What the core orders, and what must hold.
impl World {
    fn tell(&mut self, event: Event<Body>) {
        self.hear(event);
        while let Some(order) = self.orders.pop_front() {
            self.obey(order);
        }
    }

    fn hear(&mut self, event: Event<Body>) {
        if self.fuse == Fuse::Dead {
            return;
        }
        let mut actions = Vec::new();
        self.core.handle(event, self.now, &mut actions);
        for action in actions {
            if !self.fuse.burn() {
                return;
            }
            match action {
                Action::Journal { key, entry } => self.write_down(key, entry),
                Action::Remember(memory) => self.memory = Some(memory),
                Action::Spawn { place, .. } => self.orders.push_back(Order::Spawn(place)),
                Action::Kill { place } | Action::Terminate { place } => {
                    self.orders.push_back(Order::Kill(place));
                }
                // It is heard before anything else.
                Action::Withdraw { worker } => self.orders.push_front(Order::Withdraw(worker)),
                Action::Dismiss { worker } => self.orders.push_back(Order::Dismiss(worker)),
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

    /// What a dead router has ordered, its successor decides anew.
    fn obey(&mut self, order: Order) {
        if self.fuse == Fuse::Dead {
            return;
        }
        match order {
            Order::Spawn(place) => {
                self.tell(Event::Started { place, pid: 1 });
                let worker = WorkerId(self.name());
                let mut hand = Hand::new(worker.0, Some(place), self.random.percent(70), 1);
                hand.claims = self.random.percent(70);
                self.greet(worker, hand);
            }
            Order::Kill(place) => {
                let away = self.away.len();
                self.away.retain(|hand| hand.place != Some(place));
                let mut hands = self.workers.iter();
                let worker = hands.find(|(_, hand)| hand.place == Some(place)).map(|(worker, _)| *worker);
                match worker {
                    Some(worker) => self.end_worker(worker),
                    None if self.away.len() < away => self.bury(Some(place)),
                    None => (),
                }
            }
            Order::Withdraw(worker) => {
                if let Some(mut hand) = self.workers.remove(&worker) {
                    let event = hand.withdraw(worker);
                    self.workers.insert(worker, hand);
                    if let Some(event) = event {
                        self.tell(event);
                    }
                }
            }
            Order::Dismiss(worker) => {
                if let Some(hand) = self.workers.get_mut(&worker) {
                    hand.leaving = true;
                }
                self.go(worker);
            }
        }
    }

    fn write_down(&mut self, key: Arc<str>, entry: Entry<Body>) {
        if let (Entry::Done { .. }, Some(Entry::Begun(begun))) = (&entry, self.journal.get(&key)) {
            let own = Token::new(self.life, 0);
            self.tally.inherited += u64::from(begun.token.as_str().get(..5) != own.as_str().get(..5));
        }
        if let Entry::Done { reply: Some((_parts, body)), until, .. } = &entry {
            self.done.insert(Arc::clone(&key), (*body, *until));
        }
        if let (Entry::Begun(begun), Some(Entry::Tried { attempt, until })) = (&entry, self.journal.get(&key))
        {
            let counted = *attempt < begun.attempt || *until <= self.now;
            law!(self, counted, "{key} was tried {attempt} times, and then in attempt {}", begun.attempt);
        }
        match entry {
            Entry::Free => self.journal.remove(&key),
            other => self.journal.insert(key, other),
        };
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
            let mut hands = self.workers.values().chain(&self.away);
            law!(self, !hands.any(|hand| hand.is_at(key)), "{request} runs beside another of its key {key}");
            law!(
                self,
                job.attempt <= self.settings.attempts,
                "{request} runs for the {}th time",
                job.attempt
            );
            let done = self.done.get(key).is_some_and(|(_body, until)| *until > self.now);
            law!(self, !done, "{request} runs, and its key {key} was answered");
        }
        if let Some(hand) = self.workers.get_mut(&job.worker) {
            // Until the reply to it is read nothing follows, and it follows nothing.
            let alone = hand.held.is_empty() || (key.is_none() && !hand.holds_keyed());
            law!(self, alone || !hand.is_single(), "{request} and another, of which one has a key");
            self.tally.ahead += u64::from(!hand.held.is_empty() && hand.is_single());
            hand.take(job.token, (request, key));
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
