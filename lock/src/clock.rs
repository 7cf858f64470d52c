//! This crate's clocks. Nothing else in it may ask what time it is.
//!
//! A lock is measured on the boot-time clock: unlike the wall clock it never jumps, and
//! unlike the monotonic one it goes on while the machine is suspended, as the servers do.
#![expect(clippy::disallowed_methods, reason = "this file is the clock")]

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// A moment on a clock that never jumps: time since an origin that is the same for all
/// moments of one machine's boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// So long after the origin.
    pub const fn from_origin(time: Duration) -> Self {
        Self(time)
    }

    /// How long after the origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// How long it is from `earlier` to this; zero if that is the later one.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }
}

/// Where a locker takes the time from. Tests of programs may bring their own.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time that locks are measured in. Must never go back.
    fn now(&self) -> Timestamp;

    /// Milliseconds since 1970, by the wall clock: tokens are never below it.
    fn unix_ms(&self) -> u64;

    /// Waits so long between two tries.
    fn pause(&self, time: Duration);
}

/// `CLOCK_BOOTTIME`, and the wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Timestamp {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Timestamp(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)))
    }

    fn unix_ms(&self) -> u64 {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    }

    fn pause(&self, time: Duration) {
        let end = self.now() + time;
        loop {
            let left = end.since(self.now());
            if left.is_zero() {
                return;
            }
            // A signal ends it early; then what is left is waited for.
            poll(&mut [], Timespec::try_from(left).ok().as_ref()).ok();
        }
    }
}
