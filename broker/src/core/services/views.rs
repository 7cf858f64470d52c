//! What there is to be seen of the services, each by itself and all in one.

use std::sync::Arc;

use hornpipe_proto::Token;

use super::{Service, Services, Standing};
use crate::core::busy_time::BusyTime;
use crate::core::counters::Counters;
use crate::core::degraded::Degraded;
use crate::core::ids::{Generation, Place, ServiceId, Slot, Timestamp};
use crate::core::pause::Pause;
use crate::core::quarantine::Poisoned;
use crate::core::readiness::Unready;
use crate::core::settings::DEFAULT_SERVICE;
use crate::core::snapshot::{ExternalSnapshot, PoolSnapshot, QueueSnapshot, SlotSnapshot, Snapshot};
use crate::core::worker_state::WorkerState;
use crate::core::{Core, Phase};

/// What a service is, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSnapshot {
    pub name: Arc<str>,
    pub configured: bool,
}

/// One service.
impl<B: Clone> Services<B> {
    /// The service of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.by_name.get(name).copied()
    }

    /// Its name; that of the default one if it is gone.
    pub fn name(&self, service: ServiceId) -> &str {
        self.table.get(&service).map_or(DEFAULT_SERVICE, |service| &service.name)
    }

    /// Whether there is a service of that name with workers, present or coming.
    pub fn has_workers(&self, name: &str) -> bool {
        self.find(name).and_then(|id| self.core(id)).is_some_and(Core::has_workers)
    }

    /// All names, the default service's first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.table.values().map(|service| &*service.name)
    }

    /// Whether a worker has something under this token in its hands.
    pub fn holds(&self, token: Token) -> bool {
        self.table.values().any(|service| service.core.holds(token))
    }

    pub fn core(&self, service: ServiceId) -> Option<&Core<B>> {
        self.table.get(&service).map(|service| &service.core)
    }

    /// Whether workers from elsewhere have brought it, and it has none of its own.
    pub fn is_passing(&self, service: ServiceId) -> bool {
        self.table.get(&service).is_some_and(|service| service.standing != Standing::Configured)
    }

    /// Whether clients wait for its first worker.
    pub fn is_awaited(&self, service: ServiceId) -> bool {
        self.table.get(&service).is_some_and(Service::is_awaited)
    }

    /// Every service with its state.
    pub fn snapshots(&self, now: Timestamp) -> impl Iterator<Item = (ServiceSnapshot, Snapshot)> {
        self.numbered_snapshots(now).map(|(_id, service, snapshot)| (service, snapshot))
    }

    /// The same with what it is known by here.
    pub fn numbered_snapshots(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (ServiceId, ServiceSnapshot, Snapshot)> {
        let one = |service: &Service<B>| ServiceSnapshot {
            name: Arc::clone(&service.name),
            configured: service.standing == Standing::Configured,
        };
        self.table.iter().map(move |(id, service)| (*id, one(service), service.core.snapshot(now)))
    }
}

/// What belongs to one service, wherever it is.
impl<B: Clone> Services<B> {
    fn of(&self, slot: Slot) -> Option<&Core<B>> {
        self.core(self.service_of(slot))
    }

    /// Everything about one slot, also of a closed one while it is remembered.
    pub fn slot_snapshot(&self, slot: Slot, now: Timestamp) -> Option<SlotSnapshot> {
        self.of(slot)?.slot_snapshot(slot, now)
    }

    /// The process that is to be in that place: its generation, and its pid once it runs.
    pub fn process(&self, place: Place) -> Option<(Generation, Option<i32>)> {
        self.of(place.slot)?.process(place)
    }

    /// Where the process stands, for whoever finds it in the log.
    pub fn pid_of(&self, place: Place) -> Option<i32> {
        self.of(place.slot)?.pid_of(place)
    }

    /// The processes of the slot that take requests, the latest last.
    pub fn serving_in(&self, slot: Slot) -> impl Iterator<Item = Place> {
        self.of(slot).into_iter().flat_map(move |core| core.serving_in(slot))
    }

    /// Whether the slot is there.
    pub fn has_slot(&self, slot: Slot) -> bool {
        self.of(slot).is_some_and(|core| core.has_slot(slot))
    }

    /// Every request in quarantine, by its number: no two services use the same.
    pub fn quarantined(&self) -> Vec<(ServiceId, u64, &Poisoned<B>)> {
        let mut all = Vec::new();
        for (id, service) in &self.table {
            all.extend(service.core.quarantine().iter().map(|(number, entry)| (*id, number, entry)));
        }
        all.sort_by_key(|(_service, number, _entry)| *number);
        all
    }
}

/// All of them in one.
impl<B: Clone> Services<B> {
    fn configured_cores(&self) -> impl Iterator<Item = (&str, &Core<B>)> {
        let stays = |service: &&Service<B>| service.standing == Standing::Configured;
        self.table.values().filter(stays).map(|service| (&*service.name, &service.core))
    }

