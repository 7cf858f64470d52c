//! Why a request has no reply.

use std::fmt;
use std::time::Duration;

use hornpipe_proto::Status;

use crate::endpoint::{Endpoint, EndpointError};

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError {
    /// The handler ran and said that it failed.
    Handler {
        /// What it said.
        message: String,
    },
    /// The broker ended the request without a reply.
    Refused {
        /// How; never `ok` or `error`.
        status: Status,
        /// Why, in one sentence.
        message: String,
    },
    /// The request was sent and no answer came in time. It may have been run.
    NoAnswer {
        /// How often it was sent.
        tries: u32,
        /// How long this call waited in all.
        waited: Duration,
    },
    /// No connection came about in time. The request was never sent.
    Unreachable {
        /// Where the broker was looked for.
        endpoint: Endpoint,
        /// How long this call waited in all.
        waited: Duration,
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
    /// libzmq refused, for want of descriptors or memory most likely.
    Zmq(zmq::Error),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler { message } => write!(f, "the handler failed: {message}"),
            Self::Refused { status, message } if message.is_empty() => write!(f, "refused: {status}"),
            Self::Refused { status, message } => write!(f, "refused: {status}: {message}"),
            Self::NoAnswer { tries: 1, waited } => {
                write!(f, "no answer in {:.1} s; it was sent once", waited.as_secs_f64())
            }
            Self::NoAnswer { tries, waited } => {
                write!(f, "no answer in {:.1} s; it was sent {tries} times", waited.as_secs_f64())
            }
            Self::Unreachable { endpoint, waited } => {
                write!(f, "no broker at {endpoint} in {:.1} s", waited.as_secs_f64())
            }
            Self::Endpoint { spelling, .. } => write!(f, "cannot connect to {spelling:?}"),
            Self::Identity => f.write_str("an identity has 1 to 255 bytes, the first of them not zero"),
            Self::Forked => f.write_str("this client belongs to the process that forked this one"),
            Self::Entropy => f.write_str("the kernel gives no random bytes"),
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
