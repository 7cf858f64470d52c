//! Frames in the router's hands, and bodies that the core passes through.

use std::rc::Rc;

use hornpipe_proto::Headers;
use nix::errno::Errno;

use super::ffi::SharedFrame;

/// A request's frame up to this size, in bytes, is copied: kept as libzmq
/// received it, it would pin the 8 KiB buffer it came in.
const COPY_LIMIT: usize = 8 * 1024;

/// One frame.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    Own(Box<[u8]>),
    Shared(SharedFrame),
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(frame) => frame.as_ref(),
        }
    }
}

impl Frame {
    /// One that a worker has sent. A large one will not be copied on its way.
    pub(super) fn of_worker(bytes: Vec<u8>) -> Self {
        let bytes = bytes.into_boxed_slice();
        if bytes.len() <= COPY_LIMIT { Self::Own(bytes) } else { Self::Shared(SharedFrame::of(bytes)) }
    }

    /// The frame as it is kept while it waits.
    fn settled(self) -> Self {
        match self {
            Self::Shared(frame) if frame.as_ref().len() <= COPY_LIMIT => Self::Own(frame.as_ref().into()),
            other => other,
        }
    }

    pub(super) fn send(&self, socket: &mut zmq::Socket, flags: i32) -> Result<(), Errno> {
        match self {
            Self::Own(bytes) => socket
                .send(&bytes[..], flags | zmq::DONTWAIT)
                .map_err(|error| Errno::from_raw(error.to_raw())),
            Self::Shared(frame) => frame.clone().send(socket, flags),
        }
    }
}

/// The frames of a request or reply after its head, and what travels with them. A clone is
/// a count.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    frames: Rc<[Frame]>,
    passing: Option<Rc<Passing>>,
}

/// What a client wants its worker to know, and nobody in between reads.
#[derive(Debug, Default)]
pub(super) struct Passing {
    pub(super) key: Option<String>,
    pub(super) trace: Option<String>,
    pub(super) headers: Headers,
}

impl Body {
    /// A request's body: it may wait, so its small frames are copied.
    pub(super) fn to_keep(frames: impl Iterator<Item = Frame>) -> Self {
        Self { frames: frames.map(Frame::settled).collect(), passing: None }
    }

    /// The same, with what its worker is to know.
    pub(super) fn with(self, passing: Passing) -> Self {
        let Passing { key, trace, headers } = &passing;
        let empty = key.is_none() && trace.is_none() && headers.is_empty();
        Self { passing: (!empty).then(|| Rc::new(passing)), ..self }
    }

    /// A reply's body: it is passed on at once.
    pub(super) fn to_pass(frames: impl Iterator<Item = Frame>) -> Self {
        Self { frames: frames.collect(), passing: None }
    }

    /// All of them as one, in this order.
    pub(super) fn joined(parts: &[Self], last: Self) -> Self {
        if parts.is_empty() {
            return last;
        }
        let all = parts.iter().chain([&last]);
        Self { frames: all.flat_map(|part| part.frames().iter().cloned()).collect(), passing: None }
    }

    pub(super) fn passing(&self) -> Option<&Passing> {
        self.passing.as_deref()
    }

    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

/// Bytes of all frames together.
pub(super) fn total_size(frames: &[Frame]) -> u64 {
    frames.iter().map(|frame| frame.as_ref().len() as u64).sum()
}
