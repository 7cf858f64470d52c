//! Foreign dialects, recognised by the shape of a message.
//!
//! Net::Server::ZMQ needs no recognising: its frames are ours without details.
//! Paranoid Pirate (RFC 6) and Majordomo (RFC 7 and 18) have their place here.

use crate::worker::State;

/// Whose protocol a worker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// Ours and Net::Server::ZMQ's: `waiting`, `processing`, `exiting`.
    Hornpipe,
    /// The ZeroMQ Guide's REQ worker: says ready once, then every reply means
    /// that it is ready again.
    SimplePirate,
}

impl Dialect {
    /// The dialect and state that the word of a two-frame message stands for.
    pub(crate) fn of_state(word: &[u8]) -> Option<(Self, State)> {
        match word {
            // `lbbroker` says READY, `lbbroker2` and `spqueue` say 0x01.
            b"READY" | [0x01] => Some((Self::SimplePirate, State::Waiting)),
            word => State::parse(word).map(|state| (Self::Hornpipe, state)),
        }
    }

    /// Whether a reply makes the worker ready again, without a word of its own.
    #[must_use]
    pub const fn reply_means_ready(self) -> bool {
        match self {
            Self::Hornpipe => false,
            Self::SimplePirate => true,
        }
    }
}
