//! The adapter for a long-lived program that reads a message and answers a message. How
//! they are told apart is in `framing.rs`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use tracing::{debug, error};

use crate::children::{Children, Family};
use crate::framing::{Answer, BadAnswer, Framing, OVERHEAD};
use crate::pipe::{self, Flow, ReaderGone};
use crate::program::Program;
use crate::session::{Next, Session, Watch};
use crate::{Failure, Job, Reply, ServeError, Settings, State, Stopped, clock};

/// How long a program may take to end by itself when its input has ended.
const GRACE: Duration = Duration::from_secs(1);

/// What is read in one turn, so that the broker is heard in between.
const TURN: usize = 1024 * 1024;

/// The exit code for a program that breaks the rule of one answer for one question.
const MISBEHAVED: u8 = 1;

/// Gives each request to a long-lived program as a message, until the broker says
/// stop or the program ends.
///
/// The frames of the body are joined, and written as [`Settings::framing`] says; with
/// [`crate::Framing::Line`], a body with a line break is refused with an error. The reply, of one
/// frame, is the next message that the program writes. Its standard error is this process's.
///
/// A program that ends takes this worker with it ([`Stopped::WithProgram`]), a
/// request in hand is not answered: the broker treats it as held by a worker that
/// died. So does one that writes what nobody asked for, because every answer
/// after it would be another request's; and one whose request is cancelled,
/// because it cannot be interrupted between messages. What it writes before it has begun
/// to read its question, nobody asked for.
///
/// This takes charge of all children of the process, and of the main thread.
///
/// # Errors
/// [`ServeError::NotExecutable`] before anything is announced; later as for
/// [`crate::serve`].
pub fn lines(
    settings: &Settings,
    argv: &[OsString],
    mut observer: impl FnMut(State),
) -> Result<Stopped, ServeError> {
    let program = Program::find(argv, settings)?;
    let children = Children::adopt()?;
    let mut dialogue = Dialogue::begin(&program, children, settings)?;
    let mut session = Session::open(settings)?;
    observer(State::Waiting);
    loop {
        let end = match session.take_next() {
            Some(Next::Job(job)) => {
                observer(State::Processing);
                session.announce(State::Processing)?;
                let end = dialogue.answer(&mut session, &job)?;
                observer(State::Waiting);
                end
            }
            Some(Next::Stop) => {
                observer(State::Exiting);
                session.leave("stop")?;
                dialogue.end(&mut session, Urgency::Polite)?;
                return Ok(Stopped::ByBroker);
            }
            None => dialogue.listen(&mut session)?,
        };
        if let Some(end) = end {
            observer(State::Exiting);
            let exit_code = dialogue.close(&mut session, end)?;
            return Ok(Stopped::WithProgram { exit_code });
        }
    }
}

/// Why there can be no further question.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The program has ended, or has closed a pipe to us, which is about the same.
    ByProgram,
    /// It said something that nobody asked for, or too much.
    Misbehaved,
    /// Nobody waits for the answer that it is working on.
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// It may end by itself.
    Polite,
    /// TERM at once.
    Prompt,
}

/// A program and the messages to and from it.
struct Dialogue {
    children: Children,
    pid: Pid,
    family: Family,
    status: Option<ExitStatus>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    /// Read, and not yet answered with.
    input: Vec<u8>,
    framing: Framing,
    answer_limit: usize,
}

impl Dialogue {
    fn begin(program: &Program, children: Children, settings: &Settings) -> Result<Self, ServeError> {
        let family = Family::of_next_program();
        let child = program
            .start(&[], Stdio::inherit())
            .map_err(|why| ServeError::NotExecutable { program: program.name(), why: why.to_string() })?;
        Ok(Self {
            children,
            pid: Pid::from_raw(child.id().cast_signed()),
            family,
            status: None,
            stdin: child.stdin,
            stdout: child.stdout,
            input: Vec::new(),
            framing: settings.framing,
            answer_limit: settings.output_limit,
        })
    }

    /// Waits for the broker while the program has nothing to say.
    fn listen(&mut self, session: &mut Session) -> Result<Option<End>, ServeError> {
        session.poll(&self.watches(&[]), None)?;
        let flow = self.read();
        if !self.input.is_empty() {
            return Ok(Some(self.complain()));
        }
        Ok((flow == Flow::Ended || self.status.is_some()).then_some(End::ByProgram))
    }

