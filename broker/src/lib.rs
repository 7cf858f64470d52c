//! Hornpipe: a ZeroMQ load-balancing broker with a preforked worker pool.
//!
//! *Core decides, router talks, parent breeds*: see `docs/ARCHITECTURE.md`.
//! [`Server`] is for programs that bring their own handler; everything else is
//! what the binary `hornpipe` is made of.

mod server;
mod callbacks;
pub mod cli;

mod launch;
mod pid_file;
mod allocator;
pub mod config;
pub mod logging;

#[doc(hidden)]
pub mod core;
mod router;
mod http;
pub mod parent;
pub mod link;

pub use callbacks::{EndedWorker, NewWorker};
pub use hornpipe_worker::{Context, Failure, Handler, Job, Reply};
pub use server::{Server, ServerError};
