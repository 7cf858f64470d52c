//! The world's clockwork: what happens next, who hears of it, what follows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hornpipe::core::{
    Action, Assignment, ClientId, Event, Generator, Memory, Phase, Place, Request, RequestId, Settings, Stop,
    Timestamp, WorkerId,
};
use hornpipe_proto::Status;

use super::books::Parting;
use super::calendar::{Calendar, Happening, Order, Signal};
use super::faults::{self, Faults};
use super::load::in_slots;
use super::model::Model;
use super::peer::{Link, Peer, PeerId, Queued, Word};
use super::random::Random;
use super::report::Report;
use super::streams::Streams;
use super::{Body, Core, PROBE};

#[expect(clippy::struct_excessive_bools, reason = "what the run has come to, one thing each")]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) now: Timestamp,
    pub(super) settings: Settings,
    pub(super) faults: Faults,
    pub(super) calm: bool,
    /// Nothing happens but that workers are replaced: a full pool must stay full.
    pub(super) only_replacements: bool,
    /// Clients ask no more.
    pub(super) closed: bool,
    /// Nobody asks for anything before.
    pub(super) hushed_until: Timestamp,
    was_full: bool,
    /// Ticks at this very moment.
    ticks: u32,
    pub(super) core: Core,
    pub(super) model: Model,
    pub(super) life: u32,
    pub(super) memory: Option<Memory>,
    pub(super) calendar: Calendar,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    pub(super) links: BTreeMap<WorkerId, Link>,
    /// Where workers claim their jobs, for the connections that the router knows.
    pub(super) words: BTreeMap<WorkerId, Word>,
    /// When the last notice and the last command between parent and router are through.
    pub(super) notices: Timestamp,
    pub(super) commands: Timestamp,
    /// How many workers have truly had a request in hand.
    pub(super) runs: BTreeMap<RequestId, u32>,
    used: BTreeSet<Place>,
    /// Requests that end every worker that has them.
    pub(super) poisonous: BTreeSet<RequestId>,
    /// Requests out of quarantine, and whose bodies they have.
    pub(super) again: BTreeMap<RequestId, RequestId>,
    /// What the router hears while it performs: heard next.
    pub(super) at_once: VecDeque<Event<Body>>,
    pub(super) streams: Streams,
    pub(super) names: u64,
    report: Report,
    trace: bool,
    /// Room for what the core orders.
    actions: Vec<Action<Body>>,
}

/// Plays one run: `events` events of chaos, then calm, then the end.
///
/// # Panics
/// If the core breaks a law.
pub fn run(seed: u64, events: u64, trace: bool) -> Report {
    let mut world = World::new(seed, trace);
    world.start();
    let end = world.report.events + events;
    while world.report.events < end && !world.model.finished {
        world.turn();
    }
    if !world.model.finished {
        world.calm_down();
    }
    if !world.model.finished {
        world.finish();
    }
    world.check_end();
    world.count_life();
    world.report
}

