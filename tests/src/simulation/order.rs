//! Who may be next: classes and their aging, the clients in turn, exclusive keys, and the
//! worker that an affinity key belongs to. Kept by a second hand, and much more slowly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hornpipe::core::{AGING, ClientId, Home, Phase, RequestId, Timestamp, WorkerId};
use hornpipe_proto::Priority;

use super::Core;
use super::books::{Asked, Desk};
use super::model::Model;

/// What the model knows of turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Who had each affinity key first, and lives.
    owners: BTreeMap<Arc<str>, WorkerId>,
    /// Since when, and since which step, each could be handed out, were its worker idle.
    lined_up: BTreeMap<RequestId, (Timestamp, u64)>,
    /// How often each class has been passed over in a row.
    passed: BTreeMap<Priority, u32>,
    /// How often one client was served since another waits.
    served: BTreeMap<(Priority, ClientId, ClientId), u32>,
    /// Who could take something, now or later, before this step. That a busy plain worker
    /// is to leave after its request is told to nobody.
    serving: BTreeSet<WorkerId>,
    /// Whether requests come into the line later than they arrive, because of their keys.
    lines_change: bool,
    /// Somebody has ceased to serve in this step, before its turns or after them.
    pub(super) unsure: bool,
}

impl Model {
    fn asked_of(&self, request: RequestId) -> impl Iterator<Item = &Asked> {
        self.requests.get(&request).into_iter()
    }

    /// The worker that it waits for, if it waits for one.
    fn owner(&self, asked: &Asked) -> Option<WorkerId> {
        let owner = self.turns_taken.owners.get(asked.wants.affinity.as_ref()?)?;
        self.turns_taken.serving.contains(owner).then_some(*owner)
    }

    /// The worker that alone may have it at this moment.
    fn reserved_for(&self, request: RequestId, asked: &Asked, now: Timestamp) -> Option<WorkerId> {
        let owner = self.owner(asked)?;
        let lined_up = self.turns_taken.lined_up.get(&request).copied();
        let (since, step) = lined_up.unwrap_or((now, self.step));
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

    /// Whether a worker has one under its exclusive key, or another is before it.
    fn is_parked(&self, request: RequestId, asked: &Asked) -> bool {
        let Some(key) = &asked.wants.exclusive else { return false };
        let taken = |desk: &Desk| desk.held.values().any(|sheet| sheet.exclusive.as_ref() == Some(key));
        if self.desks.values().any(taken) {
            return true;
        }
        let mut rivals: Vec<_> = Vec::new();
        for (position, other) in self.line.iter().enumerate() {
            for one in self.asked_of(*other).filter(|one| one.wants.exclusive.as_ref() == Some(key)) {
                rivals.push((one.wants.priority, position, *other));
            }
        }
        rivals.into_iter().min().is_some_and(|(_, _, first)| first != request)
    }

    /// All that this worker might get, in the order of the line.
    fn eligible_for(&self, worker: WorkerId, now: Timestamp) -> Vec<(RequestId, &Asked)> {
        let known = self.line.iter().filter_map(|request| Some((*request, self.requests.get(request)?)));
        known
            .filter(|(request, asked)| !self.is_parked(*request, asked))
            .filter(|(request, asked)| {
                self.reserved_for(*request, asked, now).is_none_or(|owner| owner == worker)
            })
            .collect()
    }

    /// Whether anything waits that this worker might have.
    pub(super) fn has_work_for(&self, worker: WorkerId) -> bool {
        !self.eligible_for(worker, self.now).is_empty()
    }

    /// Those that wait for whichever worker.
    pub(super) fn open(&self) -> impl Iterator<Item = &Asked> {
        let known = self.line.iter().filter_map(|request| Some((*request, self.requests.get(request)?)));
        let open = |(request, asked): &(RequestId, &Asked)| {
            !self.is_parked(*request, asked) && self.reserved_for(*request, asked, self.now).is_none()
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
        let eligible = self.eligible_for(worker, now);
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
        let changed = |worker: &WorkerId| turns.serving.contains(worker) != core.serves(*worker);
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
                self.turns_taken.lined_up.insert(*other, (self.now, self.step));
            }
            self.turns_taken.owners.insert(key, worker);
            self.turns_taken.serving.insert(worker);
        }
        own.is_some() || self.turns_taken.unsure
    }

    /// Whether anybody of this class waits for nothing but workers.
    fn stands_in_a_line(&self, class: Priority) -> bool {
        let known = self.line.iter().filter_map(|request| Some((*request, self.requests.get(request)?)));
        let mut of_class = known.filter(|(_, asked)| asked.wants.priority == class);
        of_class.any(|(request, asked)| !self.is_parked(request, asked))
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
        let keyed = |asked: &Asked| asked.wants.affinity.is_some() || asked.wants.exclusive.is_some();
        self.turns_taken.lines_change |= self.requests.values().any(keyed);
        let serving: BTreeSet<WorkerId> =
            self.desks.keys().copied().filter(|worker| core.serves(*worker)).collect();
        self.turns_taken.serving.clone_from(&serving);
        if std::mem::take(&mut self.turns_taken.unsure) {
            self.turns_taken.passed = Priority::ALL.into_iter().zip(core.passed_over()).collect();
            self.turns_taken.served.clear();
        }
        self.turns_taken.owners.retain(|_key, owner| serving.contains(owner));
        let waiting: Vec<(RequestId, bool)> = self
            .line
            .iter()
            .filter_map(|request| Some((*request, self.is_parked(*request, self.requests.get(request)?))))
            .collect();
        let lined_up: BTreeSet<RequestId> =
            waiting.into_iter().filter(|(_, parked)| !parked).map(|(request, _)| request).collect();
        self.turns_taken.lined_up.retain(|request, _since| lined_up.contains(request));
        for request in lined_up {
            self.turns_taken.lined_up.entry(request).or_insert((self.now, self.step));
        }
        let here = |class: Priority, client: ClientId| {
            let mut asked = self.line.iter().filter_map(|request| self.requests.get(request));
            asked.any(|asked| asked.wants.priority == class && asked.client == client && !asked.returned)
        };
        let kept: BTreeSet<_> = self
            .turns_taken
            .served
            .keys()
            .copied()
            .filter(|(class, waits, _served)| here(*class, *waits))
            .collect();
        self.turns_taken.served.retain(|key, _count| kept.contains(key));
    }
}

/// Nobody who could take a request is idle.
impl Model {
    pub(super) fn check_idle(&self, core: &Core) {
        let idle = self.desks.iter().filter(|(_, desk)| desk.is_eligible() && !self.is_finishing(desk));
        let mut idle = idle.map(|(worker, _)| *worker).peekable();
        let Some(any) = idle.peek().copied() else { return };
        let idle = idle.find(|worker| self.has_work_for(*worker));
        let serving = matches!(
            core.phase(),
            Phase::Starting | Phase::Serving | Phase::HandingOver | Phase::Draining { .. }
        );
        let serving = serving && self.paused.is_none();
        law!(self, !serving || idle.is_none(), "{idle:?} is idle while {:?} wait", self.line);
        law!(self, core.phase() != Phase::Failing, "{any} is idle, and requests are refused");
    }

    /// A process with two connections may be on its way out by the other one.
    pub(super) fn is_finishing(&self, desk: &Desk) -> bool {
        self.desks
            .values()
            .any(|other| other.home == desk.home && other.home != Home::External && !other.held.is_empty())
    }
}
