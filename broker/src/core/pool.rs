//! The wish: how many workers there should be. `balance` compares it with the
//! roster and says what is missing; nothing else spawns a worker or closes a slot.

use std::collections::BTreeSet;

use super::action::{Action, ExitReason, Finish, Memory, Note};
use super::autoscale::{Autoscale, Cause};
use super::degraded::Health;
use super::fork_room::ForkRoom;
use super::ids::{Generation, Place, Slot, Timestamp};
use super::reload::Reload;
use super::roster::{Process, SlotRecord, Stage};
use super::settings::Settings;
use super::spares::SpareCheck;
use super::telling::Teller;
use super::timers::Timer;
use super::worker_state::WorkerState;
use super::{Core, Phase, Turn};

/// So many early deaths in a row make a slot a failing one.
const FAILING_AFTER: u32 = 2;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) target: u32,
    /// What a process started at this moment belongs to, unless a reload is under way.
    pub(super) generation: Generation,
    /// The last generation ever begun.
    pub(super) last_generation: Generation,
    pub(super) reload: Option<Reload>,
    /// Replacements that warm up beside the processes they replace.
    pub(super) newcomers: BTreeSet<Place>,
    /// Whether any worker has ever been ready.
    pub(super) ever_ready: bool,
    pub(super) last_change: Option<Change>,
    pub(super) autoscale: Autoscale,
    pub(super) spare_check: SpareCheck,
    pub(super) fork_room: ForkRoom,
    pub(super) health: Health,
    pub(super) teller: Teller,
}

/// How the target came to be what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) cause: Cause,
    pub(super) at: Timestamp,
}

impl Memory {
    /// What was wished for, unless another size was configured since, within the limits as
    /// they are now.
    fn target_under(&self, settings: &Settings) -> u32 {
        let is_changed = self.size.is_some_and(|size| size != settings.workers);
        let wished = if is_changed { settings.workers } else { self.target };
        wished.clamp(settings.min, settings.max)
    }
}

impl Pool {
    pub(super) fn new(settings: &Settings, memory: Option<&Memory>) -> Self {
        let generation = Generation(memory.map_or(0, |memory| memory.generation));
        Self {
            target: memory.map_or(settings.workers, |memory| memory.target_under(settings)),
            generation,
            last_generation: generation,
            reload: None,
            newcomers: BTreeSet::new(),
            ever_ready: memory.is_some(),
            last_change: None,
            autoscale: Autoscale::default(),
            spare_check: SpareCheck::default(),
            fork_room: ForkRoom::default(),
            health: Health::default(),
            teller: Teller::default(),
        }
    }

    /// Whether new code has still to show that it works.
    pub(super) fn is_reload_unproven(&self) -> bool {
        self.reload.as_ref().is_some_and(|reload| !reload.is_proven())
    }

    /// What a process started now belongs to.
    pub(super) fn current_generation(&self) -> Generation {
        self.reload.as_ref().map_or(self.generation, |reload| reload.generation)
    }
}

/// The wishes.
impl<B: Clone> Core<B> {
    pub(super) fn scale_to(&mut self, target: u32, turn: &mut Turn<'_, B>) {
        let target = target.clamp(self.settings.min, self.settings.max);
        self.set_target(target, Cause::Operator, turn);
        if let Some(rules) = self.settings.autoscale {
            self.pool.autoscale.start_afresh(turn.now, rules.up_wait);
        }
        self.forget_spare_check();
    }

    /// The one place where the target changes.
    pub(super) fn set_target(&mut self, to: u32, cause: Cause, turn: &mut Turn<'_, B>) {
        let from = std::mem::replace(&mut self.pool.target, to);
        if from != to {
            self.roster.disturb();
            self.pool.last_change = Some(Change { from, to, cause, at: turn.now });
            turn.note(Note::TargetChanged { from, to, cause });
            turn.act(Action::Remember(self.memory()));
        }
    }

    pub(super) fn scale_by(&mut self, change: i32, turn: &mut Turn<'_, B>) {
        self.scale_to(self.pool.target.saturating_add_signed(change), turn);
    }
}

/// Wish against fact.
impl<B: Clone> Core<B> {
    pub(super) fn balance(&mut self, turn: &mut Turn<'_, B>) {
        match self.phase {
            // Most events change nothing here, and the largest pool has a thousand slots.
            Phase::Starting | Phase::Serving | Phase::Failing => {
                if !self.roster.take_disturbed() {
                    return;
                }
                self.open_and_close_slots(turn);
                self.fill_slots(usize::MAX, turn);
                self.replace(turn);
            }
            Phase::Draining { .. } | Phase::HandingOver => self.keep_one_for_accepted_work(turn),
            Phase::HandedOver | Phase::Ending | Phase::Over => (),
        }
    }

    fn open_and_close_slots(&mut self, turn: &mut Turn<'_, B>) {
        let target = self.pool.target as usize;
        for _missing in self.roster.wanted_len()..target {
            self.roster.open_slot();
        }
        for _surplus in target..self.roster.wanted_len() {
            if let Some(slot) = self.most_dispensable() {
                self.close_slot(slot, turn);
            }
        }
    }

    /// Empty slots first, then those still starting, then idle ones, then busy
    /// ones; among equals the highest number.
    fn most_dispensable(&self) -> Option<Slot> {
        let stays = |process: &&Process| !process.is_leaving() || process.is_at_its_only_request();
        let cost = |record: &SlotRecord| {
            record.processes.values().filter(stays).map(|process| self.cost(process)).max()
        };
        self.roster
            .wanted()
            .min_by_key(|(slot, record)| (cost(record), std::cmp::Reverse(*slot)))
            .map(|(slot, _)| slot)
    }

