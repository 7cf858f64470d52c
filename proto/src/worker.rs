//! What workers and the broker say to each other.
//!
//! Frames are counted after the routing id. Four shapes, the first two as
//! Net::Server::ZMQ has them:
//!
//! ```text
//! worker -> broker   "" state [announcement]      waiting, processing, exiting
//! worker -> broker   "" token meta body...        a reply
//! broker -> worker   "" token meta body...        a job
//! broker -> worker   "" "" control                cancel or stop
//! worker -> broker   HPIPE1announcement           one frame: hello, sent on every connect
//! ```

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::{Ended, Headers, JobMap, MAGIC, MapError, Status, Token, map};

/// How many frames of a job or reply stand before the body.
pub const HEAD_LEN: usize = 3;

/// Bytes of an announcement's `instance`; a longer one counts as none.
pub const INSTANCE_LIMIT: usize = 64;

/// What a worker says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It would take a request.
    Waiting,
    /// It has begun the request it was given.
    Processing,
    /// It is about to end and takes no more.
    Exiting,
}

impl State {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Processing => "processing",
            Self::Exiting => "exiting",
        }
    }

    /// The state that a frame names.
    ///
    /// `dequeue` is Net::Server's word for a child that works on its own
    /// account and then ends: it takes no requests, so it is read as exiting.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        match frame {
            b"waiting" => Some(Self::Waiting),
            b"processing" => Some(Self::Processing),
            b"exiting" | b"dequeue" => Some(Self::Exiting),
            _ => None,
        }
    }
}

/// The details a worker may add to its state. One that adds them is sent
/// details too: job metas, cancel, stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Announcement {
    /// The protocol version it speaks.
    pub version: u32,
    /// The service it belongs to; absent is the broker's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// A name for logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many requests it runs at once.
    pub credits: u32,
    /// Which library it uses, with its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk: Option<String>,
    /// How many jobs it has received on this connection: tells a `waiting`
    /// that crossed a job on the wire from one sent after it.
    pub seen: u64,
    /// The descriptor, in the worker's process, of the file whose first word it claims its jobs
    /// in: see [`crate::claim`]. Only of use to a broker on the same machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<u32>,
    /// With `exiting`: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// With `exiting` of a member: its process has ended so, without being told to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// A name that this run of the worker has drawn for itself, and nobody else has. Who gives
    /// it promises to send replies to jobs with a key again after a lost connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Which of several workers of this connection it is about; absent if the connection
    /// is one worker. `exiting` ends a member, whose number is then free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<u32>,
}

impl Default for Announcement {
    fn default() -> Self {
        Self {
            version: crate::VERSION,
            service: None,
            name: None,
            credits: 1,
            sdk: None,
            seen: 0,
            claims: None,
            reason: None,
            ended: None,
            instance: None,
            member: None,
        }
    }
}

impl Announcement {
    /// The map as a frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        map::encode(self)
    }

    /// The one frame that a worker's socket sends by itself on every connect.
    #[must_use]
    pub fn encode_hello(&self) -> Vec<u8> {
        let mut frame = MAGIC.to_vec();
        frame.extend(self.encode());
        frame
    }
}

/// What comes with a job, for workers with details.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JobMeta {
    /// The request's name, for logs: the client's own, or one of the broker's.
    pub id: String,
    /// 1 for the first worker that gets the request, then 2, ...
    pub attempt: u32,
    /// Milliseconds left until nobody waits for the reply any more.
    pub timeout_ms: Option<u64>,
    /// The service that was asked for.
    pub service: Option<String>,
    /// The client's name for the work, the same if it asks again.
    pub key: Option<String>,
    /// The client's `traceparent` of W3C's Trace Context.
    pub trace: Option<String>,
    /// What else the client wants its worker to know.
    pub headers: Headers,
    /// How many parts of the reply may be sent ahead, before [`Control::More`] allows
    /// others; absent if the reply must not come in parts.
    pub window: Option<u32>,
    /// Which of several workers of the connection it is for.
    pub member: Option<u32>,
    /// The number under which the job is claimed before it is begun; absent if it need not be.
    pub claim: Option<u32>,
}

impl JobMeta {
    /// The map as a frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(map::USUAL_SIZE);
        JobMap::of(self).write(&mut bytes);
        bytes
    }
}

/// How a worker says that its request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyStatus {
    /// The body is the reply.
    Ok,
    /// The request failed, and would fail again.
    Error,
    /// The request failed, and another worker may try.
    Retry,
}

/// What comes with a reply. An empty frame in its place means success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplyMeta {
    /// How it went.
    pub status: ReplyStatus,
    /// Why it failed, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether it is a part, and others follow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Default for ReplyMeta {
    fn default() -> Self {
        Self { status: ReplyStatus::Ok, message: None, more: false }
    }
}

