//! Locks as their users meet them: real Redis servers on loopback, killed, stopped and
//! restarted; real commands under `hornpipe lock run`.
//!
//! They need `redis-server` (Debian: redis-server), and the binary: `cargo build -p hornpipe`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod spec;
mod spec_later;
mod failures;
mod places;
mod renewing;
mod run;
mod operators;

mod common;
