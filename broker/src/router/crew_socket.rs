//! The crew's door: one connection to each worker of ours, spoken by this thread. libzmq's own thread has no part in it,
//! so a job is one write and a reply one read, with nobody to wake in between.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use hornpipe_proto::zmtp::{Connection, Event, Limits, SocketType, ZmtpError};
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, getsockopt, sockopt};
use rustix::event::{Timespec, epoll};
use rustix::net::{SocketFlags, accept_with};

use super::clock;
use super::frame::Frame;
use super::setup::RouterError;
use super::sockets::{
    Door, FRAME_LIMIT, HANDSHAKE, HIGH_WATER_MARK, Received, RoutingId, Sent, What, check_listener,
};
use crate::core::Timestamp;

/// Connections that one look tells of; the others are told of by the next.
const LOOK: usize = 64;

/// What is read from one worker before the others have their turn, in bytes.
const READ_LIMIT: usize = 256 * 1024;

/// Written at once when so many bytes are gathered for one worker, and else when there is nothing more to read.
const GATHERED: usize = 64 * 1024;

/// Pieces for one vectored write.
const SLICES: usize = 16;

/// Without descriptors nobody is accepted for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// The number that the listener has among the connections.
const LISTENER: u64 = 0;

/// A ROUTER on the listener that the parent has made for its workers.
#[derive(Debug)]
pub(super) struct CrewSocket {
    listener: OwnedFd,
    epoll: OwnedFd,
    limits: Limits,
    links: HashMap<u64, Link>,
    last_number: u64,
    /// Those with something to read, in turns.
    readable: VecDeque<u64>,
    /// Whether it was looked for them since the last time that there was nothing.
    has_looked: bool,
    /// Whose messages are taken.
    speaking: Option<u64>,
    /// Those with something to write that was not tried yet.
    unwritten: Vec<u64>,
    /// Who has not said what it is, and until when it may; the oldest first.
    newcomers: VecDeque<(Timestamp, u64)>,
    /// There was no descriptor for a connection: when it is tried again.
    accept_at: Option<Timestamp>,
    /// That was told, and nobody could be accepted since.
    has_complained: bool,
}

#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    /// The process that has connected, by the kernel's word.
    pid: i32,
    zmtp: Connection<Frame>,
    /// Messages since everything was written.
    queued: i32,
    /// The kernel has no room, and says when it has.
    is_full: bool,
    /// Nothing can be written any more. What there is to read is read.
    is_broken: bool,
    end: Option<End>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    /// With a message of more frames than anybody needs.
    Overlong,
}

