//! Which worker belongs to which service. One of ours to that of its slot. One from elsewhere
//! to the service that it names; until it has said a word it belongs to none.

use std::collections::BTreeMap;

use hornpipe_proto::Token;

use super::{Service, Services, Turn};
use crate::core::event::{Details, Event, Home, Speech};
use crate::core::ids::{ServiceId, Timestamp, WorkerId};

#[derive(Debug, Default)]
pub(super) struct Members {
    table: BTreeMap<WorkerId, Member>,
}

#[derive(Debug, Clone, Copy)]
enum Member {
    /// It has not said yet where it belongs, or it belongs nowhere here.
    Undecided {
        joined: Timestamp,
        sent_before: u64,
    },
    Of {
        service: ServiceId,
        moves: Moves,
    },
}

/// Whether a worker may go to another service.
#[derive(Debug, Clone, Copy)]
enum Moves {
    /// With how many jobs it was sent by the services that it has left: it counts what comes
    /// over its connection, and they count what they send.
    Freely { sent_before: u64 },
    /// It is ours, or of no more use.
    Not { sent_before: u64 },
}

impl Moves {
    fn sent_before(self) -> u64 {
        match self {
            Self::Freely { sent_before } | Self::Not { sent_before } => sent_before,
        }
    }
}

impl Members {
    /// Its connection counts as gone.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.table.remove(&worker);
    }

    /// Since when those are here that belong to none.
    pub(super) fn undecided(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.table.values().filter_map(|member| match member {
            Member::Undecided { joined, .. } => Some(*joined),
            Member::Of { .. } => None,
        })
    }
}

impl<B: Clone> Services<B> {
    pub(super) fn worker_joined(&mut self, worker: WorkerId, home: Home, turn: &mut Turn<'_, B>) {
        match home {
            Home::External => {
                self.members
                    .table
                    .entry(worker)
                    .or_insert(Member::Undecided { joined: turn.now, sent_before: 0 });
            }
            Home::Local(place) => {
                let service = self.service_of(place.slot);
                let moves = Moves::Not { sent_before: 0 };
                self.members.table.insert(worker, Member::Of { service, moves });
                self.run(service, Event::Joined { worker, home }, turn);
            }
        }
    }

    /// A word in which it may say where it belongs.
    pub(super) fn worker_announced(&mut self, worker: WorkerId, event: Event<B>, turn: &mut Turn<'_, B>) {
        let Some(member) = self.members.table.get(&worker).copied() else {
            // Nobody has heard of its connection: the core counts what it says, or not.
            return self.run(ServiceId::DEFAULT, event, turn);
        };
        match member {
            Member::Of { service, moves: Moves::Freely { sent_before } }
                if details(&event).is_some() && self.wanted(named(&event)) != Some(service) =>
            {
                self.move_over(worker, (service, sent_before), event, turn);
            }
            Member::Of { service, .. } => self.forward(worker, service, event, turn),
            Member::Undecided { sent_before, .. } => self.admit(worker, sent_before, event, turn),
        }
    }

    /// It belongs to a service from here on, if there is one for it.
    fn admit(&mut self, worker: WorkerId, sent_before: u64, event: Event<B>, turn: &mut Turn<'_, B>) {
        let known = self.wanted(named(&event));
        let service = match (known, &event) {
            (Some(service), _) => service,
            // Nobody opens a service to close it.
            (None, Event::Exiting { .. }) => return,
            (None, event) => {
                let name = named(event).unwrap_or_default().to_owned();
                let Some(service) = self.open(&name, worker, turn) else { return };
                service
            }
        };
        let moves = Moves::Freely { sent_before };
        self.members.table.insert(worker, Member::Of { service, moves });
        self.run(service, Event::Joined { worker, home: Home::External }, turn);
        self.forward(worker, service, event, turn);
    }

    /// The service of that name, if there is one.
    fn wanted(&self, name: Option<&str>) -> Option<ServiceId> {
        name.map_or(Some(ServiceId::DEFAULT), |name| self.find(name))
    }

    /// It has named another service. What it holds for the one it leaves is lost there.
    fn move_over(
        &mut self,
        worker: WorkerId,
        (from, sent_before): (ServiceId, u64),
        event: Event<B>,
        turn: &mut Turn<'_, B>,
    ) {
        let known = self.table.get(&from).and_then(|service| service.core.crew.worker(worker));
        let sent_before = sent_before + known.map_or(0, |worker| worker.sent);
        self.members.table.insert(worker, Member::Undecided { joined: turn.now, sent_before });
        self.run(from, Event::WorkerLeft { worker }, turn);
        self.admit(worker, sent_before, event, turn);
    }

