//! What comes back: a broker's frames, read as the answer to one request.

use std::time::Duration;

use hornpipe_proto::client::{ReplyMeta, decode_reply_meta};
use hornpipe_proto::{MAGIC, Status};

use crate::endpoint::Endpoint;
use crate::error::AskError;

/// What a handler answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The frames of the body, as many as the worker sent.
    pub frames: Vec<Vec<u8>>,
    /// How many workers had the request, the one that answered included.
    pub attempt: u32,
    /// How long it waited for workers, if the broker says so.
    pub waited: Option<Duration>,
    /// How long workers had it, if the broker says so.
    pub ran: Option<Duration>,
    /// The broker that it came from.
    pub broker: Endpoint,
}

impl Reply {
    /// The body in one piece.
    pub fn bytes(&self) -> Vec<u8> {
        self.frames.concat()
    }
}

/// A broker's message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Empty if the broker could not read which request it answers.
    pub(crate) meta: ReplyMeta,
    pub(crate) frames: Vec<Vec<u8>>,
}

impl Answer {
    /// What a message says; nothing (`None`) if it is no answer.
    pub(crate) fn read(mut frames: Vec<Vec<u8>>) -> Option<Self> {
        match frames.as_slice() {
            [empty, magic, map, ..] if empty.is_empty() && magic == MAGIC => {
                let meta = decode_reply_meta(map).ok()?;
                Some(Self { meta, frames: frames.split_off(3) })
            }
            // A broker that cannot read a request does not know that it is native.
            [empty, text] if empty.is_empty() => Self::read_plain(text),
            [text] => Self::read_plain(text),
            _ => None,
        }
    }

    fn read_plain(text: &[u8]) -> Option<Self> {
        let (status, message) = split_plain_error(text)?;
        let message = Some(String::from_utf8_lossy(message).into_owned());
        let meta = ReplyMeta { status, message, ..ReplyMeta::default() };
        Some(Self { meta, frames: Vec::new() })
    }

    /// How the request ended; for the last message about it.
    pub(crate) fn conclude(self, broker: &Endpoint) -> Result<Reply, AskError> {
        let Self { meta, frames } = self;
        let broker = broker.clone();
        let attempt = meta.attempt;
        let message = meta.message.unwrap_or_default();
        match meta.status {
            Status::Ok => Ok(Reply {
                frames,
                attempt,
                waited: meta.wait_us.map(Duration::from_micros),
                ran: meta.run_us.map(Duration::from_micros),
                broker,
            }),
            Status::Error => Err(AskError::Handler { message, broker, attempt }),
            status => Err(AskError::Refused {
                status,
                message,
                broker,
                attempt,
                retry_after: meta.retry_after_ms.map(Duration::from_millis),
            }),
        }
    }
}

/// The status and the sentence of `ERR <status> <sentence>`.
pub(crate) fn split_plain_error(text: &[u8]) -> Option<(Status, &[u8])> {
    let mut words = text.strip_prefix(b"ERR ")?.splitn(2, |byte| *byte == b' ');
    let status = Status::from_word(std::str::from_utf8(words.next()?).ok()?)?;
    (status != Status::Ok).then_some((status, words.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use hornpipe_proto::client::{RequestMeta, plain_error};

    use super::*;

    fn read(frames: &[&[u8]]) -> Option<Answer> {
        Answer::read(frames.iter().map(|frame| frame.to_vec()).collect())
    }

    #[test]
    fn a_plain_error_is_understood_with_and_without_delimiter() {
        let text = plain_error(Status::Malformed, "no map");
        let says = |status: Status, message: &str| {
            let meta = ReplyMeta { status, message: Some(message.into()), ..ReplyMeta::default() };
            Some(Answer { meta, frames: Vec::new() })
        };
        assert_eq!(read(&[b"", text.as_bytes()]), says(Status::Malformed, "no map"));
        assert_eq!(read(&[text.as_bytes()]), says(Status::Malformed, "no map"));
        assert_eq!(read(&[b"ERR busy"]), says(Status::Busy, ""));
    }

    #[test]
    fn what_answers_nothing_is_nothing() {
        // An echo server sends our own request back; its map has no status.
        let own = RequestMeta { id: "7".into(), ..RequestMeta::default() }.encode();
        for frames in [
            &[&b""[..], MAGIC, &own, b"body"][..],
            &[b"", MAGIC, b"junk"],
            &[b"", MAGIC],
            &[b"", b"a plain reply"],
            &[b"ERR fine thanks"],
            &[b"ERR ok thanks"],
            &[b""],
            &[],
        ] {
            assert_eq!(read(frames), None, "{frames:?}");
        }
    }
}
