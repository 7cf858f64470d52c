//! What a place for locks must be able to do. One try each, no waiting in between.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::doctor::Examined;
use crate::error::LockError;
use crate::server::Seen;

/// Somebody wants a lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) resource: &'a str,
    pub(crate) value: &'a str,
    pub(crate) ttl: Duration,
}

/// How long a lock may be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) validity: Duration,
    pub(crate) until: Timestamp,
}

/// A resource as one server has it, or why that is not known.
pub type Inspected = (String, Result<Seen, String>);

pub(crate) trait Backend: Send + Sync + fmt::Debug {
    /// Takes what is free, or what this value holds already, under a new token.
    fn take(&self, claim: Claim<'_>) -> Result<(Lease, u64), LockError>;

    /// Prolongs what is held by this value, and nothing else.
    fn extend(&self, claim: Claim<'_>) -> Result<Lease, LockError>;

    /// Gives it up, if it is held by this value.
    fn release(&self, resource: &str, value: &str) -> Result<(), LockError>;

    /// Takes it away from whoever has it.
    fn free(&self, resource: &str) -> Result<(), LockError>;

    /// How each server has it.
    fn look(&self, resource: &str) -> Vec<Inspected>;

    /// How long a majority has it: under this value, or under any one value.
    fn life(&self, resource: &str, value: Option<&str>) -> Result<Option<Duration>, LockError>;

    /// What each server says of itself. Empty where there are no servers.
    fn examine(&self) -> Vec<Examined>;

    /// What it calls itself.
    fn describe(&self) -> String;
}
