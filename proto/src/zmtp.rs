//! ZMTP 3.1, the protocol of ZeroMQ's connections, without sockets: bytes that were
//! read go in, messages and the bytes to write come out.
//!
//! The NULL mechanism alone, for DEALER, ROUTER, REQ and REP, on either side of a
//! connection. A ROUTER takes peers of ZMTP 2.0 as well. What a peer sends is checked against [`Limits`] before memory is taken
//! for it. `docs/PROTOCOL.md` says which bytes these are.
//!
//! ```
//! use hornpipe_proto::zmtp::{Connection, Event, Limits, SocketType};
//!
//! let mut worker = Connection::new(SocketType::Dealer, Limits::default());
//! let mut broker = Connection::new(SocketType::Router, Limits::default());
//! // What a program does with two sockets:
//! fn carry(from: &mut Connection, to: &mut Connection) {
//!     let bytes: Vec<u8> = from.unsent().flatten().copied().collect();
//!     from.sent(bytes.len());
//!     for piece in bytes.chunks(10) {
//!         to.buffer().extend(piece);
//!         to.received().unwrap();
//!     }
//! }
//! for _ in 0..2 {
//!     carry(&mut worker, &mut broker);
//!     carry(&mut broker, &mut worker);
//! }
//! assert!(matches!(worker.next_event(), Some(Event::Ready(peer)) if peer.socket == SocketType::Router));
//! worker.send([b"hello", b"world"]);
//! carry(&mut worker, &mut broker);
//! broker.next_event();
//! assert_eq!(broker.next_event(), Some(Event::Message(vec![b"hello".to_vec(), b"world".to_vec()])));
//! ```

mod connection;

mod command;
mod error;
mod frame;
mod greeting;
mod outbox;
mod reader;
mod socket_type;

pub use connection::{Connection, Event, Peer};
pub use error::ZmtpError;
pub use frame::{Frame, Limits};
pub use socket_type::SocketType;
