//! What the core notes, as lines of the log.

use nix::sys::signal::Signal;
use tracing::{debug, error, info, warn};

use super::Body;
use super::report::{name_of, outcome_in_words};
use crate::core::{
    Degraded, ExitReason, Flight, LastFlights, Note, PauseMode, Place, RecycleCause, Services, Telling,
};

/// Whose last words belong to this news.
pub(super) fn mourns(note: &Note) -> Option<Place> {
    match note {
        Note::WorkerLeft { place, planned: false, .. } | Note::ReloadFailed { place, .. } => Some(*place),
        _ => None,
    }
}

/// `service` is said unless it is the default one.
pub(super) fn log(
    note: &Note,
    service: Option<&str>,
    (core, life): (&Services<Body>, u32),
    last_words: &[String],
) {
    match note {
        Note::Ready => info!("ready"),
        Note::WorkerStarted { place, generation, pid } => {
            let (slot, incarnation) = (place.slot.0, place.incarnation.0);
            debug!(slot, incarnation, generation = generation.0, pid, "worker started");
        }
        Note::WorkerReady { place, routine: true } => {
            let pid = core.pid_of(*place);
            debug!(slot = place.slot.0, incarnation = place.incarnation.0, pid, service, "worker ready");
        }
        Note::WorkerReady { place, routine: false } => {
            let pid = core.pid_of(*place);
            info!(slot = place.slot.0, incarnation = place.incarnation.0, pid, service, "worker ready");
        }
        Note::WorkerLeft { .. } => log_worker_left(note, service, life, last_words),
        Note::ServiceOpened { .. } | Note::ServiceClosed { .. } | Note::ServiceRefused { .. } => {
            log_passing(note);
        }
        Note::ExternalJoined { worker, name } => {
            info!(worker = worker.0, name, service, "external worker joined");
        }
        Note::ExternalLeft { worker } => info!(worker = worker.0, service, "external worker left"),
        Note::TargetChanged { from, to, cause } => info!(from, to, %cause, service, "pool target changed"),
        Note::ReloadStarted { generation } => info!(generation = generation.0, service, "reload started"),
        Note::ReloadFinished { generation } => info!(generation = generation.0, service, "reload finished"),
        Note::ReloadFailed { generation, place, reason } => {
            let last_words = last_words.join("\n");
            error!(
                generation = generation.0,
                slot = place.slot.0,
                reason,
                service,
                last_words,
                "reload failed: the old generation keeps serving"
            );
        }
        Note::ReloadSuperseded { generation, by } => {
            info!(generation = generation.0, by = by.0, service, "reload superseded by another");
        }
        Note::ReloadAbandoned { generation } => info!(generation = generation.0, service, "reload abandoned"),
        Note::Failing => error!(service, "workers cannot start: requests are refused until one is ready"),
        Note::Recovered => info!(service, "serving again"),
        Note::Degraded(degraded) => {
            let (unfilled, target, reason) = (degraded.unfilled, degraded.target, in_words(&degraded.reason));
            warn!(unfilled, target, reason, service, "degraded: some workers cannot be started");
        }
        Note::Paused { mode: PauseMode::Hold, waiting } => {
            info!(service, waiting, "paused: requests wait");
        }
        Note::Paused { mode: PauseMode::Refuse, waiting } => {
            info!(service, waiting, "paused: new requests are refused");
        }
        Note::Resumed { waiting, after } => {
            let after_ms = after.as_millis();
            info!(service, waiting, after_ms, "resumed");
        }
        Note::Restored => info!(service, "restored: every worker can be started again"),
        Note::DrainStarted { waiting_refused, in_flight } => {
            info!(waiting_refused, in_flight, "draining");
        }
        Note::HandOverStarted { waiting, in_flight, within } => {
            let within_ms = within.as_millis();
            info!(waiting, in_flight, within_ms, "handing over to another router");
        }
        // What is to be said of two of these needs the parent: see `inquiries.rs`. The third is
        // one for each request: see `access.rs`.
        Note::RequestTimedOut { .. } | Note::WorkerStuck { .. } | Note::RequestEnded(_) => (),
        Note::RequestRetried { request, attempt } => {
            info!(request = request.0, attempt, "worker ended: request goes to another");
        }
        Note::RequestLost { request, attempt, last: _ } => {
            warn!(request = request.0, attempt, "request lost: it is not tried again");
        }
        Note::RequestPoisoned { request, attempt, number } => {
            warn!(
                request = request.0,
                attempt, number, "poison: a request has ended every worker that had it"
            );
        }
        Note::WorkerMalformed { worker, place } => {
            let slot = place.map(slot_of);
            debug!(worker = worker.0, slot, "unreadable message of a worker");
        }
    }
}

