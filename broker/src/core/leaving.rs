//! How a process is made to leave: asked, then TERM, then KILL, each after its
//! own grace. A busy one leaves after its request, unless it is expelled.

use std::time::Duration;

use super::action::{Action, ExitReason, RecycleCause};
use super::crew::{Tongue, Worker};
use super::ids::{Place, WorkerId};
use super::roster::{Process, Stage, Step};
use super::settings::{KILL_AGAIN, RECONNECT_GRACE, STOP_GRACE};
use super::timers::Timer;
use super::{Core, Phase, Turn};

impl<B: Clone> Core<B> {
    /// Lets the process finish what it holds, then go.
    pub(super) fn retire(&mut self, place: Place, reason: ExitReason, turn: &mut Turn<'_, B>) {
        // The next router decides who goes, when there is one. That a process may have one
        // request and no other is decided already.
        let is_handed_over = matches!(self.phase, Phase::HandingOver | Phase::HandedOver)
            && reason != ExitReason::Recycle(RecycleCause::Fresh);
        if is_handed_over || self.roster.is_leaving(place) || !self.roster.contains(place) {
            return;
        }
        // Nobody waits for the answer to a probe.
        let busy = self.is_busy(place) && !self.is_probing(place);
        self.start_leaving(place, reason);
        let worker = self.roster.process(place).and_then(|process| process.worker);
        let Some((id, worker)) = worker.and_then(|id| Some((id, self.crew.worker(id)?))) else {
            self.step(place, Step::Terminated, turn);
            return;
        };
        match (worker.tongue, busy) {
            // Orders follow jobs on the same connection: it will finish first.
            (Tongue::Native, true) => {
                turn.act(Action::Dismiss { worker: id });
                self.step(place, Step::Finishing, turn);
            }
            (Tongue::Native, false) => {
                turn.act(Action::Dismiss { worker: id });
                self.step(place, Step::Dismissed, turn);
            }
            (Tongue::Plain | Tongue::PlainReadyByReply, true) => self.step(place, Step::Finishing, turn),
            (Tongue::Plain | Tongue::PlainReadyByReply, false) => self.step(place, Step::Terminated, turn),
        }
    }

    /// Makes the process go now, whatever it holds.
    pub(super) fn expel(&mut self, place: Place, reason: ExitReason, turn: &mut Turn<'_, B>) {
        let Some(process) = self.roster.process(place) else { return };
        if let Stage::Leaving { step: Step::Terminated | Step::Killed, .. } = process.stage {
            return;
        }
        self.start_going(place, reason);
        self.step(place, Step::Terminated, turn);
    }

    /// The process has said that it ends.
    pub(super) fn process_announced_exit(
        &mut self,
        place: Place,
        reason: Option<String>,
        turn: &mut Turn<'_, B>,
    ) {
        let Some(process) = self.roster.process_mut(place) else { return };
        process.announced = true;
        // It says so too when it was asked to leave, and may then never do it.
        let asked = !matches!(process.stage, Stage::Leaving { step: Step::Finishing, .. });
        if process.is_leaving() && asked {
            return;
        }
        self.start_leaving(place, ExitReason::Announced(reason));
        self.step(place, Step::Dismissed, turn);
    }

    /// A worker has let go of a request: if it is to leave, this may be the moment.
    pub(super) fn leave_when_free(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        let Some(tongue) = self.crew.worker(worker).map(|record| record.tongue) else { return };
        let Some(place) = self.crew.place_of(worker) else { return };
        if self.is_finishing(place) && !self.is_busy(place) {
            let next = if tongue == Tongue::Native { Step::Dismissed } else { Step::Terminated };
            self.step(place, next, turn);
        }
    }

    /// The process has lost a connection, and lives.
    pub(super) fn process_disconnected(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let elsewhere = self.roster.process(place).is_some_and(|process| process.worker.is_some());
        if self.is_finishing(place) && elsewhere {
            // What it was to finish is lost, and on its other connection nobody told it to go.
            self.step(place, Step::Terminated, turn);
        } else if self.is_finishing(place) {
            self.finish_soon(place, turn);
        } else if self.roster.process(place).is_some_and(Process::is_cut_off) {
            self.timers.arm(turn.now.after(RECONNECT_GRACE), Timer::Reconnect(place));
        }
    }

    /// What it was to finish is lost. If it is dying, it is reaped sooner than it is told to.
    fn finish_soon(&mut self, place: Place, turn: &Turn<'_, B>) {
        let latest = turn.now.after(RECONNECT_GRACE);
        let Some(process) = self.roster.process_mut(place) else { return };
        if let Stage::Leaving { deadline, .. } = &mut process.stage
            && deadline.is_none()
        {
            *deadline = Some(latest);
            self.timers.arm(latest, Timer::Leaving(place));
        }
    }

    fn is_finishing(&self, place: Place) -> bool {
        let stage = self.roster.process(place).map(|process| &process.stage);
        matches!(stage, Some(Stage::Leaving { step: Step::Finishing, .. }))
    }

    /// Whether the process holds a request, on whichever connection.
    pub(super) fn is_busy(&self, place: Place) -> bool {
        let busy = |worker: &WorkerId| self.crew.worker(*worker).is_some_and(Worker::is_busy);
        self.crew.of(place).iter().any(busy)
    }

    pub(super) fn leaving_deadline(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let Some(process) = self.roster.process(place) else { return };
        let Stage::Leaving { step, deadline: Some(deadline), .. } = process.stage else { return };
        if deadline <= turn.now {
            match step {
                Step::Finishing | Step::Dismissed => self.step(place, Step::Terminated, turn),
                Step::Terminated | Step::Killed => self.step(place, Step::Killed, turn),
            }
        }
    }

    /// Withholds it from requests. The first reason to leave stays the reason.
    pub(super) fn start_leaving(&mut self, place: Place, reason: ExitReason) {
        let Some(process) = self.roster.process_mut(place) else { return };
        if !process.is_leaving() {
            process.stage = Stage::Leaving { reason, step: Step::Finishing, deadline: None };
        }
        if let Some(worker) = process.worker {
            self.crew.withhold(worker);
        }
    }

    /// The same for one that goes whatever it holds: if it was to finish first, that is
    /// no longer the reason.
    pub(super) fn start_going(&mut self, place: Place, why: ExitReason) {
        if let Some(process) = self.roster.process_mut(place)
            && let Stage::Leaving { reason, step: Step::Finishing, .. } = &mut process.stage
        {
            *reason = why.clone();
        }
        self.start_leaving(place, why);
    }

    /// Takes a step and arms the next one.
    pub(super) fn step(&mut self, place: Place, next: Step, turn: &mut Turn<'_, B>) {
        let grace = self.grace(next);
        let Some(process) = self.roster.process_mut(place) else { return };
        let Stage::Leaving { step, deadline, .. } = &mut process.stage else { return };
        *step = next;
        *deadline = grace.map(|grace| turn.now.after(grace));
        if let Some(deadline) = *deadline {
            self.timers.arm(deadline, Timer::Leaving(place));
        }
        match next {
            Step::Finishing | Step::Dismissed => (),
            Step::Terminated => turn.act(Action::Terminate { place }),
            Step::Killed => turn.act(Action::Kill { place }),
        }
    }

    fn grace(&self, step: Step) -> Option<Duration> {
        match step {
            Step::Finishing => None,
            Step::Dismissed | Step::Terminated if self.phase.is_ending() => {
                Some(self.settings.term_grace.min(STOP_GRACE))
            }
            Step::Dismissed | Step::Terminated => Some(self.settings.term_grace),
            Step::Killed => Some(KILL_AGAIN),
        }
    }
}
