//! A handshake with ourselves: for a connection on which somebody else has gone through it
//! already, and to know beforehand what has to be said for it.

use hornpipe_proto::zmtp::{Connection, Limits, SocketType};
use tracing::warn;

/// A connection whose handshake is over, and what was to be said for that.
pub(crate) fn rehearse(limits: Limits) -> (Connection, Vec<u8>, Vec<u8>) {
    let mut ours = Connection::new(SocketType::Dealer, limits);
    let mut router = Connection::new(SocketType::Router, limits);
    let mut said = [Vec::new(), Vec::new()];
    for piece in &mut said {
        *piece = take_unsent(&mut ours);
        hand_over(piece, &mut router);
        hand_over(&take_unsent(&mut router), &mut ours);
    }
    while ours.next_event().is_some() {}
    let [greeting, ready] = said;
    (ours, greeting, ready)
}

/// What is to be written, taken as if it were.
pub(crate) fn take_unsent(zmtp: &mut Connection) -> Vec<u8> {
    let bytes: Vec<u8> = zmtp.unsent().flatten().copied().collect();
    zmtp.sent(bytes.len());
    bytes
}

/// A handshake is understood by our own kind.
fn hand_over(bytes: &[u8], reader: &mut Connection) {
    reader.buffer().extend(bytes);
    if let Err(error) = reader.received() {
        warn!(%error, "a handshake with ourselves fails");
    }
}
