//! What `/metrics` says: every family, its type, its labels and what it means.
//!
//! Labels are few and bounded: services, states, statuses, kinds. Never a pid.

use std::fmt::Display;

use hornpipe_proto::Status;
use hornpipe_proto::control::{MetricsReport, ServiceMetrics, StateCounts, Timing};

use super::exposition::{Exposition, Family, Kind, Labels, seconds};
use super::processes::{self, Figures};
use super::request::Format;

pub(super) fn exposition(report: &MetricsReport, format: Format) -> String {
    let mut page = Page { out: Exposition::new(format), report };
    page.broker();
    page.requests();
    page.queue();
    page.workers();
    page.memory();
    page.noise();
    page.limits();
    page.processes();
    page.out.finish()
}

#[derive(Debug)]
struct Page<'a> {
    out: Exposition,
    report: &'a MetricsReport,
}

impl Page<'_> {
    fn broker(&mut self) {
        let report = self.report;
        let ready = u8::from(report.unready.is_none());
        self.one("build_info", Kind::Gauge, "The program, always 1.", &[("version", &report.version)], 1);
        self.one("ready", Kind::Gauge, "Whether a request would be served, as /readyz says it.", &[], ready);
        let restarts = report.router_life.saturating_sub(1);
        self.one(
            "router_restarts_total",
            Kind::Counter,
            "Routers that followed another under this parent. The other counters begin anew with each.",
            &[],
            restarts,
        );
        let uptime = seconds(report.uptime_ms.saturating_mul(1000));
        self.one("uptime_seconds", Kind::Gauge, "Since the parent started.", &[], uptime);
        self.config_read();
    }

    fn requests(&mut self) {
        self.each("requests_received_total", Kind::Counter, "Requests read from clients.", |service, add| {
            add(&[], &service.requests.received);
        });
        self.each("requests_total", Kind::Counter, "Requests that have ended, by how.", |service, add| {
            let requests = &service.requests;
            for outcome in OUTCOMES {
                let ended = refused(service, |status| outcome_of(status) == outcome);
                let others = match outcome {
                    "ok" => requests.answered,
                    "cancelled" => requests.dropped,
                    _ => 0,
                };
                add(&[("outcome", outcome)], &ended.saturating_add(others));
            }
        });
        self.each(
            "refusals_total",
            Kind::Counter,
            "Requests answered with an error, by status.",
            |service, add| {
                for status in Status::ALL.iter().filter(|status| **status != Status::Ok) {
                    let is_it = |one: Status| one == *status;
                    add(&[("status", status.as_str())], &refused(service, is_it));
                }
            },
        );
        self.each(
            "requests_turned_away_total",
            Kind::Counter,
            "Of the refusals, requests that were never admitted: the histograms lack them.",
            |service, add| add(&[], &service.turned_away),
        );
        self.timing("request_duration_seconds", "Admitted requests, from arrival to end.", |service| {
            &service.request_time
        });
        self.timing(
            "queue_wait_seconds",
            "Waits in the queue, until a worker had the request or it ended there.",
            |service| &service.queue_wait,
        );
        self.timing(
            "processing_seconds",
            "Attempts of workers, until the worker let go of the request.",
            |service| &service.processing,
        );
        self.each(
            "retries_total",
            Kind::Counter,
            "Requests that a worker let go of, to be tried by another.",
            |service, add| add(&[], &service.returned),
        );
        self.each(
            "reply_parts_total",
            Kind::Counter,
            "Parts of replies that workers sent before the end of it.",
            |service, add| add(&[], &service.requests.parts),
        );
        self.each("requests_in_flight", Kind::Gauge, "Requests in workers' hands.", |service, add| {
            add(&[], &service.requests.in_flight);
        });
    }

    fn queue(&mut self) {
        self.each("queue_depth", Kind::Gauge, "Requests that wait.", |service, add| {
            add(&[], &service.queue.backlog_len);
        });
        self.each("queue_limit", Kind::Gauge, "Requests that may wait (--queue).", |service, add| {
            add(&[], &service.queue.backlog_limit);
        });
        self.each(
            "queue_oldest_seconds",
            Kind::Gauge,
            "How long the request has waited that has waited longest; 0 if none waits.",
            |service, add| {
                let oldest = service.queue.oldest_ms.unwrap_or(0);
                add(&[], &seconds(oldest.saturating_mul(1000)));
            },
        );
        self.each("queue_bytes", Kind::Gauge, "Bytes of bodies held, waiting or running.", |service, add| {
            add(&[], &service.queue.held_bytes);
        });
        self.each(
            "queue_bytes_limit",
            Kind::Gauge,
            "Bytes of bodies that may be held (--queue-bytes).",
            |service, add| add(&[], &service.queue.held_bytes_limit),
        );
    }

    fn workers(&mut self) {
        self.each("workers", Kind::Gauge, "Own workers, by state.", |service, add| {
            for (state, count) in states(&service.workers) {
                add(&[("state", state)], &count);
            }
            add(&[("state", "backoff")], &service.workers.backoff);
        });
        self.each("external_workers", Kind::Gauge, "Workers from elsewhere, by state.", |service, add| {
            for (state, count) in states(&service.external) {
                add(&[("state", state)], &count);
            }
        });
        self.each("workers_target", Kind::Gauge, "How many workers there should be.", |service, add| {
            add(&[], &service.pool.target);
        });
        self.each("workers_min", Kind::Gauge, "The fewest there may be (--min).", |service, add| {
            add(&[], &service.pool.min);
        });
        self.each("workers_max", Kind::Gauge, "The most there may be (--max).", |service, add| {
            add(&[], &service.pool.max);
        });
        self.each(
            "workers_degraded",
            Kind::Gauge,
            "Whether some of the workers that are wanted cannot be had.",
            |service, add| add(&[], &u8::from(service.pool.degraded.is_some())),
        );
        self.each(
            "worker_busy_seconds_total",
            Kind::Counter,
            "Time in which own workers held a request, all together: its rate is how many are busy.",
            |service, add| add(&[], &seconds(service.busy_us)),
        );
        self.each(
            "external_worker_busy_seconds_total",
            Kind::Counter,
            "The same for workers from elsewhere.",
            |service, add| add(&[], &seconds(service.external_busy_us)),
        );
        self.each("worker_starts_total", Kind::Counter, "Workers asked of the system.", |service, add| {
            add(&[], &service.pool.spawned);
        });
        self.each("worker_exits_total", Kind::Counter, "Workers that have ended, by why.", |service, add| {
            for (reason, count) in &service.exits {
                add(&[("reason", reason)], count);
            }
        });
        self.timing("worker_start_seconds", "Workers, from start to ready.", |service| &service.worker_start);
        self.reloads();
    }

    fn config_read(&mut self) {
        let Some(read) = self.report.config_read else { return };
        self.one(
            "config_reload_success",
            Kind::Gauge,
            "Whether the configuration file could be used when it was last read; absent without one.",
            &[],
            u8::from(read.succeeded),
        );
        self.one(
            "config_reload_timestamp_seconds",
            Kind::Gauge,
            "When the configuration file was last read; absent without one.",
            &[],
            seconds(read.at_ms.saturating_mul(1000)),
        );
    }

    fn reloads(&mut self) {
        self.each("worker_generation", Kind::Gauge, "The pool's count of reloads.", |service, add| {
            add(&[], &service.pool.generation);
        });
        self.each(
            "reloads_total",
            Kind::Counter,
            "Reloads of workers, by how they ended.",
            |service, add| {
                let reloads = &service.reloads;
                add(&[("outcome", "finished")], &reloads.finished);
                add(&[("outcome", "failed")], &reloads.failed);
                add(&[("outcome", "superseded")], &reloads.superseded);
                add(&[("outcome", "abandoned")], &reloads.abandoned);
            },
        );
        self.each(
            "reload_success",
            Kind::Gauge,
            "Whether the last reload of workers finished; absent before the first.",
            |service, add| {
                if let Some(last) = &service.reloads.last {
                    add(&[], &u8::from(last.succeeded));
                }
            },
        );
        self.each(
            "reload_timestamp_seconds",
            Kind::Gauge,
            "When the last reload of workers ended; absent before the first.",
            |service, add| {
                if let Some(last) = &service.reloads.last {
                    add(&[], &seconds(last.at_ms.saturating_mul(1000)));
                }
            },
        );
    }

    fn memory(&mut self) {
        self.each(
            "workers_memory_bytes",
            Kind::Gauge,
            "What own workers hold, as last measured after a request: private, their share, resident.",
            |service, add| {
                let memory = &service.memory;
                add(&[("kind", "private")], &memory.private_bytes);
                add(&[("kind", "pss")], &memory.private_bytes.saturating_add(memory.shared_bytes));
                add(&[("kind", "rss")], &memory.resident_bytes);
            },
        );
        self.each(
            "workers_measured",
            Kind::Gauge,
            "Of how many own workers the memory is known.",
            |service, add| add(&[], &service.memory.measured),
        );
    }

    fn noise(&mut self) {
        let noise = &self.report.noise;
        self.one(
            "late_replies_total",
            Kind::Counter,
            "Replies that nobody waited for: late, doubled, forged.",
            &[],
            noise.stale_replies,
        );
        let malformed = [("client", noise.ignored_clients), ("worker", noise.malformed_workers)];
        let mut family = self.out.family(
            "malformed_total",
            Kind::Counter,
            "Messages that could not be read and led to nothing.",
        );
        for (side, count) in malformed {
            family.sample(&[("side", side)], count);
        }
        self.one(
            "strangers_total",
            Kind::Counter,
            "Messages of peers that may not be workers here.",
            &[],
            noise.strangers,
        );
        self.one(
            "undelivered_total",
            Kind::Counter,
            "Answers that a slow or gone client did not take.",
            &[],
            noise.undelivered,
        );
        self.one(
            "log_lines_dropped_total",
            Kind::Counter,
            "Lines of the log that nobody read in time.",
            &[],
            noise.log_lines_dropped,
        );
    }

    /// What is configured and has no place above. A limit that is not set has no sample.
    fn limits(&mut self) {
        self.each(
            "attempts_limit",
            Kind::Gauge,
            "Workers that may try a request (--attempts).",
            |service, add| {
                add(&[], &service.limits.attempts);
            },
        );
        self.each("body_bytes_limit", Kind::Gauge, "The largest body (--max-body).", |service, add| {
            add(&[], &service.limits.body_bytes);
        });
        self.limit("processing_limit_seconds", "The longest attempt (--timeout).", |service| {
            service.limits.timeout_ms.map(|time| seconds(time.saturating_mul(1000)))
        });
        self.limit("queue_wait_limit_seconds", "The longest wait (--queue-timeout).", |service| {
            service.limits.queue_timeout_ms.map(|time| seconds(time.saturating_mul(1000)))
        });
        self.limit(
            "worker_memory_limit_bytes",
            "Private memory beyond which a worker is replaced (--max-memory).",
            |service| service.limits.memory_bytes,
        );
        self.limit(
            "worker_memory_hard_limit_bytes",
            "Private memory beyond which a worker is killed (--max-memory-hard).",
            |service| service.limits.memory_hard_bytes,
        );
    }

    fn processes(&mut self) {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let found = [("parent", self.report.pid), ("router", self.report.router_pid), ("http", own)]
            .map(|(name, pid)| Some((name, processes::read(pid)?)));
        let found: Vec<(&str, Figures)> = found.into_iter().flatten().collect();
        let mut family = |name, kind, help, value: &dyn Fn(&Figures) -> Option<String>| {
            let values = found.iter().filter_map(|(process, figures)| Some((*process, value(figures)?)));
            let values: Vec<_> = values.collect();
            if !values.is_empty() {
                let mut family = self.out.family(name, kind, help);
                for (process, value) in values {
                    family.sample(&[("process", process)], value);
                }
            }
        };
        family("process_cpu_seconds_total", Kind::Counter, "Processor time used.", &|figures| {
            Some(figures.cpu_seconds.to_string())
        });
        family("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", &|figures| {
            Some(figures.resident_bytes.to_string())
        });
        family("process_threads", Kind::Gauge, "Threads.", &|figures| Some(figures.threads.to_string()));
        family("process_start_time_seconds", Kind::Gauge, "When it was started.", &|figures| {
            Some(figures.started.to_string())
        });
        family("process_open_fds", Kind::Gauge, "Open descriptors.", &|figures| {
            Some(figures.open_descriptors?.to_string())
        });
        family("process_max_fds", Kind::Gauge, "Descriptors that it may have.", &|figures| {
            Some(figures.descriptors_limit?.to_string())
        });
    }

    /// A family of the whole broker, with one sample.
    fn one(&mut self, name: &'static str, kind: Kind, help: &str, labels: Labels<'_>, value: impl Display) {
        self.out.family(name, kind, help).sample(labels, value);
    }

    /// A family with samples of each service.
    fn each(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
        samples: impl Fn(&ServiceMetrics, &mut dyn FnMut(Labels<'_>, &dyn Display)),
    ) {
        let mut family = self.out.family(name, kind, help);
        for service in &self.report.services {
            samples(service, &mut |labels, value| add(&mut family, &service.name, labels, value));
        }
    }

    /// A limit of each service that has it.
    fn limit<T: Display>(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl Fn(&ServiceMetrics) -> Option<T>,
    ) {
        self.each(name, Kind::Gauge, help, |service, add| {
            if let Some(value) = value(service) {
                add(&[], &value);
            }
        });
    }

    fn timing(&mut self, name: &'static str, help: &str, timing: impl Fn(&ServiceMetrics) -> &Timing) {
        let mut family = self.out.family(name, Kind::Histogram, help);
        for service in &self.report.services {
            let Timing { counts, sum_us } = timing(service);
            family.histogram(&[("service", &service.name)], &service.bounds_us, counts, *sum_us);
        }
    }
}

fn add(family: &mut Family<'_>, service: &str, labels: Labels<'_>, value: &dyn Display) {
    let mut all = vec![("service", service)];
    all.extend_from_slice(labels);
    family.sample(&all, value);
}

fn states(counts: &StateCounts) -> [(&'static str, u32); 4] {
    [
        ("starting", counts.starting),
        ("waiting", counts.waiting),
        ("processing", counts.processing),
        ("exiting", counts.exiting),
    ]
}

/// Every request that has ended is in one of these.
const OUTCOMES: [&str; 7] = ["ok", "error", "crashed", "timeout", "expired", "rejected", "cancelled"];

fn outcome_of(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Error => "error",
        Status::Lost | Status::Poison => "crashed",
        Status::Timeout => "timeout",
        Status::Expired => "expired",
        Status::Cancelled => "cancelled",
        Status::Busy
        | Status::Unavailable
        | Status::NoService
        | Status::Draining
        | Status::Malformed
        | Status::Denied
        | Status::TooLarge => "rejected",
    }
}

fn refused(service: &ServiceMetrics, is_meant: impl Fn(Status) -> bool) -> u64 {
    let counted = service.requests.refused.iter().filter(|(status, _count)| is_meant(*status));
    counted.map(|(_status, count)| count).sum()
}
