//! The loop of a worker: take a job, run it, reply, until told to stop.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::warn;

use crate::session::{Next, Session};
use crate::{Context, Failure, Handler, Job, Reply, Settings, State};

/// Why a worker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// The broker asked for it, and all that was in hand is answered.
    ByBroker,
    /// The program has asked for it with its [`crate::StopHandle`], and all that was in hand is answered.
    ByProgram,
    /// The program of [`crate::lines`] has ended, or had to be ended. The
    /// process should leave with this code too, so that the broker sees a
    /// worker that died.
    WithProgram {
        /// The program's exit code, 128 + n for signal n, or 1 if it misbehaved.
        exit_code: u8,
    },
}

/// Why a worker cannot work.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The backend is no endpoint.
    Endpoint {
        /// What was to be connected to.
        endpoint: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Service and name together are too long for an announcement.
    AnnouncementTooLarge {
        /// The announcement's size in bytes.
        size: usize,
    },
    /// The program of an adapter cannot be executed at all.
    NotExecutable {
        /// The program as it was named.
        program: String,
        /// Why not.
        why: String,
    },
    /// The system refuses something that every worker needs.
    System(io::Error),
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Endpoint { endpoint, why } => write!(f, "cannot connect to {endpoint:?}: {why}"),
            Self::AnnouncementTooLarge { size } => write!(
                f,
                "service and name are too long: an announcement of {size} bytes, at most {} are read",
                hornpipe_proto::MAP_LIMIT
            ),
            Self::NotExecutable { program, why } => write!(f, "cannot execute {program:?}: {why}"),
            Self::System(error) => write!(f, "the system refuses what a worker needs: {error}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(source) => Some(source),
            Self::Endpoint { .. } | Self::AnnouncementTooLarge { .. } | Self::NotExecutable { .. } => None,
        }
    }
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Serves requests with this handler until the broker says stop.
///
/// The observer is told each state that the worker enters. A broker that goes
/// away is waited for without limit: its successor is found at the same endpoint.
///
/// # Errors
/// When the worker cannot begin, or this process was forked while it worked.
pub fn serve(
    settings: &Settings,
    handler: impl Handler,
    observer: impl FnMut(State),
) -> Result<Stopped, ServeError> {
    let mut session = Session::open(settings)?;
    session.post_sentry();
    run(&mut session, &mut Handled { handler }, observer)
}

/// What a kind of worker does in the loop.
pub(crate) trait Work {
    /// Runs a job and replies to it.
    fn perform(&mut self, session: &mut Session, job: &Job) -> Result<(), ServeError>;

    /// Waits for the broker, and sees to what else has to be seen to.
    fn idle(&mut self, session: &mut Session) -> Result<(), ServeError> {
        session.poll(&[], None)
    }
}

/// The loop.
pub(crate) fn run(
    session: &mut Session,
    work: &mut impl Work,
    mut observer: impl FnMut(State),
) -> Result<Stopped, ServeError> {
    observer(State::Waiting);
    loop {
        match session.take_next() {
            None => work.idle(session)?,
            Some(Next::Job(job)) => {
                observer(State::Processing);
                // Whoever claims a job has said so already.
                if job.claim().is_none() {
                    session.announce(State::Processing)?;
                }
                work.perform(session, &job)?;
                session.look_up()?;
                observer(State::Waiting);
            }
            Some(Next::Stop) => {
                observer(State::Exiting);
                session.leave("stop")?;
                return Ok(session.who_stopped());
            }
        }
    }
}

struct Handled<H> {
    handler: H,
}

impl<H: Handler> Work for Handled<H> {
    fn perform(&mut self, session: &mut Session, job: &Job) -> Result<(), ServeError> {
        let outcome = attempt(&mut self.handler, job, session)?;
        session.reply(job, outcome)
    }
}

/// Calls the handler, and makes a failure of its panic.
pub(crate) fn attempt(
    handler: &mut impl Handler,
    job: &Job,
    session: &mut Session,
) -> Result<Result<Reply, Failure>, ServeError> {
    session.begin_handler();
    let mut context = Context::new(session, job);
    // The session is left in order by every function that a handler can reach, and
    // whether the handler itself bears an unwind is a part of its contract.
    let outcome = catch_unwind(AssertUnwindSafe(|| handler.handle(job, &mut context)));
    session.end_handler()?;
    Ok(outcome.unwrap_or_else(|panic| Err(failure_of_panic(panic.as_ref()))))
}

/// What the client is told of a panic.
pub(crate) fn failure_of_panic(panic: &(dyn Any + Send)) -> Failure {
    let message = panic_message(panic);
    warn!(message, "the handler panicked");
    Failure::new(format!("the handler panicked: {message}"))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
