//! Ask a hornpipe broker, with deadlines and retries.
//!
//! ```no_run
//! use hornpipe_client::Client;
//!
//! let mut client = Client::connect("6660")?;
//! let reply = client.ask("hello")?;
//! assert_eq!(reply.bytes(), b"hello");
//! # Ok::<(), hornpipe_client::AskError>(())
//! ```
//!
//! A request has one id and a total time, which is split over its tries. Each
//! try that fails is repeated on a fresh connection with the same id, as the
//! Guide's Lazy Pirate does; a reply to any other id is dropped and counted.
//!
//! Calls block. For many requests at once use as many clients, or [`load`] to
//! measure. There are no threads here but libzmq's own, and no `unsafe`.

#![deny(missing_docs)]

mod client;
mod clock;
mod connection;
mod endpoint;
mod error;
pub mod load;
mod reply;
mod request;

pub use client::{Builder, Client};
pub use endpoint::{Endpoint, EndpointError, endpoint};
pub use error::AskError;
pub use reply::Reply;
pub use request::{Body, Request};
