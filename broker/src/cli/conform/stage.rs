//! The place where a program of `--lines` or `--each` is tried: its process, and the pipes to and
//! from it as its adapter would hold them. Every wait has an end.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::super::clock::now;
use super::bench::{Failed, Terms, signals_to_end};
use super::subject::{Subject, ending};

/// What is kept of the output of a program that writes without end.
const MOST: usize = 16 * 1024 * 1024;

/// So long after its end the output of a program is waited for, if somebody else holds it.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A program on trial.
pub(super) struct Stage {
    pub(super) terms: Terms,
    subject: Option<Subject>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    unwritten: Vec<u8>,
    /// What it has written and nobody has taken.
    pub(super) output: Vec<u8>,
    signals: SignalFd,
    is_interrupted: bool,
}

impl Stage {
    pub(super) fn open(terms: Terms) -> io::Result<Self> {
        Ok(Self {
            terms,
            subject: None,
            stdin: None,
            stdout: None,
            unwritten: Vec::new(),
            output: Vec::new(),
            signals: signals_to_end()?,
            is_interrupted: false,
        })
    }

    /// Another process of the program, in place of the last one. Or it cannot be executed.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.discard();
        let mut environment = self.terms.environment.clone();
        for (name, value) in [
            ("HORNPIPE_SERVICE", "default"),
            ("HORNPIPE_SLOT", "0"),
            ("HORNPIPE_INCARNATION", "1"),
            ("HORNPIPE_GENERATION", "0"),
            ("HORNPIPE_REQUEST_ID", "conform"),
            ("HORNPIPE_REQUEST_ATTEMPT", "1"),
            ("HORNPIPE_REQUEST_TIMEOUT_MS", "60000"),
        ] {
            let (name, value) = (OsString::from(name), OsString::from(value));
            environment.push((name, value));
        }
        let mut subject = Subject::start_piped(&self.terms.program, &environment)?;
        (self.stdin, self.stdout) = subject.take_pipes();
        self.stdin.as_ref().map_or(Ok(()), set_nonblocking)?;
        self.stdout.as_ref().map_or(Ok(()), set_nonblocking)?;
        self.subject = Some(subject);
        Ok(())
    }

    /// The next check begins with another process.
    pub(super) fn discard(&mut self) {
        (self.stdin, self.stdout) = (None, None);
        self.unwritten.clear();
        self.output.clear();
        self.subject = None;
    }

    pub(super) fn is_alive(&self) -> bool {
        self.subject.as_ref().is_some_and(|subject| !subject.has_ended())
    }

    /// How it has ended, in words. What it has left behind ends with that.
    pub(super) fn ending(&mut self) -> Option<String> {
        self.subject.as_mut().and_then(Subject::status).map(ending)
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        if let Some(subject) = &mut self.subject {
            subject.signal(signal);
        }
    }

    /// Writes this, as fast as the program reads it, while something is waited for.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.unwritten.extend_from_slice(bytes);
    }

    /// How much it has not taken yet.
    pub(super) fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    /// Its input ends here.
    pub(super) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Whether nobody can write to its output any more.
    pub(super) fn is_output_over(&self) -> bool {
        self.stdout.is_none()
    }

    /// Whether it came true within this time, and while anything could come of the program.
    pub(super) fn within(&mut self, time: Duration, mut check: impl FnMut(&mut Self) -> bool) -> bool {
        let mut deadline = now() + time;
        let mut has_ended = false;
        loop {
            let ended_before = !self.is_alive();
            self.turn();
            if check(self) {
                return true;
            }
            if ended_before && self.is_output_over() {
                return false;
            }
            if ended_before && !has_ended {
                has_ended = true;
                deadline = deadline.min(now() + LAST_WORDS);
            }
            let left = deadline.saturating_sub(now());
            if left.is_zero() || self.is_interrupted {
                return false;
            }
            self.wait(left, !has_ended);
        }
    }

    /// The part of one processor that it wanted while nobody wanted anything of it.
    pub(super) fn load_at_rest(&mut self) -> f64 {
        let used = |stage: &Self| stage.subject.as_ref().map_or(Duration::ZERO, Subject::processor_time);
        self.within(self.terms.watch / 4, |_stage| false);
        let (before, began) = (used(self), now());
        self.within(self.terms.watch, |_stage| false);
        let (used, took) = (used(self).saturating_sub(before), now().saturating_sub(began));
        used.as_secs_f64() / took.as_secs_f64().max(0.001)
    }

    /// Somebody wants it to end, and nothing is waited for any more.
    pub(super) fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }

    /// How it failed to come: it has ended, or took too long.
    pub(super) fn too_late(&mut self, what: &str) -> Failed {
        if self.is_alive() {
            return format!("{what} within {} s", self.terms.patience.as_secs_f64());
        }
        format!("{what}: it ended {}", self.ending().unwrap_or_else(|| "somehow".to_owned()))
    }

    /// Writes and reads as far as that goes.
    fn turn(&mut self) {
        if let Some(pipe) = &mut self.stdin {
            match pipe.write(&self.unwritten) {
                Ok(size) => drop(self.unwritten.drain(..size)),
                Err(error) if is_for_later(&error) => (),
                // Not to read to the end is a program's right.
                Err(_gone) => {
                    self.unwritten.clear();
                    self.stdin = None;
                }
            }
        }
        if let Some(pipe) = &mut self.stdout {
            let room = u64::try_from(MOST.saturating_sub(self.output.len())).unwrap_or(u64::MAX);
            match pipe.by_ref().take(room).read_to_end(&mut self.output) {
                Err(error) if is_for_later(&error) => (),
                Ok(_) if room == 0 || MOST <= self.output.len() => (),
                Ok(_) | Err(_) => self.stdout = None,
            }
        }
    }

    /// Until something can be written or read, or it ends, if it has not.
    fn wait(&mut self, time: Duration, for_its_end: bool) {
        let mut items = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if let (Some(pipe), false) = (&self.stdin, self.unwritten.is_empty()) {
            items.push(PollFd::new(pipe.as_fd(), PollFlags::POLLOUT));
        }
        if let (Some(pipe), true) = (&self.stdout, self.output.len() < MOST) {
            items.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        }
        if let (Some(subject), true) = (&self.subject, for_its_end) {
            items.push(PollFd::new(subject.watch(), PollFlags::POLLIN));
        }
        let timeout = u16::try_from(time.as_millis().saturating_add(1)).unwrap_or(u16::MAX);
        // Interrupted or not: whoever waits looks again.
        poll(&mut items, PollTimeout::from(timeout)).ok();
        self.is_interrupted |= items.first().is_some_and(|item| item.any() == Some(true));
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn set_nonblocking(pipe: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(pipe.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(pipe.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