    /// Asks the program, and replies with its answer.
    fn answer(&mut self, session: &mut Session, job: &Job) -> Result<Option<End>, ServeError> {
        // What was written before the question is not the answer to it.
        if self.read() == Flow::Ended {
            return Ok(Some(End::ByProgram));
        }
        if !self.input.is_empty() {
            return Ok(Some(self.complain()));
        }
        let question = match self.framing.wrap(job.body().into_owned()) {
            Ok(question) => question,
            Err(failure) => {
                session.reply(job, Err(failure))?;
                return Ok(None);
            }
        };
        let mut unwritten = question.as_slice();
        let mut searched = 0;
        loop {
            if let Some(pipe) = &mut self.stdin {
                match pipe::write_available(pipe, unwritten) {
                    Ok(rest) => unwritten = rest,
                    Err(ReaderGone) => return Ok(Some(End::ByProgram)),
                }
            }
            let flow = self.read();
            match self.framing.find(&self.input, searched, self.answer_limit) {
                Ok(Some(_)) | Err(_) if !self.has_begun(question.len() - unwritten.len()) => {
                    return Ok(Some(self.complain()));
                }
                Ok(Some(answer)) => return self.reply(session, job, &answer),
                Ok(None) => searched = self.input.len(),
                Err(bad) => {
                    session.reply(job, Err(Failure::new(self.objection(&bad))))?;
                    return Ok(Some(End::Misbehaved));
                }
            }
            // Its last answer may lie behind what this turn has read.
            if flow == Flow::Ended || (self.status.is_some() && flow == Flow::Dry) {
                return Ok(Some(End::ByProgram));
            }
            if session.is_cancelled() {
                return Ok(Some(End::Cancelled));
            }
            session.poll(&self.watches(unwritten), None)?;
        }
    }

    /// Whether the program has read any of the question, of which so much was written.
    fn has_begun(&self, written: usize) -> bool {
        self.stdin.as_ref().is_none_or(|pipe| pipe::unread(pipe) < written)
    }

    fn objection(&self, bad: &BadAnswer) -> String {
        match (bad, self.framing) {
            (BadAnswer::TooLong, Framing::Line) => {
                format!("the program wrote a line of more than {} bytes", self.answer_limit)
            }
            (BadAnswer::TooLong, Framing::Length | Framing::Netstring) => {
                format!("the program announced a reply of more than {} bytes", self.answer_limit)
            }
            (BadAnswer::Unreadable(why), _) => format!("the program's reply cannot be read: {why}"),
        }
    }

    fn reply(
        &mut self,
        session: &mut Session,
        job: &Job,
        answer: &Answer,
    ) -> Result<Option<End>, ServeError> {
        let rest = self.input.split_off(answer.end);
        let mut body = mem::replace(&mut self.input, rest);
        body.truncate(answer.body.end);
        body.drain(..answer.body.start);
        session.reply(job, Ok(Reply::from(body)))?;
        Ok((!self.input.is_empty()).then(|| self.complain()))
    }

    /// Passes on what nobody asked for.
    fn complain(&mut self) -> End {
        error!("the program wrote something without being asked");
        let written = io::stderr().write_all(&mem::take(&mut self.input));
        if let Err(error) = written {
            debug!(%error, "cannot pass on what the program says");
        }
        End::Misbehaved
    }

    /// Reads what there is, and learns whether the program has ended.
    fn read(&mut self) -> Flow {
        // Asked before the pipe is read: what a program wrote is there when it has ended.
        self.status = self.status.or(self.children.reap(Some(self.pid)));
        let Some(pipe) = &mut self.stdout else {
            return Flow::Ended;
        };
        // One byte more than is allowed tells that there is too much.
        let room = self.answer_limit.saturating_add(OVERHEAD + 1).saturating_sub(self.input.len());
        pipe::read_available(pipe, &mut self.input, room.min(TURN))
    }

    fn watches(&self, unwritten: &[u8]) -> Vec<Watch<'_>> {
        let mut watches = vec![self.children.watch()];
        watches.extend(self.stdout.as_ref().map(|pipe| Watch::readable(pipe.as_fd())));
        if !unwritten.is_empty() {
            watches.extend(self.stdin.as_ref().map(|pipe| Watch::writable(pipe.as_fd())));
        }
        watches
    }

    /// Ends what is left of the program. Returns the exit code for this process.
    fn close(&mut self, session: &mut Session, end: End) -> Result<u8, ServeError> {
        session.retire();
        match end {
            End::ByProgram => self.end(session, Urgency::Polite),
            End::Cancelled => self.end(session, Urgency::Prompt),
            End::Misbehaved => self.end(session, Urgency::Prompt).map(|_code| MISBEHAVED),
        }
    }

    fn end(&mut self, session: &mut Session, urgency: Urgency) -> Result<u8, ServeError> {
        self.stdin = None;
        self.stdout = None;
        let mut deadline = clock::after(GRACE);
        if urgency == Urgency::Prompt {
            deadline = None;
            self.family.end();
        }
        loop {
            self.status = self.status.or(self.children.reap(Some(self.pid)));
            if is_over(deadline) {
                deadline = None;
                self.family.end();
            }
            self.family.press();
            match self.status {
                Some(status) if self.family.is_settled() => return Ok(exit_code(status)),
                _ if self.family.is_given_up() => return Ok(MISBEHAVED),
                _ => (),
            }
            session.poll(&self.watches(&[]), deadline.or(self.family.deadline()))?;
        }
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= clock::now())
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|number| 128 + number));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(MISBEHAVED)
}
