//! Whether workers that send heartbeats still live.
//!
//! A busy one is never given up: most programs of this kind have one thread and do not beat
//! while they work. A request's own time, and the end of its worker's connection, are what
//! ends that.

use super::action::{Action, ExitReason, Note};
use super::ids::WorkerId;
use super::timers::Timer;
use super::{Core, Turn};

/// So many heartbeats may be missing, as the protocols' authors recommend.
const LIVENESS: u32 = 3;

impl<B: Clone> Core<B> {
    /// From here on it must be heard now and then.
    pub(super) fn expect_beats(&mut self, worker: WorkerId, turn: &Turn<'_, B>) {
        let beat = self.crew.worker(worker).and_then(|worker| worker.beat);
        if let Some(beat) = beat
            && !self.timers.is_armed(Timer::Silence(worker))
        {
            self.timers.arm(turn.now.after(beat * LIVENESS), Timer::Silence(worker));
        }
    }

    pub(super) fn silence_deadline(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        let Some(record) = self.crew.worker(worker) else { return };
        let Some(limit) = record.beat.map(|beat| beat * LIVENESS) else { return };
        let due = record.heard.after(limit);
        if record.is_busy() || record.is_halted() {
            self.timers.arm(turn.now.after(limit), Timer::Silence(worker));
        } else if turn.now < due {
            self.timers.arm(due, Timer::Silence(worker));
        } else if let Some(place) = self.crew.place_of(worker) {
            turn.note(Note::WorkerStuck { place, why: "no heartbeat" });
            self.expel(place, ExitReason::Silent, turn);
        } else {
            turn.act(Action::Disown { worker });
            self.connection_over(worker, turn);
        }
    }
}
