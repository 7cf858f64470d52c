//! What has happened, counted where it was decided.

use hornpipe_proto::Status;

/// Counts since this router started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests read from clients, readable or not.
    pub received: u64,
    /// Requests answered with a worker's reply.
    pub answered: u64,
    /// Requests answered with an error, in the order of `Status::ALL`.
    refused: [u64; Status::ALL.len()],
    /// Requests nobody waited for any more.
    pub dropped: u64,
    /// Attempts after a request's first.
    pub retried: u64,
    pub stale_replies: u64,
    pub malformed_workers: u64,
    pub strangers: u64,
    pub ignored_clients: u64,
    /// Probes sent to newcomers, which are nobody's requests.
    pub probed: u64,
    /// Processes asked of the parent.
    pub spawned: u64,
    /// Processes that have ended, or never began.
    pub exited: u64,
}

impl Counters {
    /// Counts those of another pool as well. Taken apart by name, so that none is forgotten.
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            received,
            answered,
            refused,
            dropped,
            retried,
            stale_replies,
            malformed_workers,
            strangers,
            ignored_clients,
            probed,
            spawned,
            exited,
        } = other;
        for (mine, others) in self.refused.iter_mut().zip(refused) {
            *mine += others;
        }
        self.received += received;
        self.answered += answered;
        self.dropped += dropped;
        self.retried += retried;
        self.stale_replies += stale_replies;
        self.malformed_workers += malformed_workers;
        self.strangers += strangers;
        self.ignored_clients += ignored_clients;
        self.probed += probed;
        self.spawned += spawned;
        self.exited += exited;
    }

    pub(super) fn refuse(&mut self, status: Status) {
        if let Some((_status, count)) =
            Status::ALL.iter().zip(&mut self.refused).find(|(one, _)| **one == status)
        {
            *count += 1;
        }
    }

    /// Errors by status, without those that never happened.
    pub fn refused(&self) -> impl Iterator<Item = (Status, u64)> + '_ {
        Status::ALL.iter().copied().zip(self.refused).filter(|(_status, count)| *count > 0)
    }

    /// All errors together.
    pub fn refused_total(&self) -> u64 {
        self.refused.iter().sum()
    }
}
