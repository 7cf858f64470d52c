//! Everything that is counted, as raw numbers: for programs that watch.

use serde::{Deserialize, Serialize};

use super::{NoiseReport, PoolReport, QueueReport, RequestReport};

/// What `/metrics` is written from. Counts are since this router started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsReport {
    /// The program's version.
    pub version: String,
    /// The parent's process id.
    pub pid: i32,
    /// The router's process id.
    pub router_pid: i32,
    /// How often a router has been started, this one included.
    pub router_life: u32,
    /// Milliseconds since the parent started.
    pub uptime_ms: u64,
    /// As in the status.
    pub phase: String,
    /// Why a request sent at this moment would not be served, if it would not.
    pub unready: Option<String>,
    /// How the configuration file was read last, if there is one. An older broker does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_read: Option<LastReload>,
    /// Messages that led to nothing.
    pub noise: NoiseReport,
    /// Each service by itself.
    pub services: Vec<ServiceMetrics>,
}

/// One service, its pool and its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMetrics {
    /// Its name.
    pub name: String,
    /// The wish for workers, and its limits.
    pub pool: PoolReport,
    /// What waits, and how much may.
    pub queue: QueueReport,
    /// Requests by how they ended.
    pub requests: RequestReport,
    /// Of those refused, how many were never admitted: no time of theirs is counted.
    pub turned_away: u64,
    /// How often a worker let go of a request, to be tried by another.
    pub returned: u64,
    /// Own workers by state.
    pub workers: StateCounts,
    /// Workers that this broker did not start, by state.
    pub external: StateCounts,
    /// Microseconds that own workers have held a request, all together, up to now.
    pub busy_us: u64,
    /// The same of workers that this broker did not start.
    pub external_busy_us: u64,
    /// Ends of own workers by kind, also of kinds that never happened.
    pub exits: Vec<(String, u64)>,
    /// What own workers hold, as last measured.
    pub memory: MemorySum,
    /// Upper bounds of the buckets of all that is timed, in microseconds; the last has none.
    pub bounds_us: Vec<u64>,
    /// Requests that were admitted, from arrival to end.
    pub request_time: Timing,
    /// Waits in the queue, each until a worker had the request or it ended there.
    pub queue_wait: Timing,
    /// Attempts of workers, each until the worker let go.
    pub processing: Timing,
    /// Own workers, each from its start until it was ready.
    pub worker_start: Timing,
    /// Reloads of its workers.
    pub reloads: ReloadCounts,
    /// What is configured.
    pub limits: Limits,
}

/// Workers by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCounts {
    /// Not ready yet.
    pub starting: u32,
    /// Ready, with nothing to do.
    pub waiting: u32,
    /// With a request.
    pub processing: u32,
    /// Leaving.
    pub exiting: u32,
    /// Slots between two processes.
    pub backoff: u32,
}

/// Memory of several workers, with all that they have started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySum {
    /// How many of them have been measured.
    pub measured: u32,
    /// What nobody shares.
    pub private_bytes: u64,
    /// Their share of what others have too.
    pub shared_bytes: u64,
    /// What is resident, what they share counted for each.
    pub resident_bytes: u64,
}

/// Durations of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How many fell into each bucket and into none below it: one more than there are bounds.
    pub counts: Vec<u64>,
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

/// Reloads by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadCounts {
    /// Every worker is of the new generation.
    pub finished: u64,
    /// A new worker failed.
    pub failed: u64,
    /// Another one began before.
    pub superseded: u64,
    /// The broker stopped before.
    pub abandoned: u64,
    /// The last that finished or failed.
    pub last: Option<LastReload>,
}

/// The last reload that finished or failed, or the last reading of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// It did what it should.
    pub succeeded: bool,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// What is configured and not in the other reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many workers may try a request.
    pub attempts: u32,
    /// How long one attempt may take.
    pub timeout_ms: Option<u64>,
    /// How long a request may wait.
    pub queue_timeout_ms: Option<u64>,
    /// The largest body.
    pub body_bytes: u64,
    /// Private memory beyond which a worker is replaced.
    pub memory_bytes: Option<u64>,
    /// Private memory beyond which a worker is killed.
    pub memory_hard_bytes: Option<u64>,
}
