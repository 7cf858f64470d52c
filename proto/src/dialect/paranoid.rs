//! Paranoid Pirate, RFC 6: what its workers say and are told.
//!
//! ```text
//! worker -> broker   01                    ready
//! either way         02                    heartbeat
//! broker -> worker   token "" body...      a job
//! worker -> broker   token "" body...      a reply
//! ```
//!
//! Its words are no different from a payload of one frame, so a message is read as what it
//! would be from a worker; nothing but a worker's socket is read so.

use std::time::Duration;

use crate::Token;

/// The one byte that says ready.
pub const READY: u8 = 0x01;

/// The one byte that says that its sender lives.
pub const HEARTBEAT: u8 = 0x02;

/// Between two heartbeats, as the RFC recommends.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How many frames of a job or reply stand before the body.
pub const HEAD_LEN: usize = 2;

/// What a worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It takes requests.
    Ready,
    /// It lives. The Guide's queue takes this from anybody it does not know for `Ready`, and
    /// workers count on that when a queue was started anew.
    Heartbeat,
    /// The reply to the job of this token, `None` if no broker ever made it. The body begins
    /// at frame [`HEAD_LEN`].
    Reply(Option<Token>),
}

/// No worker says this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

impl Word {
    /// The word in `frames`.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode<F: AsRef<[u8]>>(frames: &[F]) -> Result<Self, Unreadable> {
        match frames {
            [only] => match only.as_ref() {
                [READY] => Ok(Self::Ready),
                [HEARTBEAT] => Ok(Self::Heartbeat),
                _ => Err(Unreadable),
            },
            [address, empty, _, ..] if empty.as_ref().is_empty() => {
                Ok(Self::Reply(Token::parse(address.as_ref())))
            }
            _ => Err(Unreadable),
        }
    }
}

/// The frames before a job's body.
#[must_use]
pub fn job_head(token: &Token) -> [&[u8]; HEAD_LEN] {
    [token.as_bytes(), b""]
}

/// The broker's sign of life.
#[must_use]
pub const fn heartbeat() -> [&'static [u8]; 1] {
    [&[HEARTBEAT]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_replies_and_from_rubbish() {
        let token = Token::new(1, 99);
        let decode = |frames: &[&[u8]]| Word::decode(frames);
        assert_eq!(decode(&[&[1]]), Ok(Word::Ready));
        assert_eq!(decode(&[&[2]]), Ok(Word::Heartbeat));
        assert_eq!(decode(&[token.as_bytes(), b"", b"x", b"y"]), Ok(Word::Reply(Some(token))));
        assert_eq!(decode(&[b"of another broker", b"", b"x"]), Ok(Word::Reply(None)));
        let rubbish: [&[&[u8]]; 6] = [&[], &[b""], &[b"x"], &[&[1, 2]], &[b"a", b""], &[b"a", b"b", b"c"]];
        for frames in rubbish {
            assert_eq!(decode(frames), Err(Unreadable), "{frames:?}");
        }
    }
}
