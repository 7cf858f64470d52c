//! What is streamed to whoever watches: the core's notes, changes of the phase, and
//! refusals in bulk. Costs nothing while nobody watches.

use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_proto::control::{ControlResponse, EVENT_SCHEMA, EventKind, EventReport};

use super::control::{Operator, Subscribed};
use super::notes::in_words;
use super::report::milliseconds;
use super::{Body, Router, clock};
use crate::core::{Core, Finish, Note, PauseMode, RequestId, ServiceId, Timestamp};

/// Between two events that count refusals.
const PAUSE: Duration = Duration::from_secs(1);

/// What whoever watches has been told.
#[derive(Debug, Default)]
pub(super) struct Events {
    phase: &'static str,
    refused: Vec<(Status, u64)>,
    /// Refusals are not told sooner.
    not_before: Timestamp,
}

impl Router {
    /// `None` if the stream has begun.
    pub(super) fn subscribe(&mut self, operator: Operator) -> Option<ControlResponse> {
        if !self.sockets.control.is_watched() {
            self.events.phase = self.core.phase_word();
            self.events.refused = self.core.counters().refused().collect();
        }
        let hello = self.event(EventKind::Hello {
            schema: EVENT_SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: self.parent_pid,
            router_pid: i32::try_from(std::process::id()).unwrap_or_default(),
            phase: self.core.phase_word().into(),
        });
        match self.sockets.control.subscribe(operator, &hello) {
            Subscribed::Yes => None,
            Subscribed::No { limit } => Some(ControlResponse::Refused {
                message: format!("{limit} streams of events are open already, and no more are served"),
            }),
        }
    }

    pub(super) fn tell_watchers_of(&mut self, service: ServiceId, note: &Note) {
        if !self.sockets.control.is_watched() {
            return;
        }
        let Some(core) = self.core.core(service) else { return };
        let kind = kind_of(note, core, |request| self.name(request));
        let step = step_of(note, core);
        let label = self.label(service).map(ToOwned::to_owned);
        for kind in kind.into_iter().chain(step) {
            let event = EventReport { service: label.clone(), ..self.event(kind) };
            self.sockets.control.publish(&event);
        }
    }

    /// What no note tells, once in each turn.
    pub(super) fn tell_watchers(&mut self, now: Timestamp) {
        if !self.sockets.control.is_watched() {
            return;
        }
        let phase = self.core.phase_word();
        let before = std::mem::replace(&mut self.events.phase, phase);
        if before != phase {
            self.publish(EventKind::Phase { from: before.into(), to: phase.into() });
        }
        if self.events.not_before <= now {
            self.tell_of_refusals(now);
        }
        self.flush_streams();
    }

    /// The last event of every stream. A router that has crashed tells nothing.
    pub(super) fn end_streams(&mut self, finish: &Finish) {
        if !self.sockets.control.is_watched() {
            return;
        }
        self.tell_of_refusals(clock::now());
        self.tell_watchers(clock::now());
        let why = match finish {
            Finish::Stopped => "stopped",
            Finish::HandedOver => "replaced",
            Finish::CannotExecute | Finish::CannotStart { .. } => "workers cannot start",
        };
        self.publish(EventKind::End { why: why.into() });
        self.flush_streams();
    }

    /// When there will be refusals to tell.
    pub(super) fn events_deadline(&self) -> Option<Timestamp> {
        (self.sockets.control.is_watched() && self.has_untold_refusals()).then_some(self.events.not_before)
    }

    fn has_untold_refusals(&self) -> bool {
        let told: u64 = self.events.refused.iter().map(|(_status, count)| count).sum();
        told != self.core.refused_total()
    }

    fn tell_of_refusals(&mut self, now: Timestamp) {
        if !self.has_untold_refusals() {
            return;
        }
        let refused: Vec<_> = self.core.counters().refused().collect();
        let told = std::mem::replace(&mut self.events.refused, refused.clone());
        let before = |status| told.iter().find(|(one, _)| *one == status).map_or(0, |(_, count)| *count);
        let news = refused.into_iter().map(|(status, count)| (status, count - before(status)));
        let refused = news.filter(|(_status, count)| *count > 0).collect();
        self.events.not_before = now.after(PAUSE);
        self.publish(EventKind::Refused { refused });
    }

    fn publish(&mut self, what: EventKind) {
        let event = self.event(what);
        self.sockets.control.publish(&event);
    }

    /// Sends what readers have room for, and tells each how many it has missed.
    fn flush_streams(&mut self) {
        let now = self.event(EventKind::Dropped { count: 0 });
        self.sockets.control.flush_streams(&now);
    }

