//! One connection of a ROUTER: bytes to messages, and messages to bytes.

use std::io::IoSlice;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use hornpipe_proto::zmtp::{Connection, Limits, SocketType};
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};
use rustix::buffer::spare_capacity;
use rustix::net::RecvFlags;

use super::frame::Frame;
use crate::core::Timestamp;

/// Pieces for one vectored write.
const SLICES: usize = 16;

/// Who is at the other end, as far as the kernel knows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// This process, on this machine.
    Process(i32),
    /// Somebody at this address.
    Address(IpAddr),
    Unknown,
}

impl Origin {
    pub(super) fn pid(self) -> Option<i32> {
        match self {
            Self::Process(pid) => Some(pid),
            Self::Address(_) | Self::Unknown => None,
        }
    }

    pub(super) fn is_loopback(self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Process(_) | Self::Unknown => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: OwnedFd,
    pub(super) origin: Origin,
    /// The routing id that the peer has chosen for itself.
    pub(super) name: Option<Rc<[u8]>>,
    /// It is a REQ.
    pub(super) is_req: bool,
    pub(super) zmtp: Connection<Frame>,
    /// Messages since everything was written.
    pub(super) queued: usize,
    pub(super) outlet: Outlet,
    pub(super) inlet: Inlet,
    /// When it was last heard of, if it has said how long it may be silent.
    pub(super) heard: Option<Timestamp>,
}

/// Whether there is something to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inlet {
    /// The kernel tells when there is.
    Quiet,
    /// When it was last read there was as much as could be taken.
    More,
    /// Nothing will come any more.
    Ended,
}

/// Whether something can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlet {
    Free,
    /// The kernel has no room, and says when it has.
    Full,
    /// Never again. What there is to read is read.
    Broken,
}

impl Wire {
    pub(super) fn new(socket: OwnedFd, origin: Origin, limits: Limits) -> Self {
        Self {
            socket,
            origin,
            name: None,
            is_req: false,
            zmtp: Connection::with_frames(SocketType::Router, limits),
            queued: 0,
            outlet: Outlet::Free,
            inlet: Inlet::Quiet,
            heard: None,
        }
    }

    /// Reads once, with this buffer.
    pub(super) fn read(&mut self, lent: &mut Vec<u8>) {
        self.zmtp.lend(lent);
        let buffer = self.zmtp.buffer();
        let room = buffer.capacity() - buffer.len();
        match rustix::net::recv(&self.socket, spare_capacity(buffer), RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.inlet = Inlet::Ended,
            Ok((count, _)) => {
                self.inlet = if count == room { Inlet::More } else { Inlet::Quiet };
                if let Err(error) = self.zmtp.received() {
                    tracing::debug!(peer = ?self.origin, %error, "a connection is closed");
                    self.inlet = Inlet::Ended;
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => self.inlet = Inlet::Quiet,
            Err(_it_is_gone) => self.inlet = Inlet::Ended,
        }
        self.zmtp.give_back(lent);
    }

    /// Writes as much as the kernel takes.
    pub(super) fn write(&mut self) {
        while self.outlet != Outlet::Broken {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0;
            let pieces = self.zmtp.unsent().filter(|bytes| !bytes.is_empty());
            for (slice, bytes) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(bytes);
                used += 1;
            }
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let descriptor = self.socket.as_raw_fd();
            let written = match slices.get(..used).unwrap_or_default() {
                [] => {
                    self.outlet = Outlet::Free;
                    return self.queued = 0;
                }
                [only] => socket::send(descriptor, only, flags),
                several => socket::sendmsg::<()>(descriptor, several, &[], flags, None),
            };
            match written {
                Ok(count) => self.zmtp.sent(count),
                Err(Errno::EINTR) => (),
                Err(Errno::EAGAIN) => return self.outlet = Outlet::Full,
                Err(_nobody_reads) => self.outlet = Outlet::Broken,
            }
        }
    }
}
