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
use super::record::Record;
use super::requests::Requests;

/// A class that waits is passed over at most so often in a row by those above it.
pub const AGING: u32 = 8;

/// The lines. Where each request stands is in its record.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// How many wait, wherever they stand.
    len: usize,
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
    /// Since when each of the open line waits, if anybody wants to know.
    ages: Option<BTreeSet<(Timestamp, RequestId)>>,
    /// Below zero, and falls with each request that comes back.
    first_order: i64,
    turns: u64,
    /// How many of each class stand in a line.
    in_lines: [usize; Priority::ALL.len()],
    /// How often each class has been passed over, in a row, while it had somebody to send.
    passed: [u32; Priority::ALL.len()],
}

/// Which end of its class a request joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Behind what its client has waiting.
    Back,
    /// Before everybody: it was with a worker already.
    Head,
}

/// Where one request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) order: i64,
    place: Place,
}

impl Spot {
    /// Of one that has not been put anywhere yet.
    pub(super) const NOWHERE: Self = Self { order: 0, place: Place::Parked };
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
    candidate: Option<(Rank, RequestId)>,
    parked: BTreeMap<Rank, RequestId>,
}

/// Who of those with the same exclusive key goes first.
type Rank = (Priority, i64);

impl Stand {
    const fn rank(self) -> Rank {
        (self.priority, self.order)
    }
}

/// Who is next.
impl Backlog {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// How many wait for nothing but a worker, whichever it is.
    pub(super) const fn open_len(&self) -> usize {
        self.open.len()
    }

    /// Since when the one of those that has waited longest waits, if ages are kept.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.ages.as_ref()?.first().map(|(since, _request)| *since)
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

    /// Those that have come to wait for one worker since this was last asked.
    pub(super) fn take_newly_reserved(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.newly_reserved)
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

    pub(super) const fn passed_over(&self) -> [u32; Priority::ALL.len()] {
        self.passed
    }

    /// One of this class goes to this worker: other classes that could have sent one are passed
    /// over.
    fn pass_over(&mut self, chosen: Priority, worker: WorkerId) {
        let waiting = Priority::ALL.map(|class| self.first(worker, class).is_some());
        let in_lines = waiting.into_iter().zip(self.in_lines);
        for ((class, (waits, in_lines)), passed) in
            Priority::ALL.into_iter().zip(in_lines).zip(&mut self.passed)
        {
            if class == chosen || in_lines == 0 {
                *passed = 0;
            } else if waits {
                *passed = passed.saturating_add(1);
            }
        }
    }
}

/// Into a line and out of it.
impl Backlog {
    /// Puts a request that nothing but a worker is missing into the line for it.
    fn line_up<B>(&mut self, request: RequestId, record: &mut Record<B>) {
        let owner = record.worker().or_else(|| self.affinities.worker_of(record.affinity()?));
        if owner.is_some() {
            self.newly_reserved.push(request);
        }
        self.enter(request, record, owner.map_or(Place::Open, Place::Reserved));
    }

    fn enter<B>(&mut self, request: RequestId, record: &mut Record<B>, place: Place) {
        let Some(Spot { order, .. }) = record.spot() else { return };
        let spot = Spot { order, place };
        let stand = record.stand(spot);
        record.set_spot(spot);
        self.turns += 1;
        let line = match place {
            Place::Parked => return,
            Place::Open => {
                if let Some(ages) = &mut self.ages {
                    ages.insert((record.waiting_since, request));
                }
                if let Some(key) = record.affinity() {
                    self.open_by_affinity.entry(Arc::clone(key)).or_default().insert(request);
                }
                &mut self.open
            }
            Place::Reserved(worker) => self.reserved.entry(worker).or_default(),
        };
        line.insert(request, stand, self.turns);
        if let Some(count) = self.in_lines.get_mut(lines::index(stand.priority)) {
            *count += 1;
        }
    }

