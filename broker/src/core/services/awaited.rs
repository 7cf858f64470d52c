//! Services that have no worker yet, and clients that would wait for one. Each request has its
//! time in the queue; without a limit of the operator's it is one of ours, because nobody may
//! wait for ever for what may never be.

use std::sync::Arc;
use std::time::Duration;

use super::opened::Passing;
use super::{MAX_SERVICES, Service, Services, Standing, Turn};
use crate::core::action::{Action, Note};
use crate::core::ids::{ServiceId, Slot};

/// How long a request waits for a service's first worker, unless the operator has said how
/// long requests wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// There are never more such services: the rest of the room is for those with workers.
const AWAITED_LIMIT: usize = MAX_SERVICES / 4;

impl<B> Service<B> {
    /// Whether no worker of it has ever come.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.standing, Standing::Passing(Passing { awaited: Some(_), .. }))
    }
}

impl<B: Clone> Services<B> {
    /// A request for this service follows. If there is none, and may be one, it waits there;
    /// else it is refused like any other for a service that nobody has.
    pub(super) fn seek(&mut self, name: &str, turn: &Turn<'_, B>) {
        let id = match self.find(name) {
            Some(id) if self.table.get(&id).is_some_and(Service::is_awaited) => id,
            Some(_has_workers) => return,
            None if self.fitness(name).is_err() || self.awaited_len() >= AWAITED_LIMIT => return,
            None => self.add_passing(Arc::from(name), Slot(0), None),
        };
        let patience = self.passing_settings.queue_timeout.unwrap_or(PATIENCE);
        if let Some(service) = self.table.get_mut(&id) {
            let passing = Passing { deserted: Some(turn.now), awaited: Some(patience) };
            service.standing = Standing::Passing(passing);
            service.core.settings.queue_timeout = Some(patience);
        }
    }

    /// Its first worker has come: it is a service like others that workers have brought.
    pub(super) fn come_true(&mut self, id: ServiceId, name: Arc<str>, turn: &mut Turn<'_, B>) {
        if let Some(service) = self.table.get_mut(&id) {
            service.core.settings.queue_timeout = self.passing_settings.queue_timeout;
        }
        turn.decide(id, Action::Note(Note::ServiceOpened { name }));
    }

    fn awaited_len(&self) -> usize {
        self.table.values().filter(|service| service.is_awaited()).count()
    }
}
