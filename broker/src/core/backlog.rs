//! What waits, and who of it is next.
//!
//! A request is *eligible* for a worker if nobody runs under its exclusive key, and if the
//! worker that its affinity key belongs to is this one, gone, or has kept it waiting for
//! too long. Those that are not eligible for anybody are parked; those for one worker alone
//! stand in that worker's line, all others in the open one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hornpipe_proto::Priority;

use super::affinity::Affinities;
use super::ids::{ClientId, RequestId, Timestamp, WorkerId};
use super::lines::{self, First, Line, Stand};

/// A class that waits is passed over at most so often in a row by those above it.
pub const AGING: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Boxed: the map moves what it holds.
    spots: BTreeMap<RequestId, Box<Spot>>,
    /// For any worker.
    open: Line,
    /// For one worker each.
    reserved: BTreeMap<WorkerId, Line>,
    exclusives: BTreeMap<Arc<str>, Exclusive>,
    pub(super) affinities: Affinities,
    /// Those of the open line that have an affinity key.
    open_by_affinity: BTreeMap<Arc<str>, BTreeSet<RequestId>>,
    /// Put into a worker's line since this was last asked.
    newly_reserved: Vec<RequestId>,
    /// Since when each of the open line waits.
    since: BTreeSet<(Timestamp, RequestId)>,
    next_order: i64,
    first_order: i64,
    turns: u64,
    /// How many of each class stand in a line.
    in_lines: [usize; Priority::ALL.len()],
    /// How often each class has been passed over, in a row, while it had somebody to send.
    passed: [u32; Priority::ALL.len()],
}

/// What is to be known of a request to put it into its line.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) client: ClientId,
    pub(super) priority: Priority,
    pub(super) exclusive: Option<Arc<str>>,
    pub(super) affinity: Option<Arc<str>>,
    /// The one that may have it.
    pub(super) worker: Option<WorkerId>,
    pub(super) since: Timestamp,
}

/// Which end of its class a request joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Behind what its client has waiting.
    Back,
    /// Before everybody: it was with a worker already.
    Head,
}

#[derive(Debug)]
struct Spot {
    stand: Stand,
    exclusive: Option<Arc<str>>,
    affinity: Option<Arc<str>>,
    worker: Option<WorkerId>,
    since: Timestamp,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Open,
    Reserved(WorkerId),
    Parked,
}

