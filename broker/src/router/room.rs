//! Descriptors are finite: near the limit nobody new is accepted, until there is room.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Sockets;
use crate::core::Timestamp;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// The same when more than half of what there is for connections is in use.
const SHORT_INTERVAL: Duration = Duration::from_millis(50);

/// Kept free for workers, operators and our own needs, where there are many.
const RESERVE: u64 = 128;

/// Where there are few, this part of them.
const RESERVED_PART: u64 = 4;

/// This part of the room is for workers from elsewhere.
const WORKERS_PART: usize = 4;

#[derive(Debug)]
pub(super) struct Room {
    limit: u64,
    next: Timestamp,
    /// Newcomers wait; those connected are served.
    is_full: bool,
}

impl Room {
    /// Raises the limit as far as it may be raised.
    pub(super) fn new(now: Timestamp) -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        Self { limit: if raised { hard } else { soft }, next: now, is_full: false }
    }

    pub(super) fn next_deadline(&self) -> Timestamp {
        self.next
    }

    /// Lets in as many as there is room for now.
    pub(super) fn look(&mut self, sockets: &mut Sockets, now: Timestamp) {
        let has_run_out = !self.is_full && (sockets.frontend.is_crowded() || sockets.backend.is_crowded());
        if now < self.next && !has_run_out {
            return;
        }
        // The lowest free number tells how many are in use, in one call.
        let lowest_free = sockets
            .any_descriptor()
            .as_fd()
            .try_clone_to_owned()
            .ok()
            .map(|copy| u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&copy)).unwrap_or(u64::MAX));
        let used = lowest_free.unwrap_or(self.limit);
        let high = self.limit - RESERVE.min(self.limit / RESERVED_PART);
        self.next = now.after(if high / 2 < used { SHORT_INTERVAL } else { INTERVAL });
        if !self.is_full && high <= used {
            tracing::warn!(descriptors = used, limit = self.limit, "no room for new connections");
            self.is_full = true;
        } else if self.is_full && used < high - high / 8 {
            tracing::info!(descriptors = used, "room for new connections again");
            self.is_full = false;
        }
        let room = if self.is_full { 0 } else { usize::try_from(high - used).unwrap_or(usize::MAX) };
        let workers = room / WORKERS_PART;
        sockets.backend.admit(workers);
        sockets.frontend.admit(room - workers);
    }
}
