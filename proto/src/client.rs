//! What clients and the broker say to each other.
//!
//! ```text
//! client -> broker   envelope... "" body...                  plain
//! client -> broker   envelope... "" HPIPE1 map body...       native
//! broker -> client   the same envelope, then the reply in the same way
//! ```
//!
//! Clients of Majordomo are recognised in [`crate::dialect`].
//!
//! A plain client hears of an error in one frame of text, because a REQ client
//! that calls `recv` once would leave a second frame in its socket.

use serde::{Deserialize, Serialize};

use crate::dialect::majordomo::ClientRequest;
use crate::{HEADERS_BYTES, HEADERS_COUNT, Headers, MAGIC, MapError, Priority, Status, map};

/// An envelope of more frames than this is dropped.
pub const ENVELOPE_LIMIT: usize = 16;

/// A request id of more bytes than this is refused.
pub const ID_LIMIT: usize = 64;

/// A `key`, `exclusive`, `affinity` or `trace` of more bytes than this is refused.
pub const KEY_LIMIT: usize = 256;

/// What comes with a native request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestMeta {
    /// The client's own name for this request; the reply carries it.
    pub id: String,
    /// The service asked for; absent is the broker's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Milliseconds until nobody waits for the reply any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many workers may try it, at most as many as the broker allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Names the work: requests of one service with the same key are run once within the
    /// service's window, and all get that run's reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Of those with the same word here, one runs at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
    /// Those with the same word here go to the same worker, while it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// Whether it waits for that worker, however long it is busy.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// Which line it waits in.
    #[serde(skip_serializing_if = "Priority::is_normal")]
    pub priority: Priority,
    /// No request, but the end of an earlier one: of the same connection's with this `id`,
    /// or of whoever's with this `key`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// Whether its sender reads a reply that comes in parts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The `traceparent` of W3C's Trace Context; passed on to the worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Passed on to the worker.
    #[serde(skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
}

/// What comes with a native reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyMeta {
    /// The request's id, as the client gave it.
    #[serde(default)]
    pub id: String,
    /// How it ended.
    pub status: Status,
    /// Why, in one sentence, unless it is `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How many workers had it.
    #[serde(default)]
    pub attempt: u32,
    /// Whether other parts of this reply follow. It is not the end of the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Microseconds that it waited for workers, all attempts together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_us: Option<u64>,
    /// Microseconds that workers had it, all attempts together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_us: Option<u64>,
    /// With `busy`: after how many milliseconds another try is worth it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl RequestMeta {
    /// The map as a frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        map::encode(self)
    }

    /// What is too long to be taken, if anything is.
    fn excess(&self) -> Option<NativeError> {
        let texts = [
            ("key", &self.key),
            ("exclusive", &self.exclusive),
            ("affinity", &self.affinity),
            ("trace", &self.trace),
        ];
        let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > KEY_LIMIT);
        if self.id.len() > ID_LIMIT {
            return Some(NativeError::LongId);
        }
        if let Some((name, _text)) = texts.into_iter().find(|(_name, text)| long(text)) {
            return Some(NativeError::LongText { name });
        }
        (!self.headers.fit()).then_some(NativeError::Headers)
    }
}

impl Default for ReplyMeta {
    fn default() -> Self {
        Self {
            id: String::new(),
            status: Status::Ok,
            message: None,
            attempt: 0,
            more: false,
            wait_us: None,
            run_us: None,
            retry_after_ms: None,
        }
    }
}

impl ReplyMeta {
    /// The map as a frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        map::encode(self)
    }
}

/// A client's message, as the broker reads it (frames after the routing id).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessage {
    /// How many frames come back in front of the reply, the empty one included; 0 for a
    /// client of Majordomo 0.2 that sends none.
    pub envelope_len: usize,
    /// Plain, native, or Majordomo's.
    pub speech: Speech,
}

/// How a client speaks, and where its body begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speech {
    /// The body follows the envelope.
    Plain,
    /// A map follows the envelope and [`MAGIC`]; the body comes after it.
    Native(Result<RequestMeta, NativeError>),
    /// A head of Majordomo's follows the envelope; the body comes after it.
    Majordomo(ClientRequest),
}

/// Why a native request cannot be read; the client hears `malformed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NativeError {
    /// No map follows the magic frame.
    NoMap,
    /// The map is not one.
    Map(MapError),
    /// The id has more than [`ID_LIMIT`] bytes.
    LongId,
    /// One of the other texts has more than [`KEY_LIMIT`] bytes.
    LongText {
        /// Its key in the map.
        name: &'static str,
    },
    /// More headers, or more bytes of them, than are passed on.
    Headers,
}

