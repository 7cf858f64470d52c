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

/// With so few left, libzmq tries in vain to accept, without a pause.
const EXHAUSTED: u64 = 4;

#[derive(Debug)]
pub(super) struct Room {
    limit: u64,
    next: Timestamp,
    entry: Entry,
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Open,
    /// Newcomers wait; those connected are served.
    Gated,
    /// Newcomers came so fast that nothing was left: no door is open at all.
    Unbound,
}

impl Room {
    /// Raises the limit as far as it may be raised.
    pub(super) fn new(now: Timestamp) -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        Self { limit: if raised { hard } else { soft }, next: now.after(INTERVAL), entry: Entry::Open }
    }

    pub(super) fn next_deadline(&self) -> Timestamp {
        self.next
    }

    /// `work` is how many requests wait or are with a worker.
    pub(super) fn look(&mut self, sockets: &mut Sockets, work: usize, now: Timestamp) {
        if now < self.next {
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
        let has_room = used < high - high / 8;
        match self.entry {
            Entry::Open if high <= used => {
                tracing::warn!(descriptors = used, limit = self.limit, "no room for new connections");
                sockets.frontend.close_gate();
                sockets.backend.close_gate();
                self.entry = Entry::Gated;
            }
            // Who waits for an answer would wait for ever.
            Entry::Gated if self.limit <= used.saturating_add(EXHAUSTED) && work == 0 => {
                tracing::warn!(limit = self.limit, "no descriptor is left: all connections are closed");
                sockets.frontend.unbind();
                sockets.backend.unbind();
                self.entry = Entry::Unbound;
            }
            Entry::Gated | Entry::Unbound if has_room => {
                let doors = [&mut sockets.frontend, &mut sockets.backend];
                match doors.into_iter().try_for_each(|door| door.open_gate().and_then(|()| door.bind())) {
                    Ok(()) => {
                        tracing::info!(descriptors = used, "room for new connections again");
                        self.entry = Entry::Open;
                    }
                    Err(error) => tracing::warn!(%error, "cannot accept again yet"),
                }
            }
            Entry::Open | Entry::Gated | Entry::Unbound => (),
        }
    }
}
