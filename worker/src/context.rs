//! What a handler may ask while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::warn;

use crate::session::Session;
use crate::{Cancelled, Job, Reply, ServeError, clock};

/// What a handler may ask while it runs: about its request, what its [`Job`] says too; and whether
/// anybody still waits.
///
/// ```
/// use hornpipe_worker::{Context, Failure, Job};
///
/// fn resize(job: &Job, context: &mut Context<'_>) -> Result<Vec<u8>, Failure> {
///     let width = context.header("width").unwrap_or(b"640");
///     let width = String::from_utf8_lossy(width).parse::<u32>().map_err(|error| error.to_string())?;
///     println!("[{}] attempt {}, {:?} left", context.request_id(), context.attempt(), context.remaining());
///     for _row in 0..width {
///         if context.cancelled() {
///             return Err("nobody waits any more".into());
///         }
///     }
///     Ok(job.body().into_owned())
/// }
/// ```
#[derive(Debug)]
pub struct Context<'a> {
    session: &'a mut Session,
    job: &'a Job,
}

impl<'a> Context<'a> {
    pub(crate) fn new(session: &'a mut Session, job: &'a Job) -> Self {
        Self { session, job }
    }

    /// The request's name, for logs: see [`Job::id`].
    pub fn request_id(&self) -> &str {
        self.job.id()
    }

    /// 1 for the first worker that gets this request, then 2, ...
    pub fn attempt(&self) -> u32 {
        self.job.attempt()
    }

    /// The service that was asked for, if the broker says.
    pub fn service(&self) -> Option<&str> {
        self.job.service()
    }

    /// The client's name for the work: see [`Job::key`].
    pub fn key(&self) -> Option<&str> {
        self.job.key()
    }

    /// The client's `traceparent`: see [`Job::trace`].
    pub fn trace(&self) -> Option<&str> {
        self.job.trace()
    }

    /// The value of one of the client's headers: see [`Job::header`].
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.job.header(name)
    }

    /// All headers of the client: see [`Job::headers`].
    pub fn headers(&self) -> BTreeMap<&str, &[u8]> {
        self.job.headers()
    }

    /// How long somebody will still wait for the reply: see [`Job::remaining`].
    pub fn remaining(&self) -> Option<Duration> {
        self.job.remaining()
    }

    /// Whether nobody waits for the reply any more. Reads what the broker has
    /// sent and never blocks: cheap enough for every turn of a loop.
    pub fn cancelled(&mut self) -> bool {
        self.with_session("ask whether the request is cancelled", Session::absorb);
        self.session.is_cancelled()
    }

    /// Sends a part of the reply: what the handler returns is its end. May wait, because the
    /// broker takes only so many parts ahead of a client that reads slowly.
    ///
    /// A client that reads parts has it at once. Any other gets all parts as the frames of one
    /// reply, and so does everybody behind a broker that knows no parts. Once a part has gone
    /// out, the request is not tried again: if this worker dies, it is lost.
    ///
    /// ```
    /// use hornpipe_worker::{Context, Failure, Job};
    ///
    /// fn count(job: &Job, context: &mut Context<'_>) -> Result<String, Failure> {
    ///     for word in String::from_utf8_lossy(&job.body()).split_whitespace() {
    ///         context.send_part(word)?;
    ///     }
    ///     Ok("that was all".into())
    /// }
    /// ```
    ///
    /// # Errors
    /// Nobody waits for the reply any more, so the handler should end: with `?`.
    pub fn send_part(&mut self, body: impl Into<Reply>) -> Result<(), Cancelled> {
        let job = self.job;
        let sent = self.with_session("send a part of a reply", |session| session.send_part(job, body.into()));
        sent.unwrap_or(Err(Cancelled))
    }

    /// Waits for this long, or less if the request is cancelled. True if it is.
    pub fn wait(&mut self, duration: Duration) -> bool {
        let until = clock::after(duration);
        self.with_session("wait", |session| {
            while !session.is_cancelled() && until.is_none_or(|until| clock::now() < until) {
                session.poll(&[], until)?;
            }
            Ok(())
        });
        self.session.is_cancelled()
    }

    /// Does this in between, while the handler does not run.
    fn with_session<T>(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Session) -> Result<T, ServeError>,
    ) -> Option<T> {
        let done = || {
            self.session.end_handler()?;
            let value = act(self.session)?;
            self.session.resume_handler()?;
            Ok::<T, ServeError>(value)
        };
        done().inspect_err(|error| warn!(%error, "cannot {what}")).ok()
    }
}