impl std::fmt::Display for NativeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoMap => f.write_str("no request map follows HPIPE1"),
            Self::Map(error) => write!(f, "the request map: {error}"),
            Self::LongId => write!(f, "the request id has more than {ID_LIMIT} bytes"),
            Self::LongText { name } => write!(f, "the request's {name} has more than {KEY_LIMIT} bytes"),
            Self::Headers => {
                write!(f, "more than {HEADERS_COUNT} headers, or more than {HEADERS_BYTES} bytes of them")
            }
        }
    }
}

/// Why a client's message is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMessageError {
    /// No empty frame ends the envelope: a bare DEALER. Answered without one.
    NoDelimiter,
    /// Nothing follows the envelope: PROBE_ROUTER and the like. Ignored.
    NoBody,
    /// More than [`ENVELOPE_LIMIT`] frames of envelope. Dropped.
    DeepEnvelope,
}

impl ClientMessage {
    /// The message in `frames`.
    ///
    /// # Errors
    /// Says why it is no request.
    pub fn decode<F: AsRef<[u8]>>(frames: &[F]) -> Result<Self, ClientMessageError> {
        if let Some(request) = ClientRequest::decode(0, frames) {
            return Ok(Self { envelope_len: 0, speech: Speech::Majordomo(request) });
        }
        let Some(delimiter) = frames.iter().position(|frame| frame.as_ref().is_empty()) else {
            return Err(ClientMessageError::NoDelimiter);
        };
        let envelope_len = delimiter + 1;
        if envelope_len > ENVELOPE_LIMIT {
            return Err(ClientMessageError::DeepEnvelope);
        }
        let speech = match frames.get(envelope_len..) {
            None | Some([]) => return Err(ClientMessageError::NoBody),
            Some([magic, rest @ ..]) if magic.as_ref() == MAGIC => Speech::Native(read_meta(rest)),
            Some(body) => ClientRequest::decode(envelope_len, body).map_or(Speech::Plain, Speech::Majordomo),
        };
        Ok(Self { envelope_len, speech })
    }

    /// How many frames stand before the body.
    #[must_use]
    pub const fn head_len(&self) -> usize {
        match &self.speech {
            Speech::Plain => self.envelope_len,
            Speech::Native(_) => self.envelope_len + 2,
            Speech::Majordomo(request) => self.envelope_len + request.head_len(),
        }
    }
}

fn read_meta<F: AsRef<[u8]>>(rest: &[F]) -> Result<RequestMeta, NativeError> {
    let frame = rest.first().ok_or(NativeError::NoMap)?;
    let meta: RequestMeta = map::decode(frame.as_ref()).map_err(NativeError::Map)?;
    meta.excess().map_or(Ok(meta), Err)
}

/// An error as a plain client hears it: `ERR <status> <sentence>`.
#[must_use]
pub fn plain_error(status: Status, message: &str) -> String {
    format!("ERR {status} {message}")
}

/// The map of a native reply, for a client that has read [`MAGIC`] before it. A status that only newer
/// brokers know is read as [`Status::Error`], and its word stands before the message.
///
/// # Errors
/// If the frame holds something else.
pub fn decode_reply_meta(frame: &[u8]) -> Result<ReplyMeta, MapError> {
    match map::decode(frame) {
        Ok(meta) => Ok(meta),
        Err(error) => {
            let later: LaterReplyMeta = map::decode(frame).map_err(|_error| error.clone())?;
            if Status::from_word(&later.status).is_some() {
                return Err(error);
            }
            let LaterReplyMeta { id, status, message, attempt } = later;
            let message = message.map_or_else(|| status.clone(), |message| format!("{status}: {message}"));
            Ok(ReplyMeta {
                id,
                status: Status::Error,
                message: Some(message),
                attempt,
                ..ReplyMeta::default()
            })
        }
    }
}

/// What can be said of a reply whose status is one of a later broker's.
#[derive(Deserialize)]
struct LaterReplyMeta {
    #[serde(default)]
    id: String,
    status: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    attempt: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(frames: &[&[u8]]) -> Result<ClientMessage, ClientMessageError> {
        ClientMessage::decode(frames)
    }

