//! What each client has open: how much of it waits, and what it calls it.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::few::{Few, Left};
use super::ids::{ClientId, RequestId};
use super::room::give_back;

#[derive(Debug, Default)]
pub(super) struct Askers {
    table: FxHashMap<ClientId, Asker>,
    /// The last request of each name that a client has given.
    names: BTreeMap<(ClientId, Arc<str>), RequestId>,
}

/// A client with at least one request that is not over.
#[derive(Debug)]
struct Asker {
    open: Few,
    /// Of `open`, how many wait for a worker.
    waiting: usize,
    /// Bytes of the bodies of `open`.
    bytes: u64,
}

impl Askers {
    pub(super) fn open(&mut self, client: ClientId, request: RequestId, name: Option<&Arc<str>>, size: u64) {
        match self.table.entry(client) {
            Entry::Occupied(mut asker) => {
                asker.get_mut().open.insert(request);
                asker.get_mut().bytes += size;
            }
            Entry::Vacant(place) => {
                place.insert(Asker { open: Few::One(request), waiting: 0, bytes: size });
            }
        }
        if let Some(name) = name {
            self.names.insert((client, Arc::clone(name)), request);
        }
    }

    pub(super) fn close(&mut self, client: ClientId, request: RequestId, name: Option<&Arc<str>>, size: u64) {
        if let Entry::Occupied(mut asker) = self.table.entry(client) {
            asker.get_mut().bytes -= size;
            if asker.get_mut().open.remove(request) == Left::None {
                asker.remove();
                give_back(&mut self.table);
            }
        }
        if let Some(name) = name {
            let name = (client, Arc::clone(name));
            if self.names.get(&name) == Some(&request) {
                self.names.remove(&name);
            }
        }
    }

    /// One more of the client's waits.
    pub(super) fn waits(&mut self, client: ClientId) {
        if let Some(asker) = self.table.get_mut(&client) {
            asker.waiting += 1;
        }
    }

    pub(super) fn waits_no_more(&mut self, client: ClientId) {
        if let Some(asker) = self.table.get_mut(&client) {
            asker.waiting -= 1;
        }
    }

    pub(super) fn has_some_of(&self, client: ClientId) -> bool {
        self.table.contains_key(&client)
    }

    /// All that it has open.
    pub(super) fn of(&self, client: ClientId) -> Vec<RequestId> {
        self.table.get(&client).into_iter().flat_map(|asker| asker.open.iter()).collect()
    }

    /// Its last request of this name, if that is open.
    pub(super) fn named(&self, client: ClientId, name: &Arc<str>) -> Option<RequestId> {
        self.names.get(&(client, Arc::clone(name))).copied()
    }

    /// How many of its requests wait, and how many bytes it has open.
    pub(super) fn load(&self, client: ClientId) -> (usize, u64) {
        self.table.get(&client).map_or((0, 0), |asker| (asker.waiting, asker.bytes))
    }
}
