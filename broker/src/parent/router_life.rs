//! The router as the parent sees it: one life after another.

use std::collections::VecDeque;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal as Number, kill, killpg};
use nix::unistd::Pid;

use crate::link::{Link, Signal, ToRouter};

/// So many deaths...
const DEATHS_LIMIT: usize = 5;
/// ...within this time, and no other router is started.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// A router that has lived for so long has served, and its end is no sign that the next cannot.
const YOUNG: Duration = Duration::from_millis(500);
/// The wait before the second start within the window; doubled with each.
const BACK_OFF: Duration = Duration::from_millis(50);
/// A router that leaves so many messages unread is stuck; its successor is told afresh.
const UNSENT_LIMIT: usize = 8192;
/// A router that has closed its link has this long to end.
const CLOSING_GRACE: Duration = Duration::from_secs(1);

/// One life.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) pid: Pid,
    pub(super) link: Link,
    pub(super) started_at: Duration,
    /// When it must have ended, once its end of the link is closed.
    pub(super) kill_at: Option<Duration>,
}

impl Router {
    /// Notes that its end of the link is closed.
    pub(super) fn hang_up(&mut self, now: Duration) {
        self.kill_at.get_or_insert(now.saturating_add(CLOSING_GRACE));
    }

    /// Kills it, and whatever it may have started.
    pub(super) fn kill(&self) {
        killpg(self.pid, Number::SIGKILL).ok();
        kill(self.pid, Number::SIGKILL).ok();
    }
}

/// Messages the router had no room for yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unsent(VecDeque<(ToRouter, Option<i32>)>);

/// What became of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// All are sent, or the router has no room at present.
    Fine,
    /// The router takes no more messages, now or later.
    Broken,
}

impl Unsent {
    /// Adds one. The worker `releases` may run as soon as it is sent. False if the router is stuck.
    pub(super) fn push(&mut self, message: ToRouter, releases: Option<i32>) -> bool {
        self.0.push_back((message, releases));
        self.0.len() <= UNSENT_LIMIT
    }

    /// The signals among them.
    pub(super) fn signals(&self) -> impl Iterator<Item = Signal> {
        self.0.iter().filter_map(|(message, _releases)| match message {
            ToRouter::Signal(signal) => Some(*signal),
            _ => None,
        })
    }

    /// Whether to poll for room.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends what there is room for.
    pub(super) fn flush(&mut self, link: &Link, release: &mut dyn FnMut(i32)) -> Flushed {
        while let Some((message, releases)) = self.0.front() {
            match link.send(message) {
                Ok(()) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => return Flushed::Fine,
                Err(_gone) => return Flushed::Broken,
            }
            if let Some(pid) = releases {
                release(*pid);
            }
            self.0.pop_front();
        }
        Flushed::Fine
    }

    /// Gives up a dead router's messages: its successor learns of the workers in another
    /// way, but a signal that nobody saw is still wanted.
    pub(super) fn give_up(self, release: &mut dyn FnMut(i32)) -> Self {
        for pid in self.0.iter().filter_map(|(_message, releases)| *releases) {
            release(pid);
        }
        let signals =
            self.0.into_iter().filter(|(message, _releases)| matches!(message, ToRouter::Signal(_)));
        Self(signals.take(UNSENT_LIMIT / 2).collect())
    }
}

/// The early deaths within the window.
#[derive(Debug, Default)]
pub(super) struct Deaths(VecDeque<Duration>);

/// What to do after a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start another one at this time.
    StartAt(Duration),
    /// It makes no sense.
    GiveUp {
        /// How many there were.
        deaths: usize,
    },
}

impl Deaths {
    /// Notes that of a router that has lived for so long.
    pub(super) fn record(&mut self, lived: Duration, now: Duration) -> Verdict {
        if YOUNG <= lived {
            return Verdict::StartAt(now);
        }
        self.0.retain(|death| now.saturating_sub(*death) < WINDOW);
        self.0.push_back(now);
        let deaths = self.0.len();
        if DEATHS_LIMIT <= deaths {
            return Verdict::GiveUp { deaths };
        }
        // None before the first, then one, two and four times.
        let wait = deaths.checked_sub(2).map_or(Duration::ZERO, |doublings| {
            (0..doublings).fold(BACK_OFF, |wait, _doubling| wait.saturating_mul(2))
        });
        Verdict::StartAt(now.saturating_add(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_death_is_made_good_at_once_and_the_fifth_never() {
        let mut deaths = Deaths::default();
        let mut die = |now| deaths.record(ms(1), ms(now));
        assert_eq!(die(1000), Verdict::StartAt(ms(1000)));
        assert_eq!(die(1001), Verdict::StartAt(ms(1051)));
        assert_eq!(die(1052), Verdict::StartAt(ms(1152)));
        assert_eq!(die(1153), Verdict::StartAt(ms(1353)));
        assert_eq!(die(1354), Verdict::GiveUp { deaths: 5 });
    }

    #[test]
    fn deaths_are_forgotten_after_the_window() {
        let mut deaths = Deaths::default();
        for number in 0..20 {
            let now = WINDOW.saturating_mul(number);
            assert_eq!(deaths.record(Duration::ZERO, now), Verdict::StartAt(now));
        }
    }

    #[test]
    fn who_is_killed_again_and_again_and_serves_in_between_is_started_again_and_again() {
        let mut deaths = Deaths::default();
        for number in 0..100 {
            let now = ms(1000).saturating_mul(number);
            assert_eq!(deaths.record(ms(900), now), Verdict::StartAt(now));
        }
        assert_eq!(deaths.record(ms(499), ms(100_000)), Verdict::StartAt(ms(100_000)));
        assert_eq!(deaths.record(ms(499), ms(100_500)), Verdict::StartAt(ms(100_550)));
    }

    #[test]
    fn a_dead_routers_messages_are_dropped_its_signals_are_not_and_its_workers_run() {
        use crate::link::{Place, Signal};
        let place = Place { slot: 1, incarnation: 1 };
        let mut unsent = Unsent::default();
        assert!(unsent.push(ToRouter::Started { place, pid: 42 }, Some(42)));
        assert!(unsent.push(ToRouter::Signal(Signal::Hup), None));
        let mut released = Vec::new();
        let kept = unsent.give_up(&mut |pid| released.push(pid));
        assert_eq!(released, [42]);
        assert_eq!(kept.0, [(ToRouter::Signal(Signal::Hup), None)]);
    }
}
