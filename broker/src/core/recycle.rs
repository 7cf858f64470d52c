//! Processes that have served their time: by requests, age, idleness or memory,
//! or because the operator says so. Such a process is spent: it serves on until
//! its replacement is ready, and `reload.rs` brings that, one at a time.
//!
//! Two limits do not wait. Beyond the hard limit of memory a process is killed
//! at once. With `fresh`, a process leaves after the one request it is given.

use std::time::Duration;

use super::action::{Action, ExitReason, Footprint, RecycleCause};
use super::ids::{Place, Slot, Timestamp, WorkerId};
use super::roster::{Process, SlotRecord, Stage, Step};
use super::settings::MEASURE_INTERVAL;
use super::timers::Timer;
use super::{Core, Turn};

/// What one process has been through, and how much of it it may.
#[derive(Debug, Clone, Default)]
pub(super) struct Wear {
    limits: Limits,
    /// Since when it holds nothing; while it does, since an earlier moment.
    free_since: Timestamp,
    /// When its memory was last asked for.
    asked: Option<Timestamp>,
    footprint: Option<Footprint>,
    spent: Option<(RecycleCause, Timestamp)>,
}

/// The limits of one process, drawn a little below those of the settings, so that
/// processes that began together do not end together.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    requests: Option<u64>,
    age: Option<Duration>,
    idle: Option<Duration>,
}

impl Process {
    /// Whether and why it waits for its replacement.
    pub(super) fn spent(&self) -> Option<RecycleCause> {
        self.wear.spent.map(|(cause, _since)| cause)
    }

    pub(super) fn footprint(&self) -> Option<Footprint> {
        self.wear.footprint
    }

    /// Whether it has been given its only request and has not let go of it: its
    /// slot is not empty.
    pub(super) fn is_at_its_only_request(&self) -> bool {
        matches!(
            self.stage,
            Stage::Leaving { reason: ExitReason::Recycle(RecycleCause::Fresh), step: Step::Finishing, .. }
        )
    }
}

impl SlotRecord {
    pub(super) fn is_at_its_only_request(&self) -> bool {
        self.processes.values().any(Process::is_at_its_only_request)
    }

    /// Since when one of its processes waits to be replaced because it is spent.
    pub(super) fn spent_since(&self) -> Option<Timestamp> {
        let since = |process: &Process| process.wear.spent.map(|(_cause, since)| since);
        self.staying().filter_map(|(_, process)| since(process)).min()
    }
}

/// The limits of a process, and what is counted against them.
impl<B: Clone> Core<B> {
    pub(super) fn draw_wear(&mut self) -> Wear {
        let settings = &self.settings;
        let requests = settings.max_requests.map(|most| self.generator.lessened(most));
        let age = settings.max_age.map(|most| self.generator.shortened(most));
        let idle = settings.idle_timeout.map(|most| self.generator.shortened(most));
        Wear { limits: Limits { requests, age, idle }, ..Wear::default() }
    }

    /// It is ready: its age and its idleness count.
    pub(super) fn wear_begins(&mut self, place: Place, turn: &Turn<'_, B>) {
        let Some(started) = self.roster.process(place).map(|process| process.started) else { return };
        let Some(wear) = self.roster.wear_mut(place) else { return };
        wear.free_since = turn.now;
        if let Some(age) = wear.limits.age {
            self.timers.arm(started.after(age), Timer::Age(place));
        }
        if let Some(idle) = wear.limits.idle {
            self.timers.arm(turn.now.after(idle), Timer::Idle(place));
        }
    }

    /// Whether the worker's process may be handed more than it is at, and still not outlive
    /// its limit.
    pub(super) fn may_wear_more(&self, worker: WorkerId) -> bool {
        let Some(place) = self.crew.place_of(worker) else { return true };
        let held = self.crew.worker(worker).map_or(0, |worker| worker.held().len() as u64);
        self.roster.process(place).is_some_and(|process| {
            let rest = process.wear.limits.requests.is_none_or(|limit| process.served + held < limit);
            rest && process.spent().is_none()
        })
    }

    /// A worker has been given a request.
    pub(super) fn wear_by_job(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        if !self.settings.fresh && self.settings.max_memory_hard.is_none() {
            return;
        }
        let Some(place) = self.crew.place_of(worker) else { return };
        if self.settings.fresh {
            // The order follows the job, so it finishes first.
            self.retire(place, ExitReason::Recycle(RecycleCause::Fresh), turn);
        }
        if self.settings.max_memory_hard.is_some() && !self.timers.is_armed(Timer::Memory(place)) {
            self.timers.arm(turn.now.after(MEASURE_INTERVAL), Timer::Memory(place));
        }
    }

