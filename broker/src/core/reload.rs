//! Replacing processes: a newcomer beside the process it replaces, and only
//! when it is ready does the old one go. A reload is a transaction: if a
//! newcomer fails, the rest of the old generation stays.
//!
//! Ready is a word, and broken code may have time to say it. So the first
//! newcomer of a reload must also reply to a request, or live for a second,
//! before any old process goes for it. Then others may follow side by side.

use super::action::{Action, ExitReason, Note};
use super::ids::{Generation, Place, Slot, Timestamp};
use super::roster::{Process, SlotRecord, Stage};
use super::settings::YOUNG;
use super::timers::Timer;
use super::{Core, Phase, Turn};

#[derive(Debug)]
pub(super) struct Reload {
    pub(super) generation: Generation,
    /// Whether its first newcomer has shown that it works.
    proven: bool,
    /// How many newcomers there may be from then on.
    surge: u32,
}

impl Reload {
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }
}

/// The operator's wish.
impl<B: Clone> Core<B> {
    pub(super) fn reload(&mut self, surge: Option<u32>, turn: &mut Turn<'_, B>) {
        // While the pool is handed over it is only remembered: the next router finds workers
        // of an earlier generation, and replaces them.
        if !matches!(self.phase, Phase::Starting | Phase::Serving | Phase::Failing | Phase::HandingOver) {
            return;
        }
        self.pool.last_generation.0 += 1;
        let generation = self.pool.last_generation;
        if let Some(Reload { generation: earlier, .. }) = self.pool.reload.take() {
            self.counters.reloads.superseded += 1;
            turn.note(Note::ReloadSuperseded { generation: earlier, by: generation });
            self.turn_newcomers_away(turn);
        }
        let surge = surge.unwrap_or(self.settings.surge);
        self.pool.reload = Some(Reload { generation, proven: false, surge });
        // The operator says that something has changed: slots that waited try again.
        for record in self.roster.slots_mut() {
            record.not_before = turn.now;
        }
        turn.note(Note::ReloadStarted { generation });
        turn.act(Action::Remember(self.memory()));
    }

    /// A process of an earlier router's: if it is older than what that router
    /// wished for, a reload was under way and goes on.
    pub(super) fn resume_reload(&mut self, generation: Generation, turn: &mut Turn<'_, B>) {
        let pool = &mut self.pool;
        pool.last_generation = pool.last_generation.max(generation);
        if generation < pool.generation {
            let wished = pool.current_generation();
            pool.generation = generation;
            if pool.reload.is_none() {
                let surge = self.settings.surge;
                pool.reload = Some(Reload { generation: wished, proven: false, surge });
                turn.note(Note::ReloadStarted { generation: wished });
            }
        }
    }

    /// The broker stops: nobody is renewed any more.
    pub(super) fn abandon_reload(&mut self, turn: &mut Turn<'_, B>) {
        if let Some(Reload { generation, .. }) = self.pool.reload.take() {
            self.counters.reloads.abandoned += 1;
            turn.note(Note::ReloadAbandoned { generation });
        }
    }
}

/// Wish against fact.
impl<B: Clone> Core<B> {
    /// Starts the newcomers that are due, as many as may be under way.
    pub(super) fn replace(&mut self, turn: &mut Turn<'_, B>) {
        while let Some(slot) = self.next_to_renew(turn.now) {
            if !self.has_fork_room(slot, turn) {
                return;
            }
            let generation = self.pool.current_generation();
            let place = self.roster.fill(slot, generation, turn.now);
            self.pool.newcomers.insert(place);
            self.spawn(place, generation, turn);
        }
        if self.pool.newcomers.is_empty() {
            self.finish_reload(turn);
        }
    }

    fn next_to_renew(&self, now: Timestamp) -> Option<Slot> {
        let room = match &self.pool.reload {
            Some(Reload { proven: true, surge, .. }) => *surge as usize,
            Some(_) | None => 1,
        };
        let under_way = self.pool.newcomers.len();
        if room <= under_way {
            return None;
        }
        // The spent are replaced one at a time, also beside a reload.
        let is_due = |process: &Process| {
            process.stage == Stage::Serving
                && (self.is_outdated(process) || (process.spent().is_some() && under_way == 0))
        };
        let is_next = |record: &SlotRecord| {
            record.processes.len() == 1
                && record.not_before <= now
                && record.staying().any(|(_, process)| is_due(process))
        };
        let due = self.roster.wanted().filter(|(_slot, record)| is_next(record));
        // Of spent ones the longest spent: a slot that is soon spent again must not keep
        // another waiting for ever.
        due.min_by_key(|(_slot, record)| record.spent_since()).map(|(slot, _record)| slot)
    }

    fn is_outdated(&self, process: &Process) -> bool {
        self.pool.reload.as_ref().is_some_and(|reload| process.generation != reload.generation)
    }

