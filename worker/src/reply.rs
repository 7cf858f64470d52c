//! How a request ended: with a reply, or with a failure.

use hornpipe_proto::worker::{ReplyMeta, ReplyStatus};

use crate::Cancelled;

/// The map around the message may have 4 KiB.
const MESSAGE_LIMIT: usize = 3 * 1024;

/// The body of a successful reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    frames: Vec<Vec<u8>>,
}

impl Reply {
    /// The frames that the client gets: at least one.
    pub(crate) fn into_frames(self) -> Vec<Vec<u8>> {
        if self.frames.is_empty() { vec![Vec::new()] } else { self.frames }
    }
}

impl From<Vec<Vec<u8>>> for Reply {
    fn from(frames: Vec<Vec<u8>>) -> Self {
        Self { frames }
    }
}

impl From<Vec<u8>> for Reply {
    fn from(frame: Vec<u8>) -> Self {
        Self { frames: vec![frame] }
    }
}

impl From<&[u8]> for Reply {
    fn from(frame: &[u8]) -> Self {
        frame.to_vec().into()
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Why a request failed, and whether another worker may try it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
    status: ReplyStatus,
}

impl Failure {
    /// The request failed and would fail again: its client is told this sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: ReplyStatus::Error }
    }

    /// The request failed here, and another worker may try while attempts are left.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: ReplyStatus::Retry }
    }

    /// The failure as it travels: a message of more than 3 KiB is cut.
    pub(crate) fn into_meta(self) -> ReplyMeta {
        let mut message = self.message;
        message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
        ReplyMeta { status: self.status, message: Some(message), more: false }
    }
}

/// Its sentence.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// So that `?` leaves a handler whose reply nobody waits for. The message is seen by nobody.
impl From<Cancelled> for Failure {
    fn from(cancelled: Cancelled) -> Self {
        Self::new(cancelled.to_string())
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}
