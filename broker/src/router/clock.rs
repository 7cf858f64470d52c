//! The broker's clock. Nothing else may ask what time it is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::core::Timestamp;

/// CLOCK_MONOTONIC: parent and router mean the same by it, and nobody sets it.
pub(super) fn now() -> Timestamp {
    Timestamp(read(ClockId::Monotonic))
}

/// The processor time that the calling thread has used.
pub(super) fn used_by_this_thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}
