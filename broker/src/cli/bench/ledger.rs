//! Counts how often work was done, beside the load and under the same deaths.
//!
//! The demo worker's `count FILE` writes a line and says how many there are. Each piece of
//! work has a file of its own and is asked for twice at once, with one key and one attempt:
//! it may be done once or, if its worker dies, not at all, and never twice.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use hornpipe_client::{AskError, Client, Endpoint, Request};

/// Between two pieces of work, so that the load stays what it was said to be.
const PACE: Duration = Duration::from_millis(5);

pub(super) struct Ledger {
    client: Client,
    folder: Folder,
    /// Whether work that is asked for twice is done once.
    has_keys: bool,
}

/// What is in it at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Runs {
    /// Pieces of work that were asked for.
    pub(super) asked: u64,
    /// Of those, done once and answered so.
    pub(super) once: u64,
    /// Done more than once.
    pub(super) doubled: u64,
    /// Their worker died, or no answer came: done or not, but not twice.
    pub(super) unknown: u64,
    /// Whether the broker knows keys. Without, each is asked for only once.
    pub(super) has_keys: bool,
}

#[derive(Debug)]
pub(super) enum LedgerError {
    Folder(io::Error),
    Ask(AskError),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => write!(f, "cannot make a folder to count in: {error}"),
            Self::Ask(error) => error.fmt(f),
        }
    }
}

/// Removed with all that is in it.
struct Folder(PathBuf);

impl Ledger {
    /// None if the workers do not count, or where this process cannot see.
    ///
    /// # Errors
    /// If there is nowhere to count, or nobody answers.
    pub(super) fn open(endpoints: &[Endpoint], timeout: Duration) -> Result<Option<Self>, LedgerError> {
        let endpoints = endpoints.iter().map(ToString::to_string);
        let client = Client::builder().endpoints(endpoints).timeout(timeout).tries(5).build();
        let client = client.map_err(LedgerError::Ask)?;
        let folder = Folder::new().map_err(LedgerError::Folder)?;
        let mut ledger = Self { client, folder, has_keys: false };
        // Somebody who echoes says the words again, and others fail.
        let first = ledger.client.request(ledger.work(0));
        let counts = match first {
            Ok(reply) => reply.bytes() == b"1" && ledger.lines(0) == 1,
            Err(AskError::Handler { .. }) => false,
            Err(error) => return Err(LedgerError::Ask(error)),
        };
        if !counts {
            return Ok(None);
        }
        let again = ledger.client.request(ledger.work(0)).map_err(LedgerError::Ask)?;
        ledger.has_keys = again.bytes() == b"1" && ledger.lines(0) == 1;
        Ok(Some(ledger))
    }

    /// Has work done until the other end of the channel is dropped, and counts.
    pub(super) fn keep(self, ended: &Receiver<()>) -> Runs {
        let mut runs = Runs { has_keys: self.has_keys, ..Runs::default() };
        while ended.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
            runs.asked += 1;
            let number = runs.asked;
            let replies = self.done(number);
            let lines = self.lines(number);
            let says_once = |reply: &Vec<u8>| reply == b"1";
            if lines > 1 || replies.iter().any(|reply| !says_once(reply)) {
                runs.doubled += 1;
            } else if replies.is_empty() {
                runs.unknown += 1;
            } else {
                runs.once += 1;
            }
        }
        // What was answered late may have been done late.
        let late = (1..=runs.asked).filter(|number| self.lines(*number) > 1).count();
        runs.doubled = runs.doubled.max(u64::try_from(late).unwrap_or(u64::MAX));
        runs
    }

    /// What is answered to this piece of work, however often it is asked for.
    fn done(&self, number: u64) -> Vec<Vec<u8>> {
        let times = if self.has_keys { 2 } else { 1 };
        let asked: Vec<_> = (0..times).map(|_| self.client.send(self.work(number))).collect();
        let replies = asked.into_iter().map(|asked| asked.and_then(hornpipe_client::Pending::wait));
        replies.filter_map(Result::ok).map(|reply| reply.bytes()).collect()
    }

    fn work(&self, number: u64) -> Request {
        let file = self.file(number);
        let request = Request::new(format!("count {}", file.display())).attempts(1);
        let request = request.key(file.display().to_string());
        // Sent again without a key that counts, it would be done again.
        if self.has_keys || number == 0 { request } else { request.tries(1) }
    }

    fn file(&self, number: u64) -> PathBuf {
        self.folder.0.join(number.to_string())
    }

    fn lines(&self, number: u64) -> usize {
        fs::read_to_string(self.file(number)).map_or(0, |text| text.lines().count())
    }
}

impl Folder {
    fn new() -> io::Result<Self> {
        let nonce = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let folder = std::env::temp_dir().join(format!("hornpipe-bench-{nonce:016x}"));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is small, and in a folder for what may be.
        fs::remove_dir_all(&self.0).ok();
    }
}
