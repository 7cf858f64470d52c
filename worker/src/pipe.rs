//! Pipes to and from a program, written and read as far as they go without waiting.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// How far a pipe could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// As much as was asked for; there may be more.
    Full,
    /// All there is at present.
    Dry,
    /// To its end: nobody holds the other side any more.
    Ended,
}

/// Makes our side of a pipe one that never blocks. The program's side stays as it is.
pub(crate) fn set_nonblocking(pipe: impl AsFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(pipe.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(pipe.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Appends what can be read, at most `room` bytes.
pub(crate) fn read_available(pipe: &mut impl Read, into: &mut Vec<u8>, room: usize) -> Flow {
    let limit = u64::try_from(room).unwrap_or(u64::MAX);
    match pipe.by_ref().take(limit).read_to_end(into) {
        Ok(size) if size < room => Flow::Ended,
        Ok(_) => Flow::Full,
        Err(error) if error.kind() == ErrorKind::WouldBlock => Flow::Dry,
        // A pipe that cannot be read will not be read later either.
        Err(_) => Flow::Ended,
    }
}

/// Nobody reads from the pipe any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReaderGone;

/// Writes what the pipe takes. The rest is still to be written.
pub(crate) fn write_available<'a>(
    pipe: &mut impl Write,
    mut bytes: &'a [u8],
) -> Result<&'a [u8], ReaderGone> {
    while !bytes.is_empty() {
        match pipe.write(bytes) {
            Ok(size) => bytes = bytes.get(size..).unwrap_or_default(),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => (),
                ErrorKind::WouldBlock => break,
                _ => return Err(ReaderGone),
            },
        }
    }
    Ok(bytes)
}

/// How many bytes of those that were written nobody has read yet.
pub(crate) fn unread(pipe: impl AsFd) -> usize {
    // Who cannot tell is taken to have nothing left.
    rustix::io::ioctl_fionread(pipe).map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX))
}