/// One exclusive key: of those who wait for it one may be handed out, if nobody has it.
#[derive(Debug, Default)]
struct Exclusive {
    /// A worker has one under this key in its hands.
    taken: bool,
    candidate: Option<RequestId>,
    parked: BTreeMap<(Priority, i64), RequestId>,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.spots.len()
    }

    /// How many wait for nothing but a worker, whichever it is.
    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }

    /// Since when the one of those that has waited longest waits.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.since.first().map(|(since, _request)| *since)
    }

    /// Everybody who waits.
    pub(super) fn iter(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.spots.keys().copied()
    }

    /// Whether a worker has a request under this exclusive key, or one is to get it next.
    pub(super) fn is_claimed(&self, exclusive: &str) -> bool {
        self.exclusives.get(exclusive).is_some_and(|key| key.taken || key.candidate.is_some())
    }

    /// How many stand before a newcomer at the least: those of higher classes, its client's
    /// own, and one of each other client.
    pub(super) fn ahead_of(&self, priority: Priority, client: ClientId) -> usize {
        let higher = Priority::ALL.into_iter().filter(|one| *one < priority);
        let higher: usize = higher.map(|one| self.open.crowd(one)).sum();
        let own = self.open.of_client(priority, client);
        higher + self.open.crowd(priority).saturating_sub(usize::from(own > 0)) + own
    }

    pub(super) fn insert(&mut self, request: RequestId, ticket: Ticket, end: End) {
        let order = match end {
            End::Back => {
                self.next_order += 1;
                self.next_order
            }
            End::Head => {
                self.first_order -= 1;
                self.first_order
            }
        };
        let Ticket { client, priority, exclusive, affinity, worker, since } = ticket;
        let stand = Stand { priority, client, order };
        let spot = Spot { stand, exclusive, affinity, worker, since, place: Place::Parked };
        let key = spot.exclusive.clone();
        self.spots.insert(request, Box::new(spot));
        let Some(key) = key else { return self.line_up(request) };
        let rank = (priority, order);
        let entry = self.exclusives.entry(Arc::clone(&key)).or_default();
        let before = entry.candidate.and_then(|candidate| self.spots.get(&candidate));
        let before = before.map(|spot| (spot.stand.priority, spot.stand.order));
        if entry.taken || before.is_some_and(|before| before < rank) {
            entry.parked.insert(rank, request);
            return;
        }
        let earlier = entry.candidate.replace(request);
        if let (Some(earlier), Some(before)) = (earlier, before) {
            entry.parked.insert(before, earlier);
            self.leave_line(earlier);
        }
        self.line_up(request);
    }

    /// Puts a request that nothing but a worker is missing into the line for it.
    fn line_up(&mut self, request: RequestId) {
        let Some(spot) = self.spots.get_mut(&request) else { return };
        self.turns += 1;
        let owner = spot.affinity.as_ref().and_then(|key| self.affinities.worker_of(key));
        let owner = spot.worker.or(owner);
        let line = match owner {
            None => {
                spot.place = Place::Open;
                self.since.insert((spot.since, request));
                if let Some(key) = &spot.affinity {
                    self.open_by_affinity.entry(Arc::clone(key)).or_default().insert(request);
                }
                &mut self.open
            }
            Some(worker) => {
                spot.place = Place::Reserved(worker);
                self.newly_reserved.push(request);
                self.reserved.entry(worker).or_default()
            }
        };
        line.insert(request, spot.stand, self.turns);
        if let Some(count) = self.in_lines.get_mut(lines::index(spot.stand.priority)) {
            *count += 1;
        }
    }

    fn leave_line(&mut self, request: RequestId) {
        let Some(spot) = self.spots.get_mut(&request) else { return };
        match std::mem::replace(&mut spot.place, Place::Parked) {
            Place::Parked => return,
            Place::Open => {
                self.open.remove(spot.stand);
                self.since.remove(&(spot.since, request));
                if let Some(key) = &spot.affinity
                    && let Some(others) = self.open_by_affinity.get_mut(key)
                {
                    others.remove(&request);
                    if others.is_empty() {
                        self.open_by_affinity.remove(key);
                    }
                }
            }
            Place::Reserved(worker) => {
                if let Some(line) = self.reserved.get_mut(&worker) {
                    line.remove(spot.stand);
                    if line.len() == 0 {
                        self.reserved.remove(&worker);
                    }
                }
            }
        }
        let index = lines::index(spot.stand.priority);
        if let Some(count) = self.in_lines.get_mut(index) {
            *count -= 1;
        }
    }

    /// The request waits no more.
    pub(super) fn remove(&mut self, request: RequestId) {
        self.leave_line(request);
        let Some(spot) = self.spots.remove(&request) else { return };
        let Some(key) = spot.exclusive else { return };
        if let Some(entry) = self.exclusives.get_mut(&key) {
            entry.parked.remove(&(spot.stand.priority, spot.stand.order));
            if entry.candidate == Some(request) {
                entry.candidate = None;
            }
            self.settle(&key);
        }
    }

    /// The worker has let go of what it had under this exclusive key.
    pub(super) fn release(&mut self, exclusive: &Arc<str>) {
        if let Some(entry) = self.exclusives.get_mut(exclusive) {
            entry.taken = false;
            self.settle(exclusive);
        }
    }

    /// The next for this exclusive key, if it is free, comes into a line.
    fn settle(&mut self, exclusive: &Arc<str>) {
        let Some(entry) = self.exclusives.get_mut(exclusive) else { return };
        if entry.taken || entry.candidate.is_some() {
            return;
        }
        if let Some((_rank, request)) = entry.parked.pop_first() {
            entry.candidate = Some(request);
            self.line_up(request);
        } else {
            self.exclusives.remove(exclusive);
        }
    }

    /// The request has waited for its worker for long enough: any will do.
    pub(super) fn open_to_all(&mut self, request: RequestId) {
        let Some(spot) = self.spots.get_mut(&request) else { return };
        let Place::Reserved(worker) = spot.place else { return };
        let stand = spot.stand;
        spot.place = Place::Open;
        self.since.insert((spot.since, request));
        if let Some(key) = &spot.affinity {
            self.open_by_affinity.entry(Arc::clone(key)).or_default().insert(request);
        }
        if let Some(line) = self.reserved.get_mut(&worker) {
            line.remove(stand);
            if line.len() == 0 {
                self.reserved.remove(&worker);
            }
        }
        self.turns += 1;
        self.open.insert(request, stand, self.turns);
    }

    /// The worker takes nothing more, for good: what waits for it goes to others. Gives what
    /// no other may have, which is the caller's.
    pub(super) fn worker_gone(&mut self, worker: WorkerId) -> Vec<RequestId> {
        self.affinities.forget(worker);
        let waiting: Vec<RequestId> = self.reserved.get(&worker).into_iter().flat_map(Line::iter).collect();
        let own = |request: &RequestId| self.spots.get(request).is_some_and(|spot| spot.worker.is_some());
        let (own, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(own);
        for request in others {
            self.open_to_all(request);
        }
        own
    }

    /// Those that have come to wait for one worker since this was last asked.
    pub(super) fn take_newly_reserved(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.newly_reserved)
    }

    /// The worker whose line a request stands in, if it is in one's.
    pub(super) fn reserved_for(&self, request: RequestId) -> Option<WorkerId> {
        match self.spots.get(&request)?.place {
            Place::Reserved(worker) => Some(worker),
            Place::Open | Place::Parked => None,
        }
    }

    /// Workers that somebody waits for.
    pub(super) fn awaited(&self) -> impl ExactSizeIterator<Item = WorkerId> + '_ {
        self.reserved.keys().copied()
    }

    pub(super) fn is_awaited(&self, worker: WorkerId) -> bool {
        self.reserved.contains_key(&worker)
    }

    /// The first of a class that this worker may have.
    fn first(&self, worker: WorkerId, priority: Priority) -> Option<First> {
        let own = self.reserved.get(&worker).and_then(|line| line.first(priority));
        self.open.first(priority).into_iter().chain(own).min()
    }

    /// What this worker is to get next.
    pub(super) fn next(&self, worker: WorkerId) -> Option<RequestId> {
        let classes = Priority::ALL.into_iter().zip(self.passed);
        let firsts = classes.filter_map(|(class, passed)| Some((self.first(worker, class)?, passed)));
        // The one that has been passed over most, if that is too often; else the highest.
        let mut best: Option<(First, u32)> = None;
        for (first, passed) in firsts {
            let aged = if passed >= AGING { passed } else { 0 };
            if best.is_none_or(|(_, most)| aged > most) {
                best = Some((first, aged));
            }
        }
        best.map(|(first, _)| first.request())
    }

    /// The request goes to this worker.
    pub(super) fn take(&mut self, request: RequestId, worker: WorkerId) {
        let Some(spot) = self.spots.get(&request) else { return };
        let (stand, place) = (spot.stand, spot.place);
        let waiting = Priority::ALL.map(|class| self.first(worker, class).is_some());
        let in_lines = waiting.into_iter().zip(self.in_lines);
        for ((class, (waits, in_lines)), passed) in
            Priority::ALL.into_iter().zip(in_lines).zip(&mut self.passed)
        {
            if class == stand.priority || in_lines == 0 {
                *passed = 0;
            } else if waits {
                *passed = passed.saturating_add(1);
            }
        }
        self.leave_line(request);
        self.turns += 1;
        let turn = self.turns;
        match place {
            Place::Open | Place::Parked => self.open.end_turn(stand, turn),
            Place::Reserved(worker) => {
                if let Some(line) = self.reserved.get_mut(&worker) {
                    line.end_turn(stand, turn);
                }
            }
        }
        let Some(spot) = self.spots.remove(&request) else { return };
        if let Some(key) = spot.affinity {
            self.belong(&key, worker);
        }
        if let Some(entry) = spot.exclusive.and_then(|key| self.exclusives.get_mut(&key)) {
            entry.candidate = None;
            entry.taken = true;
        }
    }

    /// The key belongs to this worker from here on, unless it belongs to one that lives.
    fn belong(&mut self, key: &Arc<str>, worker: WorkerId) {
        if self.affinities.touch(key) {
            return;
        }
        self.affinities.bind(Arc::clone(key), worker);
        for request in self.open_by_affinity.remove(key).unwrap_or_default() {
            self.leave_line(request);
            self.line_up(request);
        }
    }

    pub(super) const fn passed_over(&self) -> [u32; Priority::ALL.len()] {
        self.passed
    }

    pub(super) fn check(&self) {
        let reserved: usize = self.reserved.values().map(Line::len).sum();
        let parked: usize = self.exclusives.values().map(|key| key.parked.len()).sum();
        let in_lines = self.open.len() + reserved;
        debug_assert_eq!(self.open.len(), self.since.len(), "the line and the ages of those in it differ");
        debug_assert_eq!(in_lines + parked, self.spots.len(), "somebody waits nowhere, or twice");
        debug_assert_eq!(self.in_lines.iter().sum::<usize>(), in_lines, "classes are miscounted");
        debug_assert!(self.reserved.values().all(|line| line.len() > 0), "an empty line is kept");
    }
}
