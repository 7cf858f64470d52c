//! Be a hornpipe worker in Rust, or let a program be one that knows no ZeroMQ.
//!
//! [`serve`] hands each request to a [`Handler`]; [`each`] and [`lines`] hand it
//! to a program; [`demo`] is the worker of examples and tests. All of them are
//! told where to work by [`Settings`]: nothing here reads the environment.
//!
//! A worker is one process with one request in hand at a time. Dead workers,
//! retries and time-outs are the broker's affair: a handler may simply fail,
//! panic or be killed. `serve_async`, with the feature `async`, runs futures on
//! the program's own tokio, as many at once as [`Settings::credits`] says.
//!
//! ```no_run
//! use hornpipe_worker::{Context, Failure, Job, Settings, serve};
//!
//! fn shout(job: &Job, context: &mut Context<'_>) -> Result<String, Failure> {
//!     if context.cancelled() {
//!         return Err("nobody waits any more".into());
//!     }
//!     Ok(String::from_utf8_lossy(&job.body()).to_uppercase())
//! }
//!
//! // The backend port of a broker: it may be away, and come and go.
//! serve(&Settings::new("tcp://127.0.0.1:6661"), shout, |_state| ())?;
//! # Ok::<(), hornpipe_worker::ServeError>(())
//! ```
//!
//! There is no libzmq here and no thread of ours, so the process may fork; the copy
//! of a worker that a fork leaves in the child is refused at its first step.
//! While a handler runs, SIGURG is used to find the next router in time, unless the
//! program has a use for that signal itself.

#![deny(missing_docs)]

mod settings;
mod stop;

mod context;
mod handler;
mod job;
mod parts;
mod reply;
mod serve;

#[cfg(feature = "async")]
mod asynchronous;

mod demo;
mod each;
mod lines;
mod framing;

mod children;
mod clock;
mod connection;
mod endpoint;
mod ffi;
mod kept;
mod pipe;
mod program;
mod queue;
mod rehearsal;
mod sentry;
mod session;

#[cfg(feature = "async")]
pub use asynchronous::{AsyncContext, serve_async};
pub use context::Context;
pub use demo::{DEMO_VERBS, demo};
pub use each::each;
pub use framing::{Answer, BadAnswer, Framing};
pub use handler::{Handler, echo};
pub use hornpipe_proto::worker::State;
pub use job::Job;
pub use lines::lines;
pub use parts::Cancelled;
pub use reply::{Failure, Reply};
pub use serve::{ServeError, Stopped, serve};
pub use settings::Settings;
pub use stop::StopHandle;
