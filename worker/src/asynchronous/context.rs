//! What an asynchronous handler may ask and say while it runs. Its words go to the worker's loop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hornpipe_proto::worker::ReplyMeta;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::job::Details;
use crate::{Cancelled, Reply};

/// What an asynchronous handler may ask, also from tasks of its own: they need no [`Job`](crate::Job) to know
/// whose work they do.
///
/// ```
/// use hornpipe_worker::{AsyncContext, Failure, Job};
///
/// async fn fetch(job: Job, context: AsyncContext) -> Result<String, Failure> {
///     let lookup = tokio::spawn(async move {
///         println!("{} (trace {})", context.request_id(), context.trace().unwrap_or("none"));
///         context.header("tenant").map(<[u8]>::to_vec)
///     });
///     let tenant = lookup.await.map_err(|error| error.to_string())?;
///     Ok(format!("{} bytes for {tenant:?}", job.body().len()))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct AsyncContext {
    pub(super) details: Arc<Details>,
    pub(super) words: mpsc::UnboundedSender<Word>,
    pub(super) cancelled: watch::Receiver<bool>,
    pub(super) parts: Arc<Parts>,
}

/// The parts of one reply.
#[derive(Debug)]
pub(super) enum Parts {
    /// The broker takes them: one for each permit.
    Sent(Semaphore),
    /// It takes one message: these frames come first in it.
    Joined(Mutex<Vec<Vec<u8>>>),
}

/// What a handler has to say.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) of: Arc<Details>,
    pub(super) meta: ReplyMeta,
    pub(super) body: Vec<Vec<u8>>,
}

impl AsyncContext {
    /// The request's name, for logs: see [`Job::id`](crate::Job::id).
    pub fn request_id(&self) -> &str {
        self.details.id()
    }

    /// 1 for the first worker that gets this request, then 2, ...
    pub fn attempt(&self) -> u32 {
        self.details.attempt()
    }

    /// The service that was asked for, if the broker says.
    pub fn service(&self) -> Option<&str> {
        self.details.service()
    }

    /// The client's name for the work: see [`Job::key`](crate::Job::key).
    pub fn key(&self) -> Option<&str> {
        self.details.key()
    }

    /// The client's `traceparent`: see [`Job::trace`](crate::Job::trace).
    pub fn trace(&self) -> Option<&str> {
        self.details.trace()
    }

    /// The value of one of the client's headers: see [`Job::header`](crate::Job::header).
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.details.header(name)
    }

    /// All headers of the client: see [`Job::headers`](crate::Job::headers).
    pub fn headers(&self) -> BTreeMap<&str, &[u8]> {
        self.details.headers()
    }

    /// How long somebody will still wait for the reply: see [`Job::remaining`](crate::Job::remaining).
    pub fn remaining(&self) -> Option<Duration> {
        self.details.remaining()
    }

    /// Whether nobody waits for the reply any more.
    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Comes to an end when nobody waits for the reply any more.
    pub async fn cancelled(&self) {
        let mut cancelled = self.cancelled.clone();
        // The other side is gone only when the worker has ended, and then nobody waits either.
        cancelled.wait_for(|cancelled| *cancelled).await.ok();
    }

    /// Sends a part of the reply, like [`Context::send_part`](crate::Context::send_part).
    ///
    /// # Errors
    /// Nobody waits for the reply any more, so the handler should end: with `?`.
    pub async fn send_part(&self, body: impl Into<Reply>) -> Result<(), Cancelled> {
        let body = body.into().into_frames();
        match &*self.parts {
            Parts::Joined(_) if self.is_cancelled() => Err(Cancelled),
            Parts::Joined(frames) => {
                frames.lock().unwrap_or_else(PoisonError::into_inner).extend(body);
                Ok(())
            }
            Parts::Sent(room) => {
                // Closed when the request is cancelled or forgotten.
                room.acquire().await.map_err(|_closed| Cancelled)?.forget();
                let meta = ReplyMeta { more: true, ..ReplyMeta::default() };
                self.words
                    .send(Word { of: Arc::clone(&self.details), meta, body })
                    .map_err(|_ended| Cancelled)
            }
        }
    }

    pub(super) fn take_joined(&self) -> Vec<Vec<u8>> {
        match &*self.parts {
            Parts::Sent(_) => Vec::new(),
            Parts::Joined(frames) => {
                std::mem::take(&mut *frames.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}
