//! The adapter for a program that runs once for each request: body in on its
//! standard input, reply out of its standard output.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tracing::debug;

use crate::children::{Children, Family};
use crate::pipe::{self, Flow};
use crate::program::Program;
use crate::serve::{self, Work};
use crate::session::{Session, Watch};
use crate::{Failure, Job, Reply, ServeError, Settings, State, Stopped};

/// What is read from a pipe in one turn, so that the broker is heard in between.
const TURN: usize = 1024 * 1024;

/// How much of a failed program's standard error its client is told.
const LAST_WORDS: usize = 2 * 1024;

/// Runs a program for each request until the broker says stop.
///
/// The frames of the body, joined, are the program's standard input, and its
/// standard output is the reply. An exit code other than zero, or a signal, is
/// an error that ends with the last 2 KiB of its standard error; all of that goes
/// to this process's standard error as well. `HORNPIPE_REQUEST_ID`,
/// `HORNPIPE_REQUEST_ATTEMPT` and, if somebody waits only for so long,
/// `HORNPIPE_REQUEST_TIMEOUT_MS` are in its environment.
///
/// The reply is sent when the program has ended; a process that it left in the
/// background is not waited for. The program of a cancelled request is ended
/// with all that it has started.
///
/// This takes charge of all children of the process, and of the main thread.
///
/// # Errors
/// [`ServeError::NotExecutable`] before anything is announced; later as for
/// [`crate::serve`].
pub fn each(
    settings: &Settings,
    argv: &[OsString],
    observer: impl FnMut(State),
) -> Result<Stopped, ServeError> {
    let program = Program::find(argv, settings)?;
    let mut work = Each { program, children: Children::adopt()?, output_limit: settings.output_limit };
    serve::run(&mut Session::open(settings)?, &mut work, observer)
}

#[derive(Debug)]
struct Each {
    program: Program,
    children: Children,
    output_limit: usize,
}

impl Work for Each {
    fn perform(&mut self, session: &mut Session, job: &Job) -> Result<(), ServeError> {
        self.children.reap(None);
        let family = Family::of_next_program();
        let outcome = match self.program.start(&variables(job), Stdio::piped()) {
            Ok(child) => {
                let body = job.body();
                let run = Run::new(child, family, &body, self.output_limit);
                run.finish(session, &self.children)?
            }
            Err(error) => Err(Failure::retry(format!("cannot start {}: {error}", self.program.name()))),
        };
        session.reply(job, outcome)
    }

    fn idle(&mut self, session: &mut Session) -> Result<(), ServeError> {
        session.poll(&[self.children.watch()], None)?;
        self.children.reap(None);
        Ok(())
    }
}

fn variables(job: &Job) -> [(&'static str, Option<String>); 3] {
    // Clients choose ids, and no variable can hold a NUL.
    let id = job.id().replace('\0', "\u{fffd}");
    let timeout = job.remaining().map(|remaining| remaining.as_millis().to_string());
    [
        ("HORNPIPE_REQUEST_ID", Some(id)),
        ("HORNPIPE_REQUEST_ATTEMPT", Some(job.attempt().to_string())),
        ("HORNPIPE_REQUEST_TIMEOUT_MS", timeout),
    ]
}

/// A program at work on one request.
struct Run<'a> {
    pid: Pid,
    family: Family,
    status: Option<ExitStatus>,
    interruption: Option<Failure>,
    stdin: Option<ChildStdin>,
    unwritten: &'a [u8],
    stdout: Option<ChildStdout>,
    output: Vec<u8>,
    output_limit: usize,
    stderr: Option<ChildStderr>,
    last_words: Vec<u8>,
}

impl<'a> Run<'a> {
    fn new(child: Child, family: Family, body: &'a [u8], output_limit: usize) -> Self {
        Self {
            pid: Pid::from_raw(child.id().cast_signed()),
            family,
            status: None,
            interruption: None,
            stdin: child.stdin,
            unwritten: body,
            stdout: child.stdout,
            output: Vec::new(),
            output_limit,
            stderr: child.stderr,
            last_words: Vec::new(),
        }
    }

