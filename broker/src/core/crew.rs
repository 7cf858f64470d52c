//! Workers as connections: who has joined, what each says and holds, and who is
//! idle. Processes are the roster's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hornpipe_proto::Token;

use super::busy_time::BusyTime;
use super::event::{Details, Home, Speech};
use super::ids::{Place, Timestamp, WorkerId};
use super::loss::Fate;
use super::prefetch::{Ahead, Tempo};
use super::requests::Requests;
use super::settings::MAX_CREDITS;
pub(super) use super::worker::{Tongue, Worker};
use super::worker_state::WorkerState;

#[derive(Debug, Default)]
pub(super) struct Crew {
    table: BTreeMap<WorkerId, Worker>,
    /// Who would take a request: least loaded first, then least recently used.
    eligible: BTreeSet<(usize, u64, WorkerId)>,
    /// Busy ones who would take another ahead of its time, in the same order.
    takers: BTreeSet<(usize, u64, WorkerId)>,
    /// How much work a worker may have ahead of it; `None` for none.
    prefetch: Option<Duration>,
    /// How many workers of our own do nothing, and how many have something to do.
    local: Occupations,
    /// Of spells that are over.
    busy: BusyTime,
    /// The connections of each process of ours: one, unless it opened its socket again.
    by_place: BTreeMap<Place, BTreeSet<WorkerId>>,
    /// The processes that have more than one.
    reopened: BTreeSet<Place>,
    /// Those that have ceased to serve since this was last asked.
    ceased: Vec<WorkerId>,
    /// Those of ours that lend another number of places than when this was last asked.
    changed: BTreeSet<WorkerId>,
    /// How many requests those that serve run at once, all together.
    capacity: usize,
    turns: u64,
}

/// Of workers that are ours and are not made to leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Occupations {
    pub(super) idle: u32,
    pub(super) busy: u32,
}

impl Occupations {
    fn add(&mut self, worker: &Worker) {
        let (idle, busy) = worker.local_occupation();
        self.idle += u32::from(idle);
        self.busy += u32::from(busy);
    }

    fn subtract(&mut self, worker: &Worker) {
        let (idle, busy) = worker.local_occupation();
        self.idle -= u32::from(idle);
        self.busy -= u32::from(busy);
    }
}

/// Among whom a worker stands, by how much it holds and when it was last given something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    None,
    Eligible(usize, u64),
    Taker(usize, u64),
}

impl Listing {
    fn of(worker: &Worker, prefetch: Option<Duration>) -> Self {
        if worker.takes_more() {
            Self::Eligible(worker.held.len(), worker.last_turn)
        } else if worker.takes_ahead(prefetch) {
            Self::Taker(worker.held.len(), worker.last_turn)
        } else {
            Self::None
        }
    }
}

impl Crew {
    pub(super) fn join(&mut self, worker: WorkerId, home: Home, now: Timestamp) {
        // One that has said nothing yet is neither idle nor busy.
        self.table.entry(worker).or_insert_with(|| Worker::new(home, now));
        if let Home::Local(place) = home {
            let connections = self.by_place.entry(place).or_default();
            connections.insert(worker);
            if connections.len() > 1 {
                self.reopened.insert(place);
            }
        }
    }

    /// The worker is no more. What it held is the caller's.
    pub(super) fn remove(&mut self, worker: WorkerId) -> Option<Worker> {
        let removed = self.table.remove(&worker)?;
        self.capacity -= removed.capacity();
        if removed.serves() {
            self.ceased.push(worker);
            self.note_change(worker, removed.home);
        }
        self.eligible.remove(&(removed.held.len(), removed.last_turn, worker));
        self.takers.remove(&(removed.held.len(), removed.last_turn, worker));
        self.local.subtract(&removed);
        if let Home::Local(place) = removed.home
            && let Some(connections) = self.by_place.get_mut(&place)
        {
            connections.remove(&worker);
            if connections.len() < 2 {
                self.reopened.remove(&place);
            }
            if connections.is_empty() {
                self.by_place.remove(&place);
            }
        }
        Some(removed)
    }

    pub(super) fn worker(&self, worker: WorkerId) -> Option<&Worker> {
        self.table.get(&worker)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.table.iter().map(|(id, worker)| (*id, worker))
    }