impl World {
    fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let mut settings = faults::draw_settings(&mut random);
        if settings.fresh {
            (settings.autoscale, settings.spares) = (None, None);
        }
        let only_replacements = random.percent(15);
        if only_replacements {
            settings.timeout = None;
            settings.part_timeout = None;
            settings.max_memory_hard = None;
            settings.fresh = false;
            (settings.autoscale, settings.spares) = (None, None);
        }
        let faults = if only_replacements {
            Faults::only_replacements(&mut random)
        } else {
            Faults::draw(&mut random)
        };
        if faults.claims >= 60 && settings.prefetch.is_none() {
            settings.prefetch = Some(Duration::from_millis(20));
        }
        let start = Timestamp::new(Duration::from_secs(1000));
        Self {
            seed,
            core: Core::new(settings.clone(), generator(1, seed), None),
            model: Model::new(seed, settings.clone(), None),
            random,
            now: start,
            settings,
            faults,
            calm: false,
            only_replacements,
            closed: false,
            hushed_until: start,
            was_full: false,
            ticks: 0,
            life: 1,
            memory: None,
            calendar: Calendar::default(),
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            words: BTreeMap::new(),
            notices: start,
            commands: start,
            runs: BTreeMap::new(),
            used: BTreeSet::new(),
            poisonous: BTreeSet::new(),
            again: BTreeMap::new(),
            at_once: VecDeque::new(),
            streams: Streams::default(),
            names: 0,
            report: Report { lives: 1, ..Report::default() },
            trace,
            actions: Vec::new(),
        }
    }

    fn start(&mut self) {
        self.open_doors();
        self.tell(Event::Tick);
    }

    pub(super) fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    pub(super) fn enter(&mut self, delay: Duration, happening: Happening) {
        self.calendar.enter(self.now.after(delay), happening);
    }

    /// The next thing that happens, or the core's own deadline.
    fn turn(&mut self) {
        if self.model.parting == Some(Parting::Done) {
            return self.succeed();
        }
        let late = if self.random.percent(self.faults.late_tick) {
            self.random.millis(0, 30)
        } else {
            Duration::ZERO
        };
        let tick = self.core.next_deadline().map(|deadline| deadline.max(self.now).after(late));
        match (tick, self.calendar.next()) {
            (Some(tick), next) if next.is_none_or(|next| tick < next) => {
                self.ticks = if tick == self.now { self.ticks + 1 } else { 0 };
                assert!(self.ticks < 20, "seed {} step {}: ticks without end", self.seed, self.model.step);
                self.now = tick;
                self.tell(Event::Tick);
            }
            (_, Some(_)) => {
                self.ticks = 0;
                if let Some((at, happening)) = self.calendar.pop() {
                    self.now = self.now.max(at);
                    self.happen(happening);
                }
            }
            (_, None) => self.now = self.now.after(Duration::from_secs(1)),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Ask { client } => self.ask(client),
            Happening::Arrive { worker, life, event } if life == self.life => self.arrive(worker, event),
            Happening::Notice { life, event } if life == self.life => self.tell(event),
            Happening::Arrive { .. } | Happening::Notice { .. } => (),
            Happening::Deliver { worker, order } => self.deliver(worker, order),
            Happening::Fork { place, generation } => self.fork(place, generation),
            Happening::Signal { place, signal } => self.signal(place, signal),
            Happening::Booted { peer } => self.booted(peer),
            Happening::Done { peer, token } => self.done(peer, token),
            Happening::Part { peer, token } => self.part(peer, token),
            Happening::Read { life, request } => self.has_read(life, request),
            Happening::Repeat { peer } => self.repeat(peer),
            Happening::Connect { peer } => self.connect(peer),
            Happening::Close { worker } => self.close_link(worker),
            Happening::Quit { peer } => self.quit(peer),
            Happening::Meddle => self.meddle(),
            Happening::Continue { peer } => self.go_on(peer),
        }
    }

    /// The core hears of something, and what it orders is judged and done.
    pub(super) fn tell(&mut self, event: Event<Body>) {
        self.tell_one(event);
        while let Some(event) = self.at_once.pop_front() {
            self.tell_one(event);
        }
    }

    fn tell_one(&mut self, event: Event<Body>) {
        if self.model.finished {
            return;
        }
        self.report.events += 1;
        self.model.step = self.report.events;
        self.show(&event);
        self.model.hear(&event, self.now, &self.core);
        let mut actions = std::mem::take(&mut self.actions);
        self.core.handle(event, self.now, &mut actions);
        for action in actions.drain(..) {
            self.show(&action);
            self.model.judge(&action, self.now, &self.core);
            self.perform(action);
        }
        self.actions = actions;
        self.model.check(self.now, &self.core);
        self.check_full();
    }

    #[expect(clippy::print_stdout, reason = "the run is shown when somebody asks for it")]
    fn show(&self, what: &impl std::fmt::Debug) {
        if self.trace {
            println!("{:>6} {:?} {what:?}", self.model.step, self.now.since_start());
        }
    }

    fn perform(&mut self, action: Action<Body>) {
        self.note_end(&action);
        match action {
            Action::Part { request, attempt, body } => self.read_part(request, attempt, body),
            Action::Answer { request, parts, body, .. } => {
                let about = self.again.get(&request).copied().unwrap_or(request);
                let honest = parts.iter().chain([&body]).all(|body| body.request == about);
                assert!(honest, "seed {} step {}: {request} gets {body:?}", self.seed, self.model.step);
                self.report.answered += 1;
            }
            Action::Refuse { request, status, .. } => {
                let runs = self.runs.get(&request).copied().unwrap_or(0);
                let unfit = runs > 0 && matches!(status, Status::Expired | Status::Busy);
                assert!(!unfit, "seed {} step {}: {request} {status:?}, and ran", self.seed, self.model.step);
                self.report.refused += 1;
                self.report.poison += u64::from(status == Status::Poison);
            }
            Action::Forget { .. } => self.report.dropped += 1,
            Action::Assign(job) => {
                let Assignment { worker, token, ordinal: number, attempt, window, body, .. } = job;
                self.hand_over(worker, Queued { token, number, attempt, window, body });
            }
            Action::Probe(probe) => {
                let body = Body { request: PROBE, number: 0 };
                let (token, number) = (probe.token, probe.ordinal);
                self.hand_over(probe.worker, Queued { token, number, attempt: 1, window: None, body });
            }
            Action::Withdraw { worker } => self.withdraw(worker),
            Action::Cancel { worker, token } => self.send_down(worker, Order::Cancel { token }),
            Action::Allow { worker, token, parts } => self.send_down(worker, Order::More { token, parts }),
            Action::Dismiss { worker } => self.send_down(worker, Order::Stop),
            Action::Spawn { place, generation } => {
                let (seed, step) = (self.seed, self.model.step);
                assert!(self.used.insert(place), "seed {seed} step {step}: {place} is used again");
                self.report.spawned += 1;
                self.command(Happening::Fork { place, generation });
            }
            Action::Terminate { place } => self.order_signal(place, Signal::Terminate),
            Action::Kill { place } => self.order_signal(place, Signal::Kill),
            Action::Measure { place } => self.weigh(place),
            Action::Remember(memory) => self.memory = Some(memory),
            Action::Disown { .. }
            | Action::Journal { .. }
            | Action::Capacity { .. }
            | Action::Note(_)
            | Action::Stopping { .. }
            | Action::Finished(_) => (),
        }
    }

    /// While workers are only replaced, a pool that was full stays full, and no request is cut short.
    fn check_full(&mut self) {
        if !self.only_replacements || self.calm || self.model.stopped.is_some() {
            return;
        }
        let (counters, seed, step) = (self.core.counters(), self.seed, self.model.step);
        let lost = counters.refused().any(|(status, _)| status == Status::Lost);
        assert!(counters.retried == 0 && !lost, "seed {seed} step {step}: a request is interrupted");
        let serving = self.model.posts.iter().filter(|(_, post)| post.ready && !post.is_leaving());
        let serving = in_slots(serving.map(|(place, _)| place.slot));
        let target = self.core.target();
        self.was_full |= serving >= target;
        let missed = self.was_full && serving < target;
        assert!(
            !missed,
            "seed {} step {}: a replacement leaves {serving} of {target}",
            self.seed, self.model.step
        );
    }
}

