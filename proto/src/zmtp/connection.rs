//! One side of a connection: greeting, handshake, then messages.

use std::collections::VecDeque;
use std::time::Duration;

use super::command::Command;
use super::frame::{Frame, Head, Limits, Version};
use super::greeting::{self, Greeting};
use super::outbox::Outbox;
use super::reader::{Reader, Unit};
use super::{SocketType, ZmtpError};

/// More than this is not kept for a peer that pings and does not read.
const PONGS_BYTES: usize = 64 * 1024;

/// RFC 23: an identity has at most so many bytes.
const IDENTITY_BYTES: usize = 255;

/// What a peer of version 2 may send before it is known: its identity.
const IDENTITY: Limits =
    Limits { frame_bytes: IDENTITY_BYTES as u64, message_bytes: IDENTITY_BYTES as u64, frames: 1 };

/// One side of a connection, the connecting or the accepting one: they say the same.
///
/// A ROUTER also serves peers of ZMTP 2.0 (RFC 15): libzmq 3, and what was written beside it. They have no
/// commands, so they are sent none, and are told of no errors.
///
/// Append what was read to the [`buffer`](Self::buffer) and say [`received`](Self::received); write what is [`unsent`](Self::unsent), and say with [`sent`](Self::sent) how much was taken; and take what
/// has happened with [`next_event`](Self::next_event).
///
/// Frames that were read are handed over as `F`, and large ones that wait to be written are kept as `F`.
#[derive(Debug)]
pub struct Connection<F = Vec<u8>> {
    socket: SocketType,
    limits: Limits,
    stage: Stage,
    /// The ttl of the peer's last ping.
    silence_tenths: u16,
    reader: Reader<F>,
    outbox: Outbox<F>,
    events: VecDeque<Event<F>>,
}

/// What has happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<F = Vec<u8>> {
    /// The handshake is over: messages may be sent. The first event, and once.
    Ready(Peer),
    /// A message, with at least one frame.
    Message(Vec<F>),
    /// The first frames of a message that had more of them than [`Limits`] allow; the others are gone.
    Overlong(Vec<F>),
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
    /// Until the peer's greeting is complete. A part of ours may wait for its version.
    Greeting {
        is_said: bool,
    },
    Handshake,
    /// Version 2's handshake: this kind of socket is yet to say its identity.
    Naming(SocketType),
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

impl<F: Frame + Clone> Connection<F> {
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

impl<F: Frame> Connection<F> {
    /// The same as [`new`](Connection::new), where frames are of a kind of one's own.
    #[must_use]
    pub fn with_frames(socket: SocketType, limits: Limits) -> Self {
        let mut outbox = Outbox::default();
        outbox.push_raw(&greeting::opening(socket));
        Self {
            socket,
            limits,
            stage: Stage::Greeting { is_said: false },
            silence_tenths: 0,
            reader: Reader::default(),
            outbox,
            events: VecDeque::new(),
        }
    }

    /// Where the next bytes of the peer belong: behind those that are there. It has room for at least one, and should
    /// not be made larger. The rest of a large frame is read into its own memory, so that it is not copied.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.reader.buffer()
    }

    /// Reads into this buffer, which is empty, until [`give_back`](Self::give_back): one is enough for many connections.
    pub fn lend(&mut self, buffer: &mut Vec<u8>) {
        self.reader.lend(buffer);
    }

    /// Gives the buffer back, empty. What was read and is not complete is kept.
    pub fn give_back(&mut self, buffer: &mut Vec<u8>) {
        self.reader.give_back(buffer);
    }

    /// There is more in the [`buffer`](Self::buffer).
    ///
    /// # Errors
    /// The connection is of no use any more. What came before that is still there to be taken;
    /// [`unsent`](Self::unsent) may hold a reason for the peer.
    pub fn received(&mut self) -> Result<(), ZmtpError> {
        let progress = self.progress();
        if let Err(error) = &progress {
            self.fail(error.clone());
        }
        progress
    }

    /// The next thing that has happened.
    pub fn next_event(&mut self) -> Option<Event<F>> {
        self.events.pop_front()
    }

    /// Whether something has happened that was not taken yet.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether the handshake is over and nothing has gone wrong.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Asks the peer for a sign of life, which is an [`Event::Pong`] with the same context, of at most 16 bytes.
    /// The peer may give this side up after `ttl` tenths of a second without another word; 0 is never.
    ///
    /// False if nothing was sent: it is too early or too late, or the peer speaks version 2, which has no
    /// commands, and its silence tells nothing.
    pub fn ping(&mut self, ttl: u16, context: &[u8]) -> bool {
        let may_ping = self.is_open() && self.reader.version() == Version::V3;
        if may_ping {
            self.command(&Command::Ping { ttl, context });
        }
        may_ping
    }

