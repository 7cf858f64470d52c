//! The three doors of the router: what each is set to, and what comes and goes by them.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::sockopt;

use super::clock;
use super::control::ControlSocket;
use super::router_socket::RouterSocket;
use super::setup::RouterError;
use super::wire::Origin;
use crate::core::Timestamp;

/// A message of more frames is read to its end and refused.
pub(super) const FRAME_LIMIT: usize = 4096;

/// Messages that wait for a worker's connection before the next one cannot be delivered.
pub(super) const HIGH_WATER_MARK: usize = 1000;

/// What is sent at the end still leaves, if its reader takes it in this time.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Seconds of silence before TCP asks whether the other side is there, and between two such questions.
const CLIENT_KEEPALIVE: (i32, i32) = (60, 10);
pub(super) const WORKER_KEEPALIVE: (i32, i32) = (1, 1);

/// After so many without an answer the connection is broken.
pub(super) const KEEPALIVE_QUESTIONS: i32 = 3;

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
    pub(super) crew: RouterSocket,
    pub(super) control: ControlSocket,
}

impl Sockets {
    pub(super) fn any_descriptor(&self) -> &impl AsFd {
        self.control.descriptor()
    }

    pub(super) fn at(&mut self, door: Door) -> &mut RouterSocket {
        match door {
            Door::Frontend => &mut self.frontend,
            Door::Backend => &mut self.backend,
            Door::Crew => &mut self.crew,
        }
    }

    /// Writes what was sent, as far as there is room.
    pub(super) fn flush(&mut self) {
        for socket in self.all_mut() {
            socket.flush();
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let sockets = [&self.frontend, &self.backend, &self.crew];
        sockets.into_iter().filter_map(RouterSocket::next_deadline).min()
    }

    pub(super) fn keep_time(&mut self, now: Timestamp) {
        for socket in self.all_mut() {
            socket.keep_time(now);
        }
    }

    /// The end of all talk: what was sent leaves, if its readers take it in time.
    pub(super) fn linger(&mut self) {
        let until = clock::now().after(LINGER);
        while !self.all_mut().map(RouterSocket::write_out).into_iter().all(|is_out| is_out) {
            let left = clock::now().until(until);
            if left.is_zero() {
                return;
            }
            let mut items = self.all_mut().map(|socket| PollFd::new(socket.descriptor(), PollFlags::POLLIN));
            let milliseconds = left.as_micros().div_ceil(1000);
            // Whatever it says, the next look tells more.
            poll(&mut items, PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)).ok();
            clock::after_a_wait(left);
        }
    }

    fn all_mut(&mut self) -> [&mut RouterSocket; 3] {
        [&mut self.frontend, &mut self.backend, &mut self.crew]
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

/// A message, or what stands in place of one.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) routing_id: RoutingId,
    /// The connection's number: a peer with a name may come back over another one.
    pub(super) connection: u64,
    pub(super) origin: Origin,
    /// It is a REQ, which has one request open at a time.
    pub(super) is_req: bool,
    pub(super) what: What,
}

/// A peer at one of the doors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum RoutingId {
    /// The number of its connection, which no other has ever had there.
    Number(u64),
    /// What it calls itself.
    Name(Rc<[u8]>),
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

/// Makes sure that it is a listener of the right kind, and sees to its connections: they inherit what it is set to.
pub(super) fn prepare(door: Door, listener: BorrowedFd<'_>) -> Result<(), RouterError> {
    check_listener(door, listener)?;
    let seconds = |count: i32| Duration::from_secs(count.unsigned_abs().into());
    let ((idle, interval), silence_ms) = match door {
        Door::Frontend => (CLIENT_KEEPALIVE, 0),
        Door::Backend => (WORKER_KEEPALIVE, WORKER_SILENCE_MS),
        Door::Crew => return Ok(()),
    };
    let set = || {
        sockopt::set_tcp_nodelay(listener, true)?;
        sockopt::set_socket_keepalive(listener, true)?;
        sockopt::set_tcp_keepidle(listener, seconds(idle))?;
        sockopt::set_tcp_keepintvl(listener, seconds(interval))?;
        sockopt::set_tcp_keepcnt(listener, KEEPALIVE_QUESTIONS.unsigned_abs())?;
        sockopt::set_tcp_user_timeout(listener, silence_ms.unsigned_abs())
    };
    set().map_err(|error| RouterError::Socket { door, error: Errno::from_raw(error.raw_os_error()) })
}

fn check_listener(door: Door, listener: BorrowedFd<'_>) -> Result<(), RouterError> {
    let wrong = |why| RouterError::Listener { door, why };
    if !sockopt::socket_acceptconn(listener).unwrap_or(false) {
        return Err(wrong("it does not listen"));
    }
    let domain = sockopt::socket_domain(listener);
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
