//! Peers of one ROUTER by routing id, and which connection each stands for.

use std::collections::HashMap;
use std::rc::Rc;

use super::sockets::RoutingId;

/// libzmq makes ids that begin with this byte, one for each connection; any
/// other was chosen by the peer, and may come back over another connection.
const GENERATED: u8 = 0;

/// Peers, each with something of the caller's.
#[derive(Debug)]
pub(super) struct Connections<T> {
    peers: HashMap<Rc<[u8]>, Peer<T>>,
}

#[derive(Debug)]
struct Peer<T> {
    descriptor: Option<String>,
    value: T,
}

/// Who sent this.
#[derive(Debug)]
pub(super) enum Sender<T> {
    Known(T),
    /// Not heard before.
    New,
    /// A peer with this id was heard over a connection that is gone; this was its value.
    Replaced(T),
}

impl<T> Default for Connections<T> {
    fn default() -> Self {
        Self { peers: HashMap::new() }
    }
}

impl<T: Copy> Connections<T> {
    pub(super) fn sender(&mut self, routing_id: &RoutingId) -> Sender<T> {
        let bytes = routing_id.as_ref();
        let Some(peer) = self.peers.get(bytes) else { return Sender::New };
        let chosen = bytes.first().is_some_and(|first| *first != GENERATED);
        if chosen && peer.descriptor != descriptor(routing_id) {
            let value = peer.value;
            self.peers.remove(bytes);
            return Sender::Replaced(value);
        }
        Sender::Known(peer.value)
    }

    /// Remembers a new peer; returns its id, to be shared.
    pub(super) fn insert(&mut self, routing_id: &RoutingId, value: T) -> Rc<[u8]> {
        let id: Rc<[u8]> = routing_id.as_ref().into();
        let chosen = id.first().is_some_and(|first| *first != GENERATED);
        let descriptor = chosen.then(|| descriptor(routing_id)).flatten();
        self.peers.insert(Rc::clone(&id), Peer { descriptor, value });
        id
    }

    pub(super) fn key(&self, routing_id: &RoutingId) -> Option<Rc<[u8]>> {
        self.peers.get_key_value(routing_id.as_ref()).map(|(id, _peer)| Rc::clone(id))
    }

    pub(super) fn value_mut(&mut self, routing_id: &RoutingId) -> Option<&mut T> {
        self.peers.get_mut(routing_id.as_ref()).map(|peer| &mut peer.value)
    }

    pub(super) fn remove(&mut self, routing_id: &[u8]) -> Option<T> {
        self.peers.remove(routing_id).map(|peer| peer.value)
    }
}

/// The connection's descriptor in libzmq: two that live at once differ in it.
fn descriptor(routing_id: &RoutingId) -> Option<String> {
    routing_id.property(c"__fd")
}
