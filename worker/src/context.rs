//! What a handler may ask while it runs.

use std::time::Duration;

use tracing::warn;

use crate::session::Session;
use crate::{Job, clock};

/// What a handler may ask while it runs.
#[derive(Debug)]
pub struct Context<'a> {
    session: &'a mut Session,
    job: &'a Job,
}

impl<'a> Context<'a> {
    pub(crate) fn new(session: &'a mut Session, job: &'a Job) -> Self {
        Self { session, job }
    }

    /// How long somebody will still wait for the reply: see [`Job::remaining`].
    pub fn remaining(&self) -> Option<Duration> {
        self.job.remaining()
    }

    /// Whether nobody waits for the reply any more. Reads what the broker has
    /// sent and never blocks: cheap enough for every turn of a loop.
    pub fn cancelled(&mut self) -> bool {
        if let Err(error) = self.session.absorb() {
            warn!(%error, "cannot ask whether the request is cancelled");
        }
        self.session.is_cancelled()
    }

    /// Waits for this long, or less if the request is cancelled. True if it is.
    pub fn wait(&mut self, duration: Duration) -> bool {
        let until = clock::after(duration);
        while !self.session.is_cancelled() && until.is_none_or(|until| clock::now() < until) {
            if let Err(error) = self.session.poll(&[], until) {
                warn!(%error, "cannot wait");
                break;
            }
        }
        self.session.is_cancelled()
    }
}
