//! Why there is no lock.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What one server said, or why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The server, without its password.
    pub server: String,
    /// Why its vote is missing.
    pub why: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.server, self.why)
    }
}

/// Why a lock was not taken, or not extended.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else holds it.
    Busy {
        /// What was to be locked.
        resource: String,
        /// When it is free at the latest, if it is not extended; `None` if that is not known.
        free_in: Option<Duration>,
    },
    /// Several ask for it at the same moment, and again and again nobody gets a majority.
    Contended {
        /// What was to be locked.
        resource: String,
    },
    /// Too few servers answered. Says nothing about whether somebody holds the lock.
    NoQuorum {
        /// How many would be needed.
        quorum: usize,
        /// How many there are.
        servers: usize,
        /// Each that did not vote, and why.
        errors: Vec<ServerError>,
    },
    /// It is not held any more, or had run out by the time that it was granted.
    Expired {
        /// What was locked.
        resource: String,
    },
    /// It cannot be locked under that name.
    Name {
        /// The name.
        resource: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// So short a time leaves nothing after the allowance for clocks that differ.
    TtlTooShort {
        /// The time asked for.
        ttl: Duration,
    },
    /// Restarted servers wait for the longest time to live, so none may be longer.
    TtlTooLong {
        /// The time asked for.
        ttl: Duration,
        /// The longest there may be.
        longest: Duration,
    },
    /// A file of the `file:` backend cannot be used.
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no greater token.
    TokensExhausted,
    /// The system gives no random bytes, so no value can be made that is nobody else's.
    Randomness,
    /// The system has no room for the thread that renews it.
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { resource, free_in: Some(life) } => {
                write!(
                    f,
                    "{resource} is locked by somebody else; unless extended, it is free in {} ms",
                    life.as_millis()
                )
            }
            Self::Busy { resource, free_in: None } => write!(f, "{resource} is locked by somebody else"),
            Self::Contended { resource } => {
                write!(f, "so many ask for {resource} at the same moment that nobody gets a majority")
            }
            Self::NoQuorum { quorum, servers, errors } => {
                write!(f, "too few of {servers} servers answer, {quorum} are needed")?;
                let mut before = ": ";
                for error in errors {
                    write!(f, "{before}{error}")?;
                    before = "; ";
                }
                Ok(())
            }
            Self::Expired { resource } => write!(f, "the lock on {resource} has run out"),
            Self::Name { resource, why } => write!(f, "{resource:?} cannot be locked: {why}"),
            Self::TtlTooShort { ttl } => {
                write!(f, "{} ms leave no time after the allowance for clocks that differ", ttl.as_millis())
            }
            Self::TtlTooLong { ttl, longest } => write!(
                f,
                "a time to live of {} ms is longer than the longest, {} ms, for which restarted servers wait: \
                 raise that for everybody who locks on these servers",
                ttl.as_millis(),
                longest.as_millis()
            ),
            Self::File { path, source } => write!(f, "cannot use {}: {source}", path.display()),
            Self::TokensExhausted => f.write_str("the servers hold the greatest token there can be"),
            Self::Randomness => f.write_str("the system gives no random bytes"),
            Self::Thread { source } => write!(f, "no thread can be started that renews it: {source}"),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } | Self::Thread { source } => Some(source),
            _ => None,
        }
    }
}

/// Why there is no locker.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// There is no such kind of place, or no server in it.
    Place {
        /// What was written.
        text: String,
    },
    /// No URL of a Redis server.
    Url {
        /// The URL, without what may be its password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// One server twice would have two votes.
    Twice {
        /// The server.
        server: String,
    },
    /// More servers than anybody needs, each of which costs a thread.
    TooMany {
        /// How many were named.
        servers: usize,
    },
    /// The allowance for clocks is a share: at least 0 and less than 1.
    DriftFactor {
        /// What was asked for.
        factor: f64,
    },
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place { text } => write!(
                f,
                "{text:?} is no place for locks: name servers, as redis://HOST:PORT,redis://HOST:PORT,redis://HOST:PORT, \
                 or a folder of this machine, as file:/run/locks"
            ),
            Self::Url { url, why } => write!(f, "{url} is no server: {why}"),
            Self::Twice { server } => write!(f, "{server} is named twice, and would have two votes"),
            Self::TooMany { servers } => {
                write!(f, "{servers} servers are too many: three or five are usual, {MOST_SERVERS} the most")
            }
            Self::DriftFactor { factor } => {
                write!(f, "a drift factor is at least 0 and less than 1, not {factor}")
            }
        }
    }
}

impl std::error::Error for SetupError {}

/// Each server has a thread.
pub(crate) const MOST_SERVERS: usize = 31;