    /// One more request is done.
    pub(super) fn wear_by_reply(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let served = self.roster.count_served(place);
        let Some(wear) = self.roster.wear_mut(place) else { return };
        wear.free_since = turn.now;
        if wear.limits.requests.is_some_and(|limit| limit <= served) {
            self.spend(place, RecycleCause::MaxRequests, turn.now);
        }
        self.measure(place, turn);
    }

    /// It has let go of a request without a reply.
    pub(super) fn wear_by_loss(&mut self, worker: WorkerId, turn: &Turn<'_, B>) {
        if let Some(wear) = self.crew.place_of(worker).and_then(|place| self.roster.wear_mut(place)) {
            wear.free_since = turn.now;
        }
    }

    pub(super) fn age_deadline(&mut self, place: Place, turn: &Turn<'_, B>) {
        self.spend(place, RecycleCause::MaxAge, turn.now);
    }

    pub(super) fn idle_deadline(&mut self, place: Place, turn: &Turn<'_, B>) {
        let busy = self.is_busy(place);
        let Some(wear) = self.roster.wear_mut(place) else { return };
        let Some(limit) = wear.limits.idle else { return };
        // Looked at once in such a time, so that requests need not move the timer.
        let since = if busy { turn.now } else { wear.free_since };
        if since.after(limit) <= turn.now {
            self.spend(place, RecycleCause::IdleTimeout, turn.now);
        } else {
            self.timers.arm(since.after(limit), Timer::Idle(place));
        }
    }

    /// The operator wants another process in this slot.
    pub(super) fn recycle(&mut self, slot: Slot, turn: &Turn<'_, B>) {
        let serving: Vec<_> = self.serving_in(slot).collect();
        for place in serving {
            self.spend(place, RecycleCause::Operator, turn.now);
        }
    }

    /// The processes of the slot that can be replaced: one that still starts is another
    /// process already.
    pub fn serving_in(&self, slot: Slot) -> impl Iterator<Item = Place> {
        let staying = self.roster.slot(slot).into_iter().flat_map(SlotRecord::staying);
        let serving = staying.filter(|(_, process)| process.stage == Stage::Serving);
        serving.map(move |(incarnation, _)| Place { slot, incarnation })
    }

    /// The first cause to be spent stays the cause.
    fn spend(&mut self, place: Place, cause: RecycleCause, now: Timestamp) {
        if let Some(wear) = self.roster.wear_mut(place)
            && wear.spent.is_none()
        {
            wear.spent = Some((cause, now));
            self.roster.disturb();
        }
    }
}

/// Memory. Only who has just worked, or works, is measured: an idle pool costs nothing.
impl<B: Clone> Core<B> {
    /// Unless it was measured a moment ago.
    fn measure(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let Some(wear) = self.roster.wear_mut(place) else { return };
        if wear.asked.is_none_or(|asked| asked.after(MEASURE_INTERVAL) <= turn.now) {
            wear.asked = Some(turn.now);
            turn.act(Action::Measure { place });
        }
    }

    /// A request may take memory for as long as it runs.
    pub(super) fn memory_deadline(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        if self.is_busy(place) {
            self.measure(place, turn);
            self.timers.arm(turn.now.after(MEASURE_INTERVAL), Timer::Memory(place));
        }
    }

    pub(super) fn measured(&mut self, place: Place, footprint: Footprint, turn: &mut Turn<'_, B>) {
        let Some(wear) = self.roster.wear_mut(place) else { return };
        wear.footprint = Some(footprint);
        let exceeds = |limit: Option<u64>| limit.is_some_and(|limit| limit < footprint.private_bytes);
        if exceeds(self.settings.max_memory_hard) {
            self.overrun(place, turn);
        } else if exceeds(self.settings.max_memory) {
            self.spend(place, RecycleCause::MaxMemory, turn.now);
        }
    }

    fn overrun(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let stage = self.roster.process(place).map(|process| &process.stage);
        if !matches!(stage, Some(Stage::Leaving { step: Step::Killed, .. })) {
            self.kill(place, ExitReason::MemoryLimit, turn);
        }
    }
}

/// Why a process has ended: by itself, even if it was to leave when it is free.
pub(super) fn why_it_ended(process: &Process, ending: &ExitReason) -> ExitReason {
    let failed = match ending {
        ExitReason::Code(code) => *code != 0,
        ending => matches!(ending, ExitReason::Signal(_) | ExitReason::OutOfMemory),
    };
    match &process.stage {
        Stage::Leaving { step: Step::Finishing, .. } if failed => ending.clone(),
        Stage::Leaving { reason, .. } => reason.clone(),
        Stage::Booting | Stage::Adopted | Stage::Probing { .. } | Stage::Serving => ending.clone(),
    }
}
