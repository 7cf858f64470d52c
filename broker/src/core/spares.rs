//! Spare workers: idle ones, kept ahead of demand. Too few are made up for at once;
//! too many are let go of at the next check, so that a burst finds those of the last.

use super::autoscale::Cause;
use super::ids::Timestamp;
use super::timers::Timer;
use super::{Core, Turn};

/// When the idle workers are counted next, if there are too many.
#[derive(Debug, Default)]
pub(super) struct SpareCheck {
    due: Option<Timestamp>,
}

impl<B: Clone> Core<B> {
    /// Every busy worker needs its place, and so does every spare one. One that starts
    /// counts as spare: it will be.
    pub(super) fn keep_spares(&mut self, turn: &mut Turn<'_, B>) {
        let Some(rules) = self.settings.spares else { return };
        let needed = (self.crew.local().busy + rules.min).min(self.settings.max);
        if self.pool.target < needed && self.may_grow() {
            let cause = Cause::FewSpare { idle: self.idle_len(), wanted: rules.min };
            self.set_target(needed, cause, turn);
        }
    }

    pub(super) fn let_spares_go(&mut self, turn: &mut Turn<'_, B>) {
        let Some(rules) = self.settings.spares else { return };
        let idle = self.idle_len();
        let dispensable = self.pool.target.saturating_sub(self.floor());
        let surplus = idle.saturating_sub(rules.max).min(dispensable);
        match self.pool.spare_check.due {
            None if surplus > 0 => {
                let due = turn.now.after(rules.check);
                self.pool.spare_check.due = Some(due);
                self.timers.arm(due, Timer::SpareCheck);
            }
            Some(due) if due <= turn.now => {
                self.forget_spare_check();
                if surplus > 0 {
                    let cause = Cause::ManySpare { idle, allowed: rules.max };
                    self.set_target(self.pool.target - surplus, cause, turn);
                    self.pool.autoscale.idle_leave(surplus);
                }
            }
            None | Some(_) => (),
        }
    }

    pub(super) fn forget_spare_check(&mut self) {
        if self.pool.spare_check.due.take().is_some() {
            self.timers.disarm(Timer::SpareCheck);
        }
    }
}
