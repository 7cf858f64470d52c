//! The laws of what is told of a request: its end once, with all its time, and what it was
//! that took too long.

use hornpipe::core::{Ended, Home, Outcome, Place, RequestId, Timestamp};

use super::books::{Due, State};
use super::model::Model;

macro_rules! law {
    ($model:expr, $holds:expr, $($why:tt)+) => {
        assert!($holds, "seed {} step {}: {}", $model.seed, $model.step, format_args!($($why)+))
    };
}

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

    pub(super) fn judge_time_out(&self, request: RequestId, place: Option<Place>, told: (u32, u64)) {
        let asked = self.requests.get(&request);
        let known = asked.map(|asked| (asked.attempts, asked.size));
        law!(self, known == Some(told), "{request} timed out with {told:?}, not {known:?}");
        let holder = asked.and_then(|asked| match asked.state {
            State::Held { worker, .. } => self.desks.get(&worker).map(|desk| desk.home),
            State::Waiting | State::Due(_) => None,
        });
        let fits = holder.is_none_or(|home| match home {
            Home::Local(holder) => place == Some(holder),
            Home::External => place.is_none(),
        });
        law!(self, fits, "{request} timed out at {place:?}, which does not hold it");
    }
}
