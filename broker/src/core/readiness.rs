//! Whether a request sent at this moment would be served, and if not, why: for probes.

use super::{Core, Phase};

/// Why a request would not be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    /// No worker has been ready yet.
    Starting,
    /// Workers cannot start.
    Failing,
    /// Another router follows.
    HandingOver,
    /// Its operator has paused it.
    Paused,
    /// The broker is stopping.
    Draining,
    /// No worker serves.
    NoWorkers,
    /// As many requests wait as may.
    QueueFull { limit: usize },
    /// As many bytes are held as may be.
    BytesFull { limit: u64 },
}

impl std::fmt::Display for Unready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starting => f.write_str("starting: no worker has been ready yet"),
            Self::Failing => f.write_str("failing: workers cannot start"),
            Self::HandingOver => f.write_str("handing over: another router follows in a moment"),
            Self::Paused => f.write_str("paused: no request is handed out until it is resumed"),
            Self::Draining => f.write_str("draining: the broker is stopping"),
            Self::NoWorkers => f.write_str("no worker is ready"),
            Self::QueueFull { limit } => write!(f, "the queue is full: {limit} requests wait"),
            Self::BytesFull { limit } => write!(f, "the queue is full: {limit} bytes are held"),
        }
    }
}

impl<B: Clone> Core<B> {
    /// Why a request sent at this moment would not find a worker, now or soon.
    pub fn unready(&self) -> Option<Unready> {
        match self.phase {
            Phase::Starting => return Some(Unready::Starting),
            Phase::Failing => return Some(Unready::Failing),
            Phase::HandingOver | Phase::HandedOver => return Some(Unready::HandingOver),
            Phase::Draining { .. } | Phase::Ending | Phase::Over => return Some(Unready::Draining),
            Phase::Serving if self.pause().is_some() => return Some(Unready::Paused),
            Phase::Serving => (),
        }
        let at_work = || self.roster.slots().any(|(_slot, record)| record.is_at_its_only_request());
        if !self.crew.anybody_serves() && !at_work() {
            return Some(Unready::NoWorkers);
        }
        let limits = &self.settings;
        let idle = self.crew.least_loaded().is_some() && self.requests.backlog.len() == 0;
        if self.requests.backlog.len() >= limits.backlog_limit && !idle {
            return Some(Unready::QueueFull { limit: limits.backlog_limit });
        }
        let bytes_full = self.requests.held_bytes() >= limits.held_bytes_limit;
        bytes_full.then_some(Unready::BytesFull { limit: limits.held_bytes_limit })
    }
}
