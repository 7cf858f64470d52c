//! The core's snapshot as operators see it.

use std::time::Duration;

use hornpipe_proto::control::{
    ExitReport, ExternalReport, FlightReport, LastExit, LinkReport, NoiseReport, PausedReport, PoolReport,
    QueueReport, ReloadProgress, RequestReport, ServiceReport, SlotReport, StatusReport, TargetReport,
    WorkerReport,
};

use super::notes::{in_words, what_is_missing};
use crate::core::{
    Exit, ExternalSnapshot, Flight, Loss, Outcome, PauseMode, ReloadSnapshot, RequestId, ServiceSnapshot,
    SlotSnapshot, Snapshot, Timestamp, WorkerSnapshot,
};

/// What the core does not know of itself.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) frontend: String,
    pub(super) backend: String,
    pub(super) parent_pid: i32,
    pub(super) life: u32,
    pub(super) uptime: Duration,
    pub(super) undelivered: u64,
    pub(super) services_refused: u64,
    pub(super) brokers: Vec<LinkReport>,
}

/// `total` is the state of all services as one, and `services` each of them.
pub(super) fn report(
    total: Snapshot,
    services: &[(ServiceSnapshot, Snapshot)],
    around: Surroundings,
) -> StatusReport {
    let counters = &total.counters;
    StatusReport {
        version: env!("CARGO_PKG_VERSION").into(),
        frontend: around.frontend,
        backend: around.backend,
        pid: around.parent_pid,
        router_pid: i32::try_from(std::process::id()).unwrap_or_default(),
        router_life: around.life,
        uptime_ms: milliseconds(around.uptime),
        phase: total.phase_word.into(),
        pool: pool(&total),
        requests: requests(&total),
        noise: NoiseReport {
            stale_replies: counters.stale_replies,
            malformed_workers: counters.malformed_workers,
            strangers: counters.strangers,
            ignored_clients: counters.ignored_clients,
            undelivered: around.undelivered,
            log_lines_dropped: crate::logging::dropped(),
            services_refused: around.services_refused,
        },
        queue: queue(&total),
        workers: total.workers.into_iter().map(worker).collect(),
        external: total.external.into_iter().map(external).collect(),
        services: services.iter().map(|(service, snapshot)| self::service(service, snapshot)).collect(),
        brokers: around.brokers,
    }
}

fn service(service: &ServiceSnapshot, snapshot: &Snapshot) -> ServiceReport {
    ServiceReport {
        name: service.name.as_ref().to_owned(),
        configured: service.configured,
        phase: snapshot.phase_word.into(),
        pool: pool(snapshot),
        queue: queue(snapshot),
        requests: requests(snapshot),
    }
}

pub(super) fn pool(Snapshot { pool, counters, .. }: &Snapshot) -> PoolReport {
    PoolReport {
        target: pool.target,
        min: pool.min,
        max: pool.max,
        ready: pool.ready,
        processing: pool.processing,
        generation: pool.generation.0,
        reload: pool.reload.map(reload),
        probed: counters.probed,
        spawned: counters.spawned,
        exited: counters.exited,
        autoscale: pool.autoscale,
        last_change: pool.last_change.as_ref().map(|change| TargetReport {
            from: change.from,
            to: change.to,
            cause: change.cause.to_string(),
            ago_ms: milliseconds(change.ago),
        }),
        degraded: pool.degraded.as_ref().map(what_is_missing),
        paused: pool.paused.map(|(mode, time)| PausedReport {
            refuses: mode == PauseMode::Refuse,
            for_ms: milliseconds(time),
        }),
    }
}

pub(super) fn requests(Snapshot { counters, queue, in_flight, .. }: &Snapshot) -> RequestReport {
    RequestReport {
        received: counters.received,
        answered: counters.answered,
        refused: counters.refused().collect(),
        dropped: counters.dropped,
        waiting: queue.backlog_len + queue.joined,
        in_flight: *in_flight,
        retried: counters.retried,
        parts: counters.parts,
        prefetched: counters.prefetched,
        withdrawn: counters.withdrawn,
    }
}

pub(super) fn queue(Snapshot { queue, .. }: &Snapshot) -> QueueReport {
    QueueReport {
        backlog_len: queue.backlog_len,
        backlog_limit: queue.backlog_limit,
        held_bytes: queue.held_bytes,
        held_bytes_limit: queue.held_bytes_limit,
        oldest_ms: queue.oldest.map(milliseconds),
    }
}

