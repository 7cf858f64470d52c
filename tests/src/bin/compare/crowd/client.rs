//! One REQ client on a connection of its own: a request, its reply, the next request.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use hornpipe_proto::zmtp::{Connection, Event, Limits, SocketType};
use hornpipe_tests::harness::DEADLINE;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, recv};

use crate::{BODY, Result};

pub(super) struct Client {
    stream: TcpStream,
    zmtp: Connection,
    number: u64,
    /// How often it has asked.
    requests: u64,
    /// When it did so last, if the reply has not come.
    since: Option<Instant>,
}

impl Client {
    /// The kernel's part of it. The handshake is for whoever calls [`hear`](Self::hear) and [`write`](Self::write).
    pub(super) fn connect(address: SocketAddr, number: u64) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)
            .map_err(|error| format!("client {number} cannot connect: {error}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        // Closed without ceremony: the kernel would keep each of thousands for a minute.
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        let zmtp = Connection::new(SocketType::Req, Limits::default());
        Ok(Self { stream, zmtp, number, requests: 0, since: None })
    }

    /// Whether the handshake is over.
    pub(super) fn is_open(&self) -> bool {
        self.zmtp.is_open()
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// The next request, to be written.
    pub(super) fn ask(&mut self, now: Instant) -> Result<()> {
        self.requests += 1;
        self.since = Some(now);
        let body = self.body();
        if self.zmtp.send([&[][..], &body]) { Ok(()) } else { Err(self.failure("there is no handshake")) }
    }

    /// Reads all there is: if the reply is there, when it was asked for. An error if it is any other than the right
    /// one, and the only one. One buffer, which is empty, is enough for all clients.
    pub(super) fn hear(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Instant>> {
        self.zmtp.lend(buffer);
        let read = self.read();
        self.zmtp.give_back(buffer);
        read?;
        let mut since = None;
        while let Some(event) = self.zmtp.next_event() {
            match event {
                Event::Message(frames) | Event::Overlong(frames) => since = Some(self.check(&frames)?),
                Event::Ready(_) | Event::Pong { .. } => (),
            }
        }
        Ok(since)
    }

    /// Writes what there is, as much of it as the socket takes.
    pub(super) fn write(&mut self) -> Result<()> {
        loop {
            let unsent = self.zmtp.unsent().find(|piece| !piece.is_empty());
            let Some(piece) = unsent else { return Ok(()) };
            let written = self.stream.write(piece);
            match written {
                Ok(count) => self.zmtp.sent(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.failure(error)),
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        loop {
            let buffer = self.zmtp.buffer();
            let room = buffer.capacity() - buffer.len();
            match recv(&self.stream, spare_capacity(buffer), RecvFlags::empty()) {
                Ok((0, _)) => return Err(self.failure("the broker has closed the connection")),
                Ok((count, _)) => {
                    self.zmtp.received().map_err(|error| self.failure(error))?;
                    if count < room {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(self.failure(error)),
            }
        }
    }

    fn check(&mut self, frames: &[Vec<u8>]) -> Result<Instant> {
        let asked = self.body();
        match (self.since.take(), frames) {
            (Some(since), [empty, body]) if empty.is_empty() && *body == asked => Ok(since),
            (Some(_since), other) => {
                Err(self.failure(format!("asked {asked:02x?} and was told {other:02x?}")))
            }
            (None, other) => Err(self.failure(format!("has its reply, and was told another: {other:02x?}"))),
        }
    }

    /// Who asks, and the how manieth time: no other request has the same.
    fn body(&self) -> [u8; BODY] {
        (u128::from(self.number) << 64 | u128::from(self.requests)).to_be_bytes()
    }

    fn failure(&self, what: impl std::fmt::Display) -> Box<dyn std::error::Error> {
        format!("client {}, request {}: {what}", self.number, self.requests).into()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
