//! A lock that is held: what its holder knows of it.

use std::time::Duration;

use crate::clock::Timestamp;

/// A lock that was granted. Plain data: dropping it releases nothing; see
/// [`Guard`](crate::Guard) for what does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub(crate) resource: String,
    pub(crate) value: String,
    pub(crate) token: u64,
    pub(crate) validity: Duration,
    pub(crate) until: Timestamp,
    pub(crate) ttl: Duration,
}

impl Held {
    /// What is locked.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// What the servers know this holder by: nobody else has the same.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The fencing token: greater than that of every earlier holder of this resource. Pass
    /// it to whatever you write to, and let that refuse smaller ones.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// How long it could be relied on when it was granted.
    pub fn validity(&self) -> Duration {
        self.validity
    }

    /// Until when it may be relied on, on the clock of its locker.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// The time to live that it was granted for.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
}

/// Whether a lock that is extended must still be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extend {
    /// A majority must still have it: nobody else can have had it meanwhile.
    Held,
    /// It is taken anew where it is free, under a new token.
    OrTake,
}
