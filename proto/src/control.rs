//! What operators and the broker say to each other, over a unix socket.
//!
//! Each message is its length, four bytes big-endian, and that many bytes of
//! MessagePack. One request, one response, as often as the operator likes.

mod event;
mod metrics;
mod poison;
mod replacement;
mod service;
mod slot;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{MapError, map};
pub use event::{EVENT_SCHEMA, EventKind, EventReport};
pub use metrics::{
    LastReload, Limits, MemorySum, MetricsReport, ReloadCounts, ServiceMetrics, StateCounts, Timing,
};
pub use poison::{
    AttemptReport, BODY_PIECE, PoisonReport, PoisonRequest, PoisonResponse, QuarantineReport, REPLY_LIMIT,
    RetryReport,
};
pub use replacement::{RecycleOutcome, RecycleReport, ReloadOutcome, ReloadReport};
pub use service::{ServiceReport, ServiceRequest};
pub use slot::{ExitReport, FlightReport, SlotReport};

/// A request of more bytes than this ends the connection.
pub const REQUEST_LIMIT: usize = 64 * 1024;

/// A response is never larger than this.
pub const RESPONSE_LIMIT: usize = 16 * 1024 * 1024;

const PREFIX_LEN: usize = 4;

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// The state of everything.
    Status,
    /// Is the broker ready to serve?
    Check,
    /// Change the pool's target.
    Scale(Scale),
    /// Replace every worker, the old generation staying if the new one fails.
    Reload {
        /// How many slots are renewed at the same time; absent, as the broker was told.
        surge: Option<u32>,
        /// Answer when it has ended, not when it has begun.
        wait: bool,
    },
    /// Stop: drain first, or at once.
    Stop {
        /// Without draining.
        now: bool,
    },
    /// Everything about one slot.
    Slot {
        /// Its number.
        slot: u32,
    },
    /// About requests in quarantine.
    Poison(PoisonRequest),
    /// Replace the broker's program by what is in its file now.
    Upgrade,
    /// Replace the process of one slot, the replacement first.
    Recycle {
        /// Which slot.
        slot: u32,
        /// Answer when the old process has ended, not when its replacement is asked for.
        wait: bool,
    },
    /// Hand out no request until `resume`.
    Pause {
        /// Answer new requests `unavailable` in place of keeping them.
        refuse: bool,
    },
    /// Hand out requests again.
    Resume,
    /// Everything that happens from here on, one response after another.
    Events,
    /// Everything that is counted. A broker of before closes the connection.
    Metrics,
    /// Something about one service alone.
    Service {
        /// Its name.
        name: String,
        /// What.
        request: ServiceRequest,
    },
}

/// How an operator names a pool size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// This many.
    To(u32),
    /// So many more, or fewer.
    By(i32),
}

/// What the broker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlResponse {
    /// To `status`.
    Status(Box<StatusReport>),
    /// To `check`.
    Check {
        /// Whether a request sent at this moment would be served.
        ready: bool,
        /// Why, in a few words.
        reason: String,
    },
    /// To `scale`: the target now.
    Scaled {
        /// Before.
        from: u32,
        /// After, inside the pool's limits.
        to: u32,
    },
    /// To `reload`: what has become of it so far.
    Reload(ReloadReport),
    /// To `stop`: it has begun.
    Stopping,
    /// To `slot`.
    Slot(Box<SlotReport>),
    /// To `poison`.
    Poison(PoisonResponse),
    /// To `metrics`.
    Metrics(Box<MetricsReport>),
    /// To `upgrade`: the program is accepted, and this router ends as soon as what it has
    /// accepted is finished. The next one answers at the same place.
    Upgrading,
    /// To `recycle`.
    Recycle(RecycleReport),
    /// To `pause`.
    Paused {
        /// How many requests wait.
        waiting: u64,
        /// How many run on.
        in_flight: u64,
    },
    /// To `resume`.
    Resumed {
        /// How many requests wait no longer for the operator.
        waiting: u64,
        /// How long the pause lasted, in milliseconds; absent if there was none.
        after_ms: Option<u64>,
    },
    /// To `events`: one after another, `hello` first.
    Event(EventReport),
    /// The request was not carried out.
    Refused {
        /// Why, in one sentence.
        message: String,
    },
}

