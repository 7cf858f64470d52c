//! Bodies of a type, as MessagePack or JSON, through serde.
//!
//! A typed body is one frame. Nothing on the wire says which of the two it is: that is
//! between client and worker.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::reply::Reply;
use crate::request::Request;

/// Values within values. serde_json's limit; rmp-serde's own is deeper than the stack of a
/// thread may be.
const DEPTH_LIMIT: usize = 128;

/// Why a value is no body, or a body no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// JSON cannot say it, or says something else.
    Json(serde_json::Error),
    /// MessagePack cannot say it.
    Write(rmp_serde::encode::Error),
    /// MessagePack says something else.
    Read(rmp_serde::decode::Error),
    /// Bytes follow the value.
    TrailingBytes,
}

impl Request {
    /// A request whose body is this value as JSON.
    ///
    /// ```
    /// # use hornpipe_client::{BodyError, Request};
    /// #[derive(serde::Serialize)]
    /// struct Resize { picture: u64, width: u32 }
    ///
    /// let request = Request::json(&Resize { picture: 4711, width: 800 })?.service("images");
    /// # drop(request);
    /// # Ok::<(), BodyError>(())
    /// ```
    ///
    /// # Errors
    /// If the value cannot be said in JSON: a map whose keys are no texts, for example.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, BodyError> {
        serde_json::to_vec(value).map(Self::new).map_err(BodyError::Json)
    }

    /// A request whose body is this value as MessagePack, with named fields.
    ///
    /// # Errors
    /// If the value's own serialization fails.
    pub fn msgpack<T: Serialize + ?Sized>(value: &T) -> Result<Self, BodyError> {
        rmp_serde::to_vec_named(value).map(Self::new).map_err(BodyError::Write)
    }
}

impl Reply {
    /// The value that the body is as JSON.
    ///
    /// # Errors
    /// If it is no such value, or more than that.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BodyError> {
        serde_json::from_slice(&self.bytes()).map_err(BodyError::Json)
    }

    /// The value that the body is as MessagePack.
    ///
    /// # Errors
    /// If it is no such value, or more than that.
    pub fn msgpack<T: DeserializeOwned>(&self) -> Result<T, BodyError> {
        let bytes = self.bytes();
        let mut rest = bytes.as_slice();
        let mut reader = rmp_serde::Deserializer::new(&mut rest);
        reader.set_max_depth(DEPTH_LIMIT);
        let value = T::deserialize(&mut reader).map_err(BodyError::Read)?;
        // rmp-serde stops at the end of the value and says nothing of what follows.
        if rest.is_empty() { Ok(value) } else { Err(BodyError::TrailingBytes) }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "the body as JSON: {error}"),
            Self::Write(error) => write!(f, "the body as MessagePack: {error}"),
            Self::Read(error) => write!(f, "the body as MessagePack: {error}"),
            Self::TrailingBytes => f.write_str("the body as MessagePack: bytes after the end of the value"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Write(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::TrailingBytes => None,
        }
    }
}
