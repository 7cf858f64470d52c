//! A load generator that trusts nobody: every reply is checked.
//!
//! One thread, one context, one DEALER per client. More load than one thread
//! makes is the caller's business: run it in several processes.

mod generator;
mod mix;
mod outcome;
mod payload;
mod peer;
mod schedule;
mod slots;

use std::fmt;
use std::time::Duration;

pub use mix::{EmptyMix, Mix};
pub use outcome::{Band, Counts, Latency, Outcome, Progress};

use crate::endpoint::{Endpoint, EndpointError};
use generator::Generator;

/// A context of libzmq has room for 1023 sockets.
pub const CLIENTS_LIMIT: usize = 1000;

/// The slots of all clients together; each takes about 100 bytes.
pub const SLOTS_LIMIT: usize = 1 << 20;

/// A body needs this many bytes to say which request it is.
pub const BODY_MIN: usize = payload::NAME_LEN;

/// What load to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Where the servers are. Connections are shared out among them in turns.
    pub endpoints: Vec<Endpoint>,
    /// How many connections.
    pub clients: usize,
    /// How many requests each connection has out at most. 1 is what a REQ socket does.
    pub depth: usize,
    /// How requests are framed.
    pub mode: Mode,
    /// What sets the pace.
    pub shape: Shape,
    /// Bytes of the bodies to be echoed, `verb_prefix` not counted; at least [`BODY_MIN`].
    pub body_sizes: Mix<usize>,
    /// The services to ask, none for the default one. Only native requests can name one.
    pub services: Mix<Option<String>>,
    /// When to stop sending.
    pub until: Until,
    /// A request without reply for this long is lost. Noticed within a tenth of a second.
    pub timeout: Duration,
    /// Stands before each body; the server takes it off and echoes the rest.
    pub verb_prefix: Vec<u8>,
}

/// How requests are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `"" body`, as a REQ socket sends. With more than one request out, a frame
    /// in front of the empty one tells replies apart, as `ZMQ_REQ_CORRELATE` does.
    Plain,
    /// `"" HPIPE1 map body`.
    Native,
}

/// What sets the pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Each reply lets the next request go. A slow server is asked less.
    Closed,
    /// Requests are due at a fixed rate, whatever the server does. Latency
    /// counts from when a request was due, so one that had to wait for a free
    /// client counts the wait.
    Open {
        /// Requests a second, over all clients.
        rate: f64,
    },
}

/// When to stop sending. What is out by then is still waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this time. Open load that is overdue by then gets one more `timeout`.
    Elapsed(Duration),
    /// After this many requests.
    Count(u64),
}

/// Why no load was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The plan asks for what cannot be.
    Plan {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The host has no address.
    Endpoint(EndpointError),
    /// Not every client came to be connected within the plan's timeout.
    Unreachable {
        /// Where the server was looked for.
        endpoint: Endpoint,
        /// How many clients were connected.
        connected: usize,
    },
    /// The kernel gave no random bytes.
    Entropy,
    /// The kernel gave no timer.
    Timer(std::io::Error),
    /// The histogram could not be made.
    Histogram(hdrhistogram::CreationError),
    /// libzmq refused, for want of descriptors or memory most likely.
    Zmq(zmq::Error),
}

/// Makes the load and says what came of it.
///
/// The clock starts when every client is connected. At the end it listens a
/// moment longer for replies that come twice.
///
/// # Errors
/// If the plan is impossible or the server is not there. Replies that are
/// missing or wrong are no errors but counts.
pub fn run(plan: &Plan) -> Result<Outcome, LoadError> {
    run_watched(plan, &mut |_progress| ())
}

/// The same, and tells from time to time how far it is: about ten times a second, from the
/// thread that makes the load, so it should be quick about it.
///
/// # Errors
/// As [`run`].
pub fn run_watched(plan: &Plan, watch: &mut dyn FnMut(&Progress<'_>)) -> Result<Outcome, LoadError> {
    check(plan)?;
    Generator::connect(plan)?.run(watch)
}

fn check(plan: &Plan) -> Result<(), LoadError> {
    let whys = [
        (plan.clients == 0 || plan.depth == 0, "it takes a client with a request to make load"),
        (plan.clients > CLIENTS_LIMIT, "one process has at most 1000 clients"),
        (plan.clients.saturating_mul(plan.depth) > SLOTS_LIMIT, "at most 1048576 requests are out at once"),
        (plan.endpoints.is_empty(), "it takes a server to make load for"),
        (plan.body_sizes.kinds().any(|size| *size < BODY_MIN), "a body has at least 16 bytes"),
        (
            plan.mode == Mode::Plain && plan.services.kinds().any(Option::is_some),
            "a plain request cannot name a service",
        ),
        (plan.timeout < Duration::from_millis(1), "a timeout has at least a millisecond"),
        (
            matches!(plan.shape, Shape::Open { rate } if !(0.001..=1e9).contains(&rate)),
            "a rate lies between 0.001 and 1e9 a second",
        ),
    ];
    match whys.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, why)) => Err(LoadError::Plan { why }),
        None => Ok(()),
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan { why } => f.write_str(why),
            Self::Endpoint(_) => f.write_str("cannot connect"),
            Self::Unreachable { endpoint, connected } => {
                write!(f, "no server at {endpoint}: only {connected} clients could connect")
            }
            Self::Entropy => f.write_str("the kernel gives no random bytes"),
            Self::Timer(_) => f.write_str("the kernel gives no timer"),
            Self::Histogram(_) => f.write_str("no histogram can be made"),
            Self::Zmq(_) => f.write_str("libzmq refused"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint(error) => Some(error),
            Self::Timer(error) => Some(error),
            Self::Zmq(error) => Some(error),
            Self::Plan { .. } | Self::Unreachable { .. } | Self::Entropy | Self::Histogram(_) => None,
        }
    }
}

impl From<zmq::Error> for LoadError {
    fn from(error: zmq::Error) -> Self {
        Self::Zmq(error)
    }
}