    fn cost(&self, process: &Process) -> u8 {
        let worker = process.worker.and_then(|worker| self.crew.worker(worker));
        match (&process.stage, worker) {
            (Stage::Leaving { .. }, _) if process.is_at_its_only_request() => 2,
            (Stage::Booting | Stage::Probing { .. } | Stage::Leaving { .. }, _) | (_, None) => 0,
            (_, Some(worker)) if worker.state() == WorkerState::Waiting => 1,
            (_, Some(_busy)) => 2,
        }
    }

    fn close_slot(&mut self, slot: Slot, turn: &mut Turn<'_, B>) {
        let Some(record) = self.roster.slot(slot) else { return };
        let staying: Vec<_> = record.staying().map(|(incarnation, _)| Place { slot, incarnation }).collect();
        self.roster.unwant(slot);
        self.recorder.prune(&self.roster);
        for place in staying {
            self.newcomer_withdrawn(place);
            self.retire(place, ExitReason::Shrink, turn);
        }
    }

    /// Fills at most `limit` empty slots.
    fn fill_slots(&mut self, limit: usize, turn: &mut Turn<'_, B>) {
        let now = turn.now;
        let fillable = |record: &SlotRecord| {
            // A process on its way out may still be there, but never two.
            record.staying().next().is_none()
                && record.processes.len() < 2
                && record.not_before <= now
                && !record.is_at_its_only_request()
        };
        let empty: Vec<Slot> = self
            .roster
            .wanted()
            .filter(|(_slot, record)| fillable(record))
            .map(|(slot, _record)| slot)
            .take(limit)
            .collect();
        for slot in empty {
            if !self.has_fork_room(slot, turn) {
                continue;
            }
            let generation = self.pool.current_generation();
            let place = self.roster.fill(slot, generation, now);
            self.spawn(place, generation, turn);
        }
    }

    /// Whether a process may be started there now; if not, it is tried again.
    pub(super) fn has_fork_room(&mut self, slot: Slot, turn: &Turn<'_, B>) -> bool {
        if self.roster.slot(slot).is_none_or(|record| record.failures == 0) {
            return true;
        }
        let room = self.pool.fork_room.take(self.settings.forks_after_early_deaths, turn.now);
        if let Err(later) = room {
            self.timers.arm(later, Timer::ForkRoom);
        }
        room.is_ok()
    }

    fn keep_one_for_accepted_work(&mut self, turn: &mut Turn<'_, B>) {
        let work = self.requests.backlog.len() > 0;
        let anybody = self.crew.anybody_serves()
            || self.roster.processes().any(|(_place, process)| !process.is_leaving());
        if work && !anybody {
            if self.roster.wanted_len() == 0 && self.pool.target > 0 {
                self.roster.open_slot();
            }
            self.fill_slots(1, turn);
        }
    }
}

/// Is the pool able to serve?
impl<B: Clone> Core<B> {
    pub(super) fn somebody_is_ready(&mut self, turn: &mut Turn<'_, B>) {
        self.pool.ever_ready = true;
        match self.phase {
            Phase::Starting => {
                self.phase = Phase::Serving;
                turn.note(Note::Ready);
            }
            Phase::Failing => {
                self.phase = Phase::Serving;
                turn.note(Note::Recovered);
            }
            Phase::Serving
            | Phase::Draining { .. }
            | Phase::HandingOver
            | Phase::HandedOver
            | Phase::Ending
            | Phase::Over => (),
        }
    }

    pub(super) fn assess_pool(&mut self, turn: &mut Turn<'_, B>) {
        if matches!(self.phase, Phase::Starting | Phase::Failing) && self.pool.target == 0 {
            // Nobody is started, so nobody is waited for, and nobody fails.
            self.somebody_is_ready(turn);
        }
        let was_ready = match self.phase {
            Phase::Serving => true,
            // An earlier router had workers; this one's cannot start.
            Phase::Starting => self.pool.ever_ready,
            Phase::Failing
            | Phase::Draining { .. }
            | Phase::HandingOver
            | Phase::HandedOver
            | Phase::Ending
            | Phase::Over => false,
        };
        let failing = was_ready
            && self.roster.wanted_len() > 0
            && !self.crew.anybody_serves()
            && self.roster.wanted().all(|(_slot, record)| record.bad_starts >= FAILING_AFTER);
        if failing {
            self.phase = Phase::Failing;
            turn.note(Note::Failing);
        }
        if self.phase == Phase::Failing
            && let Some((status, why)) = self.closed_because()
        {
            self.refuse_waiting(status, why, turn);
        }
    }

    /// A process has ended that was never ready.
    pub(super) fn consider_giving_up(
        &mut self,
        process: &Process,
        reason: &ExitReason,
        turn: &mut Turn<'_, B>,
    ) {
        if self.pool.ever_ready || self.phase != Phase::Starting {
            return;
        }
        let cannot_execute = matches!(reason, ExitReason::NotExecuted(_));
        let all_failed = self.roster.wanted_len() > 0
            && self.roster.wanted().all(|(_slot, record)| record.boot_failures >= FAILING_AFTER);
        if cannot_execute {
            self.give_up(Finish::CannotExecute, turn);
        } else if all_failed {
            self.give_up(Finish::CannotStart { spoke: process.spoke() }, turn);
        }
    }
}
