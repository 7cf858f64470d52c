//! One side of a connection: greeting, handshake, then messages.

use std::collections::VecDeque;

use super::command::Command;
use super::frame::{Head, Limits};
use super::outbox::Outbox;
use super::reader::{Reader, Unit};
use super::{SocketType, ZmtpError, greeting};

/// More than this is not kept for a peer that pings and does not read.
const PONGS_BYTES: usize = 64 * 1024;

/// One side of a connection, the connecting or the accepting one: they say the same.
///
/// Read into [`space`](Self::space) and say with [`received`](Self::received) how much it was; write
/// what is [`unsent`](Self::unsent), and say with [`sent`](Self::sent) how much was taken; and take what
/// has happened with [`next_event`](Self::next_event).
///
/// Large frames that wait to be written are kept as `F`.
#[derive(Debug)]
pub struct Connection<F = Vec<u8>> {
    socket: SocketType,
    limits: Limits,
    stage: Stage,
    reader: Reader,
    outbox: Outbox<F>,
    events: VecDeque<Event>,
}

/// What has happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handshake is over: messages may be sent. The first event, and once.
    Ready(Peer),
    /// A message, with at least one frame.
    Message(Vec<Vec<u8>>),
    /// The peer's answer to a [`ping`](Connection::ping).
    Pong {
        /// What the ping brought along.
        context: Vec<u8>,
    },
}

/// What the peer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its kind of socket.
    pub socket: SocketType,
    /// The routing id that it wants to have; empty if it leaves that to the other side.
    pub identity: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    Greeting,
    Handshake,
    Open,
    Failed(ZmtpError),
}

impl Connection {
    /// A connection that has just been made. Its greeting is to be sent.
    #[must_use]
    pub fn new(socket: SocketType, limits: Limits) -> Self {
        Self::with_frames(socket, limits)
    }

    /// Sends a message: at least one frame. Frames of 4 KiB and more that are given as `Vec` are not copied.
    ///
    /// Nothing is sent before [`Event::Ready`]: peers close a connection on which a message comes
    /// too early. False if it is too early, or too late.
    pub fn send<T: AsRef<[u8]> + Into<Vec<u8>>>(&mut self, frames: impl IntoIterator<Item = T>) -> bool {
        if !self.is_open() {
            return false;
        }
        let mut frames = frames.into_iter().peekable();
        while let Some(frame) = frames.next() {
            let head = Head::of_message(frame.as_ref().len(), frames.peek().is_some());
            self.outbox.push_frame(head, frame);
        }
        true
    }
}

impl<F: AsRef<[u8]> + Clone> Connection<F> {
    /// Sends a message whose last frames may be large: those of 4 KiB and more are cloned, and not copied
    /// if that is what a clone of them is. Otherwise like [`send`](Connection::send).
    pub fn send_clones<'a>(&mut self, head: &[&[u8]], body: impl ExactSizeIterator<Item = &'a F>) -> bool
    where
        F: 'a,
    {
        if !self.is_open() {
            return false;
        }
        let mut left = head.len() + body.len();
        let mut head_of = |bytes: &[u8]| {
            left -= 1;
            Head::of_message(bytes.len(), left != 0)
        };
        for frame in head {
            let head = head_of(frame);
            self.outbox.push_copy(head, frame);
        }
        for frame in body {
            let head = head_of(frame.as_ref());
            self.outbox.push_clone(head, frame);
        }
        true
    }
}

impl<F: AsRef<[u8]>> Connection<F> {
    /// The same as [`new`](Connection::new), where frames that wait to be written are of a kind of one's own.
    #[must_use]
    pub fn with_frames(socket: SocketType, limits: Limits) -> Self {
        let mut outbox = Outbox::default();
        outbox.push_raw(&greeting::encode());
        Self {
            socket,
            limits,
            stage: Stage::Greeting,
            reader: Reader::new(),
            outbox,
            events: VecDeque::new(),
        }
    }

    /// Where the next bytes of the peer belong: at least one. The rest of a large frame is read into its own
    /// memory, so that it is not copied.
    pub fn space(&mut self) -> &mut [u8] {
        self.reader.space()
    }

