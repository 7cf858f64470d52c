//! The core's counts as whoever watches sees them.

use std::time::Duration;

use hornpipe_proto::control::{
    LastReload, Limits, MemorySum, MetricsReport, ReloadCounts, ServiceMetrics, StateCounts, Timing,
};

use super::report::{self, Surroundings, milliseconds};
use crate::core::{
    BOUNDS_US, Counters, Footprint, Histogram, ServiceSnapshot, Settings, Snapshot, WorkerSnapshot,
    WorkerState,
};

/// What is known of one service.
pub(super) struct OfService<'a> {
    pub(super) service: ServiceSnapshot,
    pub(super) snapshot: Snapshot,
    pub(super) settings: &'a Settings,
    pub(super) last_reload: Option<LastReload>,
}

/// `total` is the state of all services as one.
pub(super) fn metrics(
    mut total: Snapshot,
    services: Vec<OfService<'_>>,
    around: Surroundings,
    (unready, config_read): (Option<String>, Option<LastReload>),
) -> MetricsReport {
    // Without its workers it is small, however many they are.
    total.workers.clear();
    total.external.clear();
    let status = report::report(total, &[], around);
    MetricsReport {
        version: status.version,
        pid: status.pid,
        router_pid: status.router_pid,
        router_life: status.router_life,
        uptime_ms: status.uptime_ms,
        phase: status.phase,
        unready,
        config_read,
        noise: status.noise,
        services: services.into_iter().map(of_service).collect(),
    }
}

fn of_service(OfService { service, snapshot, settings, last_reload }: OfService<'_>) -> ServiceMetrics {
    let Snapshot { busy, counters, workers, external, .. } = &snapshot;
    ServiceMetrics {
        name: service.name.as_ref().to_owned(),
        pool: report::pool(&snapshot),
        queue: report::queue(&snapshot),
        requests: report::requests(&snapshot),
        turned_away: counters.turned_away,
        returned: counters.returned,
        workers: count(workers.iter().map(|worker| worker.state)),
        external: count(external.iter().map(|worker| Some(worker.state))),
        busy_us: microseconds(busy.local),
        external_busy_us: microseconds(busy.external),
        exits: counters.exits().map(|(kind, count)| (kind.as_str().into(), count)).collect(),
        memory: memory(workers),
        bounds_us: BOUNDS_US.to_vec(),
        request_time: timing(&counters.times.request),
        queue_wait: timing(&counters.times.queue_wait),
        processing: timing(&counters.times.processing),
        worker_start: timing(&counters.times.start),
        reloads: reloads(counters, last_reload),
        limits: limits(settings),
    }
}

fn count(states: impl Iterator<Item = Option<WorkerState>>) -> StateCounts {
    let mut counts = StateCounts::default();
    for state in states {
        let count = match state {
            Some(WorkerState::Starting) => &mut counts.starting,
            Some(WorkerState::Waiting) => &mut counts.waiting,
            Some(WorkerState::Processing) => &mut counts.processing,
            Some(WorkerState::Exiting) => &mut counts.exiting,
            None => &mut counts.backoff,
        };
        *count += 1;
    }
    counts
}

fn memory(workers: &[WorkerSnapshot]) -> MemorySum {
    let add = |sum: MemorySum, one: Footprint| MemorySum {
        measured: sum.measured + 1,
        private_bytes: sum.private_bytes.saturating_add(one.private_bytes),
        shared_bytes: sum.shared_bytes.saturating_add(one.shared_bytes),
        resident_bytes: sum.resident_bytes.saturating_add(one.resident_bytes),
    };
    workers.iter().filter_map(|worker| worker.footprint).fold(MemorySum::default(), add)
}

fn timing(histogram: &Histogram) -> Timing {
    Timing { counts: histogram.counts().to_vec(), sum_us: microseconds(histogram.sum()) }
}

fn reloads(counters: &Counters, last: Option<LastReload>) -> ReloadCounts {
    let reloads = counters.reloads;
    ReloadCounts {
        finished: reloads.finished,
        failed: reloads.failed,
        superseded: reloads.superseded,
        abandoned: reloads.abandoned,
        last,
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        attempts: settings.attempts,
        timeout_ms: settings.timeout.map(milliseconds),
        queue_timeout_ms: settings.queue_timeout.map(milliseconds),
        body_bytes: settings.body_limit,
        memory_bytes: settings.max_memory,
        memory_hard_bytes: settings.max_memory_hard,
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
