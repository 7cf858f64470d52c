//! The broker's clock. Nothing else may ask what time it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::core::Timestamp;

/// How late the router may come back from a wait before it counts as having been stopped.
const LATE: Duration = Duration::from_millis(250);

/// What libzmq's thread gets to hand over what came while nobody could read it.
const TO_CATCH_UP: Duration = Duration::from_millis(100);

/// The time that has been left out, in milliseconds.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// CLOCK_MONOTONIC, which parent and router mean the same by and nobody sets, without the
/// time in which this process could not run.
pub(super) fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    let left_out = Duration::from_millis(LEFT_OUT.load(Ordering::Relaxed));
    Timestamp(Duration::new(seconds, nanoseconds).saturating_sub(left_out))
}

/// Leaves out of all time what the router was stopped for, if a wait that began at `began`
/// and was to last `timeout` at most has just ended much later than that.
///
/// A router that somebody stopped has heard nothing meanwhile. Its deadlines would all be
/// due at once, before it reads a single reply, and healthy workers would be ended for
/// being late.
pub(super) fn leave_out_a_halt(began: Timestamp, timeout: Duration) {
    let waited = now().since(began);
    let late = waited.saturating_sub(timeout);
    if late > LATE {
        let left_out = waited.min(late + TO_CATCH_UP);
        LEFT_OUT.fetch_add(u64::try_from(left_out.as_millis()).unwrap_or_default(), Ordering::Relaxed);
    }
}