    fn leave_line<B>(&mut self, request: RequestId, record: &mut Record<B>) {
        let Some(Spot { order, place }) = record.spot() else { return };
        let spot = Spot { order, place: Place::Parked };
        let stand = record.stand(spot);
        record.set_spot(spot);
        match place {
            Place::Parked => return,
            Place::Open => {
                self.open.remove(request, stand);
                if let Some(ages) = &mut self.ages {
                    ages.remove(&(record.waiting_since, request));
                }
                if let Some(key) = record.affinity()
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
                    line.remove(request, stand);
                    if line.len() == 0 {
                        self.reserved.remove(&worker);
                    }
                }
            }
        }
        if let Some(count) = self.in_lines.get_mut(lines::index(stand.priority)) {
            *count -= 1;
        }
    }

    /// The client of one that has just left this place is next after all who wait.
    fn end_turn(&mut self, stand: Stand, place: Place) {
        self.turns += 1;
        match place {
            Place::Open | Place::Parked => self.open.end_turn(stand, self.turns),
            Place::Reserved(worker) => {
                if let Some(line) = self.reserved.get_mut(&worker) {
                    line.end_turn(stand, self.turns);
                }
            }
        }
    }
}

/// Who waits.
impl<B> Requests<B> {
    /// The request waits from here on.
    pub(super) fn join_backlog(&mut self, request: RequestId, end: End) {
        let Self { table, backlog, .. } = self;
        let Some(record) = table.get_mut(&request) else { return };
        let order = match end {
            End::Back => lines::order_of_arrival(request),
            End::Head => {
                backlog.first_order -= 1;
                backlog.first_order
            }
        };
        let spot = Spot { order, place: Place::Parked };
        record.set_spot(spot);
        backlog.len += 1;
        let Some(key) = record.exclusive() else { return backlog.line_up(request, record) };
        let rank = record.stand(spot).rank();
        let entry = backlog.exclusives.entry(Arc::clone(key)).or_default();
        if entry.taken || entry.candidate.is_some_and(|(before, _)| before < rank) {
            entry.parked.insert(rank, request);
            return;
        }
        if let Some((before, earlier)) = entry.candidate.replace((rank, request)) {
            entry.parked.insert(before, earlier);
            self.leave_line(earlier);
        }
        self.line_up(request);
    }

    /// This one, which was taken out of the table, waits no more.
    pub(super) fn leave_backlog(&mut self, request: RequestId, record: &mut Record<B>) {
        let Some(spot) = record.spot() else { return };
        self.backlog.leave_line(request, record);
        self.backlog.len -= 1;
        let Some(key) = record.exclusive() else { return };
        if let Some(entry) = self.backlog.exclusives.get_mut(key) {
            entry.parked.remove(&record.stand(spot).rank());
            entry.candidate.take_if(|(_rank, candidate)| *candidate == request);
            self.settle(key);
        }
    }

    /// The request goes to this worker.
    pub(super) fn take(&mut self, request: RequestId, worker: WorkerId) {
        let Self { table, backlog, .. } = self;
        let Some(record) = table.get_mut(&request) else { return };
        let Some(spot) = record.spot() else { return };
        let stand = record.stand(spot);
        backlog.pass_over(stand.priority, worker);
        backlog.leave_line(request, record);
        backlog.len -= 1;
        backlog.end_turn(stand, spot.place);
        if let Some(entry) = record.exclusive().and_then(|key| backlog.exclusives.get_mut(key)) {
            entry.candidate = None;
            entry.taken = true;
        }
        if let Some(key) = record.affinity().cloned() {
            self.belong(&key, worker);
        }
    }

    fn line_up(&mut self, request: RequestId) {
        if let Some(record) = self.table.get_mut(&request) {
            self.backlog.line_up(request, record);
        }
    }

    fn leave_line(&mut self, request: RequestId) {
        if let Some(record) = self.table.get_mut(&request) {
            self.backlog.leave_line(request, record);
        }
    }

