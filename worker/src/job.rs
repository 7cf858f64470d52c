//! One request, as its worker has it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use hornpipe_proto::worker::JobMeta;

use crate::clock;

/// One request to run.
#[derive(Debug)]
pub struct Job {
    token: Vec<u8>,
    meta: JobMeta,
    frames: Vec<Vec<u8>>,
    deadline: Option<Instant>,
}

impl Job {
    /// A job that has just been received.
    pub(crate) fn new(token: Vec<u8>, meta: JobMeta, frames: Vec<Vec<u8>>) -> Self {
        let timeout = meta.timeout_ms.map(Duration::from_millis);
        let deadline = timeout.and_then(clock::after);
        Self { token, meta, frames, deadline }
    }

    /// The request's name, for logs. A client may have chosen it, with any characters in it.
    pub fn id(&self) -> &str {
        &self.meta.id
    }

    /// 1 for the first worker that gets this request, then 2, ...
    pub fn attempt(&self) -> u32 {
        self.meta.attempt
    }

    /// The service that was asked for, if the broker says.
    pub fn service(&self) -> Option<&str> {
        self.meta.service.as_deref()
    }

    /// The frames of the body: at least one, each possibly empty.
    pub fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    /// The whole body, its frames joined.
    pub fn body(&self) -> Cow<'_, [u8]> {
        match self.frames.as_slice() {
            [frame] => Cow::Borrowed(frame),
            frames => Cow::Owned(frames.concat()),
        }
    }

    /// How long somebody will wait for the reply, counted from the call. Zero
    /// when that time is over, `None` when nobody set a limit.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
    }

    /// Whether its client has a name for the work, under which it may ask again.
    pub(crate) fn has_key(&self) -> bool {
        self.meta.key.is_some()
    }

    /// How many parts of the reply may be sent ahead, if it may come in parts.
    pub(crate) fn window(&self) -> Option<u32> {
        self.meta.window
    }

    /// The number under which it is claimed before it is begun, if it must be.
    pub(crate) fn claim(&self) -> Option<u32> {
        self.meta.claim
    }

    pub(crate) fn token(&self) -> &[u8] {
        &self.token
    }
}
