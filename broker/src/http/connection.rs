//! One connection: a head is read, one answer is written, and then it ends. Each of these
//! has its time, and nothing of a peer is kept beyond one head.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use super::request::{self, HEAD_LIMIT, Method, Request};
use super::response::{Refusal, Response};

/// For the head.
const TIME_TO_ASK: Duration = Duration::from_secs(2);
/// For the whole answer.
const TIME_TO_LISTEN: Duration = Duration::from_secs(5);
/// For whatever a peer still sends after its answer.
const TIME_TO_PART: Duration = Duration::from_secs(2);
/// And so much of it is read.
const LINGER_LIMIT: usize = 64 * 1024;
/// So much is read at a time.
const CHUNK: usize = 4096;

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    state: State,
    since: Duration,
}

/// How far it has come.
#[derive(Debug)]
enum State {
    Reading {
        head: Vec<u8>,
    },
    /// It waits for its answer.
    Asked(Request),
    Writing {
        bytes: Vec<u8>,
        written: usize,
    },
    /// Answered. To close while it still sends would reset the connection, and the answer
    /// could be lost with it.
    Parting {
        read: usize,
    },
    Over,
}

/// Which one is given up first when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    Answered,
    HasNotAsked,
    IsAnswered,
    Waits,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Duration) -> Self {
        Self { stream, state: State::Reading { head: Vec::new() }, since: now }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What to poll for. One that waits is asked nothing: its end is noticed by the answer.
    pub(super) fn interest(&self) -> PollFlags {
        match self.state {
            State::Reading { .. } | State::Parting { .. } => PollFlags::POLLIN,
            State::Writing { .. } => PollFlags::POLLOUT,
            State::Asked(_) | State::Over => PollFlags::empty(),
        }
    }

    pub(super) fn worth(&self) -> Worth {
        match self.state {
            State::Parting { .. } | State::Over => Worth::Answered,
            State::Reading { .. } => Worth::HasNotAsked,
            State::Writing { .. } => Worth::IsAnswered,
            State::Asked(_) => Worth::Waits,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What it wants to know, and since when.
    pub(super) fn question(&self) -> Option<(&Request, Duration)> {
        match &self.state {
            State::Asked(request) => Some((request, self.since)),
            State::Reading { .. } | State::Writing { .. } | State::Parting { .. } | State::Over => None,
        }
    }

    /// When its time is over. Who waits for an answer gets one in time.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let time = match self.state {
            State::Reading { .. } => TIME_TO_ASK,
            State::Writing { .. } => TIME_TO_LISTEN,
            State::Parting { .. } => TIME_TO_PART,
            State::Asked(_) | State::Over => return None,
        };
        Some(self.since.saturating_add(time))
    }

    /// Reads and writes what there is, and sees to the time.
    pub(super) fn turn(&mut self, now: Duration) {
        match &self.state {
            State::Reading { .. } => self.read_head(now),
            State::Writing { .. } => self.write(now),
            State::Parting { .. } => self.part(),
            State::Asked(_) | State::Over => (),
        }
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            match self.state {
                State::Reading { .. } => {
                    self.answer(&Response::refusal(Refusal::TooSlow), Method::Get, now);
                }
                State::Writing { .. } | State::Parting { .. } | State::Asked(_) | State::Over => {
                    self.state = State::Over;
                }
            }
        }
    }

    /// Begins to answer.
    pub(super) fn answer(&mut self, response: &Response, method: Method, now: Duration) {
        self.enter(State::Writing { bytes: response.encode(method), written: 0 }, now);
        self.write(now);
    }

    fn enter(&mut self, state: State, now: Duration) {
        self.state = state;
        self.since = now;
    }

    fn read_head(&mut self, now: Duration) {
        let State::Reading { head } = &mut self.state else { return };
        let mut chunk = [0; CHUNK];
        // One that sends for ever is at the limit soon.
        loop {
            let size = match self.stream.read(&mut chunk) {
                Ok(0) => return self.state = State::Over,
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_gone) => return self.state = State::Over,
            };
            let room = HEAD_LIMIT.saturating_sub(head.len()).min(size);
            head.extend_from_slice(chunk.get(..room).unwrap_or_default());
            match request::read(head) {
                None => {}
                Some(Ok(request)) => return self.enter(State::Asked(request), now),
                Some(Err(refusal)) => {
                    return self.answer(&Response::refusal(refusal), Method::Get, now);
                }
            }
        }
    }

    fn write(&mut self, now: Duration) {
        let State::Writing { bytes, written } = &mut self.state else { return };
        while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(size) => *written = written.saturating_add(size),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_gone) => return self.state = State::Over,
            }
        }
        match self.stream.shutdown(Shutdown::Write) {
            Ok(()) => self.enter(State::Parting { read: 0 }, now),
            Err(_gone) => self.state = State::Over,
        }
    }

    fn part(&mut self) {
        let State::Parting { read } = &mut self.state else { return };
        let mut chunk = [0; CHUNK];
        while *read < LINGER_LIMIT {
            match self.stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(size) => *read = read.saturating_add(size),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_gone) => break,
            }
        }
        self.state = State::Over;
    }
}
