//! Waiting: the only clock of the tests, and the only place that waits between looks.
#![allow(clippy::disallowed_methods, reason = "this file is the clock of the tests")]

use std::time::{Duration, Instant};

/// How long any one thing may take before its test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks: short beside anything that is waited for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A moment by which something must have happened.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    began: Instant,
    within: Duration,
}

impl Deadline {
    /// So long from now.
    pub fn after(within: Duration) -> Self {
        Self { began: Instant::now(), within }
    }

    /// How long there is left.
    pub fn left(&self) -> Duration {
        self.within.saturating_sub(self.elapsed())
    }

    /// How long ago it came; nothing if it has not.
    pub fn overdue(&self) -> Duration {
        self.elapsed().saturating_sub(self.within)
    }

    /// How long it has been waited for.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether it has come.
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

/// Looks until there is something; panics with what it waited for if nothing comes in time.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(within);
    loop {
        // Asked first: the last look is one that began in time.
        let is_over = deadline.is_over();
        if let Some(found) = look() {
            return found;
        }
        assert!(!is_over, "waited {within:?} in vain until {what}");
        let_pass(BETWEEN_LOOKS);
    }
}

/// Looks until this is true; panics if that does not come within [`DEADLINE`].
pub fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    until(what, DEADLINE, || look().then_some(()));
}

/// Lets time pass, for what is measured over a time. Whoever waits for something to
/// happen waits for that, by [`until`].
pub fn let_pass(time: Duration) {
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap(),
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    // A signal ends the wait early, which nobody minds.
    rustix::event::poll(&mut [], Some(&timeout)).ok();
}
