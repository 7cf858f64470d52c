//! The log: one line for each event, on standard error.
//!
//! Standard error is the one place, also with a log file: the file is then put
//! there, so that what libraries say on their way out is in it too. Nothing is
//! kept between two lines, neither a descriptor nor a thread: the log works the
//! same after a fork and in a child that closed everything but 0, 1 and 2.
//! A line that cannot be written at once is dropped and counted.

mod choices;
mod flood;
mod level;
mod line;
mod stream;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::OFlags;
use rustix::stdio::{dup2_stderr, stderr};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

pub use choices::{Colour, Level, LogChoices, LogFormat};
use flood::{Floods, Verdict};
pub use level::set as set_level;
use line::Line;
use stream::Stream;

static STREAM: Stream = Stream::new();

static FLOODS: Floods = Floods::new();

/// The target of lines that are wanted one for each of what they are about, however many:
/// what programs write, and requests if somebody asks for them.
pub const EACH: &str = "each";

/// How lines look, for those that no event brings.
static LAYER: OnceLock<LogLayer> = OnceLock::new();

/// The log file, if there is one, to be opened again.
static LOG_FILE: OnceLock<LogFile> = OnceLock::new();

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    owner: Option<(u32, u32)>,
}

/// Why there is no log. The message fits after "cannot start: ".
#[derive(Debug)]
pub enum LogError {
    /// The file cannot be opened.
    File {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// This process has a log already.
    Twice,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, source } => {
                write!(f, "cannot write the log file {}: {source}", path.display())
            }
            Self::Twice => f.write_str("another part of this program has set up its log already"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Twice => None,
        }
    }
}

/// Standard error as it is at this moment, for good: a log file takes only the
/// place of the descriptor. Where whoever started the program still reads.
///
/// # Errors
/// If no descriptor is left, or standard error is closed.
pub fn console() -> io::Result<File> {
    Ok(rustix::io::fcntl_dupfd_cloexec(stderr(), 3).map(File::from)?)
}

/// Begins to log. Call it once, before the first fork.
///
/// # Errors
/// If the file cannot be opened, or something else logs in this process.
pub fn start(choices: &LogChoices) -> Result<(), LogError> {
    if let Some(path) = &choices.file {
        let file = LOG_FILE.get_or_init(|| LogFile { path: path.clone(), owner: choices.owner });
        file.open().map_err(|source| LogError::File { path: path.clone(), source })?;
    }
    level::set(choices.level);
    let layer = LogLayer { format: choices.format, colour: choices.colour };
    LAYER.get_or_init(|| layer);
    let subscriber = tracing_subscriber::registry().with(level::LevelGate).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_another| LogError::Twice)
}

/// Opens the log file again, after somebody moved it away. Each process has to
/// do it for itself, the one with the most rights first: it makes the file.
///
/// # Errors
/// If it cannot be opened. The log then goes on where it was.
pub fn reopen() -> Result<(), LogError> {
    match LOG_FILE.get() {
        Some(file) => file.open().map_err(|source| LogError::File { path: file.path.clone(), source }),
        None => Ok(()),
    }
}

/// Tells of lines that a flood has cost, once it is over. Call it now and then.
pub fn tell_left_out() {
    let Some(layer) = LAYER.get() else { return };
    for line in FLOODS.news() {
        layer.write(&line);
    }
}

/// How many lines this process could not write.
pub fn dropped() -> u64 {
    STREAM.dropped()
}

impl LogFile {
    fn open(&self) -> io::Result<()> {
        let file = open_for_appending(&self.path)?;
        if let Some((user, group)) = self.owner {
            // Only root can, and only root must: others reopen what is theirs.
            fchown(&file, Some(user), Some(group)).ok();
        }
        dup2_stderr(OwnedFd::from(file))?;
        Ok(())
    }
}

/// Non-blocking, because the path may name a pipe.
fn open_for_appending(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)
}

/// Turns events into lines.
#[derive(Debug, Clone, Copy)]
struct LogLayer {
    format: LogFormat,
    colour: Colour,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = Line::of(event);
        // Who turns debug on wants everything.
        let is_bounded = event.metadata().target() != EACH && line.level() <= tracing::Level::INFO;
        match if is_bounded { FLOODS.judge(&line) } else { Verdict::Write { left_out: 0 } } {
            Verdict::LeaveOut => return,
            Verdict::Write { left_out: 0 } => (),
            Verdict::Write { left_out } => line.add("left_out", left_out),
        }
        self.write(&line);
    }
}

impl LogLayer {
    fn write(self, line: &Line) {
        STREAM.write(stderr(), self.format, self.colour, line);
    }
}
