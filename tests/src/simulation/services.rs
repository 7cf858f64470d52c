//! A small world for several services in one broker. What one core does is played elsewhere;
//! here it is who belongs where: requests by name, workers of our own and from elsewhere,
//! services that open, are moved to, and close. `ledger` keeps the books by another hand.

mod hands;
mod ledger;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hornpipe::core::{
    Action, ClientId, Decision, Ending, Event, Finish, Generation, Generator, Home, Memory, Place, Request,
    RequestId, ServiceId, Services, Settings, Stop, Timestamp, WorkerId,
};

use super::random::Random;
use hands::Hand;
use ledger::Ledger;

/// What one run has seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Events that the services took in.
    pub events: u64,
    /// Requests answered with a reply.
    pub answered: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// Services that workers brought.
    pub opened: u64,
    /// Those of them that went.
    pub closed: u64,
    /// Workers whose hearts had stopped.
    pub disowned: u64,
    /// Workers that left a service for another.
    pub moved: u64,
    /// Lives of the router.
    pub lives: u64,
}

struct World {
    random: Random,
    now: Timestamp,
    services: Services<RequestId>,
    configured: Vec<Settings>,
    /// A service whose program cannot start.
    broken: Option<ServiceId>,
    /// How many different names clients and workers use besides those.
    names: u64,
    hands: BTreeMap<WorkerId, Hand>,
    processes: BTreeMap<Place, Process>,
    memories: BTreeMap<Arc<str>, Memory>,
    ledger: Ledger,
    todo: VecDeque<Event<RequestId>>,
    last_name: u64,
    life: u32,
    tally: Tally,
}

/// A process of our own.
#[derive(Debug, Clone)]
struct Process {
    service: ServiceId,
    generation: Generation,
    /// Its connection, once it has one.
    worker: Option<WorkerId>,
}

