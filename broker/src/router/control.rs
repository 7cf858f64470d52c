//! Operators on the control socket: connections, requests, responses. What a
//! request means is the caller's.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use hornpipe_proto::control::{self, ControlRequest, ControlResponse};

/// The oldest connection makes room when there are more.
const CONNECTION_LIMIT: usize = 32;

/// Read from one connection in one turn, in bytes.
const READ_BUDGET: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    connections: Vec<Connection>,
    /// How many connections there have ever been.
    accepted: u64,
}

#[derive(Debug)]
struct Connection {
    name: Operator,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// It has asked, and the response is not known yet.
    waits: bool,
    /// It has left, or speaks another language.
    broken: bool,
}

/// Who asked. Never the name of another connection, also when this one is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Operator(u64);

#[cfg(test)]
impl Operator {
    pub(super) fn of_test(number: u64) -> Self {
        Self(number)
    }
}

/// What a connection is good for after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    More,
    None,
}

impl ControlSocket {
    pub(super) fn new(listener: OwnedFd) -> Self {
        Self { listener: listener.into(), connections: Vec::new(), accepted: 0 }
    }

    pub(super) fn poll_items<'a>(&self) -> impl Iterator<Item = zmq::PollItem<'a>> {
        let listener = zmq::PollItem::from_fd(self.listener.as_raw_fd(), zmq::POLLIN);
        let connections = self.connections.iter().map(|connection| {
            let events = if connection.output.is_empty() { zmq::POLLIN } else { zmq::POLLIN | zmq::POLLOUT };
            zmq::PollItem::from_fd(connection.stream.as_raw_fd(), events)
        });
        std::iter::once(listener).chain(connections)
    }

    pub(super) fn descriptor(&self) -> &impl AsFd {
        &self.listener
    }

    /// Reads what operators have sent, and sends what they have room for.
    pub(super) fn turn(&mut self) {
        self.accept();
        self.connections.retain_mut(|connection| connection.turn() == Use::More);
    }

    /// The next request, and who waits for the response. Nothing more is taken from
    /// that connection until `respond`, which may come as late as it will.
    pub(super) fn next_request(&mut self) -> Option<(Operator, ControlRequest)> {
        self.connections.iter_mut().find_map(|connection| {
            let request = connection.next_request()?;
            connection.waits = true;
            Some((connection.name, request))
        })
    }

    /// Nothing happens if the operator has left meanwhile.
    pub(super) fn respond(&mut self, operator: Operator, response: &ControlResponse) {
        if let Some(connection) = self.connections.iter_mut().find(|one| one.name == operator) {
            connection.waits = false;
            connection.output = control::encode(response);
            connection.flush();
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _address)) = self.listener.accept() {
            if let Err(error) = stream.set_nonblocking(true) {
                tracing::warn!(%error, "cannot serve an operator");
                continue;
            }
            if self.connections.len() >= CONNECTION_LIMIT {
                self.connections.remove(0);
            }
            self.accepted += 1;
            self.connections.push(Connection {
                name: Operator(self.accepted),
                stream,
                input: Vec::new(),
                output: Vec::new(),
                waits: false,
                broken: false,
            });
        }
    }
}

impl Connection {
    fn turn(&mut self) -> Use {
        let mut chunk = [0; READ_BUDGET];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Use::None,
            Ok(size) => self.input.extend_from_slice(chunk.get(..size).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => (),
            Err(_gone) => return Use::None,
        }
        // Nobody says so much before it is answered.
        if self.input.len() > control::REQUEST_LIMIT + READ_BUDGET {
            return Use::None;
        }
        self.flush();
        if self.broken { Use::None } else { Use::More }
    }

    fn next_request(&mut self) -> Option<ControlRequest> {
        // One that does not read its responses is not served more of them.
        if self.broken || self.waits || !self.output.is_empty() {
            return None;
        }
        control::take(&mut self.input, control::REQUEST_LIMIT).unwrap_or_else(|error| {
            tracing::debug!(%error, "unreadable request of an operator");
            self.broken = true;
            None
        })
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(size) => {
                    self.output.drain(..size.min(self.output.len()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(_gone) => {
                    self.broken = true;
                    return;
                }
            }
        }
    }
}
