//! Bytes to frames, and frames to messages, each bounded before memory is taken for it.

use super::frame::{Head, Limits};
use super::{ZmtpError, greeting};

/// What is read in one go.
const BUFFER: usize = 16 * 1024;

/// A frame larger than this that has not come in full gets its own memory, and the rest of it is
/// read right there.
const LARGE: u64 = 4096;

/// What has been read in full.
#[derive(Debug)]
pub(super) enum Unit {
    Command(Vec<u8>),
    Message(Vec<Vec<u8>>),
}

/// The reading side of a connection.
#[derive(Debug)]
pub(super) struct Reader {
    buffer: Box<[u8]>,
    /// What is read and not yet used lies between these two.
    begin: usize,
    end: usize,
    large: Option<Large>,
    /// The frames of a message that is not complete, and their bytes.
    message: Vec<Vec<u8>>,
    message_bytes: u64,
}

/// A frame that is read into its own memory.
#[derive(Debug)]
struct Large {
    head: Head,
    frame: Vec<u8>,
    filled: usize,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            begin: 0,
            end: 0,
            large: None,
            message: Vec::new(),
            message_bytes: 0,
        }
    }

    /// Where the next bytes belong. Never empty once all units were taken.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if let Some(Large { frame, filled, .. }) = &mut self.large {
            return frame.get_mut(*filled..).unwrap_or_default();
        }
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < BUFFER / 4 {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were put there.
    pub(super) fn filled(&mut self, count: usize) {
        match &mut self.large {
            Some(Large { frame, filled, .. }) => *filled = frame.len().min(filled.saturating_add(count)),
            None => self.end = self.buffer.len().min(self.end.saturating_add(count)),
        }
    }

    /// Takes the peer's greeting: true once it is complete.
    pub(super) fn take_greeting(&mut self) -> Result<bool, ZmtpError> {
        let complete = greeting::check(self.bytes())?;
        if complete {
            self.begin += greeting::GREETING_LEN;
        }
        Ok(complete)
    }

    /// Takes what is complete.
    pub(super) fn take_unit(&mut self, limits: &Limits) -> Result<Option<Unit>, ZmtpError> {
        while let Some((head, frame)) = self.take_frame(limits)? {
            if head.command {
                return Ok(Some(Unit::Command(frame)));
            }
            self.message.push(frame);
            if !head.more {
                self.message_bytes = 0;
                return Ok(Some(Unit::Message(std::mem::take(&mut self.message))));
            }
            self.message_bytes = self.message_bytes.saturating_add(head.size);
        }
        Ok(None)
    }

    fn take_frame(&mut self, limits: &Limits) -> Result<Option<(Head, Vec<u8>)>, ZmtpError> {
        if let Some(large) = self.large.take_if(|large| large.filled == large.frame.len()) {
            return Ok(Some((large.head, large.frame)));
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let bytes = self.buffer.get(self.begin..self.end).unwrap_or_default();
        let Some((head, head_len)) = Head::decode(bytes)? else { return Ok(None) };
        head.check((self.message.len(), self.message_bytes), limits)?;
        let limit = limits.frame_bytes;
        let Ok(size) = usize::try_from(head.size) else {
            return Err(ZmtpError::FrameTooLarge { size: head.size, limit });
        };
        let bytes = bytes.get(head_len..).unwrap_or_default();
        if let Some(frame) = bytes.get(..size) {
            let frame = frame.to_vec();
            self.begin += head_len + size;
            return Ok(Some((head, frame)));
        }
        if LARGE < head.size {
            let mut frame = vec![0; size];
            for (place, byte) in frame.iter_mut().zip(bytes) {
                *place = *byte;
            }
            self.large = Some(Large { head, frame, filled: bytes.len() });
            (self.begin, self.end) = (0, 0);
        }
        Ok(None)
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.begin..self.end).unwrap_or_default()
    }
}