    pub(super) fn place_of(&self, worker: WorkerId) -> Option<Place> {
        match self.table.get(&worker)?.home {
            Home::Local(place) => Some(place),
            Home::External => None,
        }
    }

    /// The connections of one process: one, unless it opened its socket again.
    pub(super) fn of(&self, place: Place) -> Vec<WorkerId> {
        self.by_place.get(&place).into_iter().flatten().copied().collect()
    }

    /// How many requests were sent over the process's present connections.
    pub(super) fn sent_to(&self, place: Place) -> u64 {
        self.of(place).iter().filter_map(|worker| self.worker(*worker)).map(|worker| worker.sent).sum()
    }

    /// Who is next for a request.
    pub(super) fn least_loaded(&self) -> Option<WorkerId> {
        self.eligible.first().map(|(_load, _turn, worker)| *worker)
    }

    /// Whether it would take a request at this moment.
    pub(super) fn is_eligible(&self, worker: WorkerId) -> bool {
        self.table.get(&worker).is_some_and(Worker::takes_more)
    }

    /// All who would take a request, the next one first.
    pub(super) fn eligible(&self) -> impl ExactSizeIterator<Item = WorkerId> + '_ {
        self.eligible.iter().map(|(_load, _turn, worker)| *worker)
    }

    /// How many requests all who serve run at once.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn some_have_ceased(&self) -> bool {
        !self.ceased.is_empty()
    }

    /// Those that have ceased to serve since this was last asked.
    pub(super) fn take_ceased(&mut self) -> Vec<WorkerId> {
        std::mem::take(&mut self.ceased)
    }

    /// Those of ours that lend another number of places than when this was last asked.
    pub(super) fn take_changed(&mut self) -> BTreeSet<WorkerId> {
        std::mem::take(&mut self.changed)
    }

    fn note_change(&mut self, worker: WorkerId, home: Home) {
        if home != Home::External {
            self.changed.insert(worker);
        }
    }

    /// What our own workers do at present.
    pub(super) fn local(&self) -> Occupations {
        self.local
    }

    /// How many of the idle are processes that still run what an earlier connection of
    /// theirs was given: they take more, and yet have something to do.
    pub(super) fn idle_in_name(&self) -> u32 {
        let is_idle: fn(&Worker) -> bool = |worker| worker.local_occupation().0;
        let runs: fn(&Worker) -> bool = |worker| worker.is_busy() && !worker.cut;
        let both = |place: &&Place| {
            let connections = self.of(**place);
            let any = |is: fn(&Worker) -> bool| connections.iter().filter_map(|id| self.worker(*id)).any(is);
            any(is_idle) && any(runs)
        };
        u32::try_from(self.reopened.iter().filter(both).count()).unwrap_or(u32::MAX)
    }

    /// Whether anybody could take a request, now or after the present one.
    pub(super) fn anybody_serves(&self) -> bool {
        self.table.values().any(Worker::serves)
    }

    /// Changes one worker and keeps the order of the idle true.
    fn change<T>(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let worker = self.table.get_mut(&id)?;
        let before = Listing::of(worker, self.prefetch);
        self.local.subtract(worker);
        let (served, lent) = (worker.serves(), worker.lends());
        self.capacity -= worker.capacity();
        let result = change(worker);
        self.capacity += worker.capacity();
        if served && !worker.serves() {
            self.ceased.push(id);
        }
        self.local.add(worker);
        let after = Listing::of(worker, self.prefetch);
        // Most of what is told of a worker leaves it where it stands.
        if before != after {
            match before {
                Listing::None => (),
                Listing::Eligible(load, turn) => drop(self.eligible.remove(&(load, turn, id))),
                Listing::Taker(load, turn) => drop(self.takers.remove(&(load, turn, id))),
            }
            match after {
                Listing::None => (),
                Listing::Eligible(load, turn) => drop(self.eligible.insert((load, turn, id))),
                Listing::Taker(load, turn) => drop(self.takers.insert((load, turn, id))),
            }
        }
        let changed = (lent != worker.lends()).then_some(worker.home);
        if let Some(home) = changed {
            self.note_change(id, home);
        }
        Some(result)
    }

    pub(super) fn learn(&mut self, id: WorkerId, speech: &Speech, served_here: bool) {
        self.change(id, |worker| {
            worker.withheld.elsewhere = !served_here;
            (worker.tongue, worker.credits) = match speech {
                Speech::Plain => (Tongue::Plain, 1),
                Speech::PlainReadyByReply | Speech::Beating { .. } => (Tongue::PlainReadyByReply, 1),
                Speech::Native(details) => (Tongue::Native, details.credits.clamp(1, MAX_CREDITS)),
            };
            worker.claims = matches!(speech, Speech::Native(Details { claims: true, .. }));
            worker.beat = match speech {
                Speech::Beating { interval, .. } => Some(*interval),
                Speech::Plain | Speech::PlainReadyByReply | Speech::Native(_) => None,
            };
            if let Speech::Native(Details { name, instance, .. }) = speech {
                worker.name = name.clone().or_else(|| worker.name.take());
                worker.instance = instance.clone().or_else(|| worker.instance.take());
            }
        });
    }

    pub(super) fn set_waiting(&mut self, id: WorkerId) {
        self.change(id, |worker| {
            if worker.state != WorkerState::Exiting {
                let next = if worker.is_busy() { WorkerState::Processing } else { WorkerState::Waiting };
                worker.set_state(next);
            }
        });
    }

    pub(super) fn set_processing(&mut self, id: WorkerId) {
        self.change(id, |worker| {
            if worker.state != WorkerState::Exiting {
                worker.set_state(WorkerState::Processing);
            }
        });
    }

    /// It is given nothing until it says `waiting` again.
    pub(super) fn distrust(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.withheld.distrusted = true);
    }

    pub(super) fn trust(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.withheld.distrusted = false);
    }

    pub(super) fn set_exiting(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.set_state(WorkerState::Exiting));
    }

    /// It is given nothing more, for good.
    pub(super) fn withhold(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.withheld.leaving = true);
    }

    /// Its connection is gone.
    pub(super) fn cut(&mut self, id: WorkerId) {
        self.withhold(id);
        self.change(id, |worker| worker.cut = true);
    }

    /// Its process has ended. Returns whether its connection is gone too.
    pub(super) fn doom(&mut self, id: WorkerId, fate: Fate) -> bool {
        self.withhold(id);
        let doom = |worker: &mut Worker| {
            worker.fate = Some(fate);
            worker.cut
        };
        self.change(id, doom).unwrap_or_default()
    }

    /// It lives.
    pub(super) fn hear(&mut self, id: WorkerId, now: Timestamp) {
        if let Some(worker) = self.table.get_mut(&id) {
            worker.heard = now;
        }
    }

    pub(super) fn set_halted(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.withheld.halted = true);
    }

    pub(super) fn set_continued(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.withheld.halted = false);
    }

    /// It is given nothing but its probe.
    pub(super) fn set_unproven(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.withheld.unproven = true);
    }

    pub(super) fn set_proven(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.withheld.unproven = false);
    }

    pub(super) fn give(&mut self, id: WorkerId, token: Token, now: Timestamp) {
        self.turns += 1;
        let turn = self.turns;
        self.change(id, |worker| worker.receive(token, turn, now));
    }

    /// The same, while it is still at another.
    pub(super) fn give_ahead(&mut self, id: WorkerId, token: Token, now: Timestamp) {
        self.turns += 1;
        let turn = self.turns;
        self.change(id, |worker| {
            worker.receive(token, turn, now);
            worker.ahead.push_back(Ahead { token, since: now });
        });
    }

    /// It is at this one from here on.
    pub(super) fn begin(&mut self, id: WorkerId, token: Token) {
        self.change(id, |worker| worker.begin(token));
    }

    /// Busy workers who would take another ahead of its time, the next one first.
    pub(super) fn takers(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.takers.iter().map(|(_load, _turn, worker)| *worker)
    }

    /// How much work each may have ahead of it.
    pub(super) fn set_prefetch(&mut self, prefetch: Option<Duration>) {
        self.prefetch = prefetch;
        self.table.values_mut().for_each(|worker| worker.tempo = Tempo::default());
        let takes = |(id, worker): (&WorkerId, &Worker)| {
            worker.takes_ahead(prefetch).then_some((worker.held.len(), worker.last_turn, *id))
        };
        self.takers = self.table.iter().filter_map(takes).collect();
    }

    /// What it has not begun is taken back. Returns whether that is to be ordered.
    pub(super) fn begin_withdrawing(&mut self, id: WorkerId) -> bool {
        let begin = |worker: &mut Worker| {
            let begins = !worker.withdrawing && !worker.ahead.is_empty();
            worker.withdrawing |= begins;
            begins
        };
        self.change(id, begin).unwrap_or_default()
    }

    /// Returns whether that was ordered.
    pub(super) fn end_withdrawing(&mut self, id: WorkerId) -> bool {
        let end = |worker: &mut Worker| {
            worker.withdrawn = true;
            std::mem::take(&mut worker.withdrawing)
        };
        self.change(id, end).unwrap_or_default()
    }

    /// It has not begun what it should have.
    pub(super) fn count_delay(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.tempo.distrust());
    }

    /// What it was just given has a key.
    pub(super) fn mark_keyed(&mut self, id: WorkerId, token: Token) {
        self.change(id, |worker| worker.keyed = Some(token));
    }

    /// It has had this since an earlier router gave it.
    pub(super) fn find_with(&mut self, id: WorkerId, token: Token, now: Timestamp) {
        self.change(id, |worker| {
            worker.busy_since.get_or_insert(now);
            worker.hold(token);
            worker.keyed = Some(token);
        });
    }

    pub(super) fn take(&mut self, id: WorkerId, token: Token, now: Timestamp) {
        let take = |worker: &mut Worker| {
            worker.let_go(token);
            let since = if worker.is_busy() { None } else { worker.busy_since.take() };
            since.map(|since| (worker.home, now.since(since)))
        };
        if let Some((home, spell)) = self.change(id, take).flatten() {
            self.busy.add(home, spell);
        }
    }

    pub(super) fn busy_time(&self, now: Timestamp) -> BusyTime {
        let mut busy = self.busy;
        for worker in self.table.values() {
            if let Some(since) = worker.busy_since {
                busy.add(worker.home, now.since(since));
            }
        }
        busy
    }

    /// It has replied after so long.
    pub(super) fn count_reply(&mut self, id: WorkerId, run: Duration) {
        let budget = self.prefetch;
        self.change(id, |worker| {
            worker.served += 1;
            worker.withdrawn = false;
            if let Some(budget) = budget {
                worker.tempo.observe(run, budget);
            }
        });
    }

    pub(super) fn check<B>(&self, requests: &Requests<B>) {
        let mut local = Occupations::default();
        self.table.values().for_each(|worker| local.add(worker));
        debug_assert_eq!(local, self.local, "idle and busy workers are miscounted");
        let capacity: usize = self.table.values().map(Worker::capacity).sum();
        debug_assert_eq!(capacity, self.capacity, "what workers can do is miscounted");
        let connected = self.by_place.values().map(BTreeSet::len).sum::<usize>();
        let ours = self.table.values().filter(|worker| worker.home != Home::External).count();
        debug_assert_eq!(connected, ours, "a connection is not among its process's");
        for (id, worker) in &self.table {
            let listed = self.eligible.contains(&(worker.held.len(), worker.last_turn, *id));
            debug_assert_eq!(listed, worker.takes_more(), "{id}: wrongly in or out of the idle");
            let is_listed = self.takers.contains(&(worker.held.len(), worker.last_turn, *id));
            let belongs = !worker.takes_more() && worker.takes_ahead(self.prefetch);
            debug_assert_eq!(is_listed, belongs, "{id}: wrongly in or out of those who take more");
            let known = |ahead: &Ahead| requests.held(ahead.token).is_some_and(|held| held.ahead);
            debug_assert!(worker.ahead.iter().all(known), "{id} has begun what waits");
            debug_assert_eq!(worker.busy_since.is_some(), worker.is_busy(), "{id}: wrongly busy");
            for token in &worker.held {
                let holder = requests.held(*token).map(|held| held.worker);
                debug_assert_eq!(holder, Some(*id), "{id} holds what another does");
            }
        }
    }
}