    /// The worker has let go of what it had under this exclusive key.
    pub(super) fn release(&mut self, exclusive: &Arc<str>) {
        if let Some(entry) = self.backlog.exclusives.get_mut(exclusive) {
            entry.taken = false;
            self.settle(exclusive);
        }
    }

    /// The next for this exclusive key, if it is free, comes into a line.
    fn settle(&mut self, exclusive: &Arc<str>) {
        let Some(entry) = self.backlog.exclusives.get_mut(exclusive) else { return };
        if entry.taken || entry.candidate.is_some() {
            return;
        }
        if let Some((rank, request)) = entry.parked.pop_first() {
            entry.candidate = Some((rank, request));
            self.line_up(request);
        } else {
            self.backlog.exclusives.remove(exclusive);
        }
    }

    /// The key belongs to this worker from here on, unless it belongs to one that lives.
    fn belong(&mut self, key: &Arc<str>, worker: WorkerId) {
        if self.backlog.affinities.touch(key) {
            return;
        }
        self.backlog.affinities.bind(Arc::clone(key), worker);
        for request in self.backlog.open_by_affinity.remove(key).unwrap_or_default() {
            self.leave_line(request);
            self.line_up(request);
        }
    }

    /// The request has waited for its worker for long enough: any will do.
    pub(super) fn open_to_all(&mut self, request: RequestId) {
        let Self { table, backlog, .. } = self;
        let Some(record) = table.get_mut(&request) else { return };
        if matches!(record.spot(), Some(Spot { place: Place::Reserved(_), .. })) {
            backlog.leave_line(request, record);
            backlog.enter(request, record, Place::Open);
        }
    }

    /// The worker takes nothing more, for good: what waits for it goes to others. Gives what
    /// no other may have, which is the caller's.
    pub(super) fn worker_gone(&mut self, worker: WorkerId) -> Vec<RequestId> {
        self.backlog.affinities.forget(worker);
        let line = self.backlog.reserved.get(&worker);
        let mut waiting: Vec<RequestId> = line.into_iter().flat_map(Line::iter).collect();
        waiting.sort_unstable();
        let own = |request: &RequestId| self.record(*request).is_some_and(|one| one.worker().is_some());
        let (own, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(own);
        for request in others {
            self.open_to_all(request);
        }
        own
    }

    /// The worker whose line a request stands in, if it is in one's.
    pub(super) fn reserved_for(&self, request: RequestId) -> Option<WorkerId> {
        match self.record(request)?.spot()?.place {
            Place::Reserved(worker) => Some(worker),
            Place::Open | Place::Parked => None,
        }
    }

    /// From here on it is known how long the oldest of the open line has waited. That costs
    /// something for each request.
    pub(super) fn keep_ages(&mut self) {
        let open = |record: &Record<B>| matches!(record.spot(), Some(Spot { place: Place::Open, .. }));
        let open = self.table.iter().filter(|(_request, record)| open(record));
        self.backlog.ages = Some(open.map(|(request, record)| (record.waiting_since, *request)).collect());
    }

    pub(super) fn forget_ages(&mut self) {
        self.backlog.ages = None;
    }

    pub(super) fn check_backlog(&self) {
        let backlog = &self.backlog;
        let reserved: usize = backlog.reserved.values().map(Line::len).sum();
        let parked: usize = backlog.exclusives.values().map(|key| key.parked.len()).sum();
        let in_lines = backlog.open.len() + reserved;
        let known = backlog.ages.as_ref().is_none_or(|ages| ages.len() == backlog.open.len());
        debug_assert!(known, "the line and the ages of those in it differ");
        debug_assert_eq!(in_lines + parked, backlog.len, "somebody waits nowhere, or twice");
        debug_assert_eq!(backlog.in_lines.iter().sum::<usize>(), in_lines, "classes are miscounted");
        debug_assert!(backlog.reserved.values().all(|line| line.len() > 0), "an empty line is kept");
        let waiting = self.table.values().filter(|record| record.spot().is_some()).count();
        debug_assert_eq!(waiting, backlog.len, "who waits is miscounted");
    }
}
