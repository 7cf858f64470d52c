//! The quarantine, as operators see it: requests that ended every worker that tried them.

use serde::{Deserialize, Serialize};

use crate::{Status, bytes};

/// A body is handed out in pieces of at most so many bytes.
pub const BODY_PIECE: usize = 256 * 1024;

/// A reply of more bytes than this is not handed to an operator.
pub const REPLY_LIMIT: usize = 8 * 1024 * 1024;

/// What an operator wants of the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonRequest {
    /// What is there.
    List,
    /// One of it.
    Show {
        /// Its number.
        number: u64,
    },
    /// A piece of its body.
    Body {
        /// Its number.
        number: u64,
        /// How many bytes come before the piece.
        offset: u64,
    },
    /// Try it once more, and answer when that is over.
    Retry {
        /// Its number.
        number: u64,
    },
    /// Forget one.
    Drop {
        /// Its number.
        number: u64,
    },
    /// Forget all.
    DropAll,
}

/// What the broker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonResponse {
    /// To `list`.
    List(QuarantineReport),
    /// To `show`.
    Shown(PoisonReport),
    /// To `body`.
    Body {
        /// The piece.
        #[serde(with = "bytes")]
        bytes: Vec<u8>,
        /// Whether there are more after it.
        more: bool,
    },
    /// To `retry`.
    Retried(RetryReport),
    /// To `drop` and `drop_all`.
    Dropped {
        /// How many.
        count: u64,
    },
}

/// Everything in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineReport {
    /// Bytes of the bodies kept.
    pub bytes: u64,
    /// How many have gone to make room for later ones.
    pub evicted: u64,
    /// The oldest first.
    pub entries: Vec<PoisonReport>,
}

/// One request in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoisonReport {
    /// Its number in quarantine.
    pub number: u64,
    /// The name under which its workers knew it.
    pub name: String,
    /// Whose connection it came from.
    pub client: u64,
    /// Bytes of its body.
    pub size: u64,
    /// Frames of its body; absent if it was too large to be kept.
    pub frames: Option<u64>,
    /// Milliseconds since its last attempt ended.
    pub ago_ms: u64,
    /// Whether it is being tried once more.
    pub retrying: bool,
    /// Each attempt, in order.
    pub attempts: Vec<AttemptReport>,
    /// The service that was asked for. An older broker does not say.
    #[serde(default)]
    pub service: Option<String>,
}

/// An attempt, and how its worker ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// The slot of the worker that had it.
    pub slot: Option<u32>,
    /// How often that slot had been filled.
    pub incarnation: Option<u32>,
    /// The worker's process id.
    pub pid: Option<i32>,
    /// How it ended.
    pub ending: String,
}

/// How a request out of quarantine fared when it was tried once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryReport {
    /// `ok`, or what a client would have heard.
    pub status: Status,
    /// Why, if it is not `ok`.
    pub message: Option<String>,
    /// Bytes of the reply.
    pub size: u64,
    /// The reply, its frames joined; empty if it has more than [`REPLY_LIMIT`] bytes.
    #[serde(with = "bytes")]
    pub reply: Vec<u8>,
}
