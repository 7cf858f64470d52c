//! The parent's clock: the time since boot.
//!
//! CLOCK_MONOTONIC is one clock for all processes of a machine, so the times
//! the parent tells the router compare with those the router reads itself.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since boot. Zero only where the kernel has no such clock, which is nowhere.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}
