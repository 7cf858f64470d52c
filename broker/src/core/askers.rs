//! What each client has open: how much of it waits, and what it calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ids::{ClientId, RequestId};

#[derive(Debug, Default)]
pub(super) struct Askers {
    table: BTreeMap<ClientId, Asker>,
}

/// A client with at least one request that is not over.
#[derive(Debug, Default)]
struct Asker {
    open: BTreeSet<RequestId>,
    /// The last request of each name.
    names: BTreeMap<Arc<str>, RequestId>,
    /// Of `open`, how many wait for a worker.
    waiting: usize,
    /// Bytes of the bodies of `open`.
    bytes: u64,
}

impl Askers {
    pub(super) fn open(&mut self, client: ClientId, request: RequestId, name: Option<&Arc<str>>, size: u64) {
        let asker = self.table.entry(client).or_default();
        asker.open.insert(request);
        asker.bytes += size;
        if let Some(name) = name {
            asker.names.insert(Arc::clone(name), request);
        }
    }

    pub(super) fn close(&mut self, client: ClientId, request: RequestId, name: Option<&Arc<str>>, size: u64) {
        let Some(asker) = self.table.get_mut(&client) else { return };
        asker.open.remove(&request);
        asker.bytes -= size;
        if let Some(name) = name
            && asker.names.get(name) == Some(&request)
        {
            asker.names.remove(name);
        }
        if asker.open.is_empty() {
            self.table.remove(&client);
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
        self.table.get(&client).into_iter().flat_map(|asker| asker.open.iter().copied()).collect()
    }

    /// Its last request of this name, if that is open.
    pub(super) fn named(&self, client: ClientId, name: &str) -> Option<RequestId> {
        self.table.get(&client)?.names.get(name).copied()
    }

    /// How many of its requests wait, and how many bytes it has open.
    pub(super) fn load(&self, client: ClientId) -> (usize, u64) {
        self.table.get(&client).map_or((0, 0), |asker| (asker.waiting, asker.bytes))
    }
}
