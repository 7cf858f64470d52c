//! Replacing processes: one newcomer beside the process it replaces, and only
//! when it is ready does the old one go. A reload is a transaction: if a
//! newcomer fails, the rest of the old generation stays.
//!
//! Ready is a word, and broken code may have time to say it. So the first
//! newcomer of a reload must also reply to a request, or live for a second,
//! before any old process goes for it.

use super::action::{Action, ExitReason, Note};
use super::ids::{Generation, Place, Slot};
use super::roster::{Process, SlotRecord, Stage};
use super::settings::YOUNG;
use super::timers::Timer;
use super::{Core, Phase, Turn};

#[derive(Debug)]
pub(super) struct Reload {
    pub(super) generation: Generation,
    /// Whether its first newcomer has shown that it works.
    proven: bool,
}

impl Reload {
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }
}

impl<B: Clone> Core<B> {
    pub(super) fn reload(&mut self, turn: &mut Turn<'_, B>) {
        if !matches!(self.phase, Phase::Starting | Phase::Serving | Phase::Failing) {
            return;
        }
        self.pool.last_generation.0 += 1;
        let generation = self.pool.last_generation;
        self.pool.reload = Some(Reload { generation, proven: false });
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
                pool.reload = Some(Reload { generation: wished, proven: false });
                turn.note(Note::ReloadStarted { generation: wished });
            }
        }
    }

    /// Starts a newcomer if one is due and none is under way.
    pub(super) fn replace(&mut self, turn: &mut Turn<'_, B>) {
        if self.pool.newcomer.is_some() {
            return;
        }
        let now = turn.now;
        let due = self.roster.wanted().find(|(_slot, record)| {
            record.processes.len() == 1
                && record.not_before <= now
                && record.staying().any(|(_, process)| self.is_due(process))
        });
        if let Some((slot, _record)) = due {
            if !self.has_fork_room(slot, turn) {
                return;
            }
            let generation = self.pool.current_generation();
            let place = self.roster.fill(slot, generation, now);
            self.pool.newcomer = Some(place);
            self.spawn(place, generation, turn);
            return;
        }
        self.finish_reload(turn);
    }

    /// Whether the process waits for its replacement.
    fn is_due(&self, process: &Process) -> bool {
        process.stage == Stage::Serving && (process.spent || self.is_outdated(process))
    }

    fn is_outdated(&self, process: &Process) -> bool {
        self.pool.reload.as_ref().is_some_and(|reload| process.generation != reload.generation)
    }

    fn finish_reload(&mut self, turn: &mut Turn<'_, B>) {
        let Some(Reload { generation, .. }) = self.pool.reload else { return };
        let renewed = |record: &SlotRecord| {
            let mut staying = record.staying().map(|(_, process)| process);
            staying.all(|process| process.generation == generation && process.stage == Stage::Serving)
                && record.staying().next().is_some()
        };
        if !self.roster.wanted().all(|(_slot, record)| renewed(record)) {
            return;
        }
        self.pool.reload = None;
        self.pool.generation = generation;
        turn.note(Note::ReloadFinished { generation });
        turn.act(Action::Remember(self.memory()));
    }

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
        self.pool.newcomer == Some(place) && self.pool.reload.as_ref().is_some_and(|reload| !reload.proven)
    }

    /// The newcomer works, so its place is its own, and the reload goes on.
    pub(super) fn newcomer_proven(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let Some(process) = self.roster.process(place) else { return };
        if self.pool.newcomer != Some(place) || process.stage != Stage::Serving {
            return;
        }
        if let Some(reload) = &mut self.pool.reload {
            // Another one may have begun meanwhile, of which this process says nothing.
            reload.proven = reload.generation == process.generation;
        }
        self.timers.disarm(Timer::Proven(place));
        self.roster.disturb();
        self.settle_slot(place.slot, turn);
    }

    /// A process serves: of several in its slot only the last stays.
    fn settle_slot(&mut self, slot: Slot, turn: &mut Turn<'_, B>) {
        let Some(record) = self.roster.slot(slot) else { return };
        let serving = record.staying().filter(|(_, process)| process.stage == Stage::Serving);
        let mut serving: Vec<_> =
            serving.map(|(incarnation, process)| (incarnation, process.spent)).collect();
        if let Some((last, _spent)) = serving.pop()
            && self.pool.newcomer == Some(Place { slot, incarnation: last })
        {
            self.pool.newcomer = None;
        }
        for (incarnation, spent) in serving {
            let reason = if spent { ExitReason::Recycle } else { ExitReason::Reload };
            self.retire(Place { slot, incarnation }, reason, turn);
        }
    }

    /// A process was never ready, or did not prove itself: if the reload brought it,
    /// the reload ends here.
    pub(super) fn newcomer_failed(
        &mut self,
        place: Place,
        generation: Generation,
        reason: &str,
        turn: &mut Turn<'_, B>,
    ) {
        self.newcomer_withdrawn(place);
        if self.pool.reload.as_ref().is_some_and(|reload| reload.generation == generation) {
            self.pool.reload = None;
            turn.note(Note::ReloadFailed { generation, place, reason: reason.into() });
            turn.act(Action::Remember(self.memory()));
            self.turn_newcomer_away(turn);
        }
    }

    /// The reload has failed elsewhere: a newcomer of this or an earlier attempt goes,
    /// unless it is all that its slot has. One that only replaces a spent process stays.
    fn turn_newcomer_away(&mut self, turn: &mut Turn<'_, B>) {
        let Some(place) = self.pool.newcomer else { return };
        let Some(process) = self.roster.process(place) else { return };
        if process.generation == self.pool.generation {
            self.settle_slot(place.slot, turn);
            return;
        }
        self.newcomer_withdrawn(place);
        if self.roster.slot(place.slot).is_some_and(|record| record.staying().count() > 1) {
            self.retire(place, ExitReason::Reload, turn);
        }
    }

    /// The place is not kept for a newcomer any more.
    pub(super) fn newcomer_withdrawn(&mut self, place: Place) {
        if self.pool.newcomer == Some(place) {
            self.pool.newcomer = None;
            self.roster.disturb();
        }
    }
}
