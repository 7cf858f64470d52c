//! The model's books and laws of a pool that follows the load: when the target may
//! change by itself, and when it must.

use std::collections::VecDeque;

use hornpipe::core::{Cause, Home, Phase, Settings, Slot, Timestamp, WorkerId};

use super::Core;
use super::books::Desk;
use super::model::Model;

/// What the model remembers of the load.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// How many of our own were idle after each step, as far back as anybody asks.
    idle: VecDeque<(Timestamp, u32)>,
    /// When the target changed last, by whomever.
    pub(super) changed: Timestamp,
    /// How much it grew at the last step up, and when.
    last_step: Option<(u32, Timestamp)>,
    /// A shrink of this step: whoever goes for it must be idle.
    pub(super) shrinks: bool,
    /// When the target last became less.
    pub(super) shrunk: Option<Timestamp>,
    spares_went: Option<Timestamp>,
    /// A reload was under way, or was asked for, when this step began.
    pub(super) reload_in_step: bool,
}

impl Load {
    /// What was observed before does not count.
    pub(super) fn start_afresh(&mut self, now: Timestamp) {
        self.changed = now;
        self.forget_steps();
    }

    /// What was observed under other rules does not count.
    pub(super) fn forget_steps(&mut self) {
        self.last_step = None;
    }
}

impl Model {
    pub(super) fn idle_locals(&self, core: &Core) -> u32 {
        let idle = |(worker, desk): &(&WorkerId, &Desk)| {
            let holds = |other: &&Desk| !other.held.is_empty() && other.home == desk.home;
            let free = desk.is_eligible() && desk.held.is_empty() && desk.home != Home::External;
            // What another connection of its process held when it was cut is over for it, unless
            // the process was to leave after that, of which nobody is told.
            free && self.desks.values().filter(holds).all(|other| other.cut && core.serves(**worker))
        };
        u32::try_from(self.desks.iter().filter(idle).count()).unwrap_or(u32::MAX)
    }

    /// Those that hold something, or that still have what an earlier router gave them: also
    /// a plain one that leaves after its request, which nobody has been told.
    fn busy_locals(&self) -> u32 {
        let busy = |desk: &&Desk| {
            let counts = desk.home != Home::External && desk.spoke && !desk.barred && !desk.exiting;
            let counts = counts && !desk.elsewhere && !desk.distrusted && !desk.halted;
            counts && (!desk.held.is_empty() || (!desk.ready && desk.sent == 0))
        };
        u32::try_from(self.desks.values().filter(busy).count()).unwrap_or(u32::MAX)
    }

    fn oldest_wait(&self) -> Option<Timestamp> {
        self.open().map(|asked| asked.waiting_since).min()
    }

    /// Slots in which a process serves that is not on its way out.
    fn serving_slots(&self) -> u32 {
        let serving = self.posts.iter().filter(|(_, post)| post.ready && !post.is_leaving());
        in_slots(serving.map(|(place, _)| place.slot))
    }

    /// Every slot has its one process, which serves, and has had it for long.
    fn is_steady(&self, now: Timestamp, core: &Core) -> bool {
        let quiet = self.early.last().is_none_or(|last| last.after(std::time::Duration::from_secs(15)) < now);
        quiet
            && core.reload_under_way().is_none()
            && !self.load.reload_in_step
            && self.posts.len() == self.target as usize
            && self.serving_slots() == self.target
    }

    pub(super) fn judge_target(
        &mut self,
        (from, to): (u32, u32),
        cause: &Cause,
        now: Timestamp,
        core: &Core,
    ) {
        self.load.changed = now;
        if to < from {
            self.load.shrunk = Some(now);
        }
        if *cause == Cause::Configuration {
            law!(self, to == self.target, "{} is configured, not {to}", self.target);
            return;
        }
        if *cause == Cause::Operator {
            self.load.last_step = None;
            law!(self, to == self.target, "the operator's target is {}, not {to}", self.target);
            return;
        }
        law!(self, self.paused.is_none(), "the target changes by itself while paused");
        law!(self, from == self.target && from != to, "from {from} to {to}, and it was {}", self.target);
        let (min, max) = (self.settings.min, self.settings.max);
        law!(self, min <= to && to <= max, "{to} is not between {min} and {max}");
        law!(self, core.phase() == Phase::Serving, "the target changes by itself while {:?}", core.phase());
        let (idle, busy) = (self.idle_locals(core), self.busy_locals());
        match *cause {
            Cause::Operator | Cause::Configuration => (),
            Cause::QueueWait { wait, waiting } => {
                self.look_who_serves(core);
                self.judge_step_up((from, to), (wait, waiting), now, core);
            }
            Cause::Idle { during, .. } => {
                let rules = self.settings.autoscale;
                law!(self, rules.is_some_and(|rules| rules.down_after <= during), "not idle for long");
                let since = Timestamp::new(now.since_start().saturating_sub(during));
                law!(
                    self,
                    from - to <= self.least_idle(since, idle),
                    "{} go, and were not all idle",
                    from - to
                );
                self.load.shrinks = true;
            }
            Cause::FewSpare { .. } => {
                let spare = self.settings.spares.map_or(0, |rules| rules.min);
                law!(self, from < to && to <= busy + spare, "{to} for {busy} busy and {spare} spare");
                law!(self, !self.backs_off(now), "spare workers for slots that fail");
            }
            Cause::ManySpare { .. } => {
                let rules = self.settings.spares;
                let (most, check) =
                    rules.map_or((0, std::time::Duration::MAX), |rules| (rules.max, rules.check));
                law!(self, to < from && most + (from - to) <= idle, "{from} to {to} with {idle} idle");
                let early = self.load.spares_went.is_some_and(|last| last.after(check) > now);
                law!(self, !early, "spare workers go sooner than at the next check");
                self.load.spares_went = Some(now);
                self.load.shrinks = true;
            }
        }
        if to < from {
            let spare = self.settings.spares.map_or(0, |rules| rules.min);
            law!(self, spare <= to || self.settings.max < spare, "not enough are left to be spare");
        }
        self.target = to;
    }

