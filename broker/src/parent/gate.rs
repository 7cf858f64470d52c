//! Where a new worker waits until it may run, and tells why it cannot.
//!
//! A socketpair that keeps message boundaries, closed on exec: the parent sends one
//! byte when the router has been told about the process, and the child sends one
//! packet if it could not become what it should be.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use crate::link::ExitStatus;

/// A reason is never longer.
const REPORT_LIMIT: usize = 4096;

/// The parent's end.
#[derive(Debug)]
pub(super) struct Gate(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub(super) struct Threshold(OwnedFd);

/// Both ends.
pub(super) fn pair() -> nix::Result<(Gate, Threshold)> {
    let (gate, threshold) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((Gate(gate), Threshold(threshold)))
}

impl Gate {
    /// Lets the child run. One byte into an empty socket never blocks; a child that is
    /// gone is noticed elsewhere.
    pub(super) fn open(&self) {
        send(self.0.as_raw_fd(), b"g", MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).ok();
    }

    /// The gate of a worker that a parent of before has started.
    pub(super) fn inherited(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// The number of the descriptor, to be handed down.
    pub(super) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Why the child could not become what it should be, once it has ended.
    pub(super) fn report(&self) -> Option<ExitStatus> {
        let mut packet = [0; REPORT_LIMIT];
        let size = loop {
            match recv(self.0.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
                Ok(size) => break size,
                // Said once, before what the child sent, if it ended without a look at the gate.
                Err(Errno::ECONNRESET | Errno::EINTR) => {}
                Err(_nothing) => return None,
            }
        };
        rmp_serde::from_slice(packet.get(..size)?).ok()
    }
}

impl Threshold {
    /// Waits to be let through. False if the parent has died instead.
    pub(super) fn wait(&self) -> bool {
        loop {
            let mut byte = [0];
            match recv(self.0.as_raw_fd(), &mut byte, MsgFlags::empty()) {
                Ok(size) => return 0 < size,
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Tells the parent why this process ends instead of running.
    pub(super) fn report(&self, failure: &ExitStatus) {
        if let Ok(packet) = rmp_serde::to_vec(failure) {
            send(self.0.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT).ok();
        }
    }

    /// The number of the descriptor, to be kept by it.
    pub(super) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Threshold {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_never_looked_at_its_gate_is_heard() {
        let (gate, threshold) = pair().unwrap();
        gate.open();
        let failure = ExitStatus::NotPrepared { why: "no such user".into() };
        threshold.report(&failure);
        drop(threshold);
        assert_eq!(gate.report(), Some(failure));
        assert_eq!(gate.report(), None);
    }

    #[test]
    fn a_child_that_ended_without_a_word_is_not_waited_for() {
        let (gate, threshold) = pair().unwrap();
        assert_eq!(gate.report(), None);
        gate.open();
        drop(threshold);
        assert_eq!(gate.report(), None);
    }
}