/// Plays one run: `events` events of chaos, then the end.
///
/// # Panics
/// If a law is broken.
pub fn run(seed: u64, events: u64) -> Tally {
    let mut world = World::new(seed);
    world.tell(Event::Tick);
    // Time to bring more services than there may be.
    let events = if world.is_crowded() { 6 * events } else { events };
    while world.tally.events < events {
        match world.ledger.finished {
            None => world.step(),
            Some(Finish::HandedOver) => world.restart(),
            Some(_) => break,
        }
    }
    world.end();
    world.tally
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let further = random.below(4);
        let names = ["default", "images", "mail", "audio"];
        let configured: Vec<Settings> = names
            .iter()
            .take(1 + usize::try_from(further).unwrap_or(0))
            .map(|name| draw(name, &mut random))
            .collect();
        let broken = random
            .percent(5)
            .then(|| ServiceId(u32::try_from(random.below(configured.len() as u64)).unwrap_or(0)));
        let many = random.percent(2);
        let services = services(&configured, 1, seed, &BTreeMap::new());
        Self {
            ledger: Ledger::new(seed, &configured),
            names: if many { 600 } else { 6 },
            now: Timestamp::new(Duration::from_secs(1000)),
            services,
            configured,
            broken,
            random,
            hands: BTreeMap::new(),
            processes: BTreeMap::new(),
            memories: BTreeMap::new(),
            todo: VecDeque::new(),
            last_name: 0,
            life: 1,
            tally: Tally { lives: 1, ..Tally::default() },
        }
    }

    fn number(&mut self) -> u64 {
        self.last_name += 1;
        self.last_name
    }

    /// Whether more services are brought than there may be.
    fn is_crowded(&self) -> bool {
        self.names > 100
    }

    /// The name of some service, mostly of one that there is.
    fn some_name(&mut self) -> Option<String> {
        if !self.is_crowded() && self.random.percent(50) {
            let index = self.random.below(self.configured.len() as u64);
            let service = &self.configured.get(usize::try_from(index).unwrap_or(0))?.service;
            return (**service != *"default" || self.random.percent(50)).then(|| service.to_string());
        }
        Some(format!("brought-{}", self.random.below(self.names)))
    }

    fn step(&mut self) {
        let busy_joining = self.is_crowded() && self.random.percent(60);
        match if busy_joining { 45 } else { self.random.below(100) } {
            0..25 => self.ask(),
            25..40 => self.some_hand_works(),
            40..55 => self.some_worker_comes(),
            55..62 => self.some_worker_speaks(),
            62..68 => self.some_worker_goes(),
            68..76 => self.boot_somebody(),
            76..79 => self.some_process_dies(),
            79..82 => {
                let client = ClientId(1 + self.random.below(5));
                self.tell(Event::ClientLeft { client });
            }
            82..86 => self.meddle(),
            86 if self.random.percent(25) && !self.is_crowded() => self.restart(),
            87 if self.random.percent(10) && !self.is_crowded() => self.tell(Event::HandOver),
            88 if self.random.percent(5) && !self.is_crowded() => self.stop(Stop::Drain),
            _ => self.pass(Duration::from_secs(3)),
        }
    }

    fn ask(&mut self) {
        let request = RequestId(self.number());
        let client = ClientId(1 + self.random.below(5));
        let service = self.some_name();
        if let Some(service) = &service
            && self.random.percent(40)
        {
            self.tell(Event::Sought { service: service.clone() });
        }
        self.tell(Event::Request(Request {
            request,
            client,
            name: None,
            service,
            timeout: None,
            attempts: None,
            wants: hornpipe::core::Wants::default(),
            size: 1,
            body: request,
        }));
    }

    /// An operator does something with one of the services.
    fn meddle(&mut self) {
        let index = u32::try_from(self.random.below(self.configured.len() as u64)).unwrap_or(0);
        let service = ServiceId(index);
        match self.random.below(5) {
            0 => self.tell(Event::Grow),
            1 => self.tell(Event::Reload { surge: None }),
            2 => self.tell_in(service, Event::Reload { surge: None }),
            3 => {
                let target = self.random.between(0, 4);
                self.tell_in(service, Event::ScaleTo { target });
            }
            _ => {
                let slots: Vec<_> = self.processes.keys().map(|place| place.slot).collect();
                let chosen = usize::try_from(self.random.below(slots.len() as u64)).unwrap_or(0);
                if let Some(slot) = slots.get(chosen) {
                    self.tell(Event::Recycle { slot: *slot });
                }
            }
        }
    }

    fn stop(&mut self, stop: Stop) {
        self.tell(Event::Stop(stop));
    }

    /// Time goes by, and no deadline is missed in it.
    fn pass(&mut self, most: Duration) {
        let most = u64::try_from(most.as_millis()).unwrap_or(0);
        let until = self.now.after(self.random.millis(0, most));
        let mut ticks = 0;
        loop {
            let deadline = self.services.next_deadline().filter(|deadline| *deadline <= until);
            if let Some((at, worker)) = self.next_beat()
                && at <= until
                && deadline.is_none_or(|deadline| at <= deadline)
            {
                self.now = self.now.max(at);
                self.beat(worker);
                continue;
            }
            let Some(deadline) = deadline else { break };
            ticks = if deadline <= self.now { ticks + 1 } else { 0 };
            assert!(ticks < 20, "{}: ticks without end", self.ledger.here());
            self.now = self.now.max(deadline);
            self.ledger.close_deserted(self.now);
            self.tell(Event::Tick);
        }
        self.now = until;
    }

    fn tell(&mut self, event: Event<RequestId>) {
        self.todo.push_back(event);
        while let Some(event) = self.todo.pop_front() {
            let mut decisions = Vec::new();
            self.ledger.hear(&event, self.now);
            self.services.handle(event, self.now, &mut decisions);
            self.perform(decisions);
        }
    }

    fn tell_in(&mut self, service: ServiceId, event: Event<RequestId>) {
        let mut decisions = Vec::new();
        self.services.handle_in(service, event, self.now, &mut decisions);
        self.perform(decisions);
        self.tell(Event::Tick);
    }

    fn perform(&mut self, decisions: Vec<Decision<RequestId>>) {
        self.tally.events += 1;
        self.ledger.step = self.tally.events;
        for Decision { service, action } in decisions {
            self.ledger.judge(service, &action, &self.services);
            match action {
                Action::Assign(job) => {
                    if let Some(hand) = self.hands.get_mut(&job.worker) {
                        hand.pipe.push_back((job.token, job.request));
                    }
                }
                Action::Spawn { place, generation } => {
                    let process = Process { service, generation, worker: None };
                    assert!(self.processes.insert(place, process).is_none(), "{place} is used twice");
                    self.todo.push_back(Event::Started { place, pid: 1 });
                }
                Action::Terminate { place } | Action::Kill { place } => {
                    self.end_process(place, Ending::Signal(9));
                }
                Action::Allow { worker, parts, .. } => self.may_send(worker, parts),
                Action::Dismiss { worker } => self.dismissed(worker),
                Action::Disown { worker } => self.disowned(worker),
                Action::Remember(memory) => {
                    self.memories.insert(self.services.name(service).into(), memory);
                }
                Action::Answer { .. } => self.tally.answered += 1,
                Action::Refuse { .. } => self.tally.refused += 1,
                Action::Note(note) => self.count(&note),
                Action::Part { .. }
                | Action::Forget { .. }
                // Nobody here claims its jobs.
                | Action::Withdraw { .. }
                | Action::Probe(_)
                | Action::Cancel { .. }
                | Action::Measure { .. }
                | Action::Journal { .. }
                | Action::Capacity { .. }
                | Action::Stopping { .. }
                | Action::Finished(_) => (),
            }
        }
        self.ledger.check(&self.services, self.now);
    }

    fn count(&mut self, note: &hornpipe::core::Note) {
        match note {
            hornpipe::core::Note::ServiceOpened { .. } => self.tally.opened += 1,
            hornpipe::core::Note::ServiceClosed { .. } => self.tally.closed += 1,
            _ => (),
        }
    }

    /// Another life of the router: connections are gone, processes are not.
    fn restart(&mut self) {
        self.life += 1;
        self.tally.lives += 1;
        self.hands.clear();
        self.todo.clear();
        // Somebody may have changed the configuration meanwhile.
        if self.configured.len() > 1 && self.random.percent(30) {
            let index = 1 + usize::try_from(self.random.below(self.configured.len() as u64 - 1)).unwrap_or(0);
            self.configured.remove(index);
            self.broken = None;
        }
        self.services = services(&self.configured, self.life, self.random.next(), &self.memories);
        self.ledger.restart(&self.configured);
        let living: Vec<_> =
            self.processes.iter().map(|(place, process)| (*place, process.generation)).collect();
        for (place, generation) in living {
            self.processes.entry(place).and_modify(|process| process.worker = None);
            let adopted = Event::Adopted { place, generation, pid: 1, started: self.now };
            self.tell(adopted);
        }
        self.tell(Event::Tick);
        let still: Vec<_> = self.processes.keys().copied().collect();
        for place in still {
            self.boot(place);
        }
    }

    /// Everything comes to its end.
    fn end(&mut self) {
        if self.ledger.finished.is_none() {
            self.stop(Stop::Drain);
        }
        for _round in 0..400 {
            if self.ledger.finished.is_some() {
                break;
            }
            for worker in self.hands.keys().copied().collect::<Vec<_>>() {
                self.work(worker);
                self.work(worker);
            }
            self.pass(Duration::from_millis(500));
        }
        self.ledger.check_end();
        if self.ledger.finished == Some(Finish::Stopped) {
            assert!(self.processes.is_empty(), "{}: processes are left", self.ledger.here());
        }
    }
}

/// The settings of one service. Requests have no time limits here, so that none is lost but
/// with its worker.
fn draw(name: &str, random: &mut Random) -> Settings {
    let workers = random.between(0, 3);
    Settings {
        service: name.into(),
        workers,
        min: 0,
        max: 6,
        attempts: random.between(1, 3),
        backlog_limit: random.pick(1000, &[3, 8]),
        drain: Duration::from_secs(5),
        ..Settings::default()
    }
}

fn services(
    configured: &[Settings],
    life: u32,
    seed: u64,
    memories: &BTreeMap<Arc<str>, Memory>,
) -> Services<RequestId> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut all = configured.iter().cloned();
    let default = all.next().unwrap_or_default();
    Services::new((default, all.collect()), Generator::new(life, bytes), memories)
}

/// Where a worker of ours connects from.
fn home(place: Place) -> Home {
    Home::Local(place)
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            answered: self.answered + other.answered,
            refused: self.refused + other.refused,
            opened: self.opened + other.opened,
            closed: self.closed + other.closed,
            disowned: self.disowned + other.disowned,
            moved: self.moved + other.moved,
            lives: self.lives + other.lives,
        }
    }
}