    /// How long the peer may be silent before it should be given up, as its last ping has it. None if it has sent
    /// no ping, or the last one sets no limit.
    ///
    /// RFC 37, "Connection Heartbeating": the ttl of a PING counts from then on, in tenths of a second, and any
    /// bytes end the silence. libzmq waits so long after each PING and drops the limit with whatever comes next;
    /// here it holds until the next PING, so that a peer that dies behind a message is missed too.
    pub fn silence_allowed(&self) -> Option<Duration> {
        (self.silence_tenths != 0).then(|| Duration::from_millis(u64::from(self.silence_tenths) * 100))
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
        if matches!(self.stage, Stage::Greeting { .. }) {
            self.say_rest_of_greeting();
            match self.reader.take_greeting(self.socket)? {
                None => return Ok(()),
                Some(Greeting::V2(theirs)) => self.stage = Stage::Naming(theirs),
                Some(Greeting::V3) => {
                    self.stage = Stage::Handshake;
                    self.command(&Command::ready(self.socket));
                }
            }
        }
        while let Some(unit) = self.take_unit()? {
            match unit {
                Unit::Message(frames) => self.hear(frames)?,
                Unit::Overlong(_) if !self.is_open() => return Err(several_frames()),
                Unit::Overlong(frames) => self.events.push_back(Event::Overlong(frames)),
                Unit::Command(bytes) => self.obey(&Command::decode(&bytes)?)?,
            }
        }
        Ok(())
    }

    /// Before the peer's greeting is judged: RFC 37 wants ours to be complete when the peer's is, and a peer of
    /// another mechanism reads in it what the matter is.
    fn say_rest_of_greeting(&mut self) {
        if matches!(self.stage, Stage::Greeting { is_said: false })
            && let Some(rest) = greeting::rest(self.reader.unread(), self.socket)
        {
            self.outbox.push_raw(&rest);
            self.stage = Stage::Greeting { is_said: true };
        }
    }

    fn take_unit(&mut self) -> Result<Option<Unit<F>>, ZmtpError> {
        let limits = &self.limits;
        match self.stage {
            Stage::Open => self.reader.take_unit(limits),
            Stage::Naming(_) => match self.reader.take_unit(&IDENTITY) {
                Err(ZmtpError::FrameTooLarge { .. } | ZmtpError::MessageTooLarge { .. }) => Err(too_long()),
                Err(ZmtpError::EndlessMessage { .. }) => Err(several_frames()),
                unit => unit,
            },
            Stage::Greeting { .. } | Stage::Handshake | Stage::Failed(_) => self.reader.take_command(limits),
        }
    }

    fn hear(&mut self, frames: Vec<F>) -> Result<(), ZmtpError> {
        if let Stage::Naming(socket) = self.stage {
            let identity = frames.last().map(|frame| frame.as_ref().to_vec());
            return self.admit(socket, identity.unwrap_or_default());
        }
        self.events.push_back(Event::Message(frames));
        Ok(())
    }

    fn obey(&mut self, command: &Command<'_>) -> Result<(), ZmtpError> {
        match (command, self.is_open()) {
            (Command::Error { reason }, _) => {
                Err(ZmtpError::Refused { reason: String::from_utf8_lossy(reason).into_owned() })
            }
            (Command::Ready { socket, identity }, false) => self.meet(socket, identity),
            (Command::Ready { .. }, true) => Err(ZmtpError::Command { what: "a second READY" }),
            (_, false) => Err(ZmtpError::Command { what: "anything but READY in the handshake" }),
            (Command::Ping { ttl, context }, true) => {
                self.silence_tenths = *ttl;
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
        self.admit(theirs, identity.to_vec())
    }

    fn admit(&mut self, socket: SocketType, identity: Vec<u8>) -> Result<(), ZmtpError> {
        if IDENTITY_BYTES < identity.len() {
            return Err(too_long());
        }
        if identity.first() == Some(&0) {
            // RFC 37 reserves them for ROUTERs, which make them for peers that want none.
            return Err(ZmtpError::Identity {
                what: "begins with a zero byte, as only those do that routers make",
            });
        }
        self.stage = Stage::Open;
        self.events.push_back(Event::Ready(Peer { socket, identity }));
        Ok(())
    }

    fn fail(&mut self, error: ZmtpError) {
        // Later a peer would take it for nonsense, and before its greeting for a part of ours; of version 2 always.
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

fn too_long() -> ZmtpError {
    ZmtpError::Identity { what: "has more than 255 bytes" }
}

fn several_frames() -> ZmtpError {
    ZmtpError::Identity { what: "has more than one frame" }
}
