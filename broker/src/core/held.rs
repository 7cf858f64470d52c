//! One request as it is in a worker's hands.

use std::sync::Arc;

use super::flight::{Outcome, Plan};
use super::ids::{RequestId, Timestamp, WorkerId};
use super::loss::Loss;
use super::parts::Window;

/// What was decided on a request of which it is not known whether its worker has begun it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OnceBegun {
    /// Nothing.
    Runs,
    /// Nobody wants it any more.
    BreakOff,
    /// Its worker has said what means that it has let go of it.
    Lost(Loss),
}

/// A request in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) worker: WorkerId,
    /// `None` once nobody waits for the reply: it was answered in another way.
    pub(super) request: Option<RequestId>,
    pub(super) since: Timestamp,
    pub(super) attempt: u32,
    /// Which job of its connection this is, counted from 1; 0 if an earlier router gave it, over
    /// an earlier connection.
    pub(super) ordinal: u64,
    /// Its number on its connection, as it was sent: what has been withdrawn is told by it.
    pub(super) number: u64,
    /// Whether a plain worker has said `processing` for it.
    pub(super) begun: bool,
    /// Whether it was handed over before its worker was done with another, and is not known to
    /// have begun.
    pub(super) ahead: bool,
    /// What follows, should it turn out that its worker has begun it.
    pub(super) once_begun: OnceBegun,
    /// What its client has heard before the worker let go.
    pub(super) outcome: Option<Outcome>,
    /// The key under which no other may run until the worker lets go of this one.
    pub(super) exclusive: Option<Arc<str>>,
    /// The key whose work it is.
    pub(super) key: Option<Arc<str>>,
    /// Nobody has asked for the work of its key since an earlier router gave it. Only known
    /// once it is in nobody's hands any more.
    pub(super) unclaimed: bool,
    pub(super) plan: Option<Plan>,
    /// `None` if the reply must not come in parts.
    pub(super) window: Option<Window>,
}

impl Held {
    /// Whether an earlier router gave it.
    pub(super) fn is_inherited(&self) -> bool {
        self.ordinal == 0
    }
}
