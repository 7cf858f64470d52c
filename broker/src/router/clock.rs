//! The broker's clock. Nothing else may ask what time it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::core::Timestamp;

/// How much later than it should the router may look again before it counts as having
/// been stopped.
const LATE: Duration = Duration::from_millis(250);

/// What came while nobody could read it is read in this time.
const TO_CATCH_UP: Duration = Duration::from_millis(100);

/// The time that has been left out, in milliseconds.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// When the router last looked, in microseconds; 0 before the first time.
static LOOKED: AtomicU64 = AtomicU64::new(0);

/// CLOCK_MONOTONIC, which parent and router mean the same by and nobody sets, without the
/// time in which this process could not run.
///
/// A router that somebody stopped has heard nothing meanwhile. Its deadlines would all be
/// due at once, before it reads a single reply, and healthy workers would be ended for
/// being late. At work it looks every few microseconds, so a long time in which it did not
/// is one in which it was stopped, wherever that caught it.
pub(super) fn now() -> Timestamp {
    look(Duration::ZERO)
}

/// The same, right after a wait that was to last `timeout` at most.
pub(super) fn after_a_wait(timeout: Duration) -> Timestamp {
    look(timeout)
}

fn look(timeout: Duration) -> Timestamp {
    let time = read(ClockId::Monotonic);
    let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let before = LOOKED.swap(microseconds, Ordering::Relaxed);
    let passed = Duration::from_micros(microseconds.saturating_sub(before));
    let late = passed.saturating_sub(timeout);
    if before > 0 && late > LATE {
        let left_out = passed.min(late + TO_CATCH_UP);
        LEFT_OUT.fetch_add(u64::try_from(left_out.as_millis()).unwrap_or_default(), Ordering::Relaxed);
    }
    Timestamp::new(time.saturating_sub(Duration::from_millis(LEFT_OUT.load(Ordering::Relaxed))))
}

/// The time since 1970, for people and programs elsewhere. Nothing here is decided by it.
pub(super) fn wall() -> Duration {
    read(ClockId::Realtime)
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
