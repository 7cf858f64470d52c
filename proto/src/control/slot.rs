//! One slot, as operators see it: its processes, how the last ones ended, and the last
//! requests they had.

use serde::{Deserialize, Serialize};

use super::WorkerReport;

/// One slot, with what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotReport {
    /// Its number.
    pub slot: u32,
    /// Its processes, as in `status`; none if the slot is closed.
    pub workers: Vec<WorkerReport>,
    /// Incarnations that an earlier router started: what it gave them is not known.
    pub adopted: Vec<u32>,
    /// How its last processes ended, the oldest first.
    pub exits: Vec<ExitReport>,
    /// The last requests its processes had, the oldest first.
    pub flights: Vec<FlightReport>,
}

/// How a process of the slot ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Which filling of the slot it was.
    pub incarnation: u32,
    /// Its process id.
    pub pid: Option<i32>,
    /// Why: as in `status`.
    pub reason: String,
    /// Milliseconds ago.
    pub ago_ms: u64,
}

/// One request in the hands of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightReport {
    /// Which filling of the slot had it.
    pub incarnation: u32,
    /// The name under which the worker knew it.
    pub name: String,
    /// Whose connection it came from.
    pub client: u64,
    /// Which attempt it was.
    pub attempt: u32,
    /// Bytes of its body.
    pub size: u64,
    /// Bytes of the reply.
    pub reply_size: Option<u64>,
    /// Microseconds in the queue, before this attempt.
    pub wait_us: u64,
    /// Microseconds with the worker.
    pub run_us: u64,
    /// `answered`, `retry`, `dropped`, `lost`, `running`, or the status of an error.
    pub outcome: String,
    /// How the worker ended, if the request was lost with it.
    pub ending: Option<String>,
    /// Bytes that the process had for itself before the request, if that was measured.
    pub memory_before: Option<u64>,
    /// And after it.
    pub memory_after: Option<u64>,
}
