//! The clock of verbs that wait for something themselves.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time that passes, from no particular beginning.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}
