//! From serving to over: drain, finish, or now.

use hornpipe_proto::Status;

use super::action::{Action, ExitReason, Finish, Note};
use super::event::Stop;
use super::handover::REPLACED;
use super::ids::{Place, Timestamp};
use super::roster::{Stage, Step};
use super::settings::STOP_GRACE;
use super::timers::Timer;
use super::{Core, Turn};

/// Where the broker stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No worker has been ready yet; requests wait.
    Starting,
    Serving,
    /// Workers cannot start; requests are refused.
    Failing,
    /// Nothing new is accepted; what was accepted is finished, until the deadline if there is one.
    Draining {
        deadline: Option<Timestamp>,
    },
    /// Another router follows: what was accepted is finished, and nobody is made to leave.
    HandingOver,
    /// Everything is answered and the workers are the next router's.
    HandedOver,
    /// Workers are being made to leave.
    Ending,
    /// Nobody is left.
    Over,
}

impl Phase {
    /// The word for it in status and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Failing => "failing",
            Self::HandingOver | Self::HandedOver => "handing over",
            Self::Draining { .. } | Self::Ending | Self::Over => "draining",
        }
    }

    pub(super) const fn dispatches(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Serving | Self::Failing | Self::Draining { .. } | Self::HandingOver
        )
    }

    pub(super) const fn is_ending(self) -> bool {
        matches!(self, Self::Ending | Self::Over)
    }
}

const DRAINING: &str = "the broker is stopping";
const FAILING: &str = "workers cannot start at present";

impl<B: Clone> Core<B> {
    /// Why no new request is taken, if none is.
    pub(super) fn closed_because(&self) -> Option<(Status, &'static str)> {
        match self.phase {
            Phase::Starting | Phase::Serving => self.refusal_while_paused(),
            Phase::Failing => Some((Status::Unavailable, FAILING)),
            Phase::HandingOver | Phase::HandedOver => Some((Status::Unavailable, REPLACED)),
            Phase::Draining { .. } | Phase::Ending | Phase::Over => Some((Status::Draining, DRAINING)),
        }
    }

    /// Why a request that lost its worker is not tried again, if it is not.
    pub(super) fn closed_to_retries_because(&self) -> Option<(Status, &'static str)> {
        match self.phase {
            Phase::Starting | Phase::Serving | Phase::HandingOver | Phase::Draining { .. } => None,
            Phase::Failing => Some((Status::Unavailable, FAILING)),
            Phase::HandedOver => Some((Status::Unavailable, REPLACED)),
            Phase::Ending | Phase::Over => Some((Status::Draining, DRAINING)),
        }
    }

    pub(super) fn stop(&mut self, stop: Stop, turn: &mut Turn<'_, B>) {
        match (stop, self.phase) {
            (_, Phase::Ending | Phase::Over) => {
                if stop != Stop::Finish {
                    self.kill_everybody(turn);
                }
            }
            // After a handover the workers are the next router's, and so is the stop.
            (_, Phase::HandedOver) | (Stop::Finish, Phase::Draining { .. }) => (),
            (Stop::Drain, Phase::Draining { deadline: Some(_) }) | (Stop::Now, _) => self.stop_now(turn),
            (Stop::Drain, _) => {
                let deadline = turn.now.after(self.settings.drain);
                self.timers.arm(deadline, Timer::Drain);
                self.start_draining(Some(deadline), turn);
                turn.act(Action::Stopping { within: Some(self.settings.drain) });
                self.refuse_waiting(Status::Draining, DRAINING, turn);
            }
            (Stop::Finish, _) => {
                self.start_draining(None, turn);
                turn.act(Action::Stopping { within: None });
            }
        }
    }

    fn start_draining(&mut self, deadline: Option<Timestamp>, turn: &mut Turn<'_, B>) {
        self.phase = Phase::Draining { deadline };
        self.pause = None;
        self.abandon_reload(turn);
        self.timers.disarm(Timer::HandOver);
        self.timers.disarm(Timer::LastCall);
        let waiting_refused = if deadline.is_some() { self.requests.backlog_len() } else { 0 };
        turn.note(Note::DrainStarted { waiting_refused, in_flight: self.requests.in_flight_len() });
    }

    fn stop_now(&mut self, turn: &mut Turn<'_, B>) {
        self.phase = Phase::Ending;
        self.pause = None;
        self.abandon_reload(turn);
        self.timers.disarm(Timer::HandOver);
        self.timers.disarm(Timer::LastCall);
        turn.act(Action::Stopping { within: Some(std::time::Duration::ZERO) });
        self.refuse_everything(Status::Draining, DRAINING, turn);
        self.kill_everybody(turn);
    }

    fn kill_everybody(&mut self, turn: &mut Turn<'_, B>) {
        for place in self.everybody() {
            self.kill(place, ExitReason::Drain, turn);
        }
    }

    fn everybody(&self) -> Vec<Place> {
        self.roster.processes().map(|(place, _process)| place).collect()
    }

    /// Moves on when there is nothing left to wait for.
    pub(super) fn assess_stop(&mut self, turn: &mut Turn<'_, B>) {
        let work = self.requests.work_len();
        if matches!(self.phase, Phase::Draining { .. }) && work == 0 {
            self.phase = Phase::Ending;
            for place in self.everybody() {
                self.retire(place, ExitReason::Drain, turn);
                self.hasten(place, turn);
            }
        }
        if self.phase == Phase::Ending && self.roster.processes().next().is_none() {
            self.phase = Phase::Over;
            self.timers.clear();
            turn.act(Action::Finished(Finish::Stopped));
        }
    }

    /// One that finishes a request nobody waits for need not finish it, and one
    /// that was leaving already has no longer than the others.
    fn hasten(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let Some(process) = self.roster.process_mut(place) else { return };
        let Stage::Leaving { step, deadline, .. } = &mut process.stage else { return };
        let latest = turn.now.after(STOP_GRACE);
        match step {
            Step::Finishing => self.step(place, Step::Terminated, turn),
            Step::Dismissed | Step::Terminated if deadline.is_some_and(|deadline| deadline > latest) => {
                *deadline = Some(latest);
                self.timers.arm(latest, Timer::Leaving(place));
            }
            Step::Dismissed | Step::Terminated | Step::Killed => (),
        }
    }

    /// Nothing will ever be ready.
    pub(super) fn give_up(&mut self, finish: Finish, turn: &mut Turn<'_, B>) {
        self.phase = Phase::Over;
        self.abandon_reload(turn);
        self.refuse_everything(Status::Unavailable, FAILING, turn);
        self.kill_everybody(turn);
        turn.act(Action::Finished(finish));
    }
}
