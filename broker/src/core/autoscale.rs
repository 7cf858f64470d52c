//! The wish follows the load, between `min` and `max`: up while requests wait too
//! long, down when workers have had nothing to do for long. Two different measures,
//! so that the pool does not swing: a wait of milliseconds, an idleness of seconds.
//!
//! Spare workers, which are kept ahead of demand, are in `spares.rs`.

use std::fmt;
use std::time::Duration;

use super::ids::Timestamp;
use super::roster::Stage;
use super::timers::Timer;
use super::{Core, Phase, Turn};

/// Why the target has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it.
    Operator,
    /// The configuration was changed.
    Configuration,
    /// A request has waited so long, with others, and nobody was idle.
    QueueWait { wait: Duration, waiting: usize },
    /// So many workers were idle all this time.
    Idle { idle: u32, during: Duration },
    /// Fewer were idle than there should be spare ones.
    FewSpare { idle: u32, wanted: u32 },
    /// More were idle than there may be spare ones.
    ManySpare { idle: u32, allowed: u32 },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Configuration => f.write_str("configuration"),
            Self::QueueWait { wait, waiting } => {
                write!(f, "queue wait: {waiting} waiting, the oldest for {} ms", wait.as_millis())
            }
            Self::Idle { idle, during } => write!(f, "idle: {idle} for {} s", during.as_secs_f64()),
            Self::FewSpare { idle, wanted } => write!(f, "spare: {idle} idle, at least {wanted} wanted"),
            Self::ManySpare { idle, allowed } => write!(f, "spare: {idle} idle, at most {allowed} wanted"),
        }
    }
}

/// What autoscaling has in mind.
#[derive(Debug, Default)]
pub(super) struct Autoscale {
    /// How often in a row the pool has grown without the queue getting short.
    steps: u32,
    /// The next step up is not taken sooner.
    not_before: Timestamp,
    lull: Option<Lull>,
    up_armed: bool,
    down_armed: bool,
}

/// A time in which some workers had nothing to do.
#[derive(Debug, Clone, Copy)]
struct Lull {
    since: Timestamp,
    /// The fewest that were idle at any moment of it.
    idle: u32,
}

impl Autoscale {
    /// 1, 2, 4 and so on.
    fn step(&self) -> u32 {
        1_u32.checked_shl(self.steps).unwrap_or(u32::MAX)
    }

    /// The pool is looked at in this turn; if that was too early, it is armed again.
    pub(super) fn up_timer_fired(&mut self) {
        self.up_armed = false;
    }

    pub(super) fn down_timer_fired(&mut self) {
        self.down_armed = false;
    }

    /// Some of the idle go for another reason, and count for this one no more.
    pub(super) fn idle_leave(&mut self, count: u32) {
        if let Some(lull) = &mut self.lull {
            lull.idle = lull.idle.saturating_sub(count);
        }
        self.lull.take_if(|lull| lull.idle == 0);
    }

    /// The operator has spoken: what was observed before does not count any more.
    pub(super) fn start_afresh(&mut self, now: Timestamp, up_wait: Duration) {
        self.steps = 0;
        self.not_before = now.after(up_wait);
        self.lull = None;
    }
}

impl<B: Clone> Core<B> {
    /// Moves the wish by what the requests and the workers do.
    pub(super) fn follow_load(&mut self, turn: &mut Turn<'_, B>) {
        if self.settings.autoscale.is_none() && self.settings.spares.is_none() {
            return;
        }
        if self.phase != Phase::Serving || self.pause().is_some() {
            // A pool that starts, fails, stops or is paused is no measure of anything.
            self.stop_scaling_up();
            self.stop_scaling_down();
            self.forget_spare_check();
            return;
        }
        self.keep_spares(turn);
        self.scale_up(turn);
        self.scale_down(turn);
        self.let_spares_go(turn);
    }

    /// Whether more workers would help: those who fail, or code that is not yet
    /// known to work, only fail more often in a larger pool.
    pub(super) fn may_grow(&mut self) -> bool {
        self.pool.target < self.settings.max
            && !self.pool.is_reload_unproven()
            && self.roster.tally().ailing == 0
    }

