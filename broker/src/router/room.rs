//! Descriptors are finite: near the limit nobody new is accepted, until there is room.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Sockets;
use crate::core::Timestamp;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Kept free for workers, operators and our own needs, where there are many.
const RESERVE: u64 = 128;

/// Where there are few, this part of them.
const RESERVED_PART: u64 = 4;

#[derive(Debug)]
pub(super) struct Room {
    limit: u64,
    next: Timestamp,
    accepting: bool,
}

impl Room {
    /// Raises the limit as far as it may be raised.
    pub(super) fn new(now: Timestamp) -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        Self { limit: if raised { hard } else { soft }, next: now.after(INTERVAL), accepting: true }
    }

    pub(super) fn next_deadline(&self) -> Timestamp {
        self.next
    }

    pub(super) fn look(&mut self, sockets: &mut Sockets, now: Timestamp) {
        if now < self.next {
            return;
        }
        self.next = now.after(INTERVAL);
        // The lowest free number tells how many are in use, in one call.
        let lowest_free = sockets
            .any_descriptor()
            .as_fd()
            .try_clone_to_owned()
            .ok()
            .map(|copy| u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&copy)).unwrap_or(u64::MAX));
        let used = lowest_free.unwrap_or(self.limit);
        let high = self.limit - RESERVE.min(self.limit / RESERVED_PART);
        if self.accepting && used >= high {
            tracing::warn!(descriptors = used, limit = self.limit, "no room for new connections");
            sockets.frontend.unbind();
            sockets.backend.unbind();
            self.accepting = false;
        } else if !self.accepting && used < high - high / 8 {
            match sockets.frontend.bind().and_then(|()| sockets.backend.bind()) {
                Ok(()) => {
                    tracing::info!(descriptors = used, "room for new connections again");
                    self.accepting = true;
                }
                Err(error) => tracing::warn!(%error, "cannot accept again yet"),
            }
        }
    }
}
