//! The three ROUTERs: how libzmq's two are set up, and messages in and out of all.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{getsockopt, sockopt};

use super::control::ControlSocket;
use super::crew_socket::CrewSocket;
use super::ffi::{self, SharedFrame};
use super::frame::Frame;
use super::setup::RouterError;

/// A message of more frames is read to its end and refused.
pub(super) const FRAME_LIMIT: usize = 4096;

/// Messages that wait for a peer, or from one, before it is told to wait.
pub(super) const HIGH_WATER_MARK: i32 = 1000;

/// The same for answers to one client: they may be large, and the router keeps the rest.
const CLIENT_HIGH_WATER_MARK: i32 = 16;

/// What is sent at the end still leaves, if its reader takes it in this time.
pub(super) const LINGER_MS: i32 = 2000;

/// A connection that has not said what it is by then is closed.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);

/// Seconds of silence before TCP asks whether the other side is there, and between two such questions.
const CLIENT_KEEPALIVE: (i32, i32) = (60, 10);
pub(super) const WORKER_KEEPALIVE: (i32, i32) = (1, 1);

/// Without an answer for so long, a worker's link is broken, and its request is for another. A little less than the third
/// question, which is when the kernel looks.
pub(super) const WORKER_SILENCE_MS: i32 = 2900;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Clients.
    Frontend,
    /// Workers that the parent did not start.
    Backend,
    /// Workers that it did.
    Crew,
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::Crew => "crew",
        })
    }
}

/// All that the router listens to.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) frontend: RouterSocket,
    pub(super) backend: RouterSocket,
    pub(super) crew: CrewSocket,
    pub(super) control: ControlSocket,
}

impl Sockets {
    pub(super) fn any_descriptor(&self) -> &impl AsFd {
        self.control.descriptor()
    }

    /// The next message that came by this door.
    pub(super) fn receive(&mut self, door: Door, frames: &mut Vec<Frame>) -> Option<Received> {
        match door {
            Door::Frontend => self.frontend.receive(frames),
            Door::Backend => self.backend.receive(frames),
            Door::Crew => self.crew.receive(frames),
        }
    }

    /// Sends a message in full, or not at all.
    pub(super) fn send(&mut self, door: Door, routing_id: &[u8], head: &[&[u8]], body: &[Frame]) -> Sent {
        match door {
            Door::Frontend => self.frontend.send(routing_id, head, body.iter()),
            Door::Backend => self.backend.send(routing_id, head, body.iter()),
            Door::Crew => self.crew.send(routing_id, head, body.iter()),
        }
    }
}

/// A ROUTER socket of libzmq on a listener that the parent has made.
pub(super) struct RouterSocket {
    pub(super) door: Door,
    socket: zmq::Socket,
    /// Ours to bind again after an unbind; libzmq is given copies. A crew's agent has none, and
    /// nobody ever comes by this door.
    listener: Option<OwnedFd>,
    bound: Option<String>,
    /// What libzmq puts in a departed peer's place: nobody can guess it.
    farewell: [u8; 16],
    is_stirred: bool,
}

impl std::fmt::Debug for RouterSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterSocket")
            .field("door", &self.door)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

/// What became of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// Its pipe is full: try again later.
    Full,
    /// Nobody has this routing id.
    Gone,
}

