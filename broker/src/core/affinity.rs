//! Which worker each affinity key belongs to: the first that had a request under it, while
//! it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ids::WorkerId;

/// More keys than this are not remembered: the one unused for longest goes.
pub const AFFINITY_KEYS: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Affinities {
    keys: BTreeMap<Arc<str>, Bond>,
    by_worker: BTreeMap<WorkerId, BTreeSet<Arc<str>>>,
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
}

#[derive(Debug, Clone, Copy)]
struct Bond {
    worker: WorkerId,
    used: u64,
}

impl Affinities {
    pub(super) fn worker_of(&self, key: &str) -> Option<WorkerId> {
        self.keys.get(key).map(|bond| bond.worker)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key is used once more. Returns whether it belongs to somebody.
    pub(super) fn touch(&mut self, key: &Arc<str>) -> bool {
        let Some(bond) = self.keys.get_mut(key) else { return false };
        self.uses += 1;
        self.by_use.remove(&bond.used);
        bond.used = self.uses;
        self.by_use.insert(self.uses, Arc::clone(key));
        true
    }

    /// From now on the key belongs to this worker.
    pub(super) fn bind(&mut self, key: Arc<str>, worker: WorkerId) {
        self.uses += 1;
        self.by_use.insert(self.uses, Arc::clone(&key));
        self.by_worker.entry(worker).or_default().insert(Arc::clone(&key));
        self.keys.insert(key, Bond { worker, used: self.uses });
        if self.keys.len() > AFFINITY_KEYS
            && let Some((_used, oldest)) = self.by_use.first_key_value()
        {
            let oldest = Arc::clone(oldest);
            self.unbind(&oldest);
        }
    }

    /// The worker is gone.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        for key in self.by_worker.remove(&worker).into_iter().flatten() {
            if let Some(bond) = self.keys.remove(&key) {
                self.by_use.remove(&bond.used);
            }
        }
    }

    fn unbind(&mut self, key: &str) {
        let Some(Bond { worker, used }) = self.keys.remove(key) else { return };
        self.by_use.remove(&used);
        if let Some(keys) = self.by_worker.get_mut(&worker) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_worker.remove(&worker);
            }
        }
    }
}