    fn event(&self, what: EventKind) -> EventReport {
        EventReport { at_ms: milliseconds(clock::wall()), router_life: self.life, service: None, what }
    }
}

/// A note in the words of the schema. An event gets its arm here.
fn kind_of(note: &Note, core: &Core<Body>, name: impl Fn(RequestId) -> String) -> Option<EventKind> {
    Some(match note {
        Note::WorkerStarted { place, generation, pid } => EventKind::WorkerStarted {
            slot: place.slot.0,
            incarnation: place.incarnation.0,
            generation: generation.0,
            pid: *pid,
        },
        Note::WorkerReady { place, .. } => {
            let (generation, pid) = core.process(*place)?;
            let (slot, incarnation) = (place.slot.0, place.incarnation.0);
            EventKind::WorkerReady { slot, incarnation, generation: generation.0, pid }
        }
        Note::WorkerLeft { place, generation, pid, reason, planned, respawn_after, .. } => {
            EventKind::WorkerExited {
                slot: place.slot.0,
                incarnation: place.incarnation.0,
                generation: generation.0,
                pid: *pid,
                reason: in_words(reason),
                planned: *planned,
                respawn_ms: milliseconds(*respawn_after),
            }
        }
        Note::WorkerStuck { place, why } => EventKind::WorkerStuck {
            slot: place.slot.0,
            incarnation: place.incarnation.0,
            why: (*why).into(),
        },
        Note::ExternalJoined { worker, name } => {
            EventKind::ExternalJoined { worker: worker.0, name: name.clone() }
        }
        Note::ExternalLeft { worker } => EventKind::ExternalLeft { worker: worker.0 },
        Note::TargetChanged { from, to, cause } => {
            EventKind::TargetChanged { from: *from, to: *to, cause: cause.to_string() }
        }
        Note::ReloadStarted { generation } => EventKind::ReloadStarted { generation: generation.0 },
        Note::ReloadFinished { generation } => EventKind::ReloadFinished { generation: generation.0 },
        Note::ReloadFailed { generation, place, reason } => {
            EventKind::ReloadFailed { generation: generation.0, slot: place.slot.0, reason: reason.clone() }
        }
        Note::ReloadSuperseded { generation, by } => {
            EventKind::ReloadSuperseded { generation: generation.0, by: by.0 }
        }
        Note::ReloadAbandoned { generation } => EventKind::ReloadAbandoned { generation: generation.0 },
        Note::Degraded(degraded) => EventKind::Degraded {
            unfilled: degraded.unfilled,
            target: degraded.target,
            reason: in_words(&degraded.reason),
        },
        Note::Restored => EventKind::Restored,
        Note::Paused { mode, waiting } => {
            EventKind::Paused { refuses: *mode == PauseMode::Refuse, waiting: *waiting as u64 }
        }
        Note::Resumed { waiting, after } => {
            EventKind::Resumed { waiting: *waiting as u64, after_ms: milliseconds(*after) }
        }
        Note::RequestTimedOut { request, place, attempt, after, size } => EventKind::RequestTimedOut {
            request: name(*request),
            attempt: *attempt,
            after_ms: milliseconds(*after),
            size: *size,
            slot: place.map(|place| place.slot.0),
        },
        Note::RequestRetried { request, attempt } => {
            EventKind::RequestRetried { request: name(*request), attempt: *attempt }
        }
        Note::RequestLost { request, attempt, last: _ } => {
            EventKind::RequestLost { request: name(*request), attempt: *attempt }
        }
        Note::RequestPoisoned { request, attempt, number } => {
            EventKind::RequestPoisoned { request: name(*request), attempt: *attempt, number: *number }
        }
        Note::ServiceOpened { name } => EventKind::ServiceOpened { name: name.as_ref().to_owned() },
        Note::ServiceClosed { name, refused } => {
            EventKind::ServiceClosed { name: name.as_ref().to_owned(), refused: *refused as u64 }
        }
        // The phase tells the first; the last are told in bulk, if they end with an error.
        Note::Ready
        | Note::Failing
        | Note::Recovered
        | Note::DrainStarted { .. }
        | Note::HandOverStarted { .. }
        | Note::ServiceRefused { .. }
        | Note::WorkerMalformed { .. }
        | Note::RequestEnded(_) => return None,
    })
}

/// A worker that a reload has brought, and how far that one is.
fn step_of(note: &Note, core: &Core<Body>) -> Option<EventKind> {
    let Note::WorkerReady { place, .. } = note else { return None };
    let reload = core.reload_under_way()?;
    let (generation, _pid) = core.process(*place)?;
    (generation == reload.to).then(|| EventKind::ReloadStep {
        generation: generation.0,
        renewed: reload.renewed,
        target: core.target(),
    })
}
