//! Writing a line without waiting, whatever is at the other end.
//!
//! Standard error is shared with whoever started us, so O_NONBLOCK is never set
//! on it: the flag would be theirs too. A pipe or terminal is opened once more
//! for the one write, a socket is sent to without waiting, and a file never waits.

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::line::Line;
use super::{Colour, LogFormat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// What became of lines.
#[derive(Debug)]
pub(super) struct Stream {
    dropped: AtomicU64,
    /// Of these, nobody has been told yet.
    untold: AtomicU64,
    /// The last line broke off in the middle.
    torn: AtomicBool,
}

impl Stream {
    pub(super) const fn new() -> Self {
        Self { dropped: AtomicU64::new(0), untold: AtomicU64::new(0), torn: AtomicBool::new(false) }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes a line, or counts it; and tells of those counted before, once that works again.
    pub(super) fn write(&self, stream: BorrowedFd<'_>, format: LogFormat, colour: Colour, line: &Line) {
        let end = End::of(stream);
        let colour = if end == End::Terminal { colour } else { Colour::Never };
        let line = line.render(format, colour);
        let untold = self.untold.load(Ordering::Relaxed);
        // The news goes with the line: alone it would fit where no line does, again and again.
        let written = match untold {
            0 => self.put(stream, end, line),
            _ => self.put(stream, end, Line::dropped(untold).render(format, colour) + &line),
        };
        if written {
            self.untold.fetch_sub(untold, Ordering::Relaxed);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the whole of it was written.
    fn put(&self, stream: BorrowedFd<'_>, end: End, mut line: String) -> bool {
        if self.torn.load(Ordering::Relaxed) {
            line.insert(0, '\n');
        }
        let written = end.write(stream, line.as_bytes()).unwrap_or(0);
        if written != 0 {
            self.torn.store(written < line.len(), Ordering::Relaxed);
        }
        written == line.len()
    }
}

/// What is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Terminal,
    Pipe,
    Socket,
    /// A file, or a device like `/dev/null`.
    Patient,
}

impl End {
    fn of(stream: BorrowedFd<'_>) -> Self {
        let kind = rustix::fs::fstat(stream).map(|found| FileType::from_raw_mode(found.st_mode));
        match kind {
            Ok(FileType::Fifo) => Self::Pipe,
            Ok(FileType::Socket) => Self::Socket,
            Ok(FileType::CharacterDevice) if stream.is_terminal() => Self::Terminal,
            Ok(_) | Err(_) => Self::Patient,
        }
    }

    /// Writes what can be written at once.
    fn write(self, stream: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Terminal | Self::Pipe => match open_once_more(stream) {
                Ok(own) => rustix::io::write(own.as_fd(), bytes),
                // Another user's pipe, no /proc, or no descriptor to spare.
                Err(_) => write_if_there_is_room(stream, bytes),
            },
            Self::Socket => rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Self::Patient => rustix::io::write(stream, bytes),
        }
    }
}

fn open_once_more(stream: BorrowedFd<'_>) -> Result<rustix::fd::OwnedFd, Errno> {
    let mut path = [0_u8; 32];
    let mut rest = path.as_mut_slice();
    write!(rest, "/proc/self/fd/{}\0", stream.as_raw_fd()).map_err(|_too_long| Errno::NAMETOOLONG)?;
    let path = std::ffi::CStr::from_bytes_until_nul(&path).map_err(|_no_nul| Errno::NAMETOOLONG)?;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// A pipe that is writable has room for PIPE_BUF bytes, so a line goes in whole.
///
/// Known limit: if another process fills the pipe in between, this waits.
fn write_if_there_is_room(stream: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let mut watch = [PollFd::from_borrowed_fd(stream, PollFlags::OUT)];
    match poll(&mut watch, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
        0 => Err(Errno::AGAIN),
        _ => rustix::io::write(stream, bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use rustix::fs::fcntl_getfl;
    use tracing::Level;

    use super::*;

    fn write(log: &Stream, stream: impl AsFd, message: &str) {
        log.write(stream.as_fd(), LogFormat::Text, Colour::OnTerminals, &Line::new(Level::INFO, message));
    }

    /// Writes until three lines could not be, and gives how many could.
    fn fill(log: &Stream, stream: &impl AsFd) -> usize {
        let mut written = 0;
        while log.dropped() < 3 {
            write(log, stream, &"x".repeat(900));
            written += 1;
            assert!(written < 100_000, "it never fills");
        }
        written - 3
    }

    /// A blocked reader costs lines, not time; once it reads, it is told how many.
    fn check_full(reader: OwnedFd, writer: impl AsFd) {
        let log = Stream::new();
        let written = fill(&log, &writer);
        assert!(!fcntl_getfl(writer.as_fd()).unwrap().contains(OFlags::NONBLOCK), "the flag is shared");
        // Room for the news, while the writer still holds the other end open.
        let mut reader = File::from(reader);
        let mut text = vec![0; 8192];
        let read = reader.read(&mut text).unwrap();
        text.truncate(read);
        write(&log, &writer, "back again");
        drop(writer);
        reader.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), written + 2);
        assert!(lines[written].contains(" WARN log lines dropped count=3"), "{}", lines[written]);
        assert!(lines[written + 1].contains(" INFO back again"), "{}", lines[written + 1]);
        assert_eq!(log.dropped(), 3);
    }

    #[test]
    fn a_full_pipe_drops_lines_and_is_told_later() {
        let (reader, writer) = std::io::pipe().unwrap();
        check_full(reader.into(), writer);
    }

    #[test]
    fn a_full_socket_drops_lines_and_is_told_later() {
        let (reader, writer) = UnixStream::pair().unwrap();
        check_full(reader.into(), writer);
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_again_does_not_block_either() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let line = [b'x'; 4096];
        let mut written = 0;
        while write_if_there_is_room(writer.as_fd(), &line).is_ok() {
            written += 1;
            assert!(written < 100_000, "it never fills");
        }
        assert_eq!(write_if_there_is_room(writer.as_fd(), &line), Err(Errno::AGAIN));
    }

    #[test]
    fn a_reader_that_is_gone_costs_a_line_each() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let log = Stream::new();
        write(&log, &writer, "hello");
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn a_file_takes_whole_lines_without_colours() {
        let path = std::env::temp_dir().join(format!("hornpipe-log-{}", std::process::id()));
        let file = super::super::open_for_appending(&path).unwrap();
        let log = Stream::new();
        write(&log, &file, "one");
        write(&log, &file, "two");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("  INFO one\n") && !text.contains('\x1b'), "{text}");
    }
}
