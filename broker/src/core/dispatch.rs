//! Who gets the next request: an idle worker first, the one idle longest.

use super::action::{Action, Assignment};
use super::crew::Tongue;
use super::{Core, Turn};

impl<B: Clone> Core<B> {
    pub(super) fn dispatch(&mut self, turn: &mut Turn<'_, B>) {
        while self.dispatches() && self.requests.backlog_len() > 0 {
            let Some(id) = self.crew.least_loaded() else { return };
            let Some(worker) = self.crew.worker(id) else { return };
            let (detailed, ordinal) = (worker.tongue == Tongue::Native, worker.sent + 1);
            let token = self.generator.token();
            let Some(handed) = self.hand_over((id, token, ordinal), turn.now) else { return };
            let (request, attempt, left, body) = handed;
            self.crew.give(id, token, turn.now);
            turn.act(Action::Assign(Assignment {
                worker: id,
                token,
                request,
                attempt,
                left,
                detailed,
                body,
            }));
            self.wear_by_job(id, turn);
        }
    }
}
