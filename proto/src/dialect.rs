//! Foreign dialects, recognised by the shape of a message.
//!
//! Net::Server::ZMQ needs no recognising: its frames are ours without details. What the
//! ZeroMQ Guide's others say, and are told, is in a file for each.

pub mod majordomo;
pub mod paranoid;

use crate::Token;
use crate::worker::State;
use majordomo::Edition;

/// Whose protocol a worker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// Ours and Net::Server::ZMQ's: `waiting`, `processing`, `exiting`.
    Hornpipe,
    /// The ZeroMQ Guide's REQ worker: says ready once, then every reply means
    /// that it is ready again.
    SimplePirate,
    /// RFC 6: a DEALER that is ready by each reply, and beats.
    ParanoidPirate,
    /// RFC 7 and 18: with commands, a service, and heartbeats.
    Majordomo(Edition),
}

impl Dialect {
    /// The dialect of a worker's message. What no foreign one has is ours to read, or not.
    #[must_use]
    pub fn of_worker<F: AsRef<[u8]>>(frames: &[F]) -> Self {
        if let Some(edition) = Edition::of_worker(frames) {
            return Self::Majordomo(edition);
        }
        match frames {
            [only] if matches!(only.as_ref(), [paranoid::READY | paranoid::HEARTBEAT]) => {
                Self::ParanoidPirate
            }
            [address, empty, _, ..]
                if empty.as_ref().is_empty() && Token::parse(address.as_ref()).is_some() =>
            {
                Self::ParanoidPirate
            }
            [empty, word] if empty.as_ref().is_empty() && is_pirate_word(word.as_ref()) => Self::SimplePirate,
            _ => Self::Hornpipe,
        }
    }

    /// The dialect and state that the word of a two-frame message stands for.
    pub(crate) fn of_state(word: &[u8]) -> Option<(Self, State)> {
        if is_pirate_word(word) {
            return Some((Self::SimplePirate, State::Waiting));
        }
        State::parse(word).map(|state| (Self::Hornpipe, state))
    }

    /// Whether a worker that has spoken this may go on in `other`: ours and the Simple
    /// Pirate's are words of one shape.
    #[must_use]
    pub fn goes_with(self, other: Self) -> bool {
        let own = |dialect| matches!(dialect, Self::Hornpipe | Self::SimplePirate);
        self == other || own(self) && own(other)
    }

    /// Whether a reply makes the worker ready again, without a word of its own.
    #[must_use]
    pub const fn reply_means_ready(self) -> bool {
        match self {
            Self::Hornpipe => false,
            Self::SimplePirate | Self::ParanoidPirate | Self::Majordomo(_) => true,
        }
    }
}

/// `lbbroker` says READY, `lbbroker2` and `spqueue` say 0x01.
fn is_pirate_word(word: &[u8]) -> bool {
    matches!(word, b"READY" | [0x01])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(frames: &[&[u8]]) -> Dialect {
        Dialect::of_worker(frames)
    }

    #[test]
    fn each_dialect_is_known_by_its_shape() {
        let token = Token::new(1, 99);
        assert_eq!(of(&[&[1]]), Dialect::ParanoidPirate);
        assert_eq!(of(&[&[2]]), Dialect::ParanoidPirate);
        assert_eq!(of(&[token.as_bytes(), b"", b"x"]), Dialect::ParanoidPirate);
        assert_eq!(of(&[b"", b"MDPW01", &[1], b"echo"]), Dialect::Majordomo(Edition::V1));
        assert_eq!(of(&[b"MDPW02", &[1], b"echo"]), Dialect::Majordomo(Edition::V2));
        assert_eq!(of(&[b"", b"MDPW02", &[5]]), Dialect::Majordomo(Edition::V2Delimited));
        assert_eq!(of(&[b"", b"READY"]), Dialect::SimplePirate);
        assert_eq!(of(&[b"", &[1]]), Dialect::SimplePirate);
        assert_eq!(of(&[b"", b"waiting"]), Dialect::Hornpipe);
        assert_eq!(of(&[b"", token.as_bytes(), b"", b"x"]), Dialect::Hornpipe);
    }

    #[test]
    fn what_nobody_says_is_nobodys() {
        let rubbish: [&[&[u8]]; 6] = [&[], &[b""], &[b"x"], &[b"x", b"", b"y"], &[&[3]], &[b"MDPW03", &[1]]];
        for frames in rubbish {
            assert_eq!(of(frames), Dialect::Hornpipe, "{frames:?}");
        }
    }
}