    /// So many bytes were read into [`space`](Self::space).
    ///
    /// # Errors
    /// The connection is of no use any more. What came before that is still there to be taken;
    /// [`unsent`](Self::unsent) may hold a reason for the peer.
    pub fn received(&mut self, count: usize) -> Result<(), ZmtpError> {
        self.reader.filled(count);
        let progress = self.progress();
        if let Err(error) = &progress {
            self.fail(error.clone());
        }
        progress
    }

    /// The next thing that has happened.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the handshake is over and nothing has gone wrong.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Asks the peer for a sign of life, which is an [`Event::Pong`] with the same context, of at most 16 bytes.
    /// The peer may give this side up after `ttl` tenths of a second without another word; 0 is never.
    pub fn ping(&mut self, ttl: u16, context: &[u8]) {
        if self.is_open() {
            self.command(&Command::Ping { ttl, context });
        }
    }

    /// The bytes to write, in order, in pieces for one vectored write. Some may be empty.
    pub fn unsent(&self) -> impl Iterator<Item = &[u8]> {
        self.outbox.unsent()
    }

    /// How many bytes there are to write.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.outbox.unsent_bytes()
    }

    /// So many bytes were written.
    pub fn sent(&mut self, count: usize) {
        self.outbox.sent(count);
    }

    fn progress(&mut self) -> Result<(), ZmtpError> {
        if let Stage::Failed(error) = &self.stage {
            return Err(error.clone());
        }
        if matches!(self.stage, Stage::Greeting) {
            if !self.reader.take_greeting()? {
                return Ok(());
            }
            self.stage = Stage::Handshake;
            self.command(&Command::ready(self.socket));
        }
        while let Some(unit) = self.take_unit()? {
            match unit {
                Unit::Message(frames) => self.events.push_back(Event::Message(frames)),
                Unit::Command(bytes) => self.obey(&Command::decode(&bytes)?)?,
            }
        }
        Ok(())
    }

    fn take_unit(&mut self) -> Result<Option<Unit>, ZmtpError> {
        if self.is_open() {
            return self.reader.take_unit(&self.limits);
        }
        // No memory for what may not come yet.
        let unit = self.reader.take_unit(&Limits { frames: 0, ..self.limits });
        if matches!(unit, Err(ZmtpError::TooManyFrames { .. })) { Err(ZmtpError::EarlyMessage) } else { unit }
    }

    fn obey(&mut self, command: &Command<'_>) -> Result<(), ZmtpError> {
        match (command, self.is_open()) {
            (Command::Error { reason }, _) => {
                Err(ZmtpError::Refused { reason: String::from_utf8_lossy(reason).into_owned() })
            }
            (Command::Ready { socket, identity }, false) => self.meet(socket, identity),
            (Command::Ready { .. }, true) => Err(ZmtpError::Command { what: "a second READY" }),
            (_, false) => Err(ZmtpError::Command { what: "anything but READY in the handshake" }),
            (Command::Ping { context, .. }, true) => {
                if self.outbox.unsent_bytes() < PONGS_BYTES {
                    self.command(&Command::Pong { context });
                }
                Ok(())
            }
            (Command::Pong { context }, true) => {
                self.events.push_back(Event::Pong { context: context.to_vec() });
                Ok(())
            }
            (Command::Unknown, true) => Ok(()),
        }
    }

    fn meet(&mut self, socket: &[u8], identity: &[u8]) -> Result<(), ZmtpError> {
        let Some(theirs) = SocketType::parse(socket).filter(|theirs| self.socket.may_talk_to(*theirs)) else {
            let theirs = String::from_utf8_lossy(socket.get(..255).unwrap_or(socket)).into_owned();
            return Err(ZmtpError::SocketType { ours: self.socket, theirs });
        };
        self.stage = Stage::Open;
        self.events.push_back(Event::Ready(Peer { socket: theirs, identity: identity.to_vec() }));
        Ok(())
    }

    fn fail(&mut self, error: ZmtpError) {
        // Later a peer would take it for nonsense, and before its greeting for a part of ours.
        if matches!(self.stage, Stage::Handshake) && !matches!(error, ZmtpError::Refused { .. }) {
            self.command(&Command::Error { reason: error.to_string().as_bytes() });
        }
        if !matches!(self.stage, Stage::Failed(_)) {
            self.stage = Stage::Failed(error);
        }
    }

    fn command(&mut self, command: &Command<'_>) {
        let bytes = command.encode();
        self.outbox.push_copy(Head::of_command(bytes.len()), &bytes);
    }
}
