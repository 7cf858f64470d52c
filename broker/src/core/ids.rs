//! Names for things, each its own type so that none can be mistaken for another.

use std::fmt;
use std::time::Duration;

macro_rules! number {
    ($(#[doc = $doc:literal])+ $name:ident($inner:ty)) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// One request, from its arrival to its one answer. The router numbers them.
    RequestId(u64)
}
number! {
    /// One service of this router: 0 is the default one. No number is used twice.
    ServiceId(u32)
}
number! {
    /// One client's connection.
    ClientId(u64)
}
number! {
    /// One worker's connection.
    WorkerId(u64)
}
number! {
    /// A worker's stable number.
    Slot(u32)
}
number! {
    /// How often a slot has been filled: 1 for its first process.
    Incarnation(u32)
}
number! {
    /// The pool's count of reloads: 0 before the first.
    Generation(u32)
}

impl ServiceId {
    /// The service of whoever names none.
    pub const DEFAULT: Self = Self(0);
}

impl WorkerId {
    /// No connection: who has a request may have yet to come back.
    pub const NOBODY: Self = Self(0);
}

impl ClientId {
    /// Nobody's connection: who asks by it is an operator.
    pub const OPERATOR: Self = Self(0);
}

/// Names one process: the slot it fills, and which filling it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub slot: Slot,
    pub incarnation: Incarnation,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.incarnation)
    }
}

/// A moment: the nanoseconds since the machine started (CLOCK_MONOTONIC), so that
/// moments of one process mean the same in another. There is room for six centuries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Later than all others.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The moment at which the machine had run for so long.
    #[must_use]
    pub const fn new(since_start: Duration) -> Self {
        Self(nanoseconds(since_start))
    }

    /// How long the machine had run then.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The moment `delay` later; far enough in the future, it stays there.
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(delay)))
    }

    /// How long ago `earlier` was; zero if it is still to come.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long until `later`; zero if it has passed.
    #[must_use]
    pub const fn until(self, later: Self) -> Duration {
        later.since(self)
    }
}

const fn nanoseconds(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_loses_nothing_and_stays_where_time_ends() {
        let moment = Timestamp::new(Duration::new(86_400 * 365 * 100, 999_999_999));
        assert_eq!(moment.since_start(), Duration::new(86_400 * 365 * 100, 999_999_999));
        let end = moment.after(Duration::MAX);
        assert_eq!((end, end.after(Duration::from_secs(1))), (Timestamp(u64::MAX), end));
        assert_eq!(moment.since(end), Duration::ZERO);
    }
}
