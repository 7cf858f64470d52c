//! The services of one broker. Each is a core of its own, with its queue, its pool and its
//! laws, and knows of no other. Here every event finds its core, and where a broker has one
//! voice, theirs become one. How a request or a process fares is not decided here.

mod members;
mod opened;
mod awaited;
mod whole;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::members::Members;
use self::opened::Passing;
pub use self::views::ServiceSnapshot;
use self::whole::Whole;
use super::Core;
use super::action::{Action, Memory};
use super::counters::Counters;
use super::event::Event;
use super::generator::Generator;
use super::ids::{ClientId, Place, ServiceId, Slot, Timestamp};
use super::journal::Entry;
use super::settings::{DEFAULT_SERVICE, Settings};
use super::telling::Teller;

/// There are never more services, whoever brings them.
pub const MAX_SERVICES: usize = 256;

/// The first slots of two services are so far apart: slot 20003 is the fourth of the third.
pub const SLOTS_APART: u32 = 10_000;

/// What one service has decided.
#[derive(Debug, Clone)]
pub struct Decision<B> {
    pub service: ServiceId,
    pub action: Action<B>,
}

/// The decisions of one broker.
#[derive(Debug)]
pub struct Services<B> {
    table: BTreeMap<ServiceId, Service<B>>,
    by_name: BTreeMap<Arc<str>, ServiceId>,
    /// Whose slots they are, by how often `SLOTS_APART` is in them.
    ranges: BTreeMap<u32, ServiceId>,
    /// What was written down of the keys of services that are not here, or not yet.
    recalled: BTreeMap<Arc<str>, Vec<Recalled<B>>>,
    /// Services that an earlier router had and this one has not.
    departed: BTreeMap<u32, (Arc<str>, Memory)>,
    members: Members,
    whole: Whole,
    /// What services that are brought by workers begin with.
    passing_settings: Settings,
    last_id: ServiceId,
    generator: Generator,
    /// The last number in any quarantine: one number means one request.
    last_poison: u64,
    /// What services have counted that are gone.
    closed: Counters,
    /// Announcements of services that could not be opened.
    refused: u64,
    teller: Teller,
    actions: Vec<Action<B>>,
}

/// A key, and what was written down of it.
type Recalled<B> = (Arc<str>, Entry<B>);

#[derive(Debug)]
struct Service<B> {
    name: Arc<str>,
    core: Core<B>,
    standing: Standing,
    /// Whether it has heard anything yet that made it look around.
    awake: bool,
}

/// Why a service is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It was configured, and stays.
    Configured,
    /// It is here for as long as workers are.
    Passing(Passing),
}

/// Where decisions go, and when they are made.
struct Turn<'a, B> {
    now: Timestamp,
    decisions: &'a mut Vec<Decision<B>>,
}

impl<B: Clone> Services<B> {
    /// The default service and the others of a configuration. `memories` is what earlier
    /// routers left behind, by name of the service.
    pub fn new(
        (default, further): (Settings, Vec<Settings>),
        mut generator: Generator,
        memories: &BTreeMap<Arc<str>, Memory>,
    ) -> Self {
        let drain = default.drain;
        let mut services = Self {
            table: BTreeMap::new(),
            by_name: BTreeMap::new(),
            ranges: BTreeMap::new(),
            recalled: BTreeMap::new(),
            departed: BTreeMap::new(),
            members: Members::default(),
            whole: Whole::default(),
            passing_settings: opened::settings(default.clone()),
            last_id: ServiceId::DEFAULT,
            generator: generator.another(),
            last_poison: 0,
            closed: Counters::default(),
            refused: 0,
            teller: Teller::default(),
            actions: Vec::new(),
        };
        let mut known: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        for (name, memory) in memories {
            known.extend(range_of(name, memory).map(|range| (Arc::clone(name), range)));
        }
        let mut taken: Vec<u32> = known.values().copied().collect();
        for (number, settings) in (0..).zip([default].into_iter().chain(further)) {
            let name = Arc::clone(&settings.service);
            let remembered = known.remove(&name);
            let range = if number == 0 { 0 } else { remembered.unwrap_or_else(|| next_free(&taken)) };
            taken.push(range);
            let settings = Settings { first_slot: Slot(range * SLOTS_APART), drain, ..settings };
            let core = Core::new(settings, generator.another(), memories.get(&name));
            services.last_id = ServiceId(number);
            services.ranges.insert(range, services.last_id);
            services.insert(services.last_id, name, core, Standing::Configured);
        }
        for (name, range) in known {
            let memory = memories.get(&name).cloned().unwrap_or_default();
            services.departed.insert(range, (name, memory));
        }
        services
    }

    fn insert(&mut self, id: ServiceId, name: Arc<str>, core: Core<B>, standing: Standing) {
        self.by_name.insert(Arc::clone(&name), id);
        self.table.insert(id, Service { name, core, standing, awake: false });
    }

