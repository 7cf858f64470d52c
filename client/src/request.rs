//! What a client asks.

use std::time::Duration;

use hornpipe_proto::client::{KEY_LIMIT, RequestMeta};
use hornpipe_proto::{HEADERS_BYTES, HEADERS_COUNT, Headers, MAP_LIMIT, Priority};

use crate::error::AskError;

/// The frames of a request's body. At least one: no frames become one empty frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Vec<Vec<u8>>);

/// A request, and what this one wants otherwise than its client's others.
///
/// ```
/// use std::time::Duration;
/// use hornpipe_client::{Priority, Request};
///
/// let request = Request::new("resize 4711")
///     .service("images")
///     .key("resize-4711") // sent again, it is not run again
///     .priority(Priority::High)
///     .timeout(Duration::from_secs(5));
/// # drop(request);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) body: Body,
    pub(crate) timeout: Option<Duration>,
    pub(crate) tries: Option<u32>,
    pub(crate) meta: RequestMeta,
}

impl Request {
    /// A request for the broker's default service, with its client's timeout.
    pub fn new(body: impl Into<Body>) -> Self {
        Self { body: body.into(), timeout: None, tries: None, meta: RequestMeta::default() }
    }

    /// How long to wait for the reply in all, over every try.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How often to send it before it is given up, at least once; see
    /// [`crate::Builder::tries`].
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = Some(tries.max(1));
        self
    }

    /// The service to ask.
    #[must_use]
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.meta.service = Some(service.into());
        self
    }

    /// How many workers the broker may give it to, one after another, if they
    /// die. How often the client sends it is [`crate::Builder::tries`].
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.meta.attempts = Some(attempts);
        self
    }

    /// Names the work: while the broker remembers the key (120 s unless it was told
    /// otherwise), requests of one service with the same key run once, and all get that
    /// run's reply. So a retry is harmless, and this request is sent again after each lost
    /// connection until its time is over. At most 256 bytes.
    ///
    /// Once within the window, and never "exactly once": if the worker dies, another may
    /// run it again unless [`Request::attempts`] is 1, and if a router dies, its memory of
    /// keys dies too.
    ///
    /// Such a request outlives its client. Dropping what waits for it does not end the
    /// work; [`crate::Pending::cancel`] does, for everybody who waits for it.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.meta.key = Some(key.into());
        self
    }

    /// Which line it waits in. [`Priority::Normal`] unless set.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.meta.priority = priority;
        self
    }

    /// Requests with the same word here go to the same broker and there to the same
    /// worker, while it lives. If it is busy for long, another takes it; see
    /// [`Request::strict`]. At most 256 bytes.
    #[must_use]
    pub fn affinity(mut self, affinity: impl Into<String>) -> Self {
        self.meta.affinity = Some(affinity.into());
        self
    }

    /// Waits for the worker of its [`Request::affinity`], however long that one is busy.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.meta.strict = true;
        self
    }

    /// Of the requests with the same word here, a broker runs one at a time. At most 256
    /// bytes.
    #[must_use]
    pub fn exclusive(mut self, word: impl Into<String>) -> Self {
        self.meta.exclusive = Some(word.into());
        self
    }

    /// The `traceparent` of W3C's Trace Context, as
    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`. The worker gets it as it
    /// is. At most 256 bytes.
    #[must_use]
    pub fn trace(mut self, traceparent: impl Into<String>) -> Self {
        self.meta.trace = Some(traceparent.into());
        self
    }

    /// Something that the worker gets beside the body. A name that is given twice has the
    /// last value. At most 64 of them, of 2048 bytes all together.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.meta.headers.insert(name, value);
        self
    }

    /// The same in one go, in place of those that were given.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.meta.headers = headers;
        self
    }

    /// What no broker would take, if anything is.
    pub(crate) fn check(&self) -> Result<(), AskError> {
        let meta = &self.meta;
        let texts = [
            (&meta.key, "the key has more than 256 bytes"),
            (&meta.exclusive, "the word of exclusive has more than 256 bytes"),
            (&meta.affinity, "the affinity has more than 256 bytes"),
            (&meta.trace, "the trace context has more than 256 bytes"),
        ];
        let is_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > KEY_LIMIT);
        let mut why = texts.into_iter().find(|(text, _)| is_long(text)).map(|(_, why)| why);
        const { assert!(HEADERS_COUNT == 64 && HEADERS_BYTES == 2048 && KEY_LIMIT == 256) };
        if !meta.headers.fit() {
            why = Some("there are more than 64 headers, or more than 2048 bytes of them");
        }
        if why.is_none() && meta.encode().len() + ID_ROOM > MAP_LIMIT {
            why = Some("service, key and the like have more than 4096 bytes together");
        }
        why.map_or(Ok(()), |why| Err(AskError::Request { why }))
    }
}

/// What the id and the time left add to the map, at most.
const ID_ROOM: usize = 128;

impl Body {
    /// The frames.
    pub fn frames(&self) -> &[Vec<u8>] {
        &self.0
    }
}

impl From<Vec<Vec<u8>>> for Body {
    fn from(frames: Vec<Vec<u8>>) -> Self {
        if frames.is_empty() { Self(vec![Vec::new()]) } else { Self(frames) }
    }
}

impl From<Vec<u8>> for Body {
    fn from(frame: Vec<u8>) -> Self {
        Self(vec![frame])
    }
}

impl From<&[u8]> for Body {
    fn from(frame: &[u8]) -> Self {
        Self(vec![frame.to_vec()])
    }
}

impl<const N: usize> From<&[u8; N]> for Body {
    fn from(frame: &[u8; N]) -> Self {
        Self(vec![frame.to_vec()])
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self(vec![text.as_bytes().to_vec()])
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(vec![text.into_bytes()])
    }
}