/// Another life of the router.
impl World {
    /// What only its own counters tell.
    fn count_life(&mut self) {
        let counters = self.core.counters();
        self.report.handed_ahead += counters.prefetched;
        self.report.taken_back += counters.withdrawn;
    }

    pub(super) fn restart(&mut self) {
        self.count_life();
        self.life += 1;
        self.report.lives += 1;
        for worker in std::mem::take(&mut self.links).into_keys().collect::<Vec<_>>() {
            self.connection_lost(worker);
        }
        if self.random.percent(self.faults.configure) {
            // While no router was there to be told.
            self.settings = faults::draw_change(&mut self.random, &self.settings);
        }
        self.core = Core::new(self.settings.clone(), generator(self.life, self.seed), self.memory.as_ref());
        self.model = Model::new(self.seed, self.settings.clone(), self.memory.as_ref());
        self.at_once.clear();
        self.words.clear();
        self.runs.clear();
        self.notices = self.now;
        self.carry_out_commands();
        for event in self.living() {
            self.tell(event);
        }
        self.tell(Event::Tick);
        if self.calm {
            self.tell(Event::Resume);
        }
    }
}

impl World {
    /// The router has handed over; what still arrives before it ends is refused.
    fn succeed(&mut self) {
        for number in 0..self.random.below(3) {
            let request = RequestId(self.name());
            let body = Body { request, number: 0 };
            self.tell(Event::Request(Request {
                request,
                client: ClientId(1 + number),
                name: None,
                service: None,
                timeout: None,
                attempts: None,
                size: 1,
                wants: hornpipe::core::Wants::default(),
                body,
            }));
        }
        let stopped = self.model.stopped.is_some();
        self.restart();
        if stopped {
            // The parent has heard it, and says it again.
            self.tell(Event::Stop(Stop::Drain));
        }
    }
}

fn generator(life: u32, seed: u64) -> Generator {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(seed.to_le_bytes()) {
        *to = from;
    }
    Generator::new(life, bytes)
}

/// Longer than any back-off, grace or trial time, for those who ask and then for what is left.
const CALM: Duration = Duration::from_mins(1);