impl ReplyMeta {
    /// The meta as a frame: empty for a plain success.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        if *self == Self::default() { Vec::new() } else { map::encode(self) }
    }

    fn decode(frame: &[u8]) -> Result<Self, MapError> {
        if frame.is_empty() { Ok(Self::default()) } else { map::decode(frame) }
    }

    /// The status a client sees.
    #[must_use]
    pub const fn client_status(&self) -> Status {
        match self.status {
            ReplyStatus::Ok => Status::Ok,
            ReplyStatus::Error | ReplyStatus::Retry => Status::Error,
        }
    }
}

/// An order of the broker that is not a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "lowercase")]
pub enum Control {
    /// Nobody waits for this request's reply any more.
    Cancel {
        /// The token it was assigned under.
        token: String,
    },
    /// So many more parts of this request's reply may be sent.
    More {
        /// The token it was assigned under.
        token: String,
        /// How many more.
        parts: u32,
    },
    /// Finish what is in hand, say `exiting`, end.
    Stop,
}

impl Control {
    /// The map as a frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        map::encode(self)
    }
}

/// A worker's message, as the broker reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerMessage {
    /// It has connected; its state follows when its program speaks.
    Hello(Announcement),
    /// Its state, with details if it has any.
    State {
        /// The state.
        state: State,
        /// The details.
        announcement: Option<Announcement>,
        /// Which protocol's words these were.
        dialect: Dialect,
    },
    /// A reply. The body begins at frame [`HEAD_LEN`].
    Reply {
        /// The token of the job it answers.
        token: Token,
        /// How it went.
        meta: ReplyMeta,
    },
    /// A reply to something that no broker of this protocol ever sent.
    StrayReply,
}

/// Why a worker's message is not readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerMessageError {
    /// No message has this shape.
    Shape {
        /// How many frames it had.
        frames: usize,
    },
    /// A two-frame message whose word is no state.
    State,
    /// The announcement is not a map of the expected shape.
    Announcement(MapError),
    /// The reply's meta is not a map of the expected shape.
    ReplyMeta(MapError),
}

impl std::fmt::Display for WorkerMessageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shape { frames } => write!(f, "no message has this shape ({frames} frames)"),
            Self::State => f.write_str("not a state: expected waiting, processing or exiting"),
            Self::Announcement(error) => write!(f, "announcement: {error}"),
            Self::ReplyMeta(error) => write!(f, "reply meta: {error}"),
        }
    }
}

impl std::error::Error for WorkerMessageError {}

impl WorkerMessage {
    /// The message in `frames`.
    ///
    /// # Errors
    /// Says which part no worker of any known dialect would send.
    pub fn decode<F: AsRef<[u8]>>(frames: &[F]) -> Result<Self, WorkerMessageError> {
        let shape = WorkerMessageError::Shape { frames: frames.len() };
        match frames {
            [hello] => {
                let announcement = hello.as_ref().strip_prefix(MAGIC).ok_or(shape)?;
                let announcement = map::decode(announcement).map_err(WorkerMessageError::Announcement)?;
                Ok(Self::Hello(announcement))
            }
            [delimiter, ..] if !delimiter.as_ref().is_empty() => Err(shape),
            [_, word] => {
                let (dialect, state) = Dialect::of_state(word.as_ref()).ok_or(WorkerMessageError::State)?;
                Ok(Self::State { state, announcement: None, dialect })
            }
            [_, word, announcement] => {
                let state = State::parse(word.as_ref()).ok_or(shape)?;
                let announcement =
                    map::decode(announcement.as_ref()).map_err(WorkerMessageError::Announcement)?;
                Ok(Self::State { state, announcement: Some(announcement), dialect: Dialect::Hornpipe })
            }
            [_, token, meta, _, ..] => {
                let Some(token) = Token::parse(token.as_ref()) else {
                    return Ok(Self::StrayReply);
                };
                let meta = ReplyMeta::decode(meta.as_ref()).map_err(WorkerMessageError::ReplyMeta)?;
                Ok(Self::Reply { token, meta })
            }
            [] => Err(shape),
        }
    }
}

/// The broker's message, as a worker reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerMessage {
    /// A request to run. The body begins at frame [`HEAD_LEN`].
    Job {
        /// To be echoed as the second frame of the reply: opaque bytes.
        token: Vec<u8>,
        /// What is known of it; `None` for a worker without details.
        meta: Option<JobMeta>,
    },
    /// An order.
    Control(Control),
}