    #[test]
    fn the_envelope_ends_with_the_first_empty_frame() {
        let plain = |envelope_len| Ok(ClientMessage { envelope_len, speech: Speech::Plain });
        assert_eq!(decode(&[b"", b"hello"]), plain(1));
        assert_eq!(decode(&[b"corr", b"", b"hello"]), plain(2));
        assert_eq!(decode(&[b"a", b"b", b"", b"x", b"", b"y"]), plain(3));
        assert_eq!(decode(&[b"", b""]), plain(1), "an empty body is a body");
    }

    #[test]
    fn what_is_no_request_says_so() {
        assert_eq!(decode(&[b"hello"]), Err(ClientMessageError::NoDelimiter));
        assert_eq!(decode(&[b""]), Err(ClientMessageError::NoBody));
        assert_eq!(decode(&[]), Err(ClientMessageError::NoDelimiter));
        let mut deep = vec![&b"hop"[..]; ENVELOPE_LIMIT];
        deep.extend([&b""[..], b"x"]);
        assert_eq!(decode(&deep), Err(ClientMessageError::DeepEnvelope));
    }

    #[test]
    fn a_native_request_carries_its_map() {
        let meta = RequestMeta { id: "7".into(), timeout_ms: Some(500), ..RequestMeta::default() };
        let message = decode(&[b"", MAGIC, &meta.encode(), b"body"]).unwrap();
        assert_eq!(message.head_len(), 3);
        assert_eq!(message.speech, Speech::Native(Ok(meta)));
    }

    #[test]
    fn a_broken_map_is_told_from_a_broken_envelope() {
        let speech = |frames| decode(frames).unwrap().speech;
        assert_eq!(speech(&[b"", MAGIC]), Speech::Native(Err(NativeError::NoMap)));
        assert!(matches!(speech(&[b"", MAGIC, b"junk"]), Speech::Native(Err(NativeError::Map(_)))));
        let refused = |meta: RequestMeta| match decode(&[b"", MAGIC, &meta.encode()]).unwrap().speech {
            Speech::Native(Err(error)) => error,
            other @ (Speech::Plain | Speech::Majordomo(_) | Speech::Native(Ok(_))) => panic!("{other:?}"),
        };
        let long = RequestMeta { id: "x".repeat(ID_LIMIT + 1), ..RequestMeta::default() };
        assert_eq!(refused(long), NativeError::LongId);
        let long = RequestMeta { exclusive: Some("x".repeat(KEY_LIMIT + 1)), ..RequestMeta::default() };
        assert_eq!(refused(long), NativeError::LongText { name: "exclusive" });
        let headers = (0..=HEADERS_COUNT).map(|number| (number.to_string(), "")).collect();
        assert_eq!(refused(RequestMeta { headers, ..RequestMeta::default() }), NativeError::Headers);
        let headers = [("name", vec![0; HEADERS_BYTES])].into_iter().collect();
        assert_eq!(refused(RequestMeta { headers, ..RequestMeta::default() }), NativeError::Headers);
    }

    #[test]
    fn a_status_of_later_brokers_is_a_failure() {
        // {"id": "7", "status": "shelved", "attempt": 2, "shelf": [1]}
        let map = b"\x84\xa2id\xa17\xa6status\xa7shelved\xa7attempt\x02\xa5shelf\x91\x01";
        let failure = ReplyMeta {
            id: "7".into(),
            status: Status::Error,
            message: Some("shelved".into()),
            attempt: 2,
            ..ReplyMeta::default()
        };
        assert_eq!(decode_reply_meta(map), Ok(failure));
        assert!(decode_reply_meta(b"\x81\xa2id\xa17").is_err());
        // {"status": "ok", "attempt": "two"} is not to be guessed at.
        assert!(decode_reply_meta(b"\x82\xa6status\xa2ok\xa7attempt\xa3two").is_err());
    }

    #[test]
    fn the_longest_request_fits_into_a_jobs_map() {
        let text = || Some("x".repeat(KEY_LIMIT));
        let value = HEADERS_BYTES / HEADERS_COUNT - 2;
        let job = crate::worker::JobMeta {
            id: "x".repeat(ID_LIMIT),
            attempt: u32::MAX,
            timeout_ms: Some(u64::MAX),
            service: Some("s".repeat(64)),
            key: text(),
            trace: text(),
            headers: (10..10 + HEADERS_COUNT).map(|number| (number.to_string(), vec![0; value])).collect(),
            member: Some(u32::MAX),
            window: Some(u32::MAX),
            claim: Some(u32::MAX),
        };
        assert!(job.headers.fit());
        assert!(job.encode().len() < crate::MAP_LIMIT * 3 / 4, "{}", job.encode().len());
    }
}