impl World {
    /// Nothing new goes wrong: the pool must come to what is wished for.
    fn calm_down(&mut self) {
        self.calm = true;
        self.faults = Faults::default();
        self.poisonous.clear();
        self.tell(Event::Resume);
        self.settle_peers();
        self.wait(CALM);
        self.closed = true;
        let before =
            self.peers.values().filter(|peer| peer.place.is_some()).map(|peer| peer.generation).max();
        self.tell(Event::Reload { surge: None });
        self.wait(CALM);
        let seed = self.seed;
        let elsewhere = self.peers.values().any(|peer| peer.elsewhere);
        if self.model.stopped.is_some() && self.core.target() > 0 && !elsewhere {
            assert!(self.model.finished, "seed {seed}: what was accepted is not served");
        }
        if self.model.finished || self.model.stopped.is_some() {
            return;
        }
        self.model.check_wear(self.now);
        self.settle_down();
        let target = self.core.target() as usize;
        let phase = self.core.phase();
        // Where idle workers are replaced all the time, some are missing whenever one looks.
        let quiet = phase == Phase::Serving && !elsewhere && self.settings.idle_timeout.is_none();
        let resting = self.model.resting_target().filter(|_| quiet);
        let rests = resting.is_none_or(|resting| resting as usize == target);
        assert!(rests, "seed {seed}: nobody asks, and the target is {target}, not {resting:?}");
        let living: Vec<_> = self.peers.values().filter(|peer| peer.alive && peer.place.is_some()).collect();
        assert_eq!(
            living.len(),
            target,
            "seed {seed}: the pool did not come to its target, {phase:?}, {living:?}"
        );
        let renewed = living.iter().all(|peer| Some(peer.generation) > before);
        assert!(renewed, "seed {seed}: reloaded, and old ones serve, {living:?}");
        let fit = living.iter().all(|peer| peer.booted && peer.connection.is_some());
        assert!(fit, "seed {seed}: a process serves nothing");
        let elsewhere = living.iter().any(|peer| peer.elsewhere);
        assert!(elsewhere || phase == Phase::Serving, "seed {seed}: calm, and {phase:?}");
        if target > 0 && !elsewhere {
            assert!(
                self.model.requests.is_empty(),
                "seed {seed}: calm, and {:?} are open",
                self.model.requests
            );
            assert!(self.model.is_quiet(), "seed {seed}: calm, and workers hold {:?}", self.model.desks);
            let tables = self.core.tables();
            assert_eq!((tables.requests, tables.held), (0, 0), "seed {seed}: {tables:?}");
            // Age and idleness go on, and bring processes that are young.
            let ages = self.settings.max_age.is_some() || self.settings.idle_timeout.is_some();
            let timers = if ages { 3 * target + tables.connections } else { 0 };
            assert!(tables.timers <= timers, "seed {seed}: {tables:?}");
            assert_eq!((tables.processes, tables.slots), (target, target), "seed {seed}: {tables:?}");
        }
    }

    /// Waits for a moment between two replacements by age or idleness.
    fn settle_down(&mut self) {
        let end = self.now.after(CALM);
        while self.now < end {
            let living = self.peers.values().filter(|peer| peer.alive && peer.place.is_some());
            let fit = living.clone().all(|peer| peer.booted && peer.connection.is_some());
            let target = self.core.target() as usize;
            // Nor is one at its probe, while those who ask have nothing more to ask.
            let quiet = self.model.is_quiet();
            if fit && quiet && (living.count(), self.core.tables().processes) == (target, target) {
                return;
            }
            self.turn();
        }
    }

    fn finish(&mut self) {
        if self.model.stopped.is_none() {
            let stop = self.random.pick(Stop::Drain, &[Stop::Finish, Stop::Now]);
            self.tell(Event::Stop(stop));
        }
        self.wait(Duration::from_secs(20));
        if !self.model.finished {
            self.tell(Event::Stop(Stop::Drain));
            self.wait(self.settings.drain + Duration::from_secs(6));
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end && !self.model.finished {
            self.turn();
        }
    }

    fn check_end(&self) {
        let (seed, tables) = (self.seed, self.core.tables());
        assert!(self.model.finished, "seed {seed}: it never ends, {:?}", self.core.phase());
        assert_eq!(tables.requests, 0, "seed {seed}: over, and {tables:?}");
        if self.model.stopped.is_some() {
            assert_eq!((tables.processes, tables.timers), (0, 0), "seed {seed}: over, and {tables:?}");
        }
    }
}
