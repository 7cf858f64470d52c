//! This crate's clock. Nothing else in it may ask what time it is.
#![expect(clippy::disallowed_methods, reason = "this file is the clock")]

use std::time::{Duration, Instant};

/// A time to wait is cut to this, so that no sum of times overflows.
const LONGEST: Duration = Duration::from_hours(365 * 24);

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The instant that lies `wait` ahead.
pub(crate) fn deadline(wait: Duration) -> Instant {
    now() + wait.min(LONGEST)
}

/// How long until `deadline`; zero if it has passed.
pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(now())
}

/// A wait as `zmq_poll` takes it, in milliseconds.
///
/// Rounded up: rounded down, the last millisecond would be a busy loop.
pub(crate) fn poll_timeout(wait: Duration) -> i64 {
    i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}