    fn judge_step_up(
        &mut self,
        (from, to): (u32, u32),
        (wait, waiting): (std::time::Duration, usize),
        now: Timestamp,
        core: &Core,
    ) {
        let limit = self.settings.autoscale.map(|rules| rules.up_wait);
        let waited = self.oldest_wait().map(|since| now.since(since));
        let unsure = self.turns_taken.unsure;
        law!(self, unsure || waited == Some(wait), "the oldest waits {waited:?}, not {wait:?}");
        let open = self.open().count();
        law!(self, unsure || waiting == open, "{open} wait, not {waiting}");
        law!(self, limit.is_some_and(|limit| limit <= wait), "{wait:?} is not long");
        law!(self, self.idle_locals(core) == 0, "somebody is idle");
        law!(self, !self.backs_off(now), "the pool grows while slots fail");
        let coming = to.saturating_sub(self.serving_slots()) as usize;
        law!(self, from < to && coming <= waiting, "{coming} are coming for {waiting}");
        let step = to - from;
        let (most, soon) = match (self.load.last_step, limit) {
            (Some((last, at)), Some(limit)) => (last.saturating_mul(2), at.after(limit) > now),
            _ => (1, false),
        };
        // A step may have been cut short, so the next may be more than its double.
        law!(self, step <= most.max(1) || self.load.last_step.is_some(), "{step} at once, not {most}");
        law!(self, !soon, "two steps within one wait");
        self.load.last_step = Some((step, now));
    }

    fn least_idle(&self, since: Timestamp, now_idle: u32) -> u32 {
        let before = self.load.idle.iter().rev().find(|(at, _)| *at <= since);
        let within = self.load.idle.iter().filter(|(at, _)| since < *at);
        within.chain(before).map(|(_, idle)| *idle).chain([now_idle]).min().unwrap_or(0)
    }

    /// Other rules are to hold: those that go for idleness begin with who is idle as they come.
    pub(super) fn note_idle_before(&mut self, settings: &Settings, core: &Core) {
        if self.settings.autoscale.is_none() || settings.autoscale.is_none() {
            self.load.idle.clear();
            self.load.idle.push_back((Timestamp::default(), self.idle_locals(core)));
        }
    }

    pub(super) fn check_load(&mut self, now: Timestamp, core: &Core) {
        self.load.shrinks = false;
        if self.reloading.is_some() && core.reload_under_way().is_none() {
            // Nobody says so before the process that brought it down has ended.
            self.load.changed = now;
        }
        if let Some(rules) = self.settings.autoscale {
            self.load.idle.push_back((now, self.idle_locals(core)));
            let horizon = rules.down_after * 3;
            while self.load.idle.get(1).is_some_and(|(at, _)| at.after(horizon) < now) {
                self.load.idle.pop_front();
            }
        } else if self.settings.spares.is_none() {
            return;
        }
        if self.paused.is_some()
            || core.phase() != Phase::Serving
            || !self.is_steady(now, core)
            || self.target >= self.settings.max
        {
            return;
        }
        if let (Some(rules), Some(since)) = (self.settings.autoscale, self.oldest_wait()) {
            let due = since.max(self.load.changed).after(rules.up_wait);
            law!(self, now < due, "a request waits since {since:?}, and the pool does not grow");
        }
        if let Some(rules) = self.settings.spares {
            let busy = self.busy_locals();
            law!(
                self,
                (busy + rules.min).min(self.settings.max) <= self.target,
                "{busy} are busy, and {} of {} are spare",
                self.target.saturating_sub(busy),
                rules.min
            );
        }
    }

    /// What the pool comes to when nobody asks for anything.
    pub(super) fn resting_target(&self) -> Option<u32> {
        let rules = self.settings.autoscale.is_some();
        let spare = self.settings.spares.map_or(0, |rules| rules.min);
        rules.then(|| spare.clamp(self.settings.min, self.settings.max))
    }
}

/// How many slots these are, which come in order.
pub(super) fn in_slots(slots: impl Iterator<Item = Slot>) -> u32 {
    let mut last = None;
    slots.map(|slot| u32::from(last.replace(slot) != Some(slot))).sum()
}
