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

/// A moment: the time since the machine started (CLOCK_MONOTONIC), so that
/// moments of one process mean the same in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub Duration);

impl Timestamp {
    /// The moment `delay` later; far enough in the future, it stays there.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }

    /// How long ago `earlier` was; zero if it is still to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long until `later`; zero if it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        later.since(self)
    }
}