impl RouterSocket {
    pub(super) fn open(
        context: &zmq::Context,
        door: Door,
        listener: Option<OwnedFd>,
        (farewell, body_limit): ([u8; 16], u64),
    ) -> Result<Self, RouterError> {
        if let Some(listener) = &listener {
            check_listener(door, listener.as_fd())?;
        }
        let failed = |error: zmq::Error| RouterError::Socket { door, error: Errno::from_raw(error.to_raw()) };
        let mut socket = context.socket(zmq::ROUTER).map_err(failed)?;
        socket.set_router_mandatory(true).map_err(failed)?;
        socket.set_router_handover(true).map_err(failed)?;
        socket.set_rcvhwm(HIGH_WATER_MARK).map_err(failed)?;
        let waiting = if door == Door::Frontend { CLIENT_HIGH_WATER_MARK } else { HIGH_WATER_MARK };
        socket.set_sndhwm(waiting).map_err(failed)?;
        socket.set_linger(LINGER_MS).map_err(failed)?;
        socket.set_handshake_ivl(i32::try_from(HANDSHAKE.as_millis()).unwrap_or(i32::MAX)).map_err(failed)?;
        // A frame above it costs its sender the connection; up to it, an answer.
        let frame_limit = i64::try_from(body_limit.saturating_mul(2)).unwrap_or(i64::MAX);
        socket.set_maxmsgsize(frame_limit).map_err(failed)?;
        socket.set_tcp_keepalive(1).map_err(failed)?;
        let (idle, interval) = if door == Door::Backend { WORKER_KEEPALIVE } else { CLIENT_KEEPALIVE };
        socket.set_tcp_keepalive_idle(idle).map_err(failed)?;
        socket.set_tcp_keepalive_intvl(interval).map_err(failed)?;
        socket.set_tcp_keepalive_cnt(3).map_err(failed)?;
        let raw = |error| RouterError::Socket { door, error };
        if door == Door::Backend {
            ffi::set_number(&mut socket, zmq_sys::ZMQ_TCP_MAXRT, WORKER_SILENCE_MS).map_err(raw)?;
        }
        ffi::set_bytes(&mut socket, zmq_sys::ZMQ_DISCONNECT_MSG, &farewell).map_err(raw)?;
        // An earlier router may have ended while it had no room.
        if let Some(listener) = &listener {
            ffi::open_gate(listener.as_fd()).map_err(raw)?;
        }
        let mut open = Self { door, socket, listener, bound: None, farewell, is_stirred: true };
        open.bind()?;
        Ok(open)
    }

    /// Lets nobody new in: who asks, waits. Those connected are served.
    pub(super) fn close_gate(&self) {
        if let Some(listener) = &self.listener
            && let Err(error) = ffi::close_gate(listener.as_fd())
        {
            tracing::warn!(door = ?self.door, %error, "cannot keep newcomers waiting");
        }
    }

    pub(super) fn open_gate(&self) -> Result<(), RouterError> {
        let door = self.door;
        let Some(listener) = &self.listener else { return Ok(()) };
        ffi::open_gate(listener.as_fd()).map_err(|error| RouterError::Socket { door, error })
    }

    /// Accepts connections.
    pub(super) fn bind(&mut self) -> Result<(), RouterError> {
        let Some(listener) = self.listener.as_ref().filter(|_listener| self.bound.is_none()) else {
            return Ok(());
        };
        self.is_stirred = true;
        let door = self.door;
        let failed = |error| RouterError::Socket { door, error };
        let copy = listener
            .try_clone()
            .map_err(|error| failed(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)))?;
        // Ignored for an inherited listener, but it must have this form.
        let endpoint: &CStr = c"tcp://127.0.0.1:1";
        ffi::bind_inherited(&mut self.socket, copy.as_fd(), endpoint).map_err(failed)?;
        // libzmq closes the copy when it unbinds.
        let _descriptor = std::os::fd::IntoRawFd::into_raw_fd(copy);
        self.bound = self.socket.get_last_endpoint().ok().and_then(Result::ok);
        Ok(())
    }

    /// Accepts none, and closes every connection that it has accepted: libzmq ends them
    /// with the listener that they came by. The listener itself stays open.
    pub(super) fn unbind(&mut self) {
        self.is_stirred = true;
        if let Some(endpoint) = self.bound.take()
            && let Err(error) = self.socket.unbind(&endpoint)
        {
            tracing::warn!(door = ?self.door, %error, "cannot stop accepting");
        }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        ffi::descriptor(&self.socket)
    }

    /// Whether there may be something to read that the descriptor does not tell of: see `Router::wait`.
    pub(super) fn is_stirred(&self) -> bool {
        self.is_stirred
    }

    /// Takes the next message off the socket: the routing id and what follows.
    pub(super) fn receive(&mut self, frames: &mut Vec<Frame>) -> Option<Received> {
        frames.clear();
        self.is_stirred = true;
        let Some(routing_id) = self.next_frame() else {
            self.is_stirred = false;
            return None;
        };
        let mut more = routing_id.has_more();
        let mut overlong = false;
        while more {
            let frame = self.next_frame()?;
            more = frame.has_more();
            if frames.len() < FRAME_LIMIT { frames.push(Frame::received(frame)) } else { overlong = true }
        }
        let routing_id = RoutingId::Frame(routing_id);
        if overlong {
            return Some(Received { routing_id, what: What::Overlong });
        }
        let what = match frames.as_slice() {
            [only] if only.as_ref() == self.farewell => What::Farewell,
            _ => What::Message,
        };
        Some(Received { routing_id, what })
    }

    fn next_frame(&mut self) -> Option<SharedFrame> {
        loop {
            match SharedFrame::receive(&mut self.socket) {
                Ok(frame) => return Some(frame),
                Err(Errno::EINTR) => (),
                Err(_nothing_there) => return None,
            }
        }
    }

    /// Sends a message in full, or not at all: only the routing id can be refused.
    pub(super) fn send<'a>(
        &mut self,
        routing_id: &[u8],
        head: &[&[u8]],
        body: impl ExactSizeIterator<Item = &'a Frame>,
    ) -> Sent {
        self.is_stirred = true;
        match self.socket.send(routing_id, zmq::SNDMORE | zmq::DONTWAIT) {
            Ok(()) => (),
            Err(zmq::Error::EAGAIN) => return Sent::Full,
            Err(_unreachable) => return Sent::Gone,
        }
        let mut left = head.len() + body.len();
        let mut flags = || {
            left -= 1;
            if left == 0 { 0 } else { zmq::SNDMORE }
        };
        for frame in head {
            if self.socket.send(*frame, flags() | zmq::DONTWAIT).is_err() {
                return Sent::Gone;
            }
        }
        for frame in body {
            if frame.send(&mut self.socket, flags()).is_err() {
                return Sent::Gone;
            }
        }
        Sent::Yes
    }
}

