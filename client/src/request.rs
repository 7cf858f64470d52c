//! What a client asks.

use std::time::Duration;

/// The frames of a request's body. At least one: no frames become one empty frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Vec<Vec<u8>>);

/// A request, and what this one wants otherwise than its client's others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) body: Body,
    pub(crate) timeout: Option<Duration>,
    pub(crate) service: Option<String>,
    pub(crate) attempts: Option<u32>,
}

impl Request {
    /// A request for the broker's default service, with its client's timeout.
    pub fn new(body: impl Into<Body>) -> Self {
        Self { body: body.into(), timeout: None, service: None, attempts: None }
    }

    /// How long to wait for the reply in all, over every try.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The service to ask.
    #[must_use]
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = Some(service.into());
        self
    }

    /// How many workers the broker may give it to, one after another, if they
    /// die. How often the client sends it is [`crate::Builder::tries`].
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }
}

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
