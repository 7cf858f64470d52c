//! The wire of hornpipe: frames to types and back.
//!
//! `docs/PROTOCOL.md` is the prose of this crate. Nothing here opens a socket,
//! reads a clock or contains `unsafe`; bytes of a peer lead to a value or to an
//! error, never to a panic.

#![deny(missing_docs)]
#![warn(clippy::wildcard_enum_match_arm)]

mod bytes;
pub mod claim;
pub mod client;
pub mod control;
pub mod dialect;
mod ended;
mod headers;
mod job;
mod job_map;
mod map;
pub mod mold;
mod priority;
mod status;
mod token;
pub mod worker;
pub mod zmtp;

pub use ended::Ended;
pub use headers::{HEADERS_BYTES, HEADERS_COUNT, Headers};
pub use job::JobView;
pub use job_map::JobMap;
pub use map::{MAP_LIMIT, MapError};
pub use priority::Priority;
pub use status::Status;
pub use token::Token;

/// The first frame of a native body, and the first bytes of a worker's hello.
pub const MAGIC: &[u8] = b"HPIPE1";

/// The version this crate speaks, as said in announcements.
pub const VERSION: u32 = 1;