impl CrewSocket {
    pub(super) fn open(listener: OwnedFd, body_limit: u64) -> Result<Self, RouterError> {
        let door = Door::Crew;
        check_listener(door, listener.as_fd())?;
        let failed = |error: rustix::io::Errno| RouterError::Socket {
            door,
            error: Errno::from_raw(error.raw_os_error()),
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let incoming = epoll::EventFlags::IN;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), incoming).map_err(failed)?;
        // A message above it costs its sender the connection; up to the half of it, an answer.
        let bytes = body_limit.saturating_mul(2);
        let limits =
            Limits { frame_bytes: bytes, message_bytes: bytes.saturating_mul(2), frames: FRAME_LIMIT };
        Ok(Self {
            listener,
            epoll,
            limits,
            links: HashMap::new(),
            last_number: LISTENER,
            readable: VecDeque::new(),
            has_looked: false,
            speaking: None,
            unwritten: Vec::new(),
            newcomers: VecDeque::new(),
            accept_at: None,
            has_complained: false,
        })
    }

    /// Readable when there is something to do.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Whether something was read and not taken yet, which the descriptor does not tell of.
    pub(super) fn is_stirred(&self) -> bool {
        self.speaking.is_some() || !self.readable.is_empty()
    }

    /// Takes the next message that is there, of one worker after the other: who sent it and, in `frames`, what.
    pub(super) fn receive(&mut self, frames: &mut Vec<Frame>) -> Option<Received> {
        frames.clear();
        loop {
            if let Some(received) = self.take_message(frames) {
                return Some(received);
            }
            if let Some(number) = self.readable.pop_front() {
                self.read(number);
            } else if std::mem::replace(&mut self.has_looked, true) {
                self.has_looked = false;
                return None;
            } else {
                self.look();
            }
        }
    }

    /// Takes a message in full, to be written with those that follow, or not at all.
    pub(super) fn send<'a>(
        &mut self,
        routing_id: &[u8],
        head: &[&[u8]],
        body: impl ExactSizeIterator<Item = &'a Frame>,
    ) -> Sent {
        let Some(number) = RoutingId::number_in(routing_id) else { return Sent::Gone };
        let Some(link) = self.links.get_mut(&number).filter(|link| !link.is_broken) else {
            return Sent::Gone;
        };
        if HIGH_WATER_MARK <= link.queued {
            return Sent::Full;
        }
        if !link.zmtp.send_clones(head, body) {
            return Sent::Gone;
        }
        link.queued += 1;
        if GATHERED <= link.zmtp.unsent_bytes() && !link.is_full {
            self.write(number);
        } else if link.queued == 1 {
            self.unwritten.push(number);
        }
        Sent::Yes
    }

    /// Writes what was sent, as far as the kernel has room.
    pub(super) fn flush(&mut self) {
        while let Some(number) = self.unwritten.pop() {
            self.write(number);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let handshake = self.newcomers.front().map(|(until, _number)| *until);
        handshake.into_iter().chain(self.accept_at).min()
    }

    /// Closes connections of which nothing was heard, and accepts again.
    pub(super) fn keep_time(&mut self, now: Timestamp) {
        while let Some((_until, number)) = self.newcomers.pop_front_if(|(until, _number)| *until <= now) {
            if self.links.get(&number).is_some_and(|link| !link.zmtp.is_open()) {
                self.links.remove(&number);
            }
        }
        if self.accept_at.take_if(|time| *time <= now).is_some() {
            self.watch_listener(epoll::EventFlags::IN);
        }
    }

    fn take_message(&mut self, frames: &mut Vec<Frame>) -> Option<Received> {
        let number = self.speaking?;
        let Some(link) = self.links.get_mut(&number) else {
            self.speaking = None;
            return None;
        };
        let routing_id = RoutingId::of_crew(number, link.pid);
        while let Some(event) = link.zmtp.next_event() {
            if let Event::Message(parts) = event {
                frames.extend(parts.into_iter().map(Frame::of_worker));
                return Some(Received { routing_id, what: What::Message });
            }
        }
        let end = link.end;
        if end == Some(End::Overlong) {
            link.end = Some(End::Closed);
            return Some(Received { routing_id, what: What::Overlong });
        }
        self.speaking = None;
        end?;
        self.links.remove(&number);
        Some(Received { routing_id, what: What::Farewell })
    }

    /// Finds out who has something to say, and who has room again.
    fn look(&mut self) {
        let mut events = [MaybeUninit::uninit(); LOOK];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((events, _rest)) = epoll::wait(&self.epoll, &mut events, Some(&at_once)) else { return };
        for event in events {
            let (number, flags) = (event.data.u64(), event.flags);
            if number == LISTENER {
                self.accept();
                continue;
            }
            if flags.contains(epoll::EventFlags::OUT) {
                self.write(number);
            }
            // The end of a connection is something to read, too.
            if flags.intersects(!epoll::EventFlags::OUT) {
                self.readable.push_back(number);
            }
        }
    }

    fn accept(&mut self) {
        loop {
            match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => {
                    self.has_complained = false;
                    self.welcome(socket);
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => (),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(error) => {
                    if !std::mem::replace(&mut self.has_complained, true) {
                        tracing::warn!(%error, "connections of workers cannot be accepted yet");
                    }
                    self.accept_at = Some(clock::now().after(PAUSE));
                    // It would be told of again and again.
                    return self.watch_listener(epoll::EventFlags::empty());
                }
            }
        }
    }

    fn welcome(&mut self, socket: OwnedFd) {
        let number = self.last_number + 1;
        let incoming = epoll::EventFlags::IN;
        if let Err(error) = epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(number), incoming) {
            tracing::warn!(%error, "a worker's connection cannot be watched, and is closed");
            return;
        }
        self.last_number = number;
        let pid = getsockopt(&socket, sockopt::PeerCredentials).map_or(0, |peer| peer.pid());
        let zmtp = Connection::with_frames(SocketType::Router, self.limits);
        let link = Link { socket, pid, zmtp, queued: 0, is_full: false, is_broken: false, end: None };
        self.links.insert(number, link);
        self.newcomers.push_back((clock::now().after(HANDSHAKE), number));
        self.write(number);
    }

    fn read(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let space = link.zmtp.space();
        let room = space.len().min(READ_LIMIT);
        let space = space.get_mut(..room).unwrap_or_default();
        self.speaking = Some(number);
        match socket::recv(link.socket.as_raw_fd(), space, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => link.end = Some(End::Closed),
            Ok(count) => {
                if count == room {
                    self.readable.push_back(number);
                }
                link.heard(count);
                // What belongs to the handshake, or an answer to a ping.
                if link.queued == 0 && link.zmtp.unsent_bytes() != 0 {
                    self.write(number);
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => (),
            Err(_it_has_ended) => link.end = Some(End::Closed),
        }
    }

    fn write(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        link.write();
        let is_full = link.zmtp.unsent_bytes() != 0 && !link.is_broken;
        if is_full == link.is_full {
            return;
        }
        link.is_full = is_full;
        let room = if is_full { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let (data, flags) = (epoll::EventData::new_u64(number), epoll::EventFlags::IN | room);
        if let Err(error) = epoll::modify(&self.epoll, &link.socket, data, flags) {
            tracing::warn!(%error, "a worker's connection cannot be watched, and is given up");
            link.is_broken = true;
        }
    }

    fn watch_listener(&self, flags: epoll::EventFlags) {
        let data = epoll::EventData::new_u64(LISTENER);
        if let Err(error) = epoll::modify(&self.epoll, &self.listener, data, flags) {
            tracing::error!(%error, "new workers cannot be watched for");
        }
    }
}

impl Link {
    fn heard(&mut self, count: usize) {
        let Err(error) = self.zmtp.received(count) else { return };
        tracing::debug!(pid = self.pid, %error, "a worker's connection is closed");
        let overlong = matches!(error, ZmtpError::TooManyFrames { .. });
        self.end = Some(if overlong { End::Overlong } else { End::Closed });
    }

    fn write(&mut self) {
        while !self.is_broken {
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
                [] => return self.queued = 0,
                [only] => socket::send(descriptor, only, flags),
                several => socket::sendmsg::<()>(descriptor, several, &[], flags, None),
            };
            match written {
                Ok(count) => self.zmtp.sent(count),
                Err(Errno::EINTR) => (),
                Err(Errno::EAGAIN) => return,
                Err(_nobody_reads) => self.is_broken = true,
            }
        }
    }
}
