//! The line to the router: one connection of its control socket, on which it is asked no
//! more than a few times a second, however many want to know.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hornpipe_proto::control::{self, ControlRequest, ControlResponse, MetricsReport, StatusReport};
use nix::poll::PollFlags;

/// An answer is good for so long.
const FRESH: Duration = Duration::from_millis(250);

/// A router that does not answer within this time is not well.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Read in one turn.
const CHUNK: usize = 64 * 1024;

/// What the router can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Metrics,
    Status,
}

/// The router has ended, or speaks another language: there will be no more answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    output: Vec<u8>,
    input: Vec<u8>,
    /// What is being asked. One that answers late is asked nothing more meanwhile.
    asked: Option<Subject>,
    metrics: Kept<MetricsReport>,
    status: Kept<StatusReport>,
}

/// An answer, and the wish for the next.
#[derive(Debug)]
struct Kept<T> {
    answer: Option<(T, Duration)>,
    wanted: bool,
}

impl<T> Kept<T> {
    const NONE: Self = Self { answer: None, wanted: false };

    /// The answer, if it is good for somebody who has waited since then.
    fn look(&mut self, since: Duration, now: Duration) -> Option<&T> {
        let is_good = |at: Duration| since <= at || now.saturating_sub(at) < FRESH;
        let good = self.answer.as_ref().is_some_and(|(_answer, at)| is_good(*at));
        self.wanted |= !good;
        self.answer.as_ref().filter(|_| good).map(|(answer, _at)| answer)
    }

    fn keep(&mut self, answer: T, now: Duration) {
        *self = Self { answer: Some((answer, now)), wanted: false };
    }
}

impl Line {
    /// Over a connection that does not block.
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self {
            stream: descriptor.into(),
            output: Vec::new(),
            input: Vec::new(),
            asked: None,
            metrics: Kept::NONE,
            status: Kept::NONE,
        }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn interest(&self) -> PollFlags {
        if self.output.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT }
    }

    /// For one who has asked at `since`; else it is asked for.
    pub(super) fn metrics(&mut self, since: Duration, now: Duration) -> Option<&MetricsReport> {
        self.metrics.look(since, now)
    }

    /// The same.
    pub(super) fn status(&mut self, since: Duration, now: Duration) -> Option<&StatusReport> {
        self.status.look(since, now)
    }

    /// Reads what the router says.
    pub(super) fn read(&mut self, now: Duration) -> Result<(), Broken> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Broken),
                Ok(size) => self.input.extend_from_slice(chunk.get(..size).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_gone) => return Err(Broken),
            }
            while let Some(answer) =
                control::take(&mut self.input, control::RESPONSE_LIMIT).map_err(|_unreadable| Broken)?
            {
                self.hear(answer, now)?;
            }
        }
    }

    fn hear(&mut self, answer: ControlResponse, now: Duration) -> Result<(), Broken> {
        self.asked = None;
        match answer {
            ControlResponse::Metrics(report) => self.metrics.keep(*report, now),
            ControlResponse::Status(report) => self.status.keep(*report, now),
            _ => return Err(Broken),
        }
        Ok(())
    }

    /// Asks what somebody wants to know, unless something is being asked.
    pub(super) fn ask(&mut self) -> Result<(), Broken> {
        let wanted = match (self.asked, self.metrics.wanted, self.status.wanted) {
            (Some(_), _, _) | (None, false, false) => None,
            (None, true, _) => Some((Subject::Metrics, ControlRequest::Metrics)),
            (None, false, true) => Some((Subject::Status, ControlRequest::Status)),
        };
        if let Some((subject, request)) = wanted {
            self.asked = Some(subject);
            self.output = control::encode(&request);
        }
        self.flush()
    }

    /// Sends what there is room for.
    fn flush(&mut self) -> Result<(), Broken> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(size) => {
                    self.output.drain(..size.min(self.output.len()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_gone) => return Err(Broken),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn an_answer_is_good_for_a_moment_and_for_whoever_waited_for_it() {
        let mut kept = Kept::NONE;
        assert_eq!(kept.look(ms(0), ms(0)), None);
        assert!(kept.wanted);
        kept.keep(7, ms(1000));
        assert!(!kept.wanted);
        assert_eq!(kept.look(ms(1100), ms(1100)), Some(&7));
        // Whoever waited for it may find it late.
        assert_eq!(kept.look(ms(900), ms(5000)), Some(&7));
        assert_eq!(kept.look(ms(1250), ms(1250)), None);
        assert!(kept.wanted);
    }

    #[test]
    fn a_router_that_does_not_answer_is_asked_once() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut line = Line::new(ours.into());
        for moment in 0..100 {
            assert!(line.metrics(ms(moment), ms(moment)).is_none());
            assert!(line.status(ms(moment), ms(moment)).is_none());
            assert_eq!(line.ask(), Ok(()));
        }
        let mut bytes = vec![0; 4096];
        let size = theirs.read(&mut bytes).unwrap();
        bytes.truncate(size);
        let first: Option<ControlRequest> = control::take(&mut bytes, control::REQUEST_LIMIT).unwrap();
        assert_eq!(first, Some(ControlRequest::Metrics));
        assert!(bytes.is_empty());
        drop(theirs);
        assert_eq!(line.read(ms(0)), Err(Broken));
    }
}