/// A message, or what stands in place of one.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) routing_id: RoutingId,
    pub(super) what: What,
}

/// A connection, as its socket names it.
#[derive(Debug)]
pub(super) enum RoutingId {
    /// One of libzmq's.
    Frame(SharedFrame),
    /// The crew's, in the same form: it begins with a zero.
    Crew { bytes: [u8; 8], pid: i32 },
}

impl RoutingId {
    /// Of the crew's connection with this number, which is below 2^56, from this process.
    pub(super) fn of_crew(number: u64, pid: i32) -> Self {
        Self::Crew { bytes: number.to_be_bytes(), pid }
    }

    /// The number of the crew's connection that has this id.
    pub(super) fn number_in(bytes: &[u8]) -> Option<u64> {
        bytes.try_into().ok().map(u64::from_be_bytes)
    }

    /// The process that has connected, where the kernel has told that.
    pub(super) fn pid(&self) -> Option<i32> {
        match self {
            Self::Frame(_) => None,
            Self::Crew { pid, .. } => Some(*pid),
        }
    }

    /// What libzmq knows of the connection: see `zmq_msg_gets`(3).
    pub(super) fn property(&self, name: &CStr) -> Option<String> {
        match self {
            Self::Frame(frame) => frame.property(name),
            Self::Crew { .. } => None,
        }
    }

    /// See [`SharedFrame::hold_back_replies`].
    pub(super) fn hold_back_replies(&self) {
        match self {
            Self::Frame(frame) => frame.hold_back_replies(),
            Self::Crew { .. } => (),
        }
    }
}

impl AsRef<[u8]> for RoutingId {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Frame(frame) => frame.as_ref(),
            Self::Crew { bytes, .. } => bytes,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Its frames are in the caller's buffer.
    Message,
    /// More frames than anybody needs; they are gone.
    Overlong,
    /// The peer has left.
    Farewell,
}

/// libzmq takes any number for a listener and aborts later, so it is asked first.
pub(super) fn check_listener(door: Door, listener: BorrowedFd<'_>) -> Result<(), RouterError> {
    let wrong = |why| RouterError::Listener { door, why };
    if !getsockopt(&listener, sockopt::AcceptConn).unwrap_or(false) {
        return Err(wrong("it does not listen"));
    }
    let domain = rustix::net::sockopt::socket_domain(listener);
    let unix = domain.is_ok_and(|domain| domain == rustix::net::AddressFamily::UNIX);
    if unix != (door == Door::Crew) {
        return Err(wrong("it is of the wrong kind"));
    }
    let flags = fcntl(listener, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
    if !flags.is_ok_and(|flags| flags.contains(OFlag::O_NONBLOCK)) {
        return Err(wrong("it is not non-blocking"));
    }
    Ok(())
}
