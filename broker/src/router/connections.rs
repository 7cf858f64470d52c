//! Peers of one ROUTER by routing id, and which connection each stands for.

use std::collections::HashMap;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::sockets::{Received, RoutingId};

/// Peers, each with something of the caller's.
#[derive(Debug)]
pub(super) struct Connections<T> {
    numbered: FxHashMap<u64, T>,
    /// Names are the peers' choice, so they are not to be hashed in a way that can be foreseen.
    named: HashMap<Rc<[u8]>, Named<T>>,
}

/// A peer with a name may come back over another connection.
#[derive(Debug)]
struct Named<T> {
    connection: u64,
    value: T,
}

/// Who sent this.
#[derive(Debug)]
pub(super) enum Sender<T> {
    Known(T),
    /// Not heard before.
    New,
    /// A peer with this name was heard over a connection that is gone; this was its value.
    Replaced(T),
}

impl<T> Default for Connections<T> {
    fn default() -> Self {
        Self { numbered: FxHashMap::default(), named: HashMap::new() }
    }
}

impl<T: Copy> Connections<T> {
    pub(super) fn sender(&mut self, received: &Received) -> Sender<T> {
        match &received.routing_id {
            RoutingId::Number(number) => match self.numbered.get(number) {
                Some(value) => Sender::Known(*value),
                None => Sender::New,
            },
            RoutingId::Name(name) => match self.named.get(name) {
                Some(peer) if peer.connection == received.connection => Sender::Known(peer.value),
                Some(peer) => {
                    let value = peer.value;
                    self.named.remove(name);
                    Sender::Replaced(value)
                }
                None => Sender::New,
            },
        }
    }

    /// Remembers a new peer.
    pub(super) fn insert(&mut self, received: &Received, value: T) {
        let connection = received.connection;
        match &received.routing_id {
            RoutingId::Number(number) => drop(self.numbered.insert(*number, value)),
            RoutingId::Name(name) => {
                self.named.insert(Rc::clone(name), Named { connection, value });
            }
        }
    }

    pub(super) fn is_known(&self, routing_id: &RoutingId) -> bool {
        match routing_id {
            RoutingId::Number(number) => self.numbered.contains_key(number),
            RoutingId::Name(name) => self.named.contains_key(name),
        }
    }

    pub(super) fn value_mut(&mut self, routing_id: &RoutingId) -> Option<&mut T> {
        match routing_id {
            RoutingId::Number(number) => self.numbered.get_mut(number),
            RoutingId::Name(name) => self.named.get_mut(name).map(|peer| &mut peer.value),
        }
    }

    pub(super) fn remove(&mut self, routing_id: &RoutingId) -> Option<T> {
        match routing_id {
            RoutingId::Number(number) => self.numbered.remove(number),
            RoutingId::Name(name) => self.named.remove(name).map(|peer| peer.value),
        }
    }
}
