//! The C interface of libzmq 4.3.5, which `build.rs` builds from source.
//!
//! It stands in for the published `zmq-sys` 0.12.0, by `[patch.crates-io]`, and
//! declares what the `zmq` crate 0.10 and hornpipe use. Deliberately not here: the
//! deprecated names, the poller and timer interfaces, and Windows.

mod constants;
pub mod errno;
mod ffi;

pub use std::os::fd::RawFd;

pub use constants::*;
pub use ffi::*;