/// The state of everything, as `status --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The program's version.
    pub version: String,
    /// Where clients connect.
    pub frontend: String,
    /// Where workers connect that this broker did not start.
    pub backend: String,
    /// The parent's process id.
    pub pid: i32,
    /// The router's process id.
    pub router_pid: i32,
    /// How often a router has been started, this one included.
    pub router_life: u32,
    /// Milliseconds since the parent started.
    pub uptime_ms: u64,
    /// `starting`, `serving`, `paused`, `failing`, `handing over`, `draining`.
    pub phase: String,
    /// The pools of all services together. The generation is the default service's.
    pub pool: PoolReport,
    /// Waiting requests of all services.
    pub queue: QueueReport,
    /// What has happened to requests since this router started, also to those of services
    /// that are gone.
    pub requests: RequestReport,
    /// Messages that led to nothing, since this router started.
    pub noise: NoiseReport,
    /// One entry for each local worker process, in the order of slots.
    pub workers: Vec<WorkerReport>,
    /// One entry for each worker that this broker did not start.
    pub external: Vec<ExternalReport>,
    /// One entry for each service, the default one first. An older broker tells of none.
    #[serde(default)]
    pub services: Vec<ServiceReport>,
    /// The brokers that a crew serves; a broker has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brokers: Vec<LinkReport>,
}

/// A broker that a crew serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// Its backend.
    pub broker: String,
    /// Whether somebody is at the other end.
    pub connected: bool,
    /// For how long it has been so, in milliseconds.
    pub for_ms: u64,
    /// How many of the crew's workers are announced there.
    pub workers: u32,
}

/// The pool's wish and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// How many workers there should be.
    pub target: u32,
    /// The least an operator may ask for.
    pub min: u32,
    /// The most an operator may ask for.
    pub max: u32,
    /// How many could take a request or have one.
    pub ready: u32,
    /// How many have one.
    pub processing: u32,
    /// The count of reloads.
    pub generation: u32,
    /// The reload that is under way, if one is.
    #[serde(default)]
    pub reload: Option<ReloadProgress>,
    /// Workers of reloads that were sent a probe, since this router started.
    #[serde(default)]
    pub probed: u64,
    /// Workers started since this router started.
    pub spawned: u64,
    /// Workers ended since this router started.
    pub exited: u64,
    /// Whether the target follows the load.
    #[serde(default)]
    pub autoscale: bool,
    /// How the target came to be what it is, if this router has changed it.
    #[serde(default)]
    pub last_change: Option<TargetReport>,
    /// One sentence, if some of the workers that are wanted cannot be had.
    #[serde(default)]
    pub degraded: Option<String>,
    /// Whether the operator has paused it.
    #[serde(default)]
    pub paused: Option<PausedReport>,
}

/// No request is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedReport {
    /// Whether new requests are answered `unavailable` in place of being kept.
    pub refuses: bool,
    /// For how long it has been so, in milliseconds.
    pub for_ms: u64,
}

/// The last change of the pool's target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Before.
    pub from: u32,
    /// After.
    pub to: u32,
    /// `operator`, `configuration`, `queue wait: ...`, `idle: ...`, `spare: ...`.
    pub cause: String,
    /// Milliseconds ago.
    pub ago_ms: u64,
}

/// How far a reload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadProgress {
    /// The generation that is replaced.
    pub from: u32,
    /// The generation that replaces it.
    pub to: u32,
    /// How many slots are of the new one.
    pub renewed: u32,
}

/// The backlog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Waiting requests.
    pub backlog_len: u64,
    /// Above it, `busy`.
    pub backlog_limit: u64,
    /// Bytes of bodies held, waiting or in flight.
    pub held_bytes: u64,
    /// Above it, `busy`.
    pub held_bytes_limit: u64,
    /// How long the oldest has waited, in milliseconds.
    pub oldest_ms: Option<u64>,
}

/// Requests by how they ended. `received` is the sum of all others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestReport {
    /// Requests read from clients.
    pub received: u64,
    /// Answered with a worker's reply.
    pub answered: u64,
    /// Answered with an error, by status.
    pub refused: Vec<(crate::Status, u64)>,
    /// Given up because the client left or gave it up.
    pub dropped: u64,
    /// Waiting now.
    pub waiting: u64,
    /// Held by a worker now.
    pub in_flight: u64,
    /// Not in the sum: attempts after the first.
    pub retried: u64,
    /// Not in the sum: parts of replies that workers sent before the end of it. An older broker does not say.
    #[serde(default)]
    pub parts: u64,
    /// Not in the sum: handed to workers that were still at another.
    #[serde(default)]
    pub prefetched: u64,
    /// Of these, how many were taken back because their worker had not begun them.
    #[serde(default)]
    pub withdrawn: u64,
}

