//! One request, as its worker has it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hornpipe_proto::JobView;
use hornpipe_proto::worker::{BrokerMessage, Control, HEAD_LEN, WorkerMessageError};

use crate::clock;

/// One request to run.
#[derive(Debug)]
pub struct Job {
    details: Arc<Details>,
    frames: Vec<Vec<u8>>,
}

impl Job {
    fn new(details: Details, frames: Vec<Vec<u8>>) -> Self {
        Self { details: Arc::new(details), frames }
    }

    /// The request's name, for logs. A client may have chosen it, with any characters in it.
    pub fn id(&self) -> &str {
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

    /// The client's name for the work, if it has given one: the same when it asks again.
    pub fn key(&self) -> Option<&str> {
        self.details.key()
    }

    /// The client's `traceparent` of W3C's Trace Context, if it has sent one. Nobody has checked it.
    pub fn trace(&self) -> Option<&str> {
        self.details.trace()
    }

    /// The value of one of the client's headers. A client decides which there are and what is in them.
    ///
    /// ```
    /// use hornpipe_worker::{Context, Failure, Job};
    ///
    /// fn greet(job: &Job, _context: &mut Context<'_>) -> Result<String, Failure> {
    ///     let tenant = job.header("tenant").ok_or("a header `tenant` is missing")?;
    ///     Ok(format!("{} for {}", String::from_utf8_lossy(&job.body()), String::from_utf8_lossy(tenant)))
    /// }
    /// ```
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.details.header(name)
    }

    /// All headers of the client, in the order of their names. They are read anew by each call, and
    /// never for a request whose handler does not ask.
    pub fn headers(&self) -> BTreeMap<&str, &[u8]> {
        self.details.headers()
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
        self.details.remaining()
    }

    /// The number under which it is claimed before it is begun, if it must be.
    pub(crate) fn claim(&self) -> Option<u32> {
        self.details.claim
    }

    pub(crate) fn token(&self) -> &[u8] {
        &self.details.token
    }

    pub(crate) fn details(&self) -> &Arc<Details> {
        &self.details
    }
}

/// What came with a job beside its body: the frames as they came, and of the map what every job needs.
#[derive(Debug)]
pub(crate) struct Details {
    pub(crate) token: Vec<u8>,
    meta: Vec<u8>,
    attempt: u32,
    deadline: Option<Instant>,
    /// Its client has a name for the work, under which it may ask again.
    pub(crate) has_key: bool,
    /// How many parts of the reply may be sent ahead, if it may come in parts.
    pub(crate) window: Option<u32>,
    claim: Option<u32>,
}

impl Details {
    pub(crate) fn id(&self) -> &str {
        self.view().id
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn service(&self) -> Option<&str> {
        self.view().service
    }

    pub(crate) fn key(&self) -> Option<&str> {
        self.view().key
    }

    pub(crate) fn trace(&self) -> Option<&str> {
        self.view().trace
    }

    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().remove(name)
    }

    pub(crate) fn headers(&self) -> BTreeMap<&str, &[u8]> {
        self.view().headers()
    }

    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
    }

    /// It was readable when it came.
    fn view(&self) -> JobView<'_> {
        JobView::of(&self.meta).unwrap_or_default()
    }
}

/// What a broker has sent.
#[derive(Debug)]
pub(crate) enum Received {
    Job(Job),
    Control(Control),
}

impl Received {
    /// What these frames are. A job that has just been received: its time runs from here on.
    pub(crate) fn read(mut frames: Vec<Vec<u8>>) -> Result<Self, WorkerMessageError> {
        let Some(view) = JobView::of_message(&frames)? else {
            return match BrokerMessage::decode(&frames)? {
                BrokerMessage::Control(control) => Ok(Self::Control(control)),
                BrokerMessage::Job { .. } => Err(WorkerMessageError::Shape { frames: frames.len() }),
            };
        };
        let details = Details {
            token: Vec::new(),
            meta: Vec::new(),
            attempt: view.attempt,
            deadline: view.timeout_ms.map(Duration::from_millis).and_then(clock::after),
            has_key: view.key.is_some(),
            window: view.window,
            claim: view.claim,
        };
        let body = frames.split_off(HEAD_LEN.min(frames.len()));
        let mut head = frames.into_iter().skip(1);
        let mut next = || head.next().unwrap_or_default();
        Ok(Self::Job(Job::new(Details { token: next(), meta: next(), ..details }, body)))
    }
}
