//! What the service manager hears of each turn, and what the router is asked for it.

use std::time::Duration;

use crate::link::{Signal, ToRouter};
use crate::parent::clock;
use crate::parent::service_manager::{Condition, Pulse};

use super::Parent;

impl Parent<'_> {
    /// Once in each turn: what is new, and what is due.
    pub(super) fn tell_manager(&mut self, now: Duration) {
        self.manager.see_to_deadlines(now);
        self.manager.follow(self.condition(), now);
        let question = self.manager.question(now);
        // The next router is asked as soon as there is one.
        if let Some(number) = question.filter(|_number| self.router.is_some()) {
            self.tell(ToRouter::TakePulse { number });
            self.flush();
        }
    }

    fn condition(&self) -> Condition {
        if self.stop.has_begun || self.ending.is_some() {
            let by = self.ending.as_ref().map(|act| act.by);
            Condition::Stopping { by: by.or(self.stop.deadline) }
        } else if !self.is_ready {
            Condition::Starting
        } else if self.upgrade.is_replacing() || self.manager.is_reloading() {
            Condition::Reloading
        } else {
            Condition::Serving
        }
    }

    /// A signal has come. What the router makes of a HUP, its next answer tells: this one's,
    /// or that of the next router if it has been put off until then.
    pub(super) fn expect_reload(&mut self, signal: Signal) {
        if signal == Signal::Hup
            && let Some(number) = self.manager.reload_requested(clock::now())
        {
            self.tell(ToRouter::TakePulse { number });
        }
    }

    /// The router has said how it is.
    pub(super) fn take_pulse(&mut self, pulse: &Pulse) {
        self.manager.take(pulse, clock::now());
    }
}
