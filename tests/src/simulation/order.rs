//! Who may be next: classes and their aging, the clients in turn, exclusive keys, and the
//! worker that an affinity key belongs to. Kept by a second hand, and much more slowly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hornpipe::core::{AGING, ClientId, Home, Phase, RequestId, Timestamp, Wants, WorkerId};
use hornpipe_proto::Priority;

use super::Core;
use super::books::{Asked, Desk};
use super::model::Model;

/// What the model knows of turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Who had each affinity key first, and lives.
    owners: BTreeMap<Arc<str>, WorkerId>,
    /// Since when, and since which step, each that has an affinity key could be handed out, were
    /// its worker idle; and the last step in which that was so.
    lined_up: BTreeMap<RequestId, (Timestamp, u64, u64)>,
    /// How often each class has been passed over in a row.
    passed: BTreeMap<Priority, u32>,
    /// How often one client was served since another waits, where it waits.
    served: BTreeMap<(Priority, ClientId, ClientId), u32>,
    /// Which owners could take something, now or later, before this step. That a busy plain
    /// worker is to leave after its request is told to nobody. In order.
    serving: Vec<WorkerId>,
    /// Whether requests come into the line later than they arrive, because of their keys.
    lines_change: bool,
    /// One of these has arrived in this step, and may have been refused.
    keys_came: bool,
    /// Somebody has ceased to serve in this step, before its turns or after them.
    pub(super) unsure: bool,
}

impl Turns {
    fn serves(&self, worker: WorkerId) -> bool {
        self.serving.binary_search(&worker).is_ok()
    }

    /// Its first worker may take it now.
    fn note_serving(&mut self, worker: WorkerId) {
        if let Err(place) = self.serving.binary_search(&worker) {
            self.serving.insert(place, worker);
        }
    }
}

/// Which of those that want each exclusive key is the first, unless a worker has one under it.
#[derive(Debug, Default)]
struct Exclusives<'a>(Vec<(&'a Arc<str>, Option<Rank>)>);

/// Of whom and where in the line: the least goes first.
type Rank = (Priority, usize, RequestId);

impl<'a> Exclusives<'a> {
    fn want(&mut self, asked: &'a Asked, rank: Rank) {
        let Some(key) = &asked.wants.exclusive else { return };
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, first)) => *first = (*first).min(Some(rank)),
            None => self.0.push((key, Some(rank))),
        }
    }

    fn take(&mut self, exclusive: Option<&Arc<str>>) {
        let Some(key) = exclusive else { return };
        self.0.iter_mut().filter(|(known, _)| *known == key).for_each(|(_, first)| *first = None);
    }

    /// Whether a worker has one under its exclusive key, or another is before it.
    fn park(&self, request: RequestId, asked: &Asked) -> bool {
        let Some(key) = &asked.wants.exclusive else { return false };
        let found = self.0.iter().find(|(known, _)| *known == key);
        found.is_some_and(|(_, first)| first.is_none_or(|(_, _, first)| first != request))
    }
}

impl Model {
    fn asked_of(&self, request: RequestId) -> impl Iterator<Item = &Asked> {
        self.requests.get(&request).into_iter()
    }

    /// The worker that it waits for, if it waits for one.
    fn owner(&self, asked: &Asked) -> Option<WorkerId> {
        let owner = self.turns_taken.owners.get(asked.wants.affinity.as_ref()?)?;
        self.turns_taken.serves(*owner).then_some(*owner)
    }

    /// The worker that alone may have it at this moment.
    fn reserved_for(&self, request: RequestId, asked: &Asked, now: Timestamp) -> Option<WorkerId> {
        let owner = self.owner(asked)?;
        let lined_up = self.turns_taken.lined_up.get(&request).copied();
        let (since, step, _) = lined_up.unwrap_or((now, self.step, self.step));
        // Its worker goes before all others also if it is not to be waited for.
        let waits = since.after(self.settings.affinity_wait) > now || step == self.step;
        (asked.wants.strict || waits).then_some(owner)
    }

    /// Whether its client has more open than one client may.
    pub(super) fn is_crowded(&self, request: RequestId, asked: &Asked) -> bool {
        let theirs = |one: &&Asked| one.client == asked.client;
        let waiting = self.line.iter().filter(|other| **other != request);
        let waiting = waiting.filter_map(|other| self.requests.get(other)).filter(theirs).count();
        let bytes: u64 = self.requests.values().filter(theirs).map(|one| one.size).sum();
        self.settings.client_backlog_limit.is_some_and(|limit| waiting >= limit)
            || self.settings.client_bytes_limit.is_some_and(|limit| bytes > limit)
    }