fn reload(reload: ReloadSnapshot) -> ReloadProgress {
    ReloadProgress { from: reload.from.0, to: reload.to.0, renewed: reload.renewed }
}

fn worker(worker: WorkerSnapshot) -> WorkerReport {
    WorkerReport {
        slot: worker.slot.0,
        pid: worker.pid,
        incarnation: worker.incarnation.0,
        generation: worker.generation.0,
        state: worker.state.map_or("backoff", crate::core::WorkerState::as_str).into(),
        age_ms: milliseconds(worker.age),
        requests: worker.served,
        private_bytes: worker.footprint.map(|footprint| footprint.private_bytes),
        shared_bytes: worker.footprint.map(|footprint| footprint.shared_bytes),
        processing_ms: worker.processing.map(milliseconds),
        ahead: worker.ahead,
        last_exit: worker
            .last_exit
            .map(|(reason, ago)| LastExit { reason: in_words(&reason), ago_ms: milliseconds(ago) }),
        service: Some(worker.service.as_ref().to_owned()),
    }
}

fn external(worker: ExternalSnapshot) -> ExternalReport {
    ExternalReport {
        name: worker.name,
        state: worker.state.as_str().into(),
        age_ms: milliseconds(worker.age),
        requests: worker.served,
        service: worker.service.map(|name| name.as_ref().to_owned()),
    }
}

/// The name of a request in logs, in reports and in the worker's hands.
pub(super) fn name_of(life: u32, request: RequestId, name: Option<&str>) -> String {
    name.map_or_else(|| number_of((life, request), &mut String::new()).to_owned(), ToOwned::to_owned)
}

/// The name of a request whose client has given it none, in this text's place.
pub(super) fn number_of((life, request): (u32, RequestId), text: &mut String) -> &str {
    use std::fmt::Write;
    text.clear();
    // A text takes whatever is written.
    write!(text, "{life}-{request}").ok();
    text
}

pub(super) fn slot(slot: u32, snapshot: SlotSnapshot, life: u32, now: Timestamp) -> SlotReport {
    let exit = |exit: &Exit| ExitReport {
        incarnation: exit.place.incarnation.0,
        pid: exit.pid,
        reason: in_words(&exit.reason),
        ago_ms: milliseconds(now.since(exit.at)),
    };
    SlotReport {
        slot,
        workers: snapshot.workers.into_iter().map(worker).collect(),
        adopted: snapshot.adopted.iter().map(|incarnation| incarnation.0).collect(),
        exits: snapshot.exits.iter().map(exit).collect(),
        flights: snapshot.flights.iter().map(|one| flight(one, life)).collect(),
    }
}

fn flight(flight: &Flight, life: u32) -> FlightReport {
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let lost = |outcome: &Outcome| match outcome {
        Outcome::Lost(loss) => Some(loss_in_words(loss)),
        Outcome::Answered | Outcome::Refused(_) | Outcome::Retry | Outcome::Dropped => None,
    };
    FlightReport {
        incarnation: flight.place.incarnation.0,
        name: name_of(life, flight.request, flight.name.as_deref()),
        client: flight.client.0,
        attempt: flight.attempt,
        size: flight.size,
        reply_size: flight.reply_size,
        wait_us: microseconds(flight.wait),
        run_us: microseconds(flight.run),
        outcome: outcome_in_words(flight.outcome.as_ref()).into(),
        ending: flight.outcome.as_ref().and_then(lost),
        memory_before: flight.memory.0,
        memory_after: flight.memory.1,
    }
}

pub(super) fn outcome_in_words(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        None => "running",
        Some(Outcome::Answered) => "answered",
        Some(Outcome::Refused(status)) => status.as_str(),
        Some(Outcome::Retry) => "retry",
        Some(Outcome::Dropped) => "dropped",
        Some(Outcome::Lost(_)) => "lost",
    }
}

pub(super) fn loss_in_words(loss: &Loss) -> String {
    match loss {
        Loss::Ended(fate) => in_words(&fate.reason),
        Loss::Announced | Loss::Disconnected | Loss::Forgotten | Loss::Malformed | Loss::Declined => {
            loss.to_string()
        }
    }
}

pub(super) fn pid_of(loss: &Loss) -> Option<i32> {
    match loss {
        Loss::Ended(fate) => fate.pid,
        Loss::Announced | Loss::Disconnected | Loss::Forgotten | Loss::Malformed | Loss::Declined => None,
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