    /// Takes in one event. Perform the decisions in order, then come back.
    pub fn handle(&mut self, event: Event<B>, now: Timestamp, decisions: &mut Vec<Decision<B>>) {
        let turn = &mut Turn { now, decisions };
        match event {
            Event::Request(ref request) => {
                let service = self.asked_for(request.service.as_deref());
                self.make_room(service);
                self.run(service, event, turn);
            }
            Event::Sought { ref service } => self.seek(service, turn),
            Event::UnreadableRequest { .. }
            | Event::IgnoredClientMessage
            | Event::Stranger
            | Event::Grow
            | Event::Shrink
            | Event::ScaleTo { .. }
            | Event::ScaleBy { .. } => self.run(ServiceId::DEFAULT, event, turn),
            Event::CancelKey { ref service, .. } => {
                let id = service.as_ref().map_or(Some(ServiceId::DEFAULT), |name| self.find(name));
                self.run(id.unwrap_or(ServiceId::DEFAULT), event, turn);
            }
            Event::ClientLeft { client } | Event::Cancel { client, .. } => {
                self.run_all(self.asked_by(client), &event, turn);
            }
            Event::Joined { worker, home } => self.worker_joined(worker, home, turn),
            Event::Hello { worker, .. }
            | Event::Waiting { worker, .. }
            | Event::Processing { worker, .. }
            | Event::Exiting { worker, .. } => self.worker_announced(worker, event, turn),
            Event::Delivered { request, .. } | Event::PartUndelivered { request } => {
                let asked = |service: &Service<B>| service.core.requests.knows(request);
                let id = self.table.iter().find(|(_, service)| asked(service)).map(|(id, _)| *id);
                self.run_all(id.into_iter().collect(), &event, turn);
            }
            Event::Reply { worker, .. }
            | Event::Part { worker, .. }
            | Event::StrayReply { worker }
            | Event::Malformed { worker } => {
                self.worker_spoke(worker, event, turn);
            }
            Event::Heartbeat { worker } => self.worker_beat(worker, turn),
            Event::OutOfTurn { worker } | Event::WorkerLeft { worker } => {
                self.worker_left(worker, event, turn);
            }
            Event::WorkersLeft { workers } => self.workers_left(&workers, turn),
            Event::Withdrawn { worker, begun } => self.withdrawn(worker, begun, turn),
            Event::Undelivered { worker, token } => self.undelivered(worker, token, turn),
            Event::Recalled { service, key, entry } => self.recall(service, key, entry),
            Event::Adopted { place, .. } => self.adopted(place, event, turn),
            Event::Started { place, .. }
            | Event::NotStarted { place, .. }
            | Event::Halted { place }
            | Event::Continued { place }
            | Event::Exited { place, .. }
            | Event::Measured { place, .. } => self.run(self.service_of(place.slot), event, turn),
            Event::Recycle { slot } => self.run(self.service_of(slot), event, turn),
            Event::Configure { settings } => self.configure(*settings, turn),
            Event::Reload { .. } => self.run_all(self.configured(), &event, turn),
            Event::Stop(_) => self.stop(&event, turn),
            Event::HandOver | Event::DropAllPoison | Event::Pause { .. } | Event::Resume => {
                self.run_all(self.everyone(), &event, turn);
            }
            Event::RetryPoison { number, .. } | Event::DropPoison { number } => {
                self.run(self.holder_of(number), event, turn);
            }
            Event::Tick => self.tick(turn),
        }
        self.conclude(turn);
    }

    /// The same for one of an operator's events that concerns this service alone.
    pub fn handle_in(
        &mut self,
        service: ServiceId,
        event: Event<B>,
        now: Timestamp,
        decisions: &mut Vec<Decision<B>>,
    ) {
        let turn = &mut Turn { now, decisions };
        self.run(service, event, turn);
        self.conclude(turn);
    }

