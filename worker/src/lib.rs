//! Be a hornpipe worker in Rust, or let a program be one that knows no ZeroMQ.
//!
//! [`serve`] hands each request to a [`Handler`]; [`each`] and [`lines`] hand it
//! to a program; [`demo`] is the worker of examples and tests. All of them are
//! told where to work by [`Settings`]: nothing here reads the environment.
//!
//! A worker is one process with one request in hand at a time. Dead workers,
//! retries and time-outs are the broker's affair: a handler may simply fail,
//! panic or be killed.

#![deny(missing_docs)]

mod settings;

mod context;
mod handler;
mod job;
mod parts;
mod reply;
mod serve;

mod demo;
mod each;
mod lines;
mod framing;

mod children;
mod clock;
mod ffi;
mod pipe;
mod program;
mod queue;
mod session;

pub use context::Context;
pub use demo::{DEMO_VERBS, demo};
pub use each::each;
pub use framing::Framing;
pub use handler::{Handler, echo};
pub use hornpipe_proto::worker::State;
pub use job::Job;
pub use lines::lines;
pub use parts::Cancelled;
pub use reply::{Failure, Reply};
pub use serve::{ServeError, Stopped, serve};
pub use settings::Settings;
