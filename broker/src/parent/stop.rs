//! How far the end of the pool has come, and when the parent's patience ends.

use std::time::Duration;

/// What the router has for its own end after the drain, and everybody after a second TERM.
const MARGIN: Duration = Duration::from_secs(5);

/// What is known about the end of the pool while it still works.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stop {
    /// It has begun: a router that dies is not replaced.
    pub(super) has_begun: bool,
    /// The router has done everything, and says how the pool ends.
    pub(super) finished: Option<u8>,
    /// When the parent ends everything.
    pub(super) deadline: Option<Duration>,
    /// Somebody asked for a second time, so nobody may ask for more time.
    is_urgent: bool,
    was_requested: bool,
}

impl Stop {
    /// A stop that lasts as long as it must.
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// A stop with `drain` for running requests; a second one means now.
    pub(super) fn request(&mut self, drain: Duration, now: Duration) {
        self.begin();
        self.is_urgent = self.was_requested;
        self.was_requested = true;
        self.hurry(if self.is_urgent { Duration::ZERO } else { drain }, now);
    }

    /// What the router gives running requests: it knows the configuration of today.
    pub(super) fn estimate(&mut self, within: Duration, now: Duration) {
        self.begin();
        if !self.is_urgent {
            self.deadline = Some(now.saturating_add(within).saturating_add(MARGIN));
        }
    }

    /// Everything is done but for the end of the router itself.
    pub(super) fn finish(&mut self, exit_code: u8, now: Duration) {
        self.begin();
        self.finished = Some(exit_code);
        self.hurry(Duration::ZERO, now);
    }

    fn hurry(&mut self, patience: Duration, now: Duration) {
        let deadline = now.saturating_add(patience).saturating_add(MARGIN);
        self.deadline = Some(self.deadline.map_or(deadline, |set| set.min(deadline)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_request_leaves_time_to_drain_and_the_second_does_not() {
        let mut stop = Stop::default();
        stop.request(at(25), at(100));
        assert_eq!(stop.deadline, Some(at(130)));
        stop.request(at(25), at(101));
        assert_eq!(stop.deadline, Some(at(106)));
        stop.request(at(25), at(102));
        assert_eq!(stop.deadline, Some(at(106)));
    }

    #[test]
    fn the_router_may_ask_for_more_time_until_somebody_is_in_a_hurry() {
        let mut stop = Stop::default();
        stop.request(at(25), at(100));
        stop.estimate(at(60), at(100));
        assert_eq!(stop.deadline, Some(at(165)));
        stop.request(at(25), at(101));
        stop.estimate(at(60), at(102));
        assert_eq!(stop.deadline, Some(at(106)));
    }

    #[test]
    fn without_a_request_there_is_no_deadline() {
        let mut stop = Stop::default();
        stop.begin();
        assert_eq!(stop.deadline, None);
        stop.request(at(25), at(100));
        assert_eq!(stop.deadline, Some(at(130)));
    }

    #[test]
    fn a_router_that_is_done_has_little_time_to_go() {
        let mut stop = Stop::default();
        stop.begin();
        stop.finish(3, at(100));
        assert_eq!((stop.finished, stop.deadline), (Some(3), Some(at(105))));
    }
}