    /// The exclusive keys of those in the line.
    fn exclusives(&self) -> Exclusives<'_> {
        let mut keys = Exclusives::default();
        if !self.turns_taken.lines_change && !self.turns_taken.keys_came {
            return keys;
        }
        for (position, request) in self.line.iter().enumerate() {
            for asked in self.asked_of(*request) {
                keys.want(asked, (asked.wants.priority, position, *request));
            }
        }
        for sheet in self.desks.values().flat_map(|desk| desk.held.values()) {
            keys.take(sheet.exclusive.as_ref());
        }
        keys
    }

    /// All that this worker might get, in the order of the line.
    fn eligible_for<'a>(
        &'a self,
        worker: WorkerId,
        keys: &'a Exclusives<'a>,
    ) -> impl Iterator<Item = (RequestId, &'a Asked)> {
        let known = self.line.iter().filter_map(|request| Some((*request, self.requests.get(request)?)));
        known.filter(move |(request, asked)| {
            !keys.park(*request, asked)
                && self.reserved_for(*request, asked, self.now).is_none_or(|owner| owner == worker)
        })
    }

    /// Those that wait for whichever worker.
    pub(super) fn open(&self) -> impl Iterator<Item = &Asked> {
        let known = self.line.iter().filter_map(|request| Some((*request, self.requests.get(request)?)));
        let keys = self.exclusives();
        let open = move |(request, asked): &(RequestId, &Asked)| {
            !keys.park(*request, asked) && self.reserved_for(*request, asked, self.now).is_none()
        };
        known.filter(open).map(|(_, asked)| asked)
    }

    /// A request goes to a worker: it is its turn. Taken out of the line. Returns whether it
    /// waited for this very worker.
    pub(super) fn judge_turn(&mut self, request: RequestId, worker: WorkerId, core: &Core) -> bool {
        let now = self.now;
        self.look_who_serves(core);
        if self.turns_taken.unsure {
            self.turns_taken.owners.retain(|_key, owner| core.serves(*owner));
            return self.leave_line(request, worker, None);
        }
        let keys = self.exclusives();
        let eligible: Vec<_> = self.eligible_for(worker, &keys).collect();
        let Some((_, asked)) = eligible.iter().find(|(one, _)| *one == request) else {
            law!(self, false, "{request} is given to {worker}, and must not be, of {:?}", self.line);
            return false;
        };
        let (class, client, returned) = (asked.wants.priority, asked.client, asked.returned);
        let own = self.reserved_for(request, asked, now);
        let waits = |one: Priority| eligible.iter().any(|(_, asked)| asked.wants.priority == one);
        let passed = |one: Priority| self.turns_taken.passed.get(&one).copied().unwrap_or(0);
        let aged = Priority::ALL.into_iter().filter(|one| waits(*one) && passed(*one) >= AGING);
        let due = aged.rev().max_by_key(|one| passed(*one));
        let due = due.or_else(|| Priority::ALL.into_iter().find(|one| waits(*one)));
        law!(self, due == Some(class), "{request} is {class}, and {due:?} is due");

        let mut peers = eligible.iter().filter(|(_, asked)| asked.wants.priority == class);
        if returned {
            let first = peers.find(|(_, asked)| asked.returned).map(|(first, _)| *first);
            law!(self, first == Some(request), "{request} came back after {first:?}");
        } else {
            let back = peers.clone().find(|(_, asked)| asked.returned).map(|(back, _)| *back);
            law!(self, back.is_none(), "{request} goes before {back:?}, which came back");
            let mut theirs = peers
                .clone()
                .filter(|(one, asked)| asked.client == client && self.reserved_for(*one, asked, now) == own);
            let first = theirs.next().map(|(first, _)| *first);
            law!(self, first == Some(request), "{request} goes before {first:?} of the same client");
        }
        let waiting: BTreeSet<ClientId> =
            peers.filter(|(_, asked)| !asked.returned).map(|(_, asked)| asked.client).collect();
        let passed_over = Priority::ALL.map(|one| (one, waits(one), self.stands_in_a_line(one)));
        for (one, waits, stands) in passed_over {
            let count = self.turns_taken.passed.entry(one).or_default();
            *count = if one == class || !stands { 0 } else { *count + u32::from(waits) };
            let count = *count;
            law!(self, count <= AGING + 2, "{one} is passed over {count} times");
        }
        if !returned {
            self.count_turn(class, client, &waiting);
        }
        self.leave_line(request, worker, own)
    }

    /// Finds out whether the model can know who is waited for, in this step.
    pub(super) fn look_who_serves(&mut self, core: &Core) {
        let turns = &self.turns_taken;
        let changed = |worker: &WorkerId| turns.serves(*worker) != core.serves(*worker);
        let unsure = turns.owners.values().any(changed);
        self.turns_taken.unsure |= unsure;
    }

    fn leave_line(&mut self, request: RequestId, worker: WorkerId, own: Option<WorkerId>) -> bool {
        self.line.retain(|waiting| *waiting != request);
        self.turns_taken.lined_up.remove(&request);
        if let Some(key) = self.requests.get(&request).and_then(|asked| asked.wants.affinity.clone())
            && !self.turns_taken.owners.contains_key(&key)
        {
            let waits = |asked: &Asked| asked.wants.affinity.as_ref() == Some(&key);
            for other in self.line.iter().filter(|other| self.requests.get(other).is_some_and(waits)) {
                self.turns_taken.lined_up.insert(*other, (self.now, self.step, 0));
            }
            self.turns_taken.owners.insert(key, worker);
            self.turns_taken.note_serving(worker);
        }
        own.is_some() || self.turns_taken.unsure
    }

    /// Whether anybody of this class waits for nothing but workers.
    fn stands_in_a_line(&self, class: Priority) -> bool {
        let known = self.line.iter().filter_map(|request| Some((*request, self.requests.get(request)?)));
        let mut of_class = known.filter(|(_, asked)| asked.wants.priority == class);
        let keys = self.exclusives();
        of_class.any(|(request, asked)| !keys.park(request, asked))
    }

    /// Between two turns of one client every other that waits has one.
    fn count_turn(&mut self, class: Priority, client: ClientId, waiting: &BTreeSet<ClientId>) {
        // Who waits for one worker, or behind another of the same exclusive key, has another
        // turn when it comes to wait for all.
        let lines = if self.turns_taken.lines_change { 2 + self.desks.len() } else { 1 };
        self.turns_taken.served.retain(|(one, waits, _served), _count| *one != class || *waits != client);
        for other in waiting.iter().filter(|other| **other != client) {
            let count = self.turns_taken.served.entry((class, *other, client)).or_default();
            *count += 1;
            let count = *count as usize;
            law!(self, count <= lines, "{client} is served {count} times while {other} waits");
        }
    }

    /// After each step: who has come to wait for what.
    pub(super) fn note_turns(&mut self, core: &Core) {
        let (desks, turns) = (&self.desks, &mut self.turns_taken);
        if std::mem::take(&mut turns.keys_came) && !turns.lines_change {
            let keyed = |asked: &Asked| asked.wants.affinity.is_some() || asked.wants.exclusive.is_some();
            turns.lines_change = self.requests.values().any(keyed);
        }
        turns.serving.clear();
        let lives = |worker: &WorkerId| desks.contains_key(worker) && core.serves(*worker);
        turns.serving.extend(turns.owners.values().copied().filter(lives));
        turns.serving.sort_unstable();
        if std::mem::take(&mut turns.unsure) {
            turns.passed = Priority::ALL.into_iter().zip(core.passed_over()).collect();
            turns.served.clear();
        }
        let serving = &turns.serving;
        let owners = turns.owners.len();
        turns.owners.retain(|_key, owner| serving.binary_search(owner).is_ok());
        if turns.owners.len() < owners {
            // Who waited for a worker that is gone begins anew, in the line for all.
            turns.served.clear();
        }
        self.line_up();
        let (line, requests) = (&self.line, &self.requests);
        let is_here = |class: Priority, client: ClientId| {
            let mut asked = line.iter().filter_map(|request| requests.get(request));
            asked.any(|asked| asked.wants.priority == class && asked.client == client && !asked.returned)
        };
        let mut last = None;
        // Those of one client that waits stand together.
        self.turns_taken.served.retain(|(class, waits, _served), _count| match last {
            Some((one, other, here)) if (one, other) == (*class, *waits) => here,
            _ => {
                let here = is_here(*class, *waits);
                last = Some((*class, *waits, here));
                here
            }
        });
    }

    /// Since when those with affinity keys could be handed out. Nobody asks it of others.
    fn line_up(&mut self) {
        if !self.turns_taken.lines_change {
            return;
        }
        let mut lined_up = std::mem::take(&mut self.turns_taken.lined_up);
        let keys = self.exclusives();
        for request in &self.line {
            let asked = self.requests.get(request).filter(|asked| asked.wants.affinity.is_some());
            if asked.is_some_and(|asked| !keys.park(*request, asked)) {
                lined_up.entry(*request).or_insert((self.now, self.step, 0)).2 = self.step;
            }
        }
        lined_up.retain(|_request, (_since, _step, last)| *last == self.step);
        self.turns_taken.lined_up = lined_up;
    }

    /// One arrives that may come into the line later than that, because of its keys.
    pub(super) fn note_keys(&mut self, wants: &Wants) {
        self.turns_taken.keys_came |= wants.affinity.is_some() || wants.exclusive.is_some();
    }
}

/// Nobody who could take a request is idle.
impl Model {
    pub(super) fn check_idle(&self, core: &Core) {
        let phase = core.phase();
        let serving =
            matches!(phase, Phase::Starting | Phase::Serving | Phase::HandingOver | Phase::Draining { .. });
        let serving = serving && self.paused.is_none() && !self.line.is_empty();
        if !serving && phase != Phase::Failing {
            return;
        }
        let idle = self.desks.iter().filter(|(_, desk)| desk.is_eligible() && !self.is_finishing(desk));
        let mut idle = idle.map(|(worker, _)| *worker).peekable();
        let Some(any) = idle.peek().copied() else { return };
        law!(self, phase != Phase::Failing, "{any} is idle, and requests are refused");
        let keys = self.exclusives();
        let missed = idle.find(|worker| self.eligible_for(*worker, &keys).next().is_some());
        law!(self, missed.is_none(), "{missed:?} is idle while {:?} wait", self.line);
    }

    /// A process with two connections may be on its way out by the other one.
    pub(super) fn is_finishing(&self, desk: &Desk) -> bool {
        let holds = |other: &Desk| !other.held.is_empty() && other.home == desk.home;
        desk.home != Home::External && self.desks.values().any(holds)
    }
}
