//! What `events` streams: one thing that has happened, for whoever watches.
//!
//! The names and keys are a promise, with a version of its own. A later version of this
//! schema may add kinds and keys; what is there keeps its meaning.

use serde::{Deserialize, Serialize};

use crate::Status;

/// The version of the schema, which `hello` tells. It changes when a key changes its meaning.
pub const EVENT_SCHEMA: u32 = 1;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReport {
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// Which router tells it: 1 is the first of its parent.
    pub router_life: u32,
    /// In which service, if it is not the default one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What.
    pub what: EventKind,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The first of every stream.
    Hello {
        /// [`EVENT_SCHEMA`].
        schema: u32,
        /// The broker's version.
        version: String,
        /// The parent's process id.
        pid: i32,
        /// The router's process id.
        router_pid: i32,
        /// As in `status`.
        phase: String,
    },
    /// A process runs, and is not ready yet.
    WorkerStarted {
        /// Its stable number.
        slot: u32,
        /// How often the slot has been filled.
        incarnation: u32,
        /// Which reload it belongs to.
        generation: u32,
        /// Its process id.
        pid: i32,
    },
    /// It serves.
    WorkerReady {
        /// Its stable number.
        slot: u32,
        /// How often the slot has been filled.
        incarnation: u32,
        /// Which reload it belongs to.
        generation: u32,
        /// Its process id.
        pid: Option<i32>,
    },
    /// It has ended, or never ran.
    WorkerExited {
        /// Its stable number.
        slot: u32,
        /// How often the slot has been filled.
        incarnation: u32,
        /// Which reload it belongs to.
        generation: u32,
        /// Its process id; absent if it never ran.
        pid: Option<i32>,
        /// Why, as `last_exit` of `status` has it.
        reason: String,
        /// Whether the broker wanted it.
        planned: bool,
        /// How long its slot waits until it is filled again.
        respawn_ms: u64,
    },
    /// It does not do what it should, and is made to end.
    WorkerStuck {
        /// Its stable number.
        slot: u32,
        /// How often the slot has been filled.
        incarnation: u32,
        /// What it did not do.
        why: String,
    },
    /// A worker that this broker did not start.
    ExternalJoined {
        /// The broker's number for its connection.
        worker: u64,
        /// What it calls itself.
        name: Option<String>,
    },
    /// It is gone.
    ExternalLeft {
        /// The broker's number for its connection.
        worker: u64,
    },
    /// A worker from elsewhere has brought a service that nobody has configured.
    ServiceOpened {
        /// What it is called.
        name: String,
    },
    /// The last worker of such a service has left.
    ServiceClosed {
        /// What it was called.
        name: String,
        /// Requests that waited for another, and were refused.
        refused: u64,
    },
    /// Another number of workers is wanted.
    TargetChanged {
        /// Before.
        from: u32,
        /// After.
        to: u32,
        /// `operator`, `queue wait: ...`, `idle: ...`, `spare: ...`.
        cause: String,
    },
    /// A reload begins.
    ReloadStarted {
        /// The generation that it brings.
        generation: u32,
    },
    /// A worker of a reload serves.
    ReloadStep {
        /// The generation that it brings.
        generation: u32,
        /// How many slots are of it.
        renewed: u32,
        /// How many there are to be.
        target: u32,
    },
    /// Every worker is of the new generation.
    ReloadFinished {
        /// Which.
        generation: u32,
    },
    /// A new worker failed, and the old ones stay.
    ReloadFailed {
        /// The generation that it was to bring.
        generation: u32,
        /// In which slot.
        slot: u32,
        /// Why.
        reason: String,
    },
    /// Another reload began before it had ended.
    ReloadSuperseded {
        /// The generation that it was to bring.
        generation: u32,
        /// That of the other one.
        by: u32,
    },
    /// The broker stopped before it had ended.
    ReloadAbandoned {
        /// The generation that it was to bring.
        generation: u32,
    },
    /// Some of the workers that are wanted cannot be had.
    Degraded {
        /// How many.
        unfilled: u32,
        /// Of how many.
        target: u32,
        /// How the last of them failed.
        reason: String,
    },
    /// All can be had again.
    Restored,
    /// No request is handed out from here on.
    Paused {
        /// Whether new requests are answered `unavailable`.
        refuses: bool,
        /// How many wait.
        waiting: u64,
    },
    /// They are again.
    Resumed {
        /// How many wait.
        waiting: u64,
        /// How long the pause lasted.
        after_ms: u64,
    },
    /// The phase of `status` is another one.
    Phase {
        /// Before.
        from: String,
        /// Since now.
        to: String,
    },
    /// A worker has had a request for too long.
    RequestTimedOut {
        /// The client's name for it, or the broker's.
        request: String,
        /// Which attempt it was.
        attempt: u32,
        /// How long the worker had it.
        after_ms: u64,
        /// Bytes of its body.
        size: u64,
        /// Of the worker; absent if it was an external one.
        slot: Option<u32>,
    },
    /// A request's worker has ended, and another one gets it.
    RequestRetried {
        /// The client's name for it, or the broker's.
        request: String,
        /// Which attempt has failed.
        attempt: u32,
    },
    /// Its attempts are used up.
    RequestLost {
        /// The client's name for it, or the broker's.
        request: String,
        /// How many it had.
        attempt: u32,
    },
    /// It has ended every worker that had it.
    RequestPoisoned {
        /// The client's name for it, or the broker's.
        request: String,
        /// How many attempts it had.
        attempt: u32,
        /// Its number in quarantine.
        number: u64,
    },
    /// Requests answered with an error since the last such event, once a second at most.
    Refused {
        /// How many, by status.
        refused: Vec<(Status, u64)>,
    },
    /// The reader was too slow: so many events are missing here.
    Dropped {
        /// How many.
        count: u64,
    },
    /// The last of the stream.
    End {
        /// `stopped`: the broker is ending. `replaced`: another router follows.
        why: String,
    },
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}