fn log_worker_left(note: &Note, service: Option<&str>, life: u32, last_words: &[String]) {
    let Note::WorkerLeft { place, pid, reason, planned, respawn_after, last, telling, .. } = note else {
        return;
    };
    let respawn_ms = respawn_after.as_millis();
    let (slot, incarnation) = (place.slot.0, place.incarnation.0);
    if matches!(reason, ExitReason::Recycle(RecycleCause::Fresh)) {
        debug!(slot, incarnation, reason = in_words(reason), service, "worker left");
        return;
    }
    let reason = in_words(reason);
    match telling {
        Telling::Counted => {
            debug!(slot, incarnation, pid, reason, respawn_ms, service, "worker died");
        }
        Telling::Aloud { .. } if *planned => {
            info!(slot, incarnation, pid, reason, service, "worker left");
        }
        Telling::Aloud { untold } => {
            let last_words = (!last_words.is_empty()).then(|| last_words.join("\n"));
            let untold = (*untold > 0).then_some(*untold);
            let (held, before) = (held_in_words(last, life), before_in_words(last, life));
            warn!(
                slot,
                incarnation,
                pid,
                reason,
                respawn_ms,
                service,
                untold,
                held,
                before,
                last_words,
                "worker died"
            );
        }
    }
}

/// Services that come and go with workers from elsewhere.
fn log_passing(note: &Note) {
    match note {
        Note::ServiceOpened { name } => info!(name = %name, "service opened by a worker from elsewhere"),
        Note::ServiceClosed { name, refused } => {
            info!(name = %name, refused, "service closed: its last worker has left");
        }
        Note::ServiceRefused { worker, why, untold } => {
            let untold = (*untold > 0).then_some(*untold);
            warn!(worker = worker.0, why, untold, "external worker gets no requests");
        }
        _other => (),
    }
}

/// Requests held by a dying worker that its line of the log names.
const HELD_TOLD: usize = 8;

/// The requests that may have ended the worker: name, size, how long it had them.
fn held_in_words(last: &LastFlights, life: u32) -> Option<String> {
    if last.held.is_empty() {
        let unknown = last.adopted && last.before.is_empty();
        return unknown.then(|| "not known: an earlier router gave it its requests".into());
    }
    let one = |flight: &Flight| {
        let name = name_of(life, flight.request, flight.name.as_deref());
        format!("{name} ({} B, for {:?})", flight.size, flight.run)
    };
    let mut held: Vec<String> = last.held.iter().take(HELD_TOLD).map(one).collect();
    if last.held.len() > HELD_TOLD {
        held.push(format!("and {} more", last.held.len() - HELD_TOLD));
    }
    Some(held.join(", "))
}

fn before_in_words(last: &LastFlights, life: u32) -> Option<String> {
    let one = |flight: &Flight| {
        let name = name_of(life, flight.request, flight.name.as_deref());
        let outcome = outcome_in_words(flight.outcome.as_ref());
        format!("{name} ({} B, {outcome} after {:?})", flight.size, flight.run)
    };
    let before: Vec<String> = last.before.iter().map(one).collect();
    (!before.is_empty()).then(|| before.join(", "))
}

fn slot_of(place: Place) -> u32 {
    place.slot.0
}

/// As people say it: a signal has a name.
pub(super) fn in_words(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Signal(number) => match Signal::try_from(*number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_unknown) => reason.to_string(),
        },
        other => other.to_string(),
    }
}

/// The sentence about a degraded pool.
pub(super) fn what_is_missing(degraded: &Degraded) -> String {
    let Degraded { unfilled, target, reason } = degraded;
    format!("{unfilled} of {target} workers cannot start: {}", in_words(reason))
}