    /// When `Tick` must be sent at the latest.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = |service: &Service<B>| [service.core.next_deadline(), service.closes_at()];
        self.table.values().flat_map(deadlines).flatten().min()
    }

    /// Other settings of the service that they name. Where its slots are does not change, nor
    /// that all have the default service's time to drain.
    fn configure(&mut self, settings: Settings, turn: &mut Turn<'_, B>) {
        let Some(id) = self.find(&settings.service) else { return };
        if id == ServiceId::DEFAULT {
            self.passing_settings = opened::settings(settings.clone());
            for service in self.table.values_mut() {
                service.core.settings.drain = settings.drain;
            }
        }
        let Some(service) = self.table.get(&id).filter(|service| service.standing == Standing::Configured)
        else {
            return;
        };
        let (first_slot, drain) = (service.core.settings.first_slot, self.passing_settings.drain);
        let settings = Box::new(Settings { first_slot, drain, ..settings });
        self.run(id, Event::Configure { settings }, turn);
    }

    /// One service hears of something.
    fn run(&mut self, id: ServiceId, event: Event<B>, turn: &mut Turn<'_, B>) {
        let Some(service) = self.table.get_mut(&id) else { return };
        let mut actions = std::mem::take(&mut self.actions);
        // Others may follow an adopted process, so that one changes nothing by itself.
        service.awake |= !matches!(event, Event::Adopted { .. });
        service.core.quarantine.number_after(self.last_poison);
        service.core.handle(event, turn.now, &mut actions);
        let opened = service.note_workers(turn.now);
        self.last_poison = self.last_poison.max(service.core.quarantine.last_number());
        let passes = service.standing != Standing::Configured;
        for action in actions.drain(..) {
            match action {
                // Nobody would ask for it: it ends with this router.
                Action::Remember(_) if passes => (),
                Action::Disown { worker } => {
                    self.members.forget(worker);
                    turn.decide(id, Action::Disown { worker });
                }
                action => {
                    if let Some(action) = self.whole.hear(id, action) {
                        turn.decisions.push(Decision { service: id, action });
                    }
                }
            }
        }
        self.actions = actions;
        if let Some(name) = opened {
            self.come_true(id, name, turn);
        }
    }

    fn run_all(&mut self, ids: Vec<ServiceId>, event: &Event<B>, turn: &mut Turn<'_, B>) {
        for id in ids {
            self.run(id, event.clone(), turn);
        }
    }

    fn everyone(&self) -> Vec<ServiceId> {
        self.table.keys().copied().collect()
    }

    fn configured(&self) -> Vec<ServiceId> {
        let stays = |service: &Service<B>| service.standing == Standing::Configured;
        self.table.iter().filter(|(_, service)| stays(service)).map(|(id, _)| *id).collect()
    }

    /// Whom a request is for: one for nobody is the default's to refuse.
    fn asked_for(&self, name: Option<&str>) -> ServiceId {
        name.and_then(|name| self.find(name)).unwrap_or(ServiceId::DEFAULT)
    }

    pub(super) fn service_of(&self, slot: Slot) -> ServiceId {
        self.ranges.get(&(slot.0 / SLOTS_APART)).copied().unwrap_or(ServiceId::DEFAULT)
    }

    fn holder_of(&self, number: u64) -> ServiceId {
        let holds = |service: &Service<B>| service.core.quarantine.get(number).is_some();
        self.table.iter().find(|(_, service)| holds(service)).map_or(ServiceId::DEFAULT, |(id, _)| *id)
    }

    /// Services in which the client has something open.
    fn asked_by(&self, client: ClientId) -> Vec<ServiceId> {
        let asked = |service: &Service<B>| service.core.requests.has_some_of(client);
        self.table.iter().filter(|(_, service)| asked(service)).map(|(id, _)| *id).collect()
    }

    fn recall(&mut self, service: Arc<str>, key: Arc<str>, entry: Entry<B>) {
        match self.by_name.get(&service).and_then(|id| self.table.get_mut(id)) {
            Some(service) => service.core.recall(key, entry),
            None => self.recalled.entry(service).or_default().push((key, entry)),
        }
    }

    /// An earlier router's process. If its service is configured no more, it is let go.
    fn adopted(&mut self, place: Place, event: Event<B>, turn: &mut Turn<'_, B>) {
        let range = place.slot.0 / SLOTS_APART;
        if let Some((name, memory)) = self.departed.remove(&range) {
            self.take_leave(range, name, &memory);
        }
        match self.ranges.get(&range) {
            Some(id) => self.run(*id, event, turn),
            None => turn.decide(ServiceId::DEFAULT, Action::Kill { place }),
        }
    }

    fn tick(&mut self, turn: &mut Turn<'_, B>) {
        let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= turn.now);
        let mut due = Vec::new();
        let mut over = Vec::new();
        for (id, service) in &self.table {
            if !service.awake || is_due(service.core.next_deadline()) {
                due.push(*id);
            }
            if is_due(service.closes_at()) {
                over.push(*id);
            }
        }
        self.run_all(due, &Event::Tick, turn);
        for id in over {
            self.close_deserted(id, turn);
        }
    }
}

impl<B> Turn<'_, B> {
    fn decide(&mut self, service: ServiceId, action: Action<B>) {
        self.decisions.push(Decision { service, action });
    }
}

/// Where its slots were.
fn range_of(name: &str, memory: &Memory) -> Option<u32> {
    let (slot, _incarnation) = memory.incarnations.first()?;
    (name != DEFAULT_SERVICE).then_some(slot.0 / SLOTS_APART)
}

fn next_free(taken: &[u32]) -> u32 {
    // Among one more than there are, one is free.
    let candidates = (1..).take(taken.len() + 1);
    candidates.into_iter().find(|range| !taken.contains(range)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
