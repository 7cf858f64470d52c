//! Heads of frames, and how much a peer may send.

use super::ZmtpError;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// How frames are read: what the two sides have agreed upon.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// ZMTP 2.0 (RFC 15), without commands.
    V2,
    /// ZMTP 3.1 (RFC 37).
    #[default]
    V3,
}

impl Version {
    const fn flags(self) -> u8 {
        match self {
            Self::V2 => MORE | LONG,
            Self::V3 => MORE | LONG | COMMAND,
        }
    }
}

/// The longest head: flags and eight bytes of size.
pub(super) const HEAD_LIMIT: usize = 9;

/// No command of ours or libzmq's comes near it.
const COMMAND_BYTES: u64 = 4096;

/// How much a peer may send in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one frame.
    pub frame_bytes: u64,
    /// Bytes of all frames of a message.
    pub message_bytes: u64,
    /// Frames of a message that are kept. More than these are read to the message's end, if it ends before there
    /// are 16 times as many; their bytes count.
    pub frames: usize,
}

impl Default for Limits {
    /// 64 MiB, and 4096 frames.
    fn default() -> Self {
        Self { frame_bytes: 64 * 1024 * 1024, message_bytes: 64 * 1024 * 1024, frames: 4096 }
    }
}

/// A frame of a message as a program keeps it: made of bytes that lie elsewhere, or of memory that is its own already.
pub trait Frame: AsRef<[u8]> + From<Vec<u8>> + for<'a> From<&'a [u8]> {}

impl<F: AsRef<[u8]> + From<Vec<u8>> + for<'a> From<&'a [u8]>> Frame for F {}

/// What stands before a frame's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) command: bool,
    pub(super) more: bool,
    /// Bytes of the frame without its head.
    pub(super) size: u64,
}

impl Head {
    /// A frame of a message.
    pub(super) fn of_message(size: usize, more: bool) -> Self {
        Self { command: false, more, size: size as u64 }
    }

    /// A command.
    pub(super) fn of_command(size: usize) -> Self {
        Self { command: true, more: false, size: size as u64 }
    }

    /// Appends it to these bytes.
    pub(super) fn encode(self, bytes: &mut Vec<u8>) {
        let flags = if self.more { MORE } else { 0 } | if self.command { COMMAND } else { 0 };
        match u8::try_from(self.size) {
            Ok(size) => bytes.extend([flags, size]),
            Err(_larger) => {
                bytes.push(flags | LONG);
                bytes.extend(self.size.to_be_bytes());
            }
        }
    }

    /// The head at the start of these bytes, and its length; `None` if there are too few.
    pub(super) fn decode(bytes: &[u8], version: Version) -> Result<Option<(Self, usize)>, ZmtpError> {
        let Some((&flags, rest)) = bytes.split_first() else { return Ok(None) };
        let (command, more) = (flags & COMMAND != 0, flags & MORE != 0);
        if flags & !version.flags() != 0 || (command && more) {
            return Err(ZmtpError::Flags { flags });
        }
        let size = if flags & LONG == 0 {
            rest.first().map(|size| (u64::from(*size), 2))
        } else {
            rest.first_chunk().map(|size| (u64::from_be_bytes(*size), HEAD_LIMIT))
        };
        Ok(size.map(|(size, len)| (Self { command, more, size }, len)))
    }

    /// Whether the frame may come, after so many bytes of the same message.
    pub(super) fn check(self, bytes: u64, limits: &Limits) -> Result<(), ZmtpError> {
        let limit = if self.command { COMMAND_BYTES } else { limits.frame_bytes };
        if limit < self.size {
            return Err(ZmtpError::FrameTooLarge { size: self.size, limit });
        }
        if self.command {
            return Ok(());
        }
        if limits.message_bytes < bytes.saturating_add(self.size) {
            return Err(ZmtpError::MessageTooLarge { limit: limits.message_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        for (size, len) in [(0, 2), (255, 2), (256, 9), (70_000, 9)] {
            for head in [Head::of_message(size, false), Head::of_message(size, true), Head::of_command(size)]
            {
                let mut bytes = Vec::new();
                head.encode(&mut bytes);
                assert_eq!(bytes.len(), len);
                assert_eq!(Head::decode(&bytes, Version::V3), Ok(Some((head, len))));
                for end in 0..len {
                    assert_eq!(Head::decode(&bytes[..end], Version::V3), Ok(None));
                }
                let old = Head::decode(&bytes, Version::V2);
                assert_eq!(old.is_err(), head.command);
            }
        }
        for flags in [0x08, 0x80, 0x05, 0x07] {
            for version in [Version::V2, Version::V3] {
                assert_eq!(Head::decode(&[flags, 0], version), Err(ZmtpError::Flags { flags }));
            }
        }
        for flags in [4, 6] {
            assert_eq!(Head::decode(&[flags], Version::V2), Err(ZmtpError::Flags { flags }));
        }
    }
}
