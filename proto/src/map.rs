//! MessagePack maps of bounded size: what every structured frame holds.

use std::io::ErrorKind;

use rmp_serde::decode::Error;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A map larger than this, in bytes, is refused unread.
pub const MAP_LIMIT: usize = 4096;

/// Why a frame is not the map it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapError {
    /// The frame holds more than [`MAP_LIMIT`] bytes.
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The bytes are not MessagePack of the expected shape.
    Unreadable(String),
    /// The map ends before the frame does.
    TrailingBytes,
}

impl std::fmt::Display for MapError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { size } => write!(f, "a map of {size} bytes, at most {MAP_LIMIT} are read"),
            Self::Unreadable(why) => write!(f, "not a MessagePack map of the expected shape: {why}"),
            Self::TrailingBytes => f.write_str("bytes after the end of the map"),
        }
    }
}

impl std::error::Error for MapError {}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MapError> {
    if bytes.len() > MAP_LIMIT {
        return Err(MapError::TooLarge { size: bytes.len() });
    }
    decode_unbounded(bytes)
}

/// For maps whose size was bounded before: the frames of the control socket.
pub(crate) fn decode_unbounded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MapError> {
    let mut rest = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    let value = T::deserialize(&mut deserializer).map_err(|error| MapError::Unreadable(error.to_string()))?;
    // rmp-serde stops at the end of the value and says nothing of what follows.
    if rest.is_empty() { Ok(value) } else { Err(MapError::TrailingBytes) }
}

/// The same without a copy of what can be borrowed.
pub(crate) fn decode_in_place<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MapError> {
    if bytes.len() > MAP_LIMIT {
        return Err(MapError::TooLarge { size: bytes.len() });
    }
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    let value = T::deserialize(&mut deserializer).map_err(|error| MapError::Unreadable(error.to_string()))?;
    // It does not say how far it has read; but a further value would have to begin.
    match IgnoredAny::deserialize(&mut deserializer) {
        Err(Error::InvalidMarkerRead(end)) if end.kind() == ErrorKind::UnexpectedEof => Ok(value),
        _more => Err(MapError::TrailingBytes),
    }
}

/// Most maps have room in so many bytes.
pub(crate) const USUAL_SIZE: usize = 128;

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_SIZE);
    take_write(rmp_serde::encode::write_named(&mut bytes, value));
    bytes
}

#[expect(
    clippy::expect_used,
    reason = "maps of this crate have named fields of known length, and a Vec takes every write"
)]
pub(crate) fn take_write<E: std::error::Error>(written: Result<(), E>) {
    written.expect("a map of ours is encodable");
}
