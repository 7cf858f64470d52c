//! What comes back: a broker's frames, read as the answer to one request.

use hornpipe_proto::client::decode_reply_meta;
use hornpipe_proto::{MAGIC, Status};

use crate::error::AskError;

/// What a handler answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The frames of the body, as many as the worker sent.
    pub frames: Vec<Vec<u8>>,
    /// How many workers had the request, the one that answered included.
    pub attempt: u32,
}

impl Reply {
    /// The body in one piece.
    pub fn bytes(&self) -> Vec<u8> {
        self.frames.concat()
    }
}

/// What a message from the broker means to whoever asked request `id`:
/// nothing (`None`), or how the request ended.
pub(crate) fn read_answer(mut frames: Vec<Vec<u8>>, id: &str) -> Option<Result<Reply, AskError>> {
    match frames.as_slice() {
        [empty, magic, map, ..] if empty.is_empty() && magic == MAGIC => {
            let meta = decode_reply_meta(map).ok().filter(|meta| meta.id == id)?;
            let message = meta.message.unwrap_or_default();
            Some(match meta.status {
                Status::Ok => Ok(Reply { frames: frames.split_off(3), attempt: meta.attempt }),
                status => Err(refusal(status, message)),
            })
        }
        // A broker that cannot read a request does not know that it is native,
        // nor its id. Only one request is out on a connection, so it is ours.
        [empty, text] if empty.is_empty() => read_plain_error(text),
        [text] => read_plain_error(text),
        _ => None,
    }
}

fn read_plain_error(text: &[u8]) -> Option<Result<Reply, AskError>> {
    let (status, message) = split_plain_error(text)?;
    Some(Err(refusal(status, String::from_utf8_lossy(message).into_owned())))
}

/// The status and the sentence of `ERR <status> <sentence>`.
pub(crate) fn split_plain_error(text: &[u8]) -> Option<(Status, &[u8])> {
    let mut words = text.strip_prefix(b"ERR ")?.splitn(2, |byte| *byte == b' ');
    let status = Status::from_word(std::str::from_utf8(words.next()?).ok()?)?;
    (status != Status::Ok).then_some((status, words.next().unwrap_or_default()))
}

fn refusal(status: Status, message: String) -> AskError {
    match status {
        Status::Error => AskError::Handler { message },
        status => AskError::Refused { status, message },
    }
}

#[cfg(test)]
mod tests {
    use hornpipe_proto::client::{RequestMeta, plain_error};

    use super::*;

    fn read(frames: &[&[u8]]) -> Option<Result<Reply, AskError>> {
        read_answer(frames.iter().map(|frame| frame.to_vec()).collect(), "7")
    }

    #[test]
    fn a_plain_error_is_understood_with_and_without_delimiter() {
        let text = plain_error(Status::Malformed, "no map");
        let refused = AskError::Refused { status: Status::Malformed, message: "no map".into() };
        assert_eq!(read(&[b"", text.as_bytes()]), Some(Err(refused.clone())));
        assert_eq!(read(&[text.as_bytes()]), Some(Err(refused)));
        let silent = AskError::Refused { status: Status::Busy, message: String::new() };
        assert_eq!(read(&[b"ERR busy"]), Some(Err(silent)));
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