    /// A configured service whose requests would not be served, and why.
    pub fn first_unready(&self) -> Option<(&str, Unready)> {
        self.configured_cores().find_map(|(name, core)| Some((name, core.unready()?)))
    }

    /// Whether the broker can be paused and resumed: not once it ends or is handed over.
    pub fn may_be_paused(&self) -> bool {
        self.core(ServiceId::DEFAULT).is_some_and(Core::may_be_paused)
    }

    /// A pause is for all services.
    pub fn pause(&self) -> Option<Pause> {
        self.core(ServiceId::DEFAULT).and_then(Core::pause)
    }

    /// Where the broker stands, in one word for status and events.
    pub fn phase_word(&self) -> &'static str {
        match (self.phase(), self.pause()) {
            (Phase::Serving, Some(_)) => "paused",
            (phase, _) => phase.as_str(),
        }
    }

    /// The errors that all services have given.
    pub fn refused_total(&self) -> u64 {
        let open: u64 = self.table.values().map(|service| service.core.counters().refused_total()).sum();
        open + self.closed.refused_total()
    }

    pub fn backlog_len(&self) -> usize {
        self.table.values().map(|service| service.core.backlog_len()).sum()
    }

    /// Requests with a worker whose client still waits.
    pub fn in_flight_len(&self) -> usize {
        self.table.values().map(|service| service.core.in_flight_len()).sum()
    }

    /// What all services have counted, also those that are gone.
    pub fn counters(&self) -> Counters {
        let mut all = self.closed.clone();
        self.table.values().for_each(|service| all.add(service.core.counters()));
        all
    }

    /// How often a worker named a service that could not be opened.
    pub fn services_refused(&self) -> u64 {
        self.refused
    }

    /// Bytes of the bodies in quarantine, of one service or of all, and how many requests have
    /// gone from there to make room for later ones.
    pub fn quarantine_size(&self, of: Option<ServiceId>) -> (u64, u64) {
        let counted = self.table.iter().filter(|(id, _)| of.is_none_or(|of| of == **id));
        let sizes = counted.map(|(_, service)| {
            let quarantine = service.core.quarantine();
            (quarantine.bytes(), quarantine.evicted())
        });
        sizes.fold((0, 0), |(bytes, evicted), (more, others)| (bytes + more, evicted + others))
    }

    /// The state of everything, as if it were one service: what can be counted is added up,
    /// the generation is the default service's.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let undecided = self.members.undecided().map(|joined| ExternalSnapshot {
            service: None,
            name: None,
            state: WorkerState::Starting,
            age: now.since(joined),
            served: 0,
        });
        let mut total = Snapshot {
            phase: self.phase(),
            phase_word: self.phase_word(),
            pool: PoolSnapshot::default(),
            queue: QueueSnapshot::default(),
            counters: self.counters(),
            in_flight: 0,
            busy: BusyTime::default(),
            workers: Vec::new(),
            external: undecided.collect(),
        };
        for (service, mut one) in self.snapshots(now) {
            if !service.configured {
                // The room that it is left, which is not its own.
                (one.queue.backlog_limit, one.queue.held_bytes_limit) = (0, 0);
            }
            total.in_flight += one.in_flight;
            total.busy.local = total.busy.local.saturating_add(one.busy.local);
            total.busy.external = total.busy.external.saturating_add(one.busy.external);
            total.workers.extend(one.workers);
            total.external.extend(one.external);
            total.pool = both_pools(total.pool, one.pool);
            total.queue = both_queues(&total.queue, &one.queue);
        }
        total.pool.generation = self.core(ServiceId::DEFAULT).map(Core::generation).unwrap_or_default();
        total
    }
}

fn both_pools(one: PoolSnapshot, other: PoolSnapshot) -> PoolSnapshot {
    PoolSnapshot {
        target: one.target + other.target,
        min: one.min + other.min,
        max: one.max + other.max,
        ready: one.ready + other.ready,
        processing: one.processing + other.processing,
        generation: one.generation,
        reload: one.reload.or(other.reload),
        autoscale: one.autoscale || other.autoscale,
        last_change: [one.last_change, other.last_change]
            .into_iter()
            .flatten()
            .min_by_key(|change| change.ago),
        degraded: both_degraded(one.degraded, other.degraded),
        paused: one.paused.or(other.paused),
    }
}

fn both_degraded(one: Option<Degraded>, other: Option<Degraded>) -> Option<Degraded> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Degraded {
            unfilled: one.unfilled + other.unfilled,
            target: one.target + other.target,
            reason: one.reason,
        }),
        (one, other) => one.or(other),
    }
}

fn both_queues(one: &QueueSnapshot, other: &QueueSnapshot) -> QueueSnapshot {
    QueueSnapshot {
        backlog_len: one.backlog_len + other.backlog_len,
        joined: one.joined + other.joined,
        backlog_limit: one.backlog_limit + other.backlog_limit,
        held_bytes: one.held_bytes + other.held_bytes,
        held_bytes_limit: one.held_bytes_limit + other.held_bytes_limit,
        oldest: one.oldest.max(other.oldest),
    }
}
