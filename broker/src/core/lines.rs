//! One line of waiting requests: three classes by priority, and in each the clients in
//! turn. Who may go next is `backlog.rs`'s.
//!
//! Within a class, requests that came back from a worker go before all others; then every
//! client that waits has its turn, one request at a time, in the order in which its
//! requests came.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use hornpipe_proto::Priority;
use rustc_hash::FxHashMap;

use super::few::{Few, Left};
use super::ids::{ClientId, RequestId};
use super::room::give_back;

/// Requests that wait for the same workers.
#[derive(Debug, Default)]
pub(super) struct Line {
    classes: [Class; Priority::ALL.len()],
    len: usize,
}

/// The requests of one priority.
#[derive(Debug, Default)]
struct Class {
    /// Back from a worker, the last one first.
    returned: BTreeMap<i64, RequestId>,
    clients: FxHashMap<ClientId, Client>,
    turns: BTreeSet<(Turn, ClientId)>,
}

#[derive(Debug)]
struct Client {
    turn: Turn,
    waiting: Few,
}

/// When a client is next, counted over all lines: the lower one goes first.
type Turn = u64;

/// Where a request stands in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) priority: Priority,
    pub(super) client: ClientId,
    pub(super) order: i64,
}

/// How a request stands that has just arrived: they are numbered in this order. Those that came
/// back stand below zero, the last one first.
pub(super) const fn order_of_arrival(request: RequestId) -> i64 {
    request.0.cast_signed()
}

/// The first of a class. What came back goes before all others, the last one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum First {
    Returned(i64, RequestId),
    Arrived(Turn, RequestId),
}

impl First {
    pub(super) const fn request(self) -> RequestId {
        match self {
            Self::Returned(_, request) | Self::Arrived(_, request) => request,
        }
    }
}

/// Where a class stands among the three.
pub(super) const fn index(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

impl Line {
    fn class(&self, priority: Priority) -> Option<&Class> {
        self.classes.get(index(priority))
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Who of this class is next.
    pub(super) fn first(&self, priority: Priority) -> Option<First> {
        let class = self.class(priority)?;
        if let Some((order, request)) = class.returned.first_key_value() {
            return Some(First::Returned(*order, *request));
        }
        let (turn, client) = class.turns.first()?;
        Some(First::Arrived(*turn, class.clients.get(client)?.waiting.first()?))
    }

    /// How many of the class wait, and of how many clients.
    pub(super) fn crowd(&self, priority: Priority) -> usize {
        self.class(priority).map_or(0, |class| class.clients.len() + class.returned.len())
    }

    /// How many of this client wait in the class.
    pub(super) fn of_client(&self, priority: Priority, client: ClientId) -> usize {
        let client = self.class(priority).and_then(|class| class.clients.get(&client));
        client.map_or(0, |client| client.waiting.len())
    }

    /// Puts a request in. A client that did not wait gets the turn `turn`.
    pub(super) fn insert(&mut self, request: RequestId, stand: Stand, turn: Turn) {
        let Some(class) = self.classes.get_mut(index(stand.priority)) else { return };
        self.len += 1;
        if stand.order < 0 {
            class.returned.insert(stand.order, request);
            return;
        }
        match class.clients.entry(stand.client) {
            Entry::Occupied(mut client) => client.get_mut().waiting.insert(request),
            Entry::Vacant(place) => {
                place.insert(Client { turn, waiting: Few::One(request) });
                class.turns.insert((turn, stand.client));
            }
        }
    }

    /// Takes a request out, from wherever it stands.
    pub(super) fn remove(&mut self, request: RequestId, stand: Stand) {
        let Some(class) = self.classes.get_mut(index(stand.priority)) else { return };
        self.len -= 1;
        if stand.order < 0 {
            class.returned.remove(&stand.order);
            return;
        }
        let Entry::Occupied(mut client) = class.clients.entry(stand.client) else { return };
        if client.get_mut().waiting.remove(request) == Left::None {
            class.turns.remove(&(client.get().turn, stand.client));
            client.remove();
            give_back(&mut class.clients);
        }
    }

    /// Its client has had its turn, and is next after all who wait.
    pub(super) fn end_turn(&mut self, stand: Stand, turn: Turn) {
        if stand.order < 0 {
            return;
        }
        let Some(class) = self.classes.get_mut(index(stand.priority)) else { return };
        if let Some(client) = class.clients.get_mut(&stand.client) {
            class.turns.remove(&(client.turn, stand.client));
            client.turn = turn;
            class.turns.insert((turn, stand.client));
        }
    }

    /// Everybody in the line, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.classes.iter().flat_map(|class| {
            let arrived = class.clients.values().flat_map(|client| client.waiting.iter());
            class.returned.values().copied().chain(arrived)
        })
    }
}