    fn finish(
        mut self,
        session: &mut Session,
        children: &Children,
    ) -> Result<Result<Reply, Failure>, ServeError> {
        loop {
            self.write();
            // Asked before the pipes are read: what a program wrote is there when it has ended.
            self.status = self.status.or(children.reap(Some(self.pid)));
            self.read_output();
            self.read_errors();
            if session.is_cancelled() && self.interruption.is_none() {
                self.interruption = Some(Failure::new("cancelled"));
                self.family.end();
            }
            self.family.press();
            if self.family.is_given_up() || (self.status.is_some() && self.family.is_settled()) {
                return Ok(self.outcome());
            }
            let deadline = self.family.deadline();
            session.poll(&self.watches(children), deadline)?;
        }
    }

    fn watches<'b>(&'b self, children: &'b Children) -> Vec<Watch<'b>> {
        let mut watches = vec![children.watch()];
        watches.extend(self.stdin.as_ref().map(|pipe| Watch::writable(pipe.as_fd())));
        watches.extend(self.stdout.as_ref().map(|pipe| Watch::readable(pipe.as_fd())));
        watches.extend(self.stderr.as_ref().map(|pipe| Watch::readable(pipe.as_fd())));
        watches
    }

    fn write(&mut self) {
        if let Some(pipe) = &mut self.stdin {
            // Not to read to the end is a program's right.
            self.unwritten = pipe::write_available(pipe, self.unwritten).unwrap_or_default();
        }
        if self.unwritten.is_empty() {
            self.stdin = None;
        }
    }

    /// How much of a pipe is read in one turn. When the program has ended, all that is its is in
    /// the pipe, and whatever it has left behind may go on filling that for ever.
    fn room(&self, pipe: impl AsFd) -> usize {
        if self.status.is_some() { pipe::unread(pipe) } else { TURN }
    }

    fn read_output(&mut self) {
        let Some(mut pipe) = self.stdout.take() else { return };
        // One byte more than is allowed tells that there is too much.
        let room = self.output_limit.saturating_add(1).saturating_sub(self.output.len());
        let room = room.min(self.room(&pipe));
        let flow = pipe::read_available(&mut pipe, &mut self.output, room);
        if self.output_limit < self.output.len() {
            let message = format!("the program wrote more than {} bytes", self.output_limit);
            self.interruption = Some(Failure::new(message));
            self.family.kill();
        } else if flow != Flow::Ended {
            self.stdout = Some(pipe);
        }
    }

    fn read_errors(&mut self) {
        let Some(mut pipe) = self.stderr.take() else { return };
        let old = self.last_words.len();
        let room = self.room(&pipe);
        let flow = pipe::read_available(&mut pipe, &mut self.last_words, room);
        let new = self.last_words.get(old..).unwrap_or_default();
        if let Err(error) = io::stderr().write_all(new) {
            debug!(%error, "cannot pass on what the program says");
        }
        let excess = self.last_words.len().saturating_sub(LAST_WORDS);
        self.last_words.drain(..excess);
        if flow != Flow::Ended {
            self.stderr = Some(pipe);
        }
    }

    fn outcome(self) -> Result<Reply, Failure> {
        if let Some(failure) = self.interruption {
            return Err(failure);
        }
        match self.status {
            Some(status) if status.success() => Ok(self.output.into()),
            Some(status) => {
                let last_words = String::from_utf8_lossy(&self.last_words);
                match last_words.trim() {
                    "" => Err(Failure::new(name(status))),
                    last_words => Err(Failure::new(format!("{}: {last_words}", name(status)))),
                }
            }
            None => Err(Failure::new("the program could not be ended")),
        }
    }
}

fn name(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, None) => status.to_string(),
    }
}
