//! Files in memory that outlive every router, and go to the next program too. What is in them,
//! only routers understand: the parent keeps them and reads no byte.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use tracing::warn;

/// Two, so that one can be written anew while the other counts.
#[derive(Debug)]
pub(super) struct Journal([OwnedFd; 2]);

impl Journal {
    /// Empty ones; none if the kernel has no room.
    pub(super) fn create() -> Option<Self> {
        let file = || memfd_create(c"hornpipe-journal", MFdFlags::MFD_CLOEXEC);
        match file().and_then(|one| Ok([one, file()?])) {
            Ok(files) => Some(Self(files)),
            Err(errno) => {
                warn!(%errno, "no files in memory");
                None
            }
        }
    }

    /// Those of the program before.
    pub(super) fn inherited(files: [OwnedFd; 2]) -> Self {
        Self(files)
    }

    /// For a router, in its own process.
    pub(super) fn duplicate(&self) -> Option<[OwnedFd; 2]> {
        let [one, other] = &self.0;
        Some([one.try_clone().ok()?, other.try_clone().ok()?])
    }

    /// Their numbers.
    pub(super) fn numbers(&self) -> [RawFd; 2] {
        let [one, other] = &self.0;
        [one.as_raw_fd(), other.as_raw_fd()]
    }
}
