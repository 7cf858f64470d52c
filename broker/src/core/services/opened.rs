//! Services that nobody has configured: workers from elsewhere bring them by name, and they
//! go with their workers. All of them together have room for as much as the default service.

use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::Status;

use super::{MAX_SERVICES, SLOTS_APART, Service, Services, Standing, Turn};
use crate::core::action::{Action, Memory, Note};
use crate::core::ids::{ServiceId, Slot, Timestamp, WorkerId};
use crate::core::settings::Settings;
use crate::core::telling::Telling;
use crate::core::{Core, Phase};

/// A service without workers waits so long for one: a program that is started anew is back by then.
const LINGER: Duration = Duration::from_secs(5);

/// Letters of a service's name.
const NAME_LIMIT: usize = 64;

const DESERTED: &str = "the last worker of this service has left";
const NEVER_CAME: &str = "no worker of this service has come";

/// A service that is here for as long as workers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Passing {
    /// Since when it has no worker, if it has none; or since when it was last sought.
    pub(super) deserted: Option<Timestamp>,
    /// Whether clients wait for its first worker, and how long each may.
    pub(super) awaited: Option<Duration>,
}

/// What such a service begins with: the limits of the default one, and no worker of its own.
pub(super) fn settings(default: Settings) -> Settings {
    Settings {
        workers: 0,
        min: 0,
        max: 0,
        fresh: false,
        probe_timeout: None,
        autoscale: None,
        spares: None,
        ..default
    }
}

/// Why a service cannot be opened.
pub(super) enum Unfit {
    BadName,
    TooMany,
    /// It is no time for it.
    Closing,
}

impl Passing {
    fn closes_at(self) -> Option<Timestamp> {
        self.deserted.map(|since| since.after(self.awaited.unwrap_or(LINGER)))
    }
}

impl<B> Service<B> {
    /// When it goes, unless a worker comes before.
    pub(super) fn closes_at(&self) -> Option<Timestamp> {
        match self.standing {
            Standing::Configured => None,
            Standing::Passing(passing) => passing.closes_at(),
        }
    }

    /// Looks whether it has workers. Returns its name if the first one has come of a service
    /// that clients have waited for.
    pub(super) fn note_workers(&mut self, now: Timestamp) -> Option<Arc<str>> {
        let Standing::Passing(passing) = &mut self.standing else { return None };
        let deserted = self.core.crew.len() == 0 && self.core.roster.slots_len() == 0;
        passing.deserted = deserted.then(|| passing.deserted.unwrap_or(now));
        let awaited = if deserted { None } else { passing.awaited.take() };
        awaited.map(|_patience| Arc::clone(&self.name))
    }
}

impl<B: Clone> Services<B> {
    /// A service of that name, because a worker brings it; `None` if it cannot be opened.
    pub(super) fn open(&mut self, name: &str, worker: WorkerId, turn: &mut Turn<'_, B>) -> Option<ServiceId> {
        let why = match self.fitness(name) {
            Ok(()) => {
                let name: Arc<str> = name.into();
                let id = self.add_passing(Arc::clone(&name), Slot(0), None);
                turn.decide(id, Action::Note(Note::ServiceOpened { name }));
                return Some(id);
            }
            Err(Unfit::Closing) => return None,
            Err(Unfit::BadName) => {
                let shown: String = name.chars().take(NAME_LIMIT).collect();
                format!(
                    "{shown:?} is no name for a service: up to {NAME_LIMIT} letters, digits, '-', '_' and '.' are"
                )
            }
            Err(Unfit::TooMany) => format!("there are {MAX_SERVICES} services, and no room for {name:?}"),
        };
        self.refused += 1;
        // As for slots that keep failing: a peer may say it as often as it likes.
        if let Telling::Aloud { untold } = self.teller.tell(2, turn.now) {
            turn.decide(ServiceId::DEFAULT, Action::Note(Note::ServiceRefused { worker, why, untold }));
        }
        None
    }

    pub(super) fn fitness(&self, name: &str) -> Result<(), Unfit> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let closing = !matches!(self.phase(), Phase::Starting | Phase::Serving | Phase::Failing);
        if closing {
            Err(Unfit::Closing)
        } else if name.is_empty() || NAME_LIMIT < name.len() || !name.bytes().all(allowed) {
            Err(Unfit::BadName)
        } else if self.table.len() >= MAX_SERVICES {
            Err(Unfit::TooMany)
        } else {
            Ok(())
        }
    }

    /// A service that was configured for an earlier router: its workers are let go.
    pub(super) fn take_leave(&mut self, range: u32, name: Arc<str>, memory: &Memory) {
        let memory = Memory { target: 0, size: None, ..memory.clone() };
        let id = self.add_passing(name, Slot(range * SLOTS_APART), Some(&memory));
        self.ranges.insert(range, id);
    }

    pub(super) fn add_passing(
        &mut self,
        name: Arc<str>,
        first_slot: Slot,
        memory: Option<&Memory>,
    ) -> ServiceId {
        self.last_id.0 += 1;
        let id = self.last_id;
        let settings = Settings { service: Arc::clone(&name), first_slot, ..self.passing_settings.clone() };
        let mut core = Core::new(settings, self.generator.another(), memory);
        // A pause is for all, also for those who come later.
        core.pause = self.pause();
        for (key, entry) in self.recalled.remove(&name).unwrap_or_default() {
            core.recall(key, entry);
        }
        self.insert(id, name, core, Standing::Passing(Passing::default()));
        id
    }

    /// What all passing services may hold together is left for this one to take.
    pub(super) fn make_room(&mut self, id: ServiceId) {
        let (mut waiting, mut bytes) = (0, 0);
        for (other, service) in &self.table {
            if *other != id && service.standing != Standing::Configured {
                waiting += service.core.requests.backlog_len();
                bytes += service.core.requests.held_bytes();
            }
        }
        let limits = &self.passing_settings;
        if let Some(service) = self.table.get_mut(&id)
            && service.standing != Standing::Configured
        {
            let settings = &mut service.core.settings;
            settings.backlog_limit = limits.backlog_limit.saturating_sub(waiting);
            settings.held_bytes_limit = limits.held_bytes_limit.saturating_sub(bytes);
        }
    }

    /// No worker has come: what waits is answered, and the service is no more.
    pub(super) fn close_deserted(&mut self, id: ServiceId, turn: &mut Turn<'_, B>) {
        let is_due = |service: &Service<B>| service.closes_at().is_some_and(|at| at <= turn.now);
        if !self.table.get(&id).is_some_and(is_due) {
            return;
        }
        let Some(mut service) = self.table.remove(&id) else { return };
        let refused = service.core.requests.backlog_len();
        let actions = &mut self.actions;
        let inner = &mut crate::core::Turn { now: turn.now, actions };
        let why = if service.is_awaited() { NEVER_CAME } else { DESERTED };
        service.core.refuse_everything(Status::Unavailable, why, inner);
        turn.decisions.extend(self.actions.drain(..).map(|action| super::Decision { service: id, action }));
        self.closed.add(service.core.counters());
        self.by_name.remove(&service.name);
        self.ranges.retain(|_range, other| *other != id);
        if service.is_awaited() {
            return;
        }
        turn.decide(id, Action::Note(Note::ServiceClosed { name: service.name, refused }));
    }
}
