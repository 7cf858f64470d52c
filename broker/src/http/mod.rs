//! HOW TO BE WATCHED: a process of its own that answers HTTP from what the router tells it.
//!
//! It decides nothing, sees no byte of a client or a worker, and has two descriptors: the
//! port, and one connection of the control socket. When that connection ends, so does this
//! process, and the parent starts another, which is given a new one.

mod clock;
mod request;
mod response;
mod connection;
mod line;
mod pages;
mod exposition;
mod metrics;
mod processes;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use connection::Connection;
use line::{Broken, Line};
use response::{Response, Status};

/// Connections at a time. One more, and that which is worth least makes room.
const CONNECTIONS_LIMIT: usize = 16;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Without a descriptor to accept with, there is none to wait for either.
const REST: Duration = Duration::from_millis(100);

/// What this process owns.
#[derive(Debug)]
pub(crate) struct Start {
    /// Listening, non-blocking.
    pub(crate) listener: OwnedFd,
    /// To the router, non-blocking.
    pub(crate) line: OwnedFd,
}

/// Answers until the router is gone.
///
/// # Errors
/// What the kernel refused, as a sentence.
pub(crate) fn run(start: Start) -> Result<(), String> {
    let mut server = Server {
        listener: start.listener.into(),
        line: Line::new(start.line),
        connections: Vec::new(),
        accept_at: None,
    };
    loop {
        match server.turn() {
            Ok(()) => {}
            Err(Over::RouterGone) => {
                server.say_goodbye();
                return Ok(());
            }
            Err(Over::Refused(errno)) => {
                return Err(format!("cannot wait for events: {}", errno.desc().to_lowercase()));
            }
        }
    }
}

#[derive(Debug)]
struct Server {
    listener: TcpListener,
    line: Line,
    connections: Vec<Connection>,
    /// Nobody is accepted before.
    accept_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    RouterGone,
    Refused(Errno),
}

impl From<Broken> for Over {
    fn from(_broken: Broken) -> Self {
        Self::RouterGone
    }
}

impl Server {
    fn turn(&mut self) -> Result<(), Over> {
        match self.wait() {
            Ok(()) | Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOMEM) => {}
            Err(errno) => return Err(Over::Refused(errno)),
        }
        let now = clock::now();
        self.line.read(now)?;
        self.accept(now);
        for connection in &mut self.connections {
            connection.turn(now);
            answer(connection, &mut self.line, now);
        }
        self.connections.retain(|connection| !connection.is_over());
        self.line.ask()?;
        Ok(())
    }

    fn wait(&self) -> nix::Result<()> {
        let accepts = if self.accept_at.is_none() { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut polled = vec![
            PollFd::new(self.line.descriptor(), self.line.interest()),
            PollFd::new(self.listener.as_fd(), accepts),
        ];
        // One that waits for its answer is not asked about: a peer that has left would
        // wake this loop for ever.
        let connections = self.connections.iter().filter(|one| !one.interest().is_empty());
        polled.extend(connections.map(|one| PollFd::new(one.descriptor(), one.interest())));
        poll(&mut polled, self.timeout(clock::now())).map(|_count| ())
    }

    fn timeout(&self, now: Duration) -> PollTimeout {
        let waiting =
            |one: &Connection| one.question().map(|(_, since)| since.saturating_add(line::PATIENCE));
        let due = self.connections.iter().filter_map(|one| one.deadline().or_else(|| waiting(one)));
        let Some(next) = due.chain(self.accept_at).min() else { return PollTimeout::NONE };
        // Rounded up, or the last millisecond would be spent in a busy loop.
        let wait = next.saturating_sub(now).as_micros().div_ceil(1000);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }

    fn accept(&mut self, now: Duration) {
        if self.accept_at.is_some_and(|at| now < at) {
            return;
        }
        self.accept_at = None;
        for _connection in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _address)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        self.admit(Connection::new(stream, now), now);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Somebody has left before he was accepted.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(_no_room) => return self.accept_at = Some(now.saturating_add(REST)),
            }
        }
    }

    /// Whoever has asked already is worth more than who only connects: what he has sent is
    /// looked at before another one is accepted.
    fn admit(&mut self, mut connection: Connection, now: Duration) {
        connection.turn(now);
        if self.connections.len() >= CONNECTIONS_LIMIT {
            let least = (0..).zip(&self.connections).min_by_key(|(at, one)| (one.worth(), *at));
            if let Some(at) = least.map(|(at, _one)| at) {
                self.connections.remove(at);
            }
        }
        self.connections.push(connection);
    }

    /// Those that wait hear why there is no answer.
    fn say_goodbye(&mut self) {
        let now = clock::now();
        let gone = Response::text(Status::Unavailable, "the router has ended, and another one follows");
        for connection in &mut self.connections {
            if let Some(method) = connection.question().map(|(request, _since)| request.method) {
                connection.answer(&gone, method, now);
            }
        }
    }
}

fn answer(connection: &mut Connection, line: &mut Line, now: Duration) {
    let Some((request, since)) = connection.question() else { return };
    if let Some(response) = pages::answer(request, (since, now), line) {
        let method = request.method;
        connection.answer(&response, method, now);
    }
}