impl BrokerMessage {
    /// The message in `frames`.
    ///
    /// # Errors
    /// Says which part no broker would send.
    pub fn decode<F: AsRef<[u8]>>(frames: &[F]) -> Result<Self, WorkerMessageError> {
        let shape = WorkerMessageError::Shape { frames: frames.len() };
        let [delimiter, token, meta, body @ ..] = frames else {
            return Err(shape);
        };
        let (token, meta) = (token.as_ref(), meta.as_ref());
        if !delimiter.as_ref().is_empty() {
            return Err(shape);
        }
        if token.is_empty() {
            return map::decode(meta).map(Self::Control).map_err(WorkerMessageError::Announcement);
        }
        if body.is_empty() {
            return Err(shape);
        }
        let meta = match meta {
            [] => None,
            map => Some(map::decode(map).map_err(WorkerMessageError::Announcement)?),
        };
        Ok(Self::Job { token: token.to_vec(), meta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(frames: &[&[u8]]) -> Result<WorkerMessage, WorkerMessageError> {
        WorkerMessage::decode(frames)
    }

    #[test]
    fn the_words_of_net_server_are_states() {
        let state = |state, dialect| Ok(WorkerMessage::State { state, announcement: None, dialect });
        assert_eq!(decode(&[b"", b"waiting"]), state(State::Waiting, Dialect::Hornpipe));
        assert_eq!(decode(&[b"", b"dequeue"]), state(State::Exiting, Dialect::Hornpipe));
        assert_eq!(decode(&[b"", b"READY"]), state(State::Waiting, Dialect::SimplePirate));
        assert_eq!(decode(&[b"", &[1]]), state(State::Waiting, Dialect::SimplePirate));
    }

    #[test]
    fn an_announcement_and_a_hello_say_the_same() {
        let announcement = Announcement { credits: 4, seen: 7, ..Announcement::default() };
        assert_eq!(
            decode(&[b"", b"waiting", &announcement.encode()]),
            Ok(WorkerMessage::State {
                state: State::Waiting,
                announcement: Some(announcement.clone()),
                dialect: Dialect::Hornpipe
            })
        );
        assert_eq!(decode(&[&announcement.encode_hello()]), Ok(WorkerMessage::Hello(announcement)));
    }

    #[test]
    fn a_reply_has_four_frames_and_a_client_named_waiting_is_harmless() {
        let token = Token::new(1, 99);
        let reply = Ok(WorkerMessage::Reply { token, meta: ReplyMeta::default() });
        assert_eq!(decode(&[b"", token.as_bytes(), b"", b""]), reply);
        assert_eq!(decode(&[b"", token.as_bytes(), b"", b"a", b"b"]), reply);
        assert_eq!(decode(&[b"", b"waiting", b"", b"x"]), Ok(WorkerMessage::StrayReply));
    }

    #[test]
    fn a_failure_keeps_its_sentence() {
        let token = Token::new(1, 99);
        let meta =
            ReplyMeta { status: ReplyStatus::Error, message: Some("no such page".into()), more: false };
        let frame = meta.encode();
        assert_eq!(decode(&[b"", token.as_bytes(), &frame, b""]), Ok(WorkerMessage::Reply { token, meta }));
    }

    #[test]
    fn unreadable_messages_say_what_is_wrong() {
        assert_eq!(decode(&[]), Err(WorkerMessageError::Shape { frames: 0 }));
        assert_eq!(decode(&[b"x"]), Err(WorkerMessageError::Shape { frames: 1 }));
        assert_eq!(decode(&[b"x", b"waiting"]), Err(WorkerMessageError::Shape { frames: 2 }));
        assert_eq!(decode(&[b"", b"idle"]), Err(WorkerMessageError::State));
        assert!(matches!(decode(&[b"", b"waiting", b"\xc1"]), Err(WorkerMessageError::Announcement(_))));
        let huge = vec![0; crate::MAP_LIMIT + 1];
        assert_eq!(
            decode(&[b"", b"waiting", &huge]),
            Err(WorkerMessageError::Announcement(MapError::TooLarge { size: huge.len() }))
        );
        let mut trailing = Announcement::default().encode();
        trailing.push(0);
        assert_eq!(
            decode(&[b"", b"waiting", &trailing]),
            Err(WorkerMessageError::Announcement(MapError::TrailingBytes))
        );
    }

    #[test]
    fn a_worker_reads_jobs_and_orders() {
        let meta = JobMeta { id: "a".into(), attempt: 2, ..JobMeta::default() };
        let frames: [&[u8]; 4] = [b"", b"T", &meta.encode(), b"body"];
        assert_eq!(
            BrokerMessage::decode(&frames),
            Ok(BrokerMessage::Job { token: b"T".to_vec(), meta: Some(meta) })
        );
        let frames: [&[u8]; 4] = [b"", b"T", b"", b"body"];
        assert_eq!(
            BrokerMessage::decode(&frames),
            Ok(BrokerMessage::Job { token: b"T".to_vec(), meta: None })
        );
        for control in [Control::Stop, Control::Cancel { token: "T".into() }] {
            let frames: [&[u8]; 3] = [b"", b"", &control.encode()];
            assert_eq!(BrokerMessage::decode(&frames), Ok(BrokerMessage::Control(control)));
        }
    }
}
