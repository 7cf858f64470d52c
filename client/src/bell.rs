//! Wakes whoever sleeps over the sockets, from another thread.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};

/// A descriptor that is readable from when it was rung until it is hushed.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    pub(crate) fn ring(&self) {
        // It can only fail when it has been rung 2^64 times and nobody came.
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).ok();
    }

    pub(crate) fn hush(&self) {
        // Nothing to read means that it is hushed.
        rustix::io::read(&self.0, &mut [0; 8]).ok();
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
