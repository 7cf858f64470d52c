//! One service of several, as operators see it and speak of it.

use serde::{Deserialize, Serialize};

use super::{PoisonRequest, PoolReport, QueueReport, RequestReport, Scale};

/// What an operator wants of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceRequest {
    /// Is it ready to serve?
    Check,
    /// Change its target.
    Scale(Scale),
    /// Replace its workers, the old generation staying if the new one fails.
    Reload {
        /// How many slots are renewed at the same time; absent, as the broker was told.
        surge: Option<u32>,
        /// Answer when it has ended, not when it has begun.
        wait: bool,
    },
    /// About its requests in quarantine.
    Poison(PoisonRequest),
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// What it is asked for by.
    pub name: String,
    /// Whether it was configured; if not, workers from elsewhere have opened it.
    pub configured: bool,
    /// As the broker's, of this service alone.
    pub phase: String,
    /// Its pool.
    pub pool: PoolReport,
    /// Its waiting requests.
    pub queue: QueueReport,
    /// What has happened to its requests since this router started, or it was opened.
    pub requests: RequestReport,
}
