//! The worker's clock. Nothing else in this crate may ask what time it is.
#![expect(clippy::disallowed_methods, reason = "this file is the worker's clock")]

use std::time::{Duration, Instant};

/// The time.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time in this while; `None` if it is too far away to ever come.
pub(crate) fn after(duration: Duration) -> Option<Instant> {
    now().checked_add(duration)
}