    /// How many workers of our own have nothing to do.
    pub(super) fn idle_len(&self) -> u32 {
        // A newcomer on trial shares its slot with the worker that it replaces.
        let doubled = self.pool.newcomers.iter().filter(|newcomer| {
            let serves = self.roster.process(**newcomer).is_some_and(|new| new.stage == Stage::Serving);
            let record = self.roster.slot(newcomer.slot);
            serves && record.is_some_and(|record| record.staying().count() > 1)
        });
        let doubled = u32::try_from(doubled.count()).unwrap_or(u32::MAX);
        self.crew.local().idle.saturating_sub(doubled).saturating_sub(self.crew.idle_in_name())
    }

    /// The least that the load and the operator's limits allow at present.
    pub(super) fn floor(&self) -> u32 {
        let spare = self.settings.spares.map_or(0, |spares| self.crew.local().busy + spares.min);
        spare.clamp(self.settings.min, self.settings.max)
    }

    fn scale_up(&mut self, turn: &mut Turn<'_, B>) {
        let Some(rules) = self.settings.autoscale else { return };
        let oldest = self.requests.backlog.oldest().filter(|_| self.pool.target < self.settings.max);
        let Some(since) = oldest else { return self.stop_scaling_up() };
        let overdue = since.after(rules.up_wait);
        if turn.now < overdue {
            self.pool.autoscale.steps = 0;
        }
        let due = overdue.max(self.pool.autoscale.not_before);
        if turn.now < due {
            return self.arm_scale_up(due);
        }
        if !self.may_grow() {
            // What ends that may be no event, but what follows from one.
            return self.arm_scale_up(turn.now.after(rules.up_wait));
        }
        let waiting = self.requests.backlog.open_len();
        let coming = self.pool.target.saturating_sub(self.roster.tally().serving);
        let missing = u32::try_from(waiting).unwrap_or(u32::MAX).saturating_sub(coming);
        let step = self.pool.autoscale.step().min(missing).min(self.settings.max - self.pool.target);
        if step > 0 {
            self.pool.autoscale.steps += 1;
            self.pool.autoscale.not_before = turn.now.after(rules.up_wait);
            let cause = Cause::QueueWait { wait: turn.now.since(since), waiting };
            self.set_target(self.pool.target + step, cause, turn);
            if self.pool.target < self.settings.max {
                self.arm_scale_up(self.pool.autoscale.not_before);
            }
        }
    }

    fn scale_down(&mut self, turn: &mut Turn<'_, B>) {
        let Some(rules) = self.settings.autoscale else { return };
        let (idle, floor) = (self.idle_len(), self.floor());
        if self.pool.target <= floor {
            return self.stop_scaling_down();
        }
        if idle == 0 {
            // The timer stays as it is: under load this changes with every request.
            self.pool.autoscale.lull = None;
            return;
        }
        let lull = self.pool.autoscale.lull.get_or_insert(Lull { since: turn.now, idle });
        lull.idle = lull.idle.min(idle);
        let Lull { since, idle: least } = *lull;
        let due = since.after(rules.down_after);
        if turn.now < due {
            return self.arm_scale_down(due);
        }
        // The next lull begins with those that are left.
        let surplus = least.min(self.pool.target - floor);
        let left = idle - surplus;
        self.pool.autoscale.lull = (left > 0).then_some(Lull { since: turn.now, idle: left });
        let cause = Cause::Idle { idle: least, during: turn.now.since(since) };
        self.set_target(self.pool.target - surplus, cause, turn);
        if self.pool.target > floor && left > 0 {
            self.arm_scale_down(turn.now.after(rules.down_after));
        }
    }

    fn arm_scale_up(&mut self, due: Timestamp) {
        // The oldest request is another one after each reply: a timer that comes too
        // early costs less than one that is moved each time.
        if !std::mem::replace(&mut self.pool.autoscale.up_armed, true) {
            self.timers.arm(due, Timer::ScaleUp);
        }
    }

    fn arm_scale_down(&mut self, due: Timestamp) {
        if !std::mem::replace(&mut self.pool.autoscale.down_armed, true) {
            self.timers.arm(due, Timer::ScaleDown);
        }
    }

    pub(super) fn stop_scaling_up(&mut self) {
        self.pool.autoscale.steps = 0;
        if std::mem::take(&mut self.pool.autoscale.up_armed) {
            self.timers.disarm(Timer::ScaleUp);
        }
    }

    pub(super) fn stop_scaling_down(&mut self) {
        self.pool.autoscale.lull = None;
        if std::mem::take(&mut self.pool.autoscale.down_armed) {
            self.timers.disarm(Timer::ScaleDown);
        }
    }
}
