//! One client's socket: frames out, frames in.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use hornpipe_proto::client::{RequestMeta, decode_reply_meta};
use hornpipe_proto::{MAGIC, Status};

use super::mix::Mix;
use super::payload::{Name, Payloads};
use super::slots::Verdict;
use super::{Mode, Plan};
use crate::clock;
use crate::connection::retry_interrupted;
use crate::endpoint::{Address, Family};
use crate::reply::split_plain_error;

/// More frames than this no reply of ours has; the rest is read and not kept.
const FRAMES_KEPT: usize = 5;

pub(super) struct Peer {
    socket: zmq::Socket,
    /// Readable when the socket has something to see to. It tells of changes
    /// only: whoever is woken must read until nothing is left.
    fd: RawFd,
    /// Begun, but there was no room for them: the connection is down or full.
    pub(super) held: VecDeque<Name>,
    /// How many of its requests are out.
    pub(super) out: usize,
}

/// How this run's requests look on the wire.
pub(super) struct Framing {
    mode: Mode,
    depth: usize,
    timeout_ms: u64,
    prefix: Vec<u8>,
    services: Mix<Option<String>>,
    payloads: Payloads,
    body: Vec<u8>,
}

impl Peer {
    pub(super) fn open(context: &zmq::Context, address: &Address, depth: usize) -> zmq::Result<Self> {
        let socket = context.socket(zmq::DEALER)?;
        socket.set_linger(0)?;
        socket.set_ipv6(address.family == Family::Ipv6)?;
        // Then a socket has room for a message only once the handshake is done.
        socket.set_immediate(true)?;
        let room = i32::try_from(depth.saturating_mul(2).max(1000)).unwrap_or(i32::MAX);
        socket.set_sndhwm(room)?;
        socket.set_rcvhwm(room)?;
        socket.connect(&address.text)?;
        let fd = socket.get_fd()?;
        Ok(Self { socket, fd, held: VecDeque::new(), out: 0 })
    }

