//! From one router to the next under the same workers: what was accepted is
//! finished, nobody is made to leave, and what comes too late is told to ask again.
//!
//! A stop that arrives meanwhile wins, because there is nobody to hand over to.

use hornpipe_proto::Status;

use super::action::{Action, Finish, Note};
use super::roster::{Process, Stage};
use super::settings::LAST_CALL;
use super::timers::Timer;
use super::{Core, Phase, Turn};

pub(super) const REPLACED: &str = "the router is being replaced, ask again";

impl<B: Clone> Core<B> {
    pub(super) fn hand_over_pool(&mut self, turn: &mut Turn<'_, B>) {
        if !matches!(self.phase, Phase::Starting | Phase::Serving | Phase::Failing) {
            return;
        }
        self.phase = Phase::HandingOver;
        let within = self.settings.drain;
        self.timers.arm(turn.now.after(within), Timer::HandOver);
        let (waiting, in_flight) = (self.requests.backlog_len(), self.requests.in_flight_len());
        turn.note(Note::HandOverStarted { waiting, in_flight, within });
    }

    /// It had parted while other pools of this router had not, and something else comes first.
    pub(super) fn call_back(&mut self) {
        if self.phase != Phase::HandedOver {
            return;
        }
        self.phase = Phase::HandingOver;
        let leaving = |process: &Process| match process.stage {
            Stage::Leaving { deadline, .. } => deadline,
            Stage::Booting | Stage::Adopted | Stage::Probing { .. } | Stage::Serving => None,
        };
        for (place, process) in self.roster.processes() {
            if let Some(deadline) = leaving(process) {
                self.timers.arm(deadline, Timer::Leaving(place));
            }
        }
    }

    /// Who is still not done has had the time that a drain gives.
    pub(super) fn handover_deadline(&mut self, turn: &mut Turn<'_, B>) {
        if self.phase == Phase::HandingOver {
            self.refuse_everything(Status::Unavailable, REPLACED, turn);
        }
    }

    /// Nobody waits for anything any more. Clients that have just been answered are about
    /// to ask again, and who asks before the end can be told that it is one.
    pub(super) fn assess_handover(&mut self, turn: &mut Turn<'_, B>) {
        let work = self.requests.work_len();
        if self.phase == Phase::HandingOver && work == 0 && !self.timers.is_armed(Timer::LastCall) {
            self.timers.arm(turn.now.after(LAST_CALL), Timer::LastCall);
        }
    }

    /// Parts.
    pub(super) fn last_call_is_over(&mut self, turn: &mut Turn<'_, B>) {
        if self.phase == Phase::HandingOver {
            self.phase = Phase::HandedOver;
            self.timers.clear();
            turn.act(Action::Remember(self.memory()));
            turn.act(Action::Finished(Finish::HandedOver));
        }
    }
}
