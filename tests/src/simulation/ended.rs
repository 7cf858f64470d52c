//! The law of the access log: the end of each request is told once, with all its time.

use hornpipe::core::{Ended, Outcome, Timestamp};

use super::books::{Due, State};
use super::model::Model;

impl Model {
    /// Told right before its last action, with all its time accounted for.
    pub(super) fn judge_end_of_request(&mut self, ended: &Ended, now: Timestamp) {
        let request = ended.request;
        let Some(asked) = self.requests.get(&request) else {
            law!(self, false, "the end of {request} is told after it");
            return;
        };
        let told = (ended.attempt, ended.size);
        law!(self, told == (asked.attempts, asked.size), "{request} ends with {told:?}, not {asked:?}");
        let (wait, run, all) =
            (ended.wait, ended.run, asked.arrived.map(|at| now.since(at)).unwrap_or_default());
        law!(self, wait + run == all, "{request} waited {wait:?} and ran {run:?} of {all:?}");
        let untouched = asked.attempts == 0 && !run.is_zero();
        law!(self, !untouched, "nobody had {request}, and it ran for {run:?}");
        let fits = match (&ended.outcome, &asked.state) {
            (Outcome::Answered, state) => matches!(state, State::Due(Due::Answer(_))),
            (Outcome::Dropped, state) => *state == State::Due(Due::Forget),
            (Outcome::Refused(status), State::Due(due)) => *due == Due::Refuse(*status),
            (Outcome::Refused(_), _) => true,
            (Outcome::Retry | Outcome::Lost(_), _) => false,
        };
        law!(self, fits, "{request} ends {:?} while {:?}", ended.outcome, asked.state);
        self.ends_told += 1;
    }
}
