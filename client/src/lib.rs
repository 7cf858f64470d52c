//! Ask a hornpipe broker, with deadlines and retries.
//!
//! ```
//! # mod broker { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/broker.in")); }
//! use hornpipe_client::Client;
//!
//! # let endpoint = broker::start();
//! let client = Client::connect(&endpoint)?; // "6660", "queue:6660", "ipc:///run/queue"
//! let reply = client.ask("hello")?;
//! assert_eq!(reply.bytes(), b"hello");
//! # Ok::<(), hornpipe_client::AskError>(())
//! ```
//!
//! A request has one id and a total time, which is split over its tries. Each
//! try that fails is repeated on a fresh connection with the same id, as the
//! Guide's Lazy Pirate does; a reply to any other id is dropped and counted.
//! With a [key](Request::key) a repeated request is not run twice.
//!
//! # Many at once
//!
//! [`Client::send`] does not wait. Threads may share a client, and a slow request does not
//! hold up the others.
//!
//! ```
//! # mod broker { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/broker.in")); }
//! # use hornpipe_client::{Client, Request};
//! # let client = Client::connect(&broker::start())?;
//! let pages: Vec<_> =
//!     (1..=9).map(|page| client.send(Request::new(format!("render {page}")))).collect::<Result<_, _>>()?;
//! for (page, number) in pages.into_iter().zip(1..) {
//!     assert_eq!(page.wait()?.bytes(), format!("render {number}").as_bytes());
//! }
//! # Ok::<(), hornpipe_client::AskError>(())
//! ```
//!
//! # Part by part
//!
//! ```
//! # mod broker { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/broker.in")); }
//! # use hornpipe_client::{Client, Request};
//! # let client = Client::connect(&broker::start())?;
//! let mut heard = Vec::new();
//! for part in client.parts(Request::new("count to three"))? {
//!     heard.extend(part?.concat());
//! }
//! assert_eq!(heard, b"123");
//! # Ok::<(), hornpipe_client::AskError>(())
//! ```
//!
//! # Several brokers
//!
//! ```
//! # mod broker { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/broker.in")); }
//! # use hornpipe_client::{Client, Request};
//! # let (queue_a, queue_b) = ("127.0.0.1:1".to_owned(), broker::start());
//! let client = Client::builder().endpoints([&queue_a, &queue_b]).build()?; // nobody is at queue_a
//! let invoice = Request::new("pay 4711").key("pay-4711").attempts(1);
//! match client.request(invoice) {
//!     Ok(reply) => assert_eq!(reply.broker.to_string(), queue_b),
//!     Err(error) if error.was_not_run() => println!("not paid: {error}"),
//!     Err(error) => println!("perhaps paid: {error}"),
//! }
//! # Ok::<(), hornpipe_client::AskError>(())
//! ```
//!
//! # Features
//!
//! - `serde`: typed bodies, as MessagePack or JSON: `Request::json`, `Reply::json` and so on.
//! - `tokio`: `AsyncClient`.
//!
//! # What goes on behind it
//!
//! Calls block, and there are no threads here but libzmq's own (and one of an `AsyncClient`):
//! whoever waits moves everybody's requests along. So a request that nobody waits for is sent
//! at once, but only tried again when somebody waits for anything of its client. Ending the
//! program never waits for anything.
//!
//! A process that was forked from one with a client gets [`AskError::Forked`] from it, and
//! makes its own.
//!
//! To measure, there is [`load`].

#![deny(missing_docs)]

mod client;
mod pending;
mod helm;
mod engine;
mod errand;
mod brokers;
mod rendezvous;
mod connection;
mod bell;
mod clock;
mod endpoint;
mod error;
pub mod load;
mod reply;
mod request;
#[cfg(feature = "serde")]
mod typed;
#[cfg(feature = "tokio")]
mod asynchronous;

#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncClient, AsyncParts};
pub use client::{Builder, Client};
pub use endpoint::{Endpoint, EndpointError, endpoint};
pub use error::AskError;
pub use hornpipe_proto::{Headers, Priority, Status};
pub use pending::{Canceller, Parts, Pending};
pub use reply::Reply;
pub use request::{Body, Request};
#[cfg(feature = "serde")]
pub use typed::BodyError;
