//! Bytes to frames, and frames to messages, each bounded before memory is taken for it.

use super::frame::{Frame, Head, Limits, Version};
use super::greeting::{self, Greeting};
use super::{SocketType, ZmtpError};

/// What is read in one go, by a connection that has a buffer of its own.
const BUFFER: usize = 16 * 1024;

/// A frame larger than this that has not come in full gets its own memory, and the rest of it is
/// read right there.
const LARGE: u64 = 4096;

/// So many times the frames that are allowed are read, to find a message's end.
const ENDLESS: usize = 16;

/// So much memory is taken at once for a large frame; and then, as it comes, as much again each time.
const ANNOUNCED: usize = 1024 * 1024;

/// What has been read in full.
#[derive(Debug)]
pub(super) enum Unit<F> {
    Command(Vec<u8>),
    Message(Vec<F>),
    /// The first of its frames: there were more than are allowed.
    Overlong(Vec<F>),
}

/// The reading side of a connection.
#[derive(Debug)]
pub(super) struct Reader<F> {
    buffer: Vec<u8>,
    /// What comes before in the buffer is used.
    begin: usize,
    large: Option<Large>,
    version: Version,
    /// The frames of a message that is not complete, and their bytes.
    message: Vec<F>,
    message_bytes: u64,
    /// Frames beyond those that are allowed, which are gone.
    surplus: usize,
}

impl<F> Default for Reader<F> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            begin: 0,
            large: None,
            version: Version::default(),
            message: Vec::new(),
            message_bytes: 0,
            surplus: 0,
        }
    }
}

/// A frame that is read into its own memory.
#[derive(Debug)]
struct Large {
    head: Head,
    size: usize,
    /// What has come; when more than the frame has come, the next frame's beginning is in it, too.
    frame: Vec<u8>,
}

/// A frame that has come in full.
enum Bytes<F> {
    Command(Vec<u8>),
    Message(F),
}

impl<F> Bytes<F> {
    fn of<B: Into<Vec<u8>> + Into<F>>(head: Head, bytes: B) -> Self {
        if head.command { Self::Command(bytes.into()) } else { Self::Message(bytes.into()) }
    }
}

impl<F: Frame> Reader<F> {
    /// Where the next bytes belong, behind what is there. It has room for at least one.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if let Some(Large { size, frame, .. }) = &mut self.large {
            if frame.len() == frame.capacity() {
                let missing = size.saturating_sub(frame.len());
                frame.reserve_exact(missing.min(frame.len().max(ANNOUNCED)));
            }
            return frame;
        }
        if self.begin == self.buffer.len() {
            self.buffer.clear();
            self.begin = 0;
        }
        if self.buffer.capacity() - self.buffer.len() < BUFFER / 4 {
            self.buffer.drain(..self.begin);
            self.begin = 0;
            self.buffer.reserve(BUFFER - self.buffer.len().min(BUFFER / 2));
        }
        &mut self.buffer
    }

    /// Reads into this buffer, which is empty, until it is given back.
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend(self.unread());
        self.buffer = std::mem::take(buffer);
        self.begin = 0;
    }

    /// Gives back the buffer it was lent, and keeps what is not used yet.
    pub(super) fn give_back(&mut self, buffer: &mut Vec<u8>) {
        let rest = self.unread().to_vec();
        *buffer = std::mem::replace(&mut self.buffer, rest);
        buffer.clear();
        self.begin = 0;
    }

    /// Takes the peer's greeting once it is complete. What follows is read in its version.
    pub(super) fn take_greeting(&mut self, ours: SocketType) -> Result<Option<Greeting>, ZmtpError> {
        let greeting = greeting::check(self.unread(), ours)?;
        if let Some(greeting) = greeting {
            self.begin += greeting.len();
            self.version = greeting.version();
        }
        Ok(greeting)
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Takes what is complete.
    pub(super) fn take_unit(&mut self, limits: &Limits) -> Result<Option<Unit<F>>, ZmtpError> {
        self.take(limits, true)
    }

    /// The same, where no message may come yet.
    pub(super) fn take_command(&mut self, limits: &Limits) -> Result<Option<Unit<F>>, ZmtpError> {
        self.take(limits, false)
    }

    fn take(&mut self, limits: &Limits, messages: bool) -> Result<Option<Unit<F>>, ZmtpError> {
        while let Some((head, frame)) = self.take_frame(limits, messages)? {
            let frame = match frame {
                Bytes::Command(bytes) => return Ok(Some(Unit::Command(bytes))),
                Bytes::Message(frame) => frame,
            };
            if self.message.len() < limits.frames {
                self.message.push(frame);
            } else {
                self.surplus += 1;
                let limit = limits.frames.saturating_mul(ENDLESS);
                if limit <= limits.frames + self.surplus && head.more {
                    return Err(ZmtpError::EndlessMessage { limit });
                }
            }
            if !head.more {
                self.message_bytes = 0;
                let frames = std::mem::take(&mut self.message);
                let surplus = std::mem::take(&mut self.surplus);
                return Ok(Some(if 0 < surplus { Unit::Overlong(frames) } else { Unit::Message(frames) }));
            }
            self.message_bytes = self.message_bytes.saturating_add(head.size);
        }
        Ok(None)
    }

    fn take_frame(&mut self, limits: &Limits, messages: bool) -> Result<Option<(Head, Bytes<F>)>, ZmtpError> {
        if let Some(Large { head, size, mut frame }) =
            self.large.take_if(|large| large.size <= large.frame.len())
        {
            // The buffer was used up before this frame had memory of its own.
            self.buffer.extend(frame.drain(size..));
            return Ok(Some((head, Bytes::of(head, frame))));
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let bytes = self.unread();
        let Some((head, head_len)) = Head::decode(bytes, self.version)? else { return Ok(None) };
        if !head.command && !messages {
            // No memory for what may not come yet.
            return Err(ZmtpError::EarlyMessage);
        }
        head.check(self.message_bytes, limits)?;
        let limit = limits.frame_bytes;
        let Ok(size) = usize::try_from(head.size) else {
            return Err(ZmtpError::FrameTooLarge { size: head.size, limit });
        };
        let bytes = bytes.get(head_len..).unwrap_or_default();
        if let Some(frame) = bytes.get(..size) {
            let frame = Bytes::of(head, frame);
            self.begin += head_len + size;
            return Ok(Some((head, frame)));
        }
        if LARGE < head.size {
            let mut frame = Vec::with_capacity(size.min(bytes.len().max(ANNOUNCED)));
            frame.extend(bytes);
            self.large = Some(Large { head, size, frame });
            self.buffer.clear();
            self.begin = 0;
        }
        Ok(None)
    }

    /// What is read and not yet taken.
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.get(self.begin..).unwrap_or_default()
    }
}
