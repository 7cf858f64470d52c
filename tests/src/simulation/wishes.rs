//! What operators wish, in the model's books: a size, an end, another router.

use std::time::Duration;

use hornpipe::core::{Finish, PauseMode, Phase, Stop, Timestamp};

use super::Core;
use super::books::{Desk, Parting, Stopped};
use super::model::Model;

/// The parent ends everything so long after the drain time.
pub(super) const STOP_SLACK: Duration = Duration::from_secs(5);

impl Model {
    pub(super) fn scale(&mut self, target: u32) {
        let target = target.clamp(self.settings.min, self.settings.max);
        if target < self.target {
            self.load.shrunk = Some(self.now);
        }
        self.load.changed = self.now;
        self.target = target;
    }

    pub(super) fn pause(&mut self, mode: PauseMode) {
        if self.may_be_paused() {
            self.paused = Some(mode);
        }
    }

    pub(super) fn resume(&mut self) {
        if self.may_be_paused() && self.paused.take().is_some() {
            // What waited, waited for the operator.
            self.load.start_afresh(self.now);
        }
    }

    pub(super) fn check_pause(&self) {
        let (seed, step) = (self.seed, self.step);
        let forgotten = self.stopped.is_none() && self.paused_in_memory != self.paused;
        assert!(!forgotten, "seed {seed} step {step}: {:?} is not remembered", self.paused);
        let parting = matches!(self.parting, Some(Parting::Until(_)));
        let stranded = parting && self.paused.is_some() && !self.line.is_empty();
        assert!(!stranded, "seed {seed} step {step}: {:?} wait for no router", self.line);
    }

    fn may_be_paused(&self) -> bool {
        matches!(self.phase_before, Phase::Starting | Phase::Serving | Phase::Failing)
    }

    pub(super) fn stop(&mut self, stop: Stop, now: Timestamp, core: &Core) {
        if self.parting != Some(Parting::Done) {
            self.parting = None;
            self.paused = None;
        }
        let ending = matches!(core.phase(), Phase::Ending | Phase::Over);
        let drain = now.after(self.settings.drain);
        let earlier = self.stopped;
        let over_by = |end: Timestamp| Some(end.after(STOP_SLACK));
        self.stopped = Some(match (stop, earlier) {
            (Stop::Drain, None | Some(Stopped { over_by: None, .. })) if !ending => {
                Stopped { over_by: over_by(drain), now: self.settings.drain.is_zero() }
            }
            (Stop::Drain | Stop::Now, _) => Stopped { over_by: over_by(now), now: true },
            (Stop::Finish, None) => Stopped { over_by: None, now: false },
            (Stop::Finish, Some(earlier)) => earlier,
        });
    }

    pub(super) fn part(&mut self, now: Timestamp) {
        if self.stopped.is_none() && self.parting.is_none() {
            self.parting = Some(Parting::Until(now.after(self.settings.drain)));
        }
    }

    pub(super) fn judge_finish(&mut self, finish: &Finish) {
        law!(self, !self.finished, "finished twice");
        if *finish == Finish::HandedOver {
            let began = matches!(self.parting, Some(Parting::Until(_)));
            law!(self, began, "handed over while {:?}, {:?}", self.parting, self.stopped);
            law!(self, self.requests.is_empty(), "handed over, and requests are open");
            self.parting = Some(Parting::Done);
            return;
        }
        law!(self, self.parting.is_none(), "finished for good while it hands over");
        self.finished = true;
        if *finish == Finish::Stopped {
            law!(self, self.stopped.is_some(), "finished, and nobody said stop");
            law!(self, self.posts.is_empty(), "finished, and {:?} live", self.posts.keys());
        } else {
            let serves = |desk: &Desk| desk.ready && !desk.elsewhere && !desk.barred;
            law!(self, !self.desks.values().any(serves), "given up, and a worker was ready");
        }
        law!(self, self.requests.is_empty(), "finished, and requests are open");
    }
}
