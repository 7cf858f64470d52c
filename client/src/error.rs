//! Why a request has no reply.

use std::fmt;
use std::time::Duration;

use hornpipe_proto::Status;

use crate::endpoint::{Endpoint, EndpointError};

/// Why a request has no reply. In words it names the reason and the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError {
    /// The handler ran and said that it failed.
    Handler {
        /// What it said.
        message: String,
        /// The broker that had the request.
        broker: Endpoint,
        /// How many workers had it.
        attempt: u32,
    },
    /// The broker ended the request without a reply.
    Refused {
        /// How; never `ok` or `error`.
        status: Status,
        /// Why, in one sentence.
        message: String,
        /// The broker that says so.
        broker: Endpoint,
        /// How many workers had it.
        attempt: u32,
        /// With [`Status::Busy`]: when another try is worth it, as far as the broker can tell.
        retry_after: Option<Duration>,
    },
    /// The request was sent and no answer came in time. It may have been run.
    NoAnswer {
        /// The broker that had it last.
        broker: Endpoint,
        /// How often it was sent.
        tries: u32,
        /// How long it was waited for in all.
        waited: Duration,
    },
    /// Some parts of the reply came, and then the connection was lost. It cannot be asked
    /// again for the rest.
    BrokenOff {
        /// The broker that it came from.
        broker: Endpoint,
        /// How many parts came.
        parts: u64,
    },
    /// The parts of the reply were not taken as fast as they came, and there is no room for
    /// more. The request was taken back.
    Behind,
    /// No connection came about in time. The request was never sent.
    Unreachable {
        /// Where brokers were looked for.
        brokers: Vec<Endpoint>,
        /// How long was waited in all.
        waited: Duration,
    },
    /// As many requests as [`crate::Builder::in_flight`] allows were out for all of this
    /// request's time. It was never sent.
    NoRoom {
        /// How many may be out.
        limit: usize,
    },
    /// The request holds what no broker takes.
    Request {
        /// What is wrong with it.
        why: &'static str,
    },
    /// What was given as endpoint is none, or its host has no address.
    Endpoint {
        /// What was given.
        spelling: String,
        /// What is wrong with it.
        source: EndpointError,
    },
    /// A ZeroMQ identity has 1 to 255 bytes and does not begin with a zero byte.
    Identity,
    /// This process was forked from the one that made the client: make another.
    Forked,
    /// The kernel gave no random bytes for the request id.
    Entropy,
    /// The kernel gave no descriptor or no thread.
    System(std::io::ErrorKind),
    /// libzmq refused, for want of descriptors or memory most likely.
    Zmq(zmq::Error),
}

impl AskError {
    /// Whether the request was certainly not run, so that asking again does no harm
    /// whatever it does.
    pub fn was_not_run(&self) -> bool {
        use Status::{Busy, Expired, Malformed, NoService, TooLarge, Unavailable};
        match self {
            Self::Handler { .. } | Self::NoAnswer { .. } | Self::BrokenOff { .. } | Self::Behind => false,
            Self::Refused { status, attempt, .. } => {
                let never = matches!(status, Busy | Expired | Malformed | NoService | TooLarge | Unavailable);
                *attempt == 0 && never
            }
            _ => true,
        }
    }
}

/// What the statuses mean, in the words of whoever asked.
fn reason(status: Status) -> &'static str {
    match status {
        Status::Busy => "queue full",
        Status::Timeout => "out of time in a worker's hands",
        Status::Expired => "out of time in the queue",
        Status::Lost => "worker died",
        Status::Poison => "every worker died of it",
        Status::Unavailable => "no worker can start",
        Status::NoService => "nobody serves this",
        Status::Draining => "broker is stopping",
        Status::Malformed => "unreadable",
        Status::Denied => "not allowed",
        Status::TooLarge => "body too large",
        Status::Cancelled => "taken back",
        Status::Ok | Status::Error => "no reply",
    }
}

/// The brokers in one line.
fn listed(brokers: &[Endpoint]) -> String {
    brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler { message, .. } => write!(f, "the handler failed: {message}"),
            Self::Refused { status, message, broker, attempt, retry_after } => {
                write!(f, "{status} at {broker}: ")?;
                match (status, message.as_str()) {
                    (_, "") => f.write_str(reason(*status))?,
                    // It says the same in its own words.
                    (Status::Cancelled, message) => f.write_str(message)?,
                    (_, message) => write!(f, "{}: {message}", reason(*status))?,
                }
                if *attempt > 1 {
                    write!(f, ", {attempt} attempts")?;
                }
                match retry_after {
                    Some(wait) => write!(f, ", worth another try in {} ms", wait.as_millis()),
                    None => Ok(()),
                }
            }
            Self::NoAnswer { broker, tries: 1, waited } => {
                write!(f, "no answer from {broker} in {:.1} s; it was sent once", waited.as_secs_f64())
            }
            Self::NoAnswer { broker, tries, waited } => {
                let seconds = waited.as_secs_f64();
                write!(f, "no answer in {seconds:.1} s; it was sent {tries} times, at last to {broker}")
            }
            Self::BrokenOff { broker, parts } => {
                write!(f, "the reply from {broker} broke off after {parts} parts")
            }
            Self::Behind => f.write_str("the parts of the reply were not taken as fast as they came"),
            Self::Unreachable { brokers, waited } => {
                write!(f, "no broker at {} in {:.1} s", listed(brokers), waited.as_secs_f64())
            }
            Self::NoRoom { limit } => write!(f, "{limit} requests of this client are out already"),
            Self::Request { why } => f.write_str(why),
            Self::Endpoint { spelling, .. } => write!(f, "cannot connect to {spelling:?}"),
            Self::Identity => f.write_str("an identity has 1 to 255 bytes, the first of them not zero"),
            Self::Forked => f.write_str("this client belongs to the process that forked this one"),
            Self::Entropy => f.write_str("the kernel gives no random bytes"),
            Self::System(kind) => write!(f, "the kernel gives no descriptor or no thread: {kind}"),
            Self::Zmq(_) => f.write_str("libzmq refused"),
        }
    }
}

impl std::error::Error for AskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint { source, .. } => Some(source),
            Self::Zmq(error) => Some(error),
            _ => None,
        }
    }
}

impl From<zmq::Error> for AskError {
    fn from(error: zmq::Error) -> Self {
        Self::Zmq(error)
    }
}