    fn forward(&mut self, worker: WorkerId, service: ServiceId, mut event: Event<B>, turn: &mut Turn<'_, B>) {
        if let Some(Member::Of { moves, .. }) = self.members.table.get_mut(&worker) {
            let sent_before = moves.sent_before();
            if let Some(details) = details_mut(&mut event) {
                details.seen = details.seen.saturating_sub(sent_before);
            }
            if matches!(event, Event::Exiting { .. }) {
                *moves = Moves::Not { sent_before };
            }
        }
        self.run(service, event, turn);
    }

    /// A word in which it says nothing of that. One that belongs nowhere is counted with the
    /// default service, and belongs there until it names another.
    pub(super) fn worker_spoke(&mut self, worker: WorkerId, event: Event<B>, turn: &mut Turn<'_, B>) {
        match self.members.table.get(&worker) {
            Some(Member::Of { service, .. }) => self.run(*service, event, turn),
            Some(Member::Undecided { sent_before, .. }) => self.admit(worker, *sent_before, event, turn),
            None => self.run(ServiceId::DEFAULT, event, turn),
        }
    }

    /// A sign of life of one that belongs nowhere is nobody's business.
    pub(super) fn worker_beat(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        if let Some(Member::Of { service, .. }) = self.members.table.get(&worker) {
            self.run(*service, Event::Heartbeat { worker }, turn);
        }
    }

    /// It has gone, or has been told to.
    pub(super) fn worker_left(&mut self, worker: WorkerId, event: Event<B>, turn: &mut Turn<'_, B>) {
        match (self.members.table.remove(&worker), &event) {
            (Some(Member::Of { service, .. }), _) => self.run(service, event, turn),
            // It belonged nowhere, but what it said is counted.
            (_, Event::OutOfTurn { .. }) => self.run(ServiceId::DEFAULT, event, turn),
            (_, _left) => (),
        }
    }

    /// The same of several at once.
    pub(super) fn workers_left(&mut self, workers: &[WorkerId], turn: &mut Turn<'_, B>) {
        let mut parties: BTreeMap<ServiceId, Vec<WorkerId>> = BTreeMap::new();
        for worker in workers {
            if let Some(Member::Of { service, .. }) = self.members.table.remove(worker) {
                parties.entry(service).or_default().push(*worker);
            }
        }
        for (service, workers) in parties {
            self.run(service, Event::WorkersLeft { workers }, turn);
        }
    }

    /// Only of workers of our own, which stay with their service.
    pub(super) fn withdrawn(&mut self, worker: WorkerId, begun: u64, turn: &mut Turn<'_, B>) {
        if let Some(Member::Of { service, .. }) = self.members.table.get(&worker) {
            self.run(*service, Event::Withdrawn { worker, begun }, turn);
        }
    }

    /// Its connection may be known no more, but somebody has given it that job.
    pub(super) fn undelivered(&mut self, worker: WorkerId, token: Token, turn: &mut Turn<'_, B>) {
        let gave = |service: &Service<B>| service.core.requests.held(token).is_some();
        let Some(id) = self.table.iter().find(|(_, service)| gave(service)).map(|(id, _)| *id) else {
            return;
        };
        if let Some(Member::Of { moves, .. }) = self.members.table.get_mut(&worker) {
            *moves = Moves::Not { sent_before: moves.sent_before() };
        }
        self.run(id, Event::Undelivered { worker, token }, turn);
    }
}

/// The service that it names, if it names one.
fn named<B>(event: &Event<B>) -> Option<&str> {
    match event {
        Event::Waiting { speech: Speech::Beating { service, .. }, .. } => service.as_deref(),
        other => details(other).and_then(|details| details.service.as_deref()),
    }
}

fn details<B>(event: &Event<B>) -> Option<&Details> {
    match event {
        Event::Hello { details, .. }
        | Event::Waiting { speech: Speech::Native(details), .. }
        | Event::Processing { speech: Speech::Native(details), .. }
        | Event::Exiting { speech: Speech::Native(details), .. } => Some(details),
        _plain => None,
    }
}

fn details_mut<B>(event: &mut Event<B>) -> Option<&mut Details> {
    match event {
        Event::Hello { details, .. }
        | Event::Waiting { speech: Speech::Native(details), .. }
        | Event::Processing { speech: Speech::Native(details), .. }
        | Event::Exiting { speech: Speech::Native(details), .. } => Some(details),
        _plain => None,
    }
}
