//! Operators on the control socket: connections, requests, responses. What a
//! request means is the caller's.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use hornpipe_proto::control::{self, ControlRequest, ControlResponse, EventKind, EventReport};
use nix::sys::socket::{getsockopt, sockopt};

/// The oldest connection makes room when there are more, for each kind of rights.
const CONNECTION_LIMIT: usize = 32;

/// Streams of events at most: each costs an encoding, a copy and a write.
const STREAM_LIMIT: usize = 16;

/// What a slow reader of events is kept, in bytes. Beyond it, events are dropped.
const STREAM_BYTES_LIMIT: usize = 256 * 1024;

/// Read from one connection in one turn, in bytes.
const READ_BUDGET: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct ControlSocket {
    /// For those who may order something.
    listener: UnixListener,
    /// For those who may only read.
    read_listener: Option<UnixListener>,
    /// Who may order something.
    operators: Vec<u32>,
    connections: Vec<Connection>,
    /// How many connections there have ever been.
    accepted: u64,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// Everything.
    Order,
    /// Ask, and change nothing.
    Read,
    /// Nothing: a user who is none of the operators has come to their socket.
    None { user: u32 },
}

/// What somebody wants.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) operator: Operator,
    pub(super) rights: Rights,
    pub(super) request: ControlRequest,
}

#[derive(Debug)]
struct Connection {
    name: Operator,
    rights: Rights,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// It has asked, and the response is not known yet.
    waits: bool,
    /// It has left, or speaks another language.
    broken: bool,
    stream_of_events: Option<EventStream>,
}

/// One that is told what happens, in place of being asked and answering.
#[derive(Debug, Default)]
struct EventStream {
    /// Since it had no more room.
    dropped: u64,
}

/// Whether a connection is a stream of events from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscribed {
    Yes,
    No { limit: usize },
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
    /// One that these users may give orders to, and perhaps one for whoever may connect to it.
    pub(super) fn new(control: OwnedFd, control_read: Option<OwnedFd>, operators: Vec<u32>) -> Self {
        Self {
            listener: control.into(),
            read_listener: control_read.map(UnixListener::from),
            operators,
            connections: Vec::new(),
            accepted: 0,
        }
    }

    pub(super) fn descriptor(&self) -> &impl AsFd {
        &self.listener
    }

    /// All that is to be read from, and whether something is to be written there, too.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let listeners = std::iter::once(&self.listener).chain(&self.read_listener);
        let connections = self.connections.iter();
        listeners
            .map(|listener| (listener.as_fd(), false))
            .chain(connections.map(|connection| (connection.stream.as_fd(), !connection.output.is_empty())))
    }

    /// Reads what operators have sent, and sends what they have room for.
    pub(super) fn turn(&mut self) {
        self.accept();
        self.connections.retain_mut(|connection| connection.turn() == Use::More);
    }

    /// The next request, and who waits for the response. Nothing more is taken from
    /// that connection until `respond`, which may come as late as it will.
    pub(super) fn next_request(&mut self) -> Option<Wish> {
        self.connections.iter_mut().find_map(|connection| {
            let request = connection.next_request()?;
            connection.waits = true;
            Some(Wish { operator: connection.name, rights: connection.rights, request })
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

    /// Makes a stream of events of the connection, which asks nothing more.
    pub(super) fn subscribe(&mut self, operator: Operator, hello: &EventReport) -> Subscribed {
        if self.streams().count() >= STREAM_LIMIT {
            return Subscribed::No { limit: STREAM_LIMIT };
        }
        if let Some(connection) = self.connections.iter_mut().find(|one| one.name == operator) {
            connection.stream_of_events = Some(EventStream::default());
            connection.push(&encoded(hello));
            connection.flush();
        }
        Subscribed::Yes
    }

    /// Whether anybody wants to be told what happens.
    pub(super) fn is_watched(&self) -> bool {
        self.connections.iter().any(|connection| connection.stream_of_events.is_some())
    }

    /// Keeps the event for every stream that has room for it; it is sent at the end of
    /// the turn.
    pub(super) fn publish(&mut self, event: &EventReport) {
        let bytes = encoded(event);
        for connection in self.streams() {
            connection.push(&bytes);
        }
    }

    /// Sends what readers have room for. Who has missed some is told how many, in an
    /// event like `now`.
    pub(super) fn flush_streams(&mut self, now: &EventReport) {
        for connection in self.streams() {
            connection.flush();
            connection.catch_up(now);
        }
    }

    fn streams(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.connections.iter_mut().filter(|connection| connection.stream_of_events.is_some())
    }

    /// Whether the operator is still there.
    pub(super) fn knows(&self, operator: Operator) -> bool {
        self.connections.iter().any(|connection| connection.name == operator)
    }

    fn accept(&mut self) {
        let mut newcomers = Vec::new();
        while let Ok((stream, _address)) = self.listener.accept() {
            newcomers.push((self.rights_of(&stream), stream));
        }
        while let Some(Ok((stream, _address))) = self.read_listener.as_ref().map(UnixListener::accept) {
            newcomers.push((Rights::Read, stream));
        }
        for (rights, stream) in newcomers {
            if let Err(error) = stream.set_nonblocking(true) {
                tracing::warn!(%error, "cannot serve an operator");
                continue;
            }
            self.make_room(rights);
            self.accepted += 1;
            self.connections.push(Connection {
                name: Operator(self.accepted),
                rights,
                stream,
                input: Vec::new(),
                output: Vec::new(),
                waits: false,
                broken: false,
                stream_of_events: None,
            });
        }
    }

    /// The kernel knows who is at the other end, whatever the socket's mode has become.
    fn rights_of(&self, stream: &UnixStream) -> Rights {
        match getsockopt(stream, sockopt::PeerCredentials) {
            Ok(peer) if self.operators.contains(&peer.uid()) => Rights::Order,
            Ok(peer) => Rights::None { user: peer.uid() },
            Err(_unknown) => Rights::None { user: u32::MAX },
        }
    }

    /// The oldest of its kind goes, so that no reader puts an operator out; a stream is
    /// meant to be old, and goes last.
    fn make_room(&mut self, rights: Rights) {
        let reads = |one: &Connection| (one.rights == Rights::Read) == (rights == Rights::Read);
        if self.connections.iter().filter(|one| reads(one)).count() >= CONNECTION_LIMIT {
            let passing = |one: &Connection| reads(one) && one.stream_of_events.is_none();
            let oldest = self.connections.iter().position(passing);
            if let Some(oldest) = oldest.or_else(|| self.connections.iter().position(reads)) {
                self.connections.remove(oldest);
            }
        }
    }
}

fn encoded(event: &EventReport) -> Vec<u8> {
    control::encode(&ControlResponse::Event(event.clone()))
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

    /// For a stream: kept if there is room, or else counted. Once one is missing, so are
    /// those that follow until the reader has been told.
    fn push(&mut self, event: &[u8]) {
        let Some(stream) = &mut self.stream_of_events else { return };
        if stream.dropped > 0 || STREAM_BYTES_LIMIT < self.output.len() + event.len() {
            stream.dropped += 1;
        } else {
            self.output.extend_from_slice(event);
        }
    }

    /// Tells a reader that has made room again what it has missed.
    fn catch_up(&mut self, now: &EventReport) {
        let Some(stream) = &mut self.stream_of_events else { return };
        if 0 < stream.dropped && self.output.len() <= STREAM_BYTES_LIMIT / 2 {
            let what = EventKind::Dropped { count: std::mem::take(&mut stream.dropped) };
            self.push(&encoded(&EventReport { what, ..now.clone() }));
            self.flush();
        }
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