/// Messages that were counted and led to nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoiseReport {
    /// Replies under a token nobody holds: late, doubled, forged.
    pub stale_replies: u64,
    /// Unreadable messages of workers.
    pub malformed_workers: u64,
    /// Messages of peers that may not be workers here.
    pub strangers: u64,
    /// Client messages without a body, or with too deep an envelope.
    pub ignored_clients: u64,
    /// Replies that a slow or gone client did not take.
    pub undelivered: u64,
    /// Log lines dropped because nobody read them in time.
    pub log_lines_dropped: u64,
    /// Announcements of a service that could not be opened.
    #[serde(default)]
    pub services_refused: u64,
}

/// One local worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its stable number.
    pub slot: u32,
    /// Its process id; absent while it is being started or between two processes.
    pub pid: Option<i32>,
    /// How often the slot has been filled.
    pub incarnation: u32,
    /// Which reload it belongs to.
    pub generation: u32,
    /// `starting`, `waiting`, `processing`, `exiting`, or `backoff` between two processes.
    pub state: String,
    /// Milliseconds since it was started.
    pub age_ms: u64,
    /// Requests it has answered.
    pub requests: u64,
    /// Memory of the process and those it has started that nobody shares; absent before it was measured.
    pub private_bytes: Option<u64>,
    /// Their share of memory that others have too; absent before it was measured.
    pub shared_bytes: Option<u64>,
    /// Milliseconds in the present request; absent until it has begun it, where workers tell that.
    pub processing_ms: Option<u64>,
    /// Requests that it was handed ahead of their time and has not begun.
    #[serde(default)]
    pub ahead: u32,
    /// How the slot's last process ended.
    pub last_exit: Option<LastExit>,
    /// The service it works for. An older broker does not say.
    #[serde(default)]
    pub service: Option<String>,
}

/// How a slot's last process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Why: `killed by SIGKILL`, `exit code 3`, `reload`, ...
    pub reason: String,
    /// Milliseconds ago.
    pub ago_ms: u64,
}

/// One worker that this broker did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalReport {
    /// What it calls itself, if it does.
    pub name: Option<String>,
    /// `starting`, `waiting`, `processing` or `exiting`.
    pub state: String,
    /// Milliseconds since it was first heard.
    pub age_ms: u64,
    /// Requests it has answered.
    pub requests: u64,
    /// The service it works for; absent until it has said so.
    #[serde(default)]
    pub service: Option<String>,
}

/// A message with its length in front.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let body = map::encode(message);
    let mut bytes = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// Takes the first message off `buffer`; `None` while it is incomplete.
///
/// # Errors
/// If it is larger than `limit` bytes or not what was expected. The connection
/// is then of no more use.
pub fn take<T: DeserializeOwned>(buffer: &mut Vec<u8>, limit: usize) -> Result<Option<T>, MapError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes(*prefix) as usize;
    if size > limit {
        return Err(MapError::TooLarge { size });
    }
    let Some(body) = buffer.get(PREFIX_LEN..PREFIX_LEN + size) else {
        return Ok(None);
    };
    let message = map::decode_unbounded(body)?;
    buffer.drain(..PREFIX_LEN + size);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_being_cut_anywhere() {
        let whole = [encode(&ControlRequest::Scale(Scale::By(-2))), encode(&ControlRequest::Status)].concat();
        let mut buffer = Vec::new();
        let mut read: Vec<ControlRequest> = Vec::new();
        for byte in whole {
            buffer.push(byte);
            while let Some(message) = take(&mut buffer, REQUEST_LIMIT).unwrap() {
                read.push(message);
            }
        }
        assert_eq!(read, [ControlRequest::Scale(Scale::By(-2)), ControlRequest::Status]);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_buffered() {
        let mut buffer = u32::MAX.to_be_bytes().to_vec();
        let read: Result<Option<ControlRequest>, _> = take(&mut buffer, REQUEST_LIMIT);
        assert_eq!(read, Err(MapError::TooLarge { size: u32::MAX as usize }));
    }
}
