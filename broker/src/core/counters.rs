//! What has happened, counted where it was decided.

use hornpipe_proto::Status;

use super::exit_kind::ExitKind;
use super::histograms::Times;

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
    /// Of these errors, how many were the first word on a request: it was never admitted.
    pub turned_away: u64,
    /// Requests that a worker let go of, to be tried by another.
    pub returned: u64,
    /// Attempts after a request's first.
    pub retried: u64,
    /// Requests handed to workers that were still at another.
    pub prefetched: u64,
    /// Of these, how many were taken back because their worker had not begun them.
    pub withdrawn: u64,
    pub stale_replies: u64,
    pub malformed_workers: u64,
    pub strangers: u64,
    pub ignored_clients: u64,
    /// Parts of replies, taken in time from whoever may send them.
    pub parts: u64,
    /// Probes sent to newcomers, which are nobody's requests.
    pub probed: u64,
    /// Processes asked of the parent.
    pub spawned: u64,
    /// Processes that have ended, or never began.
    pub exited: u64,
    /// The same by kind, in the order of `ExitKind::ALL`.
    exits: [u64; ExitKind::ALL.len()],
    pub reloads: Reloads,
    pub times: Times,
}

/// Reloads by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reloads {
    pub finished: u64,
    pub failed: u64,
    pub superseded: u64,
    pub abandoned: u64,
}

impl Reloads {
    fn add(&mut self, other: Self) {
        let Self { finished, failed, superseded, abandoned } = other;
        self.finished += finished;
        self.failed += failed;
        self.superseded += superseded;
        self.abandoned += abandoned;
    }
}

impl Counters {
    /// Counts those of another pool as well. Taken apart by name, so that none is forgotten.
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            received,
            answered,
            refused,
            dropped,
            turned_away,
            returned,
            retried,
            prefetched,
            withdrawn,
            stale_replies,
            malformed_workers,
            strangers,
            ignored_clients,
            parts,
            probed,
            spawned,
            exited,
            exits,
            reloads,
            times,
        } = other;
        for (mine, others) in self.refused.iter_mut().zip(refused) {
            *mine += others;
        }
        self.received += received;
        self.answered += answered;
        self.dropped += dropped;
        self.turned_away += turned_away;
        self.returned += returned;
        self.retried += retried;
        self.prefetched += prefetched;
        self.withdrawn += withdrawn;
        self.stale_replies += stale_replies;
        self.malformed_workers += malformed_workers;
        self.strangers += strangers;
        self.ignored_clients += ignored_clients;
        self.parts += parts;
        self.probed += probed;
        self.spawned += spawned;
        self.exited += exited;
        for (mine, others) in self.exits.iter_mut().zip(exits) {
            *mine += others;
        }
        self.reloads.add(*reloads);
        self.times.add(times);
    }

    pub(super) fn refuse(&mut self, status: Status) {
        if let Some((_status, count)) =
            Status::ALL.iter().zip(&mut self.refused).find(|(one, _)| **one == status)
        {
            *count += 1;
        }
    }

    /// An error in place of being admitted.
    pub(super) fn turn_away(&mut self, status: Status) {
        self.turned_away += 1;
        self.refuse(status);
    }

    pub(super) fn exit(&mut self, kind: ExitKind) {
        self.exited += 1;
        if let Some((_kind, count)) = ExitKind::ALL.iter().zip(&mut self.exits).find(|(one, _)| **one == kind)
        {
            *count += 1;
        }
    }

    /// Ends of processes by kind, also of kinds that never happened.
    pub fn exits(&self) -> impl Iterator<Item = (ExitKind, u64)> + '_ {
        ExitKind::ALL.iter().copied().zip(self.exits)
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
