//! Entries of the journal as they are written: a line in MessagePack, and the frames of a reply
//! behind it. Programs of other versions may read them.

use std::time::Duration;

use hornpipe_proto::Token;
use serde::{Deserialize, Serialize};

use crate::core::{Begun, Entry, Holder, Incarnation, Place, Slot, Timestamp};
use crate::router::frame::{Body, Frame};

/// A record, without the body.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) service: String,
    pub(super) key: String,
    pub(super) word: Word,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    Begun {
        token: String,
        place: Option<(u32, u32)>,
        instance: Option<String>,
        attempt: u32,
        since: Duration,
        deadline: Option<Duration>,
        over: bool,
    },
    Done {
        /// The lengths of the reply's frames, which are the body; `None` if it was not kept.
        frames: Option<Vec<u64>>,
        size: u64,
        attempt: u32,
        until: Duration,
    },
    Tried {
        attempt: u32,
        until: Duration,
    },
    Free,
}

/// What is written behind the line.
pub(super) fn frames(entry: &Entry<Body>) -> Vec<Frame> {
    match entry {
        Entry::Done { reply: Some((parts, body)), .. } => Body::joined(parts, body.clone()).frames().to_vec(),
        Entry::Done { reply: None, .. } | Entry::Begun(_) | Entry::Tried { .. } | Entry::Free => Vec::new(),
    }
}

impl Word {
    pub(super) fn of(entry: &Entry<Body>) -> Self {
        match entry {
            Entry::Begun(begun) => {
                let (place, instance) = match &begun.holder {
                    Holder::Local(place) => (Some((place.slot.0, place.incarnation.0)), None),
                    Holder::Named(instance) => (None, Some(instance.to_string())),
                    Holder::Unknown => (None, None),
                };
                Self::Begun {
                    token: begun.token.as_str().to_owned(),
                    place,
                    instance,
                    attempt: begun.attempt,
                    since: begun.since.since_start(),
                    deadline: begun.deadline.map(Timestamp::since_start),
                    over: begun.over,
                }
            }
            Entry::Done { reply, size, attempt, until } => Self::Done {
                frames: reply
                    .as_ref()
                    .map(|_kept| frames(entry).iter().map(|frame| frame.as_ref().len() as u64).collect()),
                size: *size,
                attempt: *attempt,
                until: until.since_start(),
            },
            Entry::Tried { attempt, until } => Self::Tried { attempt: *attempt, until: until.since_start() },
            Entry::Free => Self::Free,
        }
    }

    /// `None` if there is nothing to be known, or the word makes no sense.
    pub(super) fn into_entry(self, body: &[u8]) -> Option<Entry<Body>> {
        Some(match self {
            Self::Begun { token, place, instance, attempt, since, deadline, over } => {
                let holder = match (place, instance) {
                    (Some((slot, incarnation)), _) => {
                        Holder::Local(Place { slot: Slot(slot), incarnation: Incarnation(incarnation) })
                    }
                    (None, Some(instance)) => Holder::Named(instance.into()),
                    (None, None) => Holder::Unknown,
                };
                Entry::Begun(Begun {
                    token: Token::parse(token.as_bytes())?,
                    holder,
                    attempt,
                    since: Timestamp::new(since),
                    deadline: deadline.map(Timestamp::new),
                    over,
                })
            }
            Self::Done { frames, size, attempt, until } => {
                let reply = match frames {
                    Some(lengths) => Some((Vec::new(), cut(&lengths, body)?)),
                    None => None,
                };
                Entry::Done { reply, size, attempt, until: Timestamp::new(until) }
            }
            Self::Tried { attempt, until } => Entry::Tried { attempt, until: Timestamp::new(until) },
            Self::Free => return None,
        })
    }
}

/// A body of frames that are so long.
fn cut(lengths: &[u64], mut bytes: &[u8]) -> Option<Body> {
    let mut frames = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (frame, rest) = bytes.split_at_checked(usize::try_from(*length).ok()?)?;
        frames.push(Frame::Own(frame.into()));
        bytes = rest;
    }
    bytes.is_empty().then(|| Body::to_pass(frames.into_iter()))
}
