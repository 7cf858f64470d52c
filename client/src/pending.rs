//! Requests that are out: wait for them, take their parts, take them back.

use std::fmt;
use std::sync::{Arc, Condvar};
use std::time::Duration;

use crate::clock;
use crate::engine::Mail;
use crate::errand::Ticket;
use crate::error::AskError;
use crate::helm::Helm;
use crate::reply::Reply;

/// A request that is out. It is moved along while anybody waits for anything of its client.
///
/// Dropping it takes the request back, unless it has a key: then the work goes on, and the
/// same request sent again gets its reply. Dropping its client in the next moment, or ending
/// the program, may leave the message unsent; the broker then sees a client that leaves.
#[must_use = "dropping it takes the request back"]
pub struct Pending {
    pub(crate) helm: Arc<Helm>,
    pub(crate) ticket: Ticket,
    pub(crate) caller: Arc<Condvar>,
    /// Parts that came though nobody asked for parts.
    frames: Vec<Vec<u8>>,
    has_ended: bool,
}

/// The reply of a request, part by part as its worker makes them. An iterator.
///
/// A worker that answers in one piece gives one part. Dropping it takes the request back, as
/// for [`Pending`].
#[must_use = "dropping it takes the request back"]
pub struct Parts {
    pending: Pending,
    reply: Option<Reply>,
}

/// Takes a request back from another thread.
#[derive(Clone)]
pub struct Canceller {
    helm: Arc<Helm>,
    ticket: Ticket,
}

impl Pending {
    pub(crate) fn new(helm: Arc<Helm>, ticket: Ticket, caller: Arc<Condvar>) -> Self {
        Self { helm, ticket, caller, frames: Vec::new(), has_ended: false }
    }

    /// Waits for the reply.
    ///
    /// # Errors
    /// As [`crate::Client::request`].
    pub fn wait(mut self) -> Result<Reply, AskError> {
        loop {
            match self.next(None)? {
                Some(Mail::Part(mut frames)) => self.frames.append(&mut frames),
                Some(Mail::Done(ended)) => return self.finish(ended),
                None => {}
            }
        }
    }

    /// Waits for the reply, but not longer than this; nothing if it has not come. The
    /// request stays out.
    ///
    /// # Errors
    /// As [`crate::Client::request`], in `Some`.
    pub fn wait_for(&mut self, time: Duration) -> Option<Result<Reply, AskError>> {
        let until = clock::deadline(time);
        loop {
            match self.next(Some(until)) {
                Err(error) => return Some(Err(error)),
                Ok(None) => return None,
                Ok(Some(Mail::Part(mut frames))) => self.frames.append(&mut frames),
                Ok(Some(Mail::Done(ended))) => return Some(self.finish(ended)),
            }
        }
    }

    /// Takes it back: it ends in [`AskError::Refused`] with the status `cancelled`, within a
    /// second, unless the reply is already under way. Work with a key ends for everybody who
    /// waits for it.
    pub fn cancel(&self) {
        self.helm.cancel(self.ticket);
    }

    /// The same from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller { helm: Arc::clone(&self.helm), ticket: self.ticket }
    }

    fn next(&mut self, until: Option<std::time::Instant>) -> Result<Option<Mail>, AskError> {
        if self.helm.is_forked() {
            return Err(AskError::Forked);
        }
        if self.has_ended {
            return Ok(Some(Mail::Done(Err(AskError::Behind))));
        }
        let mail = self.helm.next(self.ticket, until, &self.caller);
        self.has_ended = matches!(mail, Some(Mail::Done(_)));
        Ok(mail)
    }

    fn finish(&mut self, ended: Result<Reply, AskError>) -> Result<Reply, AskError> {
        let mut frames = std::mem::take(&mut self.frames);
        ended.map(|reply| {
            frames.extend(reply.frames);
            Reply { frames, ..reply }
        })
    }
}

impl Parts {
    pub(crate) fn new(pending: Pending) -> Self {
        Self { pending, reply: None }
    }

    /// What there is to know of the reply beside its parts, once it has ended well. Its
    /// `frames` are empty.
    pub fn reply(&self) -> Option<&Reply> {
        self.reply.as_ref()
    }

    /// As [`Pending::cancel`].
    pub fn cancel(&self) {
        self.pending.cancel();
    }

    /// As [`Pending::canceller`].
    pub fn canceller(&self) -> Canceller {
        self.pending.canceller()
    }
}

impl Iterator for Parts {
    /// The frames of a part; an error is the last item.
    type Item = Result<Vec<Vec<u8>>, AskError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.pending.has_ended {
            return None;
        }
        match self.pending.next(None) {
            Ok(Some(Mail::Part(frames))) => Some(Ok(frames)),
            Ok(Some(Mail::Done(Ok(mut reply)))) => {
                let frames = std::mem::take(&mut reply.frames);
                self.reply = Some(reply);
                // The end of a reply in parts need not have one of its own.
                if frames.is_empty() { None } else { Some(Ok(frames)) }
            }
            Ok(Some(Mail::Done(Err(error)))) | Err(error) => {
                self.pending.has_ended = true;
                Some(Err(error))
            }
            Ok(None) => None,
        }
    }
}

impl Canceller {
    /// As [`Pending::cancel`].
    pub fn cancel(&self) {
        self.helm.cancel(self.ticket);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.has_ended {
            self.helm.leave(self.ticket);
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("reply", &self.reply).finish_non_exhaustive()
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
