//! Frames in the router's hands, and bodies that the core passes through.

use std::rc::Rc;

use hornpipe_proto::Headers;
use nix::errno::Errno;

use super::ffi::SharedFrame;

/// A frame up to this size, in bytes, is copied: kept as libzmq received it, it would pin the
/// 8 KiB buffer it came in, and one of a connection of ours is shared for no less.
const COPY_LIMIT: usize = 8 * 1024;

/// Up to this size a copy costs less than a count of who shares the bytes.
const COPY_AT_ONCE: usize = 256;

/// One frame. Thousands wait, most of them short: what is larger is elsewhere.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    Short(Short),
    Own(Box<[u8]>),
    Shared(Rc<SharedFrame>),
}

/// Bytes that need no more room than a reference to them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Short {
    len: u8,
    bytes: [u8; Short::MOST],
}

impl Short {
    const MOST: usize = 22;

    fn new(bytes: &[u8]) -> Option<Self> {
        let mut short = Self { len: u8::try_from(bytes.len()).ok()?, bytes: [0; Self::MOST] };
        short.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(short)
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Short(Short { len, bytes }) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Own(bytes) => bytes,
            Self::Shared(frame) => (**frame).as_ref(),
        }
    }
}

/// One that a peer has sent. A large one will not be copied on its way.
impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        match Short::new(&bytes) {
            Some(short) => Self::Short(short),
            None if bytes.len() <= COPY_LIMIT => Self::Own(bytes.into()),
            None => Self::Shared(Rc::new(SharedFrame::of(bytes.into()))),
        }
    }
}

/// The same, out of a buffer.
impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Self {
        if bytes.len() <= COPY_LIMIT { Self::copied(bytes) } else { bytes.to_vec().into() }
    }
}

impl Frame {
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Short::new(bytes).map_or_else(|| Self::Own(bytes.into()), Self::Short)
    }

    /// As libzmq hands it over.
    pub(super) fn received(frame: SharedFrame) -> Self {
        let bytes = frame.as_ref();
        if bytes.len() <= COPY_AT_ONCE { Self::copied(bytes) } else { Self::Shared(Rc::new(frame)) }
    }

    /// The frame as it is kept while it waits.
    fn settled(self) -> Self {
        match self {
            Self::Shared(frame) if (*frame).as_ref().len() <= COPY_LIMIT => Self::copied((*frame).as_ref()),
            other => other,
        }
    }

    pub(super) fn send(&self, socket: &mut zmq::Socket, flags: i32) -> Result<(), Errno> {
        match self {
            Self::Short(_) | Self::Own(_) => socket
                .send(self.as_ref(), flags | zmq::DONTWAIT)
                .map_err(|error| Errno::from_raw(error.to_raw())),
            Self::Shared(frame) => SharedFrame::clone(frame).send(socket, flags),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_waits_is_as_small_as_a_reference_to_its_bytes() {
        assert_eq!(size_of::<Frame>(), 24);
        assert_eq!(size_of::<Body>(), 24);
    }

    #[test]
    fn a_frame_holds_what_it_was_made_of_whatever_its_length() {
        for len in 0..2 * Short::MOST {
            let bytes: Vec<u8> = (1..).take(len).collect();
            let frame = Frame::copied(&bytes);
            assert_eq!(frame.as_ref(), bytes);
            assert_eq!(matches!(frame, Frame::Short(_)), len <= Short::MOST, "{len} bytes");
        }
    }

    #[test]
    fn what_a_peer_sends_is_shared_only_if_it_is_large() {
        for len in [0, 1, Short::MOST + 1, COPY_LIMIT, COPY_LIMIT + 1, 100_000] {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            for frame in [Frame::from(bytes.as_slice()), Frame::from(bytes.clone())] {
                assert_eq!(frame.as_ref(), bytes);
                assert_eq!(matches!(frame, Frame::Shared(_)), COPY_LIMIT < len, "{len} bytes");
            }
        }
    }
}