    /// Waits for the handshake; false if `deadline` came first.
    pub(super) fn wait_until_connected(&self, deadline: Instant) -> zmq::Result<bool> {
        loop {
            let left = clock::left(deadline);
            match self.socket.poll(zmq::POLLOUT, clock::poll_timeout(left)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(zmq::Error::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn poll_item<'a>(&self) -> zmq::PollItem<'a> {
        zmq::PollItem::from_fd(self.fd, zmq::POLLIN)
    }

    /// Sends a request, or holds it until there is room.
    pub(super) fn send(&mut self, name: Name, framing: &mut Framing) -> zmq::Result<()> {
        if !self.held.is_empty() || !framing.send(name, &self.socket)? {
            self.held.push_back(name);
        }
        Ok(())
    }

    /// Sends what was held, as far as there is room.
    pub(super) fn send_held(&mut self, framing: &mut Framing) -> zmq::Result<()> {
        while let Some(name) = self.held.front() {
            if !framing.send(*name, &self.socket)? {
                break;
            }
            self.held.pop_front();
        }
        Ok(())
    }

    /// Reads the next message into `frames`; false if there is none.
    pub(super) fn receive(&self, frames: &mut Vec<zmq::Message>) -> zmq::Result<bool> {
        frames.clear();
        loop {
            // A message arrives whole: once its first frame is there, all are.
            match retry_interrupted(|| self.socket.recv_msg(zmq::DONTWAIT)) {
                Ok(frame) => {
                    let more = frame.get_more();
                    if frames.len() < FRAMES_KEPT {
                        frames.push(frame);
                    }
                    if !more {
                        return Ok(true);
                    }
                }
                Err(zmq::Error::EAGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Framing {
    pub(super) fn new(plan: &Plan, nonce: u64) -> Self {
        Self {
            mode: plan.mode,
            depth: plan.depth,
            timeout_ms: u64::try_from(plan.timeout.as_millis()).unwrap_or(u64::MAX),
            prefix: plan.verb_prefix.clone(),
            services: plan.services.clone(),
            payloads: Payloads::new(plan.body_sizes.clone(), nonce),
            body: Vec::new(),
        }
    }

    /// False if there is no room, so that nothing was sent.
    fn send(&mut self, name: Name, socket: &zmq::Socket) -> zmq::Result<bool> {
        self.body.clear();
        self.body.extend_from_slice(&self.prefix);
        self.payloads.write(name, &mut self.body);
        let body = self.body.as_slice();
        match (self.mode, self.depth) {
            (Mode::Plain, 1) => send_frames(socket, [&[], body]),
            (Mode::Plain, _) => send_frames(socket, [&self.payloads.write_name(name), &[], body]),
            (Mode::Native, _) => {
                let id = String::from_utf8_lossy(&self.payloads.write_name(name)).into_owned();
                // The other half of the lot than the one that gives the size.
                let service = self.services.pick(self.payloads.lot(name).swap_bytes()).cloned().flatten();
                let meta =
                    RequestMeta { id, service, timeout_ms: Some(self.timeout_ms), ..RequestMeta::default() };
                send_frames(socket, [&[], MAGIC, &meta.encode(), body])
            }
        }
    }

    /// Which request a message is about, as it says itself, and what it says of it.
    ///
    /// `sought` turns what it says into the request meant, if there is one.
    pub(super) fn read(
        &self,
        frames: &[zmq::Message],
        sought: impl Fn(Option<Name>) -> Option<Name>,
    ) -> (Option<Name>, Verdict) {
        let is_empty = |frame: &zmq::Message| frame.is_empty();
        match (self.mode, frames) {
            (Mode::Native, [empty, magic, map, body @ ..]) if is_empty(empty) && &**magic == MAGIC => {
                let Ok(meta) = decode_reply_meta(map) else { return (sought(None), Verdict::Wrong) };
                let name = sought(self.payloads.read_name(meta.id.as_bytes()));
                match meta.status {
                    Status::Ok => (name, self.judge(name, body)),
                    status => (name, Verdict::Failed(status)),
                }
            }
            (Mode::Plain, [empty, body @ ..]) if self.depth == 1 && is_empty(empty) => {
                let said = body.first().and_then(|body| self.payloads.read_name(body));
                self.read_plain(sought(said), body)
            }
            (Mode::Plain, [said, empty, body @ ..]) if self.depth > 1 && is_empty(empty) => {
                self.read_plain(sought(self.payloads.read_name(said)), body)
            }
            (_, [empty, body @ ..]) if is_empty(empty) => self.read_plain(sought(None), body),
            (_, body) => self.read_plain(sought(None), body),
        }
    }

    fn read_plain(&self, name: Option<Name>, body: &[zmq::Message]) -> (Option<Name>, Verdict) {
        match body {
            [text] if let Some((status, _sentence)) = split_plain_error(text) => {
                (name, Verdict::Failed(status))
            }
            body => (name, self.judge(name, body)),
        }
    }

    fn judge(&self, name: Option<Name>, body: &[zmq::Message]) -> Verdict {
        match (name, body) {
            (Some(name), [body]) if self.payloads.matches(name, body) => Verdict::Right,
            _ => Verdict::Wrong,
        }
    }
}

fn send_frames<const N: usize>(socket: &zmq::Socket, frames: [&[u8]; N]) -> zmq::Result<bool> {
    for (place, frame) in frames.into_iter().enumerate() {
        let more = if place + 1 < N { zmq::SNDMORE } else { 0 };
        // Only the first frame of a message can be refused for want of room.
        match retry_interrupted(|| socket.send(frame, zmq::DONTWAIT | more)) {
            Ok(()) => {}
            Err(zmq::Error::EAGAIN) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// How often to look for requests that are lost.
pub(super) fn sweep_interval(timeout: Duration) -> Duration {
    (timeout / 32).clamp(Duration::from_millis(1), Duration::from_millis(100))
}