    fn finish_reload(&mut self, turn: &mut Turn<'_, B>) {
        let Some(Reload { generation, proven, .. }) = self.pool.reload else { return };
        // Where each request brings a process, there may never be a moment with all ready.
        let fresh = self.settings.fresh && proven;
        let is_young = |record: &SlotRecord| {
            fresh && record.processes.values().all(|process| process.generation == generation)
        };
        let is_done = |record: &SlotRecord| is_young(record) || is_renewed(record, generation);
        if !self.roster.wanted().all(|(_slot, record)| is_done(record)) {
            return;
        }
        self.pool.reload = None;
        self.pool.generation = generation;
        self.counters.reloads.finished += 1;
        turn.note(Note::ReloadFinished { generation });
        turn.act(Action::Remember(self.memory()));
    }
}

/// Whether the slot has a process of this generation, and no other that stays.
pub(super) fn is_renewed(record: &SlotRecord, generation: Generation) -> bool {
    let mut staying = record.staying().map(|(_, process)| process);
    staying.all(|process| process.generation == generation && process.stage == Stage::Serving)
        && record.staying().next().is_some()
}

/// What becomes of newcomers.
impl<B: Clone> Core<B> {
    /// A process serves; it stays beside the one it replaces until it is proven.
    pub(super) fn newcomer_ready(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        if self.is_on_trial(place) {
            self.timers.arm(turn.now.after(YOUNG), Timer::Proven(place));
        } else {
            self.settle_slot(place.slot, turn);
        }
    }

    /// Whether the rest of a reload waits for what becomes of this process.
    pub(super) fn is_on_trial(&self, place: Place) -> bool {
        let unproven = self.pool.reload.as_ref().is_some_and(|reload| !reload.proven);
        unproven && self.pool.newcomers.contains(&place)
    }

    /// The newcomer works, so its place is its own, and the reload goes on.
    pub(super) fn newcomer_proven(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let Some(process) = self.roster.process(place) else { return };
        let works = process.stage == Stage::Serving || process.is_at_its_only_request();
        if !self.pool.newcomers.contains(&place) || !works {
            return;
        }
        let generation = process.generation;
        self.timers.disarm(Timer::Proven(place));
        self.generation_proven(generation);
        self.settle_slot(place.slot, turn);
    }

    /// A process of this generation works.
    pub(super) fn generation_proven(&mut self, generation: Generation) {
        if let Some(reload) = &mut self.pool.reload {
            // Another one may have begun meanwhile, of which this process says nothing.
            reload.proven |= reload.generation == generation;
        }
        self.roster.disturb();
    }

    /// A process serves: of several in its slot only the last stays.
    pub(super) fn settle_slot(&mut self, slot: Slot, turn: &mut Turn<'_, B>) {
        let Some(record) = self.roster.slot(slot) else { return };
        let serving = record.staying().filter(|(_, process)| process.stage == Stage::Serving);
        let mut serving: Vec<_> =
            serving.map(|(incarnation, process)| (incarnation, process.spent())).collect();
        if let Some((last, _spent)) = serving.pop() {
            self.newcomer_withdrawn(Place { slot, incarnation: last });
        }
        for (incarnation, spent) in serving {
            let reason = spent.map_or(ExitReason::Reload, ExitReason::Recycle);
            self.retire(Place { slot, incarnation }, reason, turn);
        }
    }

    /// A process of the roster was never ready, or did not prove itself.
    pub(super) fn living_newcomer_failed(&mut self, place: Place, reason: &str, turn: &mut Turn<'_, B>) {
        let Some(generation) = self.roster.process(place).map(|process| process.generation) else { return };
        if self.fail_reload(place, generation, turn)
            && let Some(process) = self.roster.process_mut(place)
        {
            // Told when it has ended, because only then are its last words known.
            process.brought_down = Some((generation, reason.into()));
        }
    }

    /// The same of one that has just left the roster.
    pub(super) fn newcomer_failed(
        &mut self,
        (place, process): (Place, &mut Process),
        reason: &str,
        turn: &mut Turn<'_, B>,
    ) {
        if self.fail_reload(place, process.generation, turn) {
            process.brought_down = Some((process.generation, reason.into()));
        }
    }

    /// If the reload brought the process, the reload ends here. Returns whether it did.
    fn fail_reload(&mut self, place: Place, generation: Generation, turn: &mut Turn<'_, B>) -> bool {
        self.newcomer_withdrawn(place);
        let brought = self.pool.reload.as_ref().is_some_and(|reload| reload.generation == generation);
        if brought {
            self.pool.reload = None;
            turn.act(Action::Remember(self.memory()));
            self.turn_newcomers_away(turn);
        }
        brought
    }

    /// The reload that brought them is no more: newcomers go, unless they are all that
    /// their slots have. One that only replaces a spent process stays.
    fn turn_newcomers_away(&mut self, turn: &mut Turn<'_, B>) {
        for place in self.pool.newcomers.clone() {
            let Some(process) = self.roster.process(place) else { continue };
            if process.generation == self.pool.generation {
                self.settle_slot(place.slot, turn);
                continue;
            }
            self.timers.disarm(Timer::Proven(place));
            self.newcomer_withdrawn(place);
            if self.roster.slot(place.slot).is_some_and(|record| record.staying().count() > 1) {
                self.retire(place, ExitReason::Reload, turn);
            }
        }
    }

    /// The place is not kept for a newcomer any more.
    pub(super) fn newcomer_withdrawn(&mut self, place: Place) {
        if self.pool.newcomers.remove(&place) {
            self.roster.disturb();
        }
    }
}
