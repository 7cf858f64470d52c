//! `hornpipe status`: one screen of truth.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use hornpipe_proto::control::{
    ControlRequest, ControlResponse, LinkReport, NoiseReport, PoolReport, ServiceReport, StatusReport,
};

use super::exit_code::OperatorExit;
use super::operator::{self, Target};
use super::output::harmless;
use super::table::{age, json, json_line, table};
use super::watch::{Paper, watch};
use super::{output, slot};
use crate::config::{self, show_size};

/// One screen of truth about a running broker
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done · 2 usage · 5 no broker answers")]
pub(super) struct StatusArguments {
    #[command(flatten)]
    target: Target,
    /// For programs: everything, as one JSON object
    #[arg(long)]
    json: bool,
    /// One slot: its processes, how the last ones ended, the last 64 requests they had
    #[arg(long, value_name = "N")]
    slot: Option<u32>,
    /// Again and again, every second or so often; with --json one object a line
    #[arg(
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1s",
        value_parser = config::duration_or_seconds
    )]
    watch: Option<Duration>,
}

pub(super) fn run(arguments: &StatusArguments) -> OperatorExit {
    let request = arguments.slot.map_or(ControlRequest::Status, |slot| ControlRequest::Slot { slot });
    let form = match (arguments.json, arguments.watch) {
        (false, _) => Form::Screen,
        (true, None) => Form::Object,
        (true, Some(_)) => Form::Line,
    };
    if let Some(interval) = arguments.watch {
        let paper = if arguments.json { Paper::Lines } else { Paper::of_stdout() };
        return watch((&arguments.target, &request), interval, paper, |response| picture(response, form));
    }
    arguments.target.ask(&request, |response, _| match picture(response, form) {
        Ok(text) => output::say(&text),
        Err(exit) => exit,
    })
}

/// How the answer is shown.
#[derive(Debug, Clone, Copy)]
enum Form {
    Screen,
    Object,
    Line,
}

fn picture(response: ControlResponse, form: Form) -> Result<String, OperatorExit> {
    Ok(match (response, form) {
        (ControlResponse::Status(report), Form::Screen) => screen(&report),
        (ControlResponse::Status(report), Form::Object) => json(&report),
        (ControlResponse::Status(report), Form::Line) => json_line(&report),
        (ControlResponse::Slot(report), Form::Screen) => slot::screen(&report),
        (ControlResponse::Slot(report), Form::Object) => json(&report),
        (ControlResponse::Slot(report), Form::Line) => json_line(&report),
        _ => return Err(operator::misunderstood()),
    })
}

pub(super) fn screen(report: &StatusReport) -> String {
    let mut lines = vec![
        head(report),
        format!(
            "parent    pid {}   up {}   router pid {}, the {} of this parent",
            report.pid,
            age(report.uptime_ms),
            report.router_pid,
            ordinal(report.router_life)
        ),
        requests(report),
        queue(report),
        pool(report),
    ];
    lines.extend(report.brokers.iter().map(broker));
    lines.extend(paused(report));
    let pools = pools(report);
    lines.extend(pools.iter().filter_map(|(whose, pool)| reload(whose, pool)));
    lines.extend(pools.iter().filter_map(|(whose, pool)| target(whose, pool)));
    lines.extend(pools.iter().filter_map(|(whose, pool)| {
        pool.degraded.as_deref().map(|why| format!("degraded  {whose}{}", harmless(why)))
    }));
    lines.extend(noise(&report.noise));
    lines.extend(services(report));
    joined(&lines) + &worker_tables(report)
}

fn head(report: &StatusReport) -> String {
    let StatusReport { version, frontend, backend, brokers, .. } = report;
    let phase = report.phase.to_uppercase();
    if brokers.is_empty() {
        format!("hornpipe {version}   clients {frontend}   workers {backend}   {phase}")
    } else {
        format!("hornpipe {version}   crew   {phase}")
    }
}

/// A broker that a crew serves.
fn broker(link: &LinkReport) -> String {
    let LinkReport { broker, connected, for_ms, workers } = link;
    let state = if *connected { "connected" } else { "NOT CONNECTED" };
    let workers = if *connected { format!(", {workers} workers serve it") } else { String::new() };
    format!("broker    {}   {state} for {}{workers}", harmless(broker), age(*for_ms))
}

/// The tables of workers, ours and others.
pub(super) fn worker_tables(report: &StatusReport) -> String {
    joined(&[workers(report), externals(report)].concat())
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn requests(report: &StatusReport) -> String {
    let requests = &report.requests;
    let mut line = format!("requests  {} received   {} answered", requests.received, requests.answered);
    let refused = requests.refused.iter().filter(|(_, count)| *count != 0);
    let others = [
        ("client left", requests.dropped),
        ("waiting", requests.waiting),
        ("running", requests.in_flight),
        ("retried", requests.retried),
        ("parts", requests.parts),
        ("handed ahead", requests.prefetched),
        ("taken back", requests.withdrawn),
    ];
    let refused = refused.map(|(status, count)| (status.as_str(), *count));
    for (what, count) in refused.chain(others.into_iter().filter(|(_, count)| *count != 0)) {
        // Writing to a `String` cannot fail.
        write!(line, "   {count} {what}").ok();
    }
    line
}

fn queue(report: &StatusReport) -> String {
    let queue = &report.queue;
    let oldest =
        queue.oldest_ms.map(|oldest| format!("   the oldest for {}", age(oldest))).unwrap_or_default();
    format!(
        "queue     {} of {}   {} of {} held{oldest}",
        queue.backlog_len,
        queue.backlog_limit,
        show_size(queue.held_bytes),
        show_size(queue.held_bytes_limit)
    )
}

fn pool(report: &StatusReport) -> String {
    let pool = &report.pool;
    let ready = |state: &str| matches!(state, "waiting" | "processing");
    let external = report.external.iter().filter(|worker| ready(&worker.state)).count();
    let own = report.workers.iter().filter(|worker| ready(&worker.state)).count();
    let external = if external == 0 { String::new() } else { format!("   and {external} external") };
    format!(
        "workers   {own} ready of {} wanted ({} to {}){external}   {} processing   generation {}   {} started   {} ended",
        pool.target, pool.min, pool.max, pool.processing, pool.generation, pool.spawned, pool.exited
    )
}

/// The pools, and before each whose it is, if there are several.
fn pools(report: &StatusReport) -> Vec<(String, &PoolReport)> {
    if has_several(report) {
        report
            .services
            .iter()
            .map(|service| (format!("{}: ", harmless(&service.name)), &service.pool))
            .collect()
    } else {
        vec![(String::new(), &report.pool)]
    }
}

/// How the target came to be what it is.
fn target(whose: &str, pool: &PoolReport) -> Option<String> {
    let automatic = if pool.autoscale { "   autoscaling" } else { "" };
    let change = pool.last_change.as_ref().map(|change| {
        format!("   {} to {} {} ago, {}", change.from, change.to, age(change.ago_ms), harmless(&change.cause))
    });
    let known = pool.autoscale || change.is_some();
    known.then(|| format!("target    {whose}{}{automatic}{}", pool.target, change.unwrap_or_default()))
}

/// Only while it is.
fn paused(report: &StatusReport) -> Option<String> {
    let paused = report.pool.paused?;
    let fate = if paused.refuses { "new requests are refused" } else { "requests wait" };
    Some(format!("paused    for {}: {fate} until hornpipe resume", age(paused.for_ms)))
}

/// Only while one is under way.
fn reload(whose: &str, pool: &PoolReport) -> Option<String> {
    let progress = pool.reload?;
    Some(format!(
        "reload    {whose}generation {} -> {}   {} of {} renewed",
        progress.from, progress.to, progress.renewed, pool.target
    ))
}

/// Only if there is any.
fn noise(noise: &NoiseReport) -> Option<String> {
    let kinds = [
        ("stale replies", noise.stale_replies),
        ("malformed by workers", noise.malformed_workers),
        ("strangers", noise.strangers),
        ("unreadable by clients", noise.ignored_clients),
        ("replies not taken", noise.undelivered),
        ("log lines dropped", noise.log_lines_dropped),
        ("services refused", noise.services_refused),
    ];
    let heard = kinds.into_iter().filter(|(_, count)| *count != 0);
    let words: Vec<String> = heard.map(|(kind, count)| format!("{count} {kind}")).collect();
    (!words.is_empty()).then(|| format!("noise     {}", words.join("   ")))
}

/// Only if there are several.
fn services(report: &StatusReport) -> Vec<String> {
    let head = [
        "SERVICE", "STATE", "READY", "WANTED", "WAITING", "RUNNING", "RECEIVED", "ANSWERED", "ERRORS", "GEN",
    ];
    let row = |service: &ServiceReport| {
        let (pool, requests) = (&service.pool, &service.requests);
        let errors: u64 = requests.refused.iter().map(|(_status, count)| count).sum();
        let wanted = if service.configured { pool.target.to_string() } else { "external".into() };
        [
            harmless(&service.name),
            service.phase.clone(),
            pool.ready.to_string(),
            wanted,
            requests.waiting.to_string(),
            requests.in_flight.to_string(),
            requests.received.to_string(),
            requests.answered.to_string(),
            errors.to_string(),
            pool.generation.to_string(),
        ]
    };
    if has_several(report) { table(head, report.services.iter().map(row).collect()) } else { Vec::new() }
}

fn has_several(report: &StatusReport) -> bool {
    report.services.len() > 1
}

fn workers(report: &StatusReport) -> Vec<String> {
    if report.workers.is_empty() {
        return Vec::new();
    }
    let head =
        ["SLOT", "PID", "STATE", "AGE", "REQUESTS", "PRIVATE", "SHARED", "NOW", "INC", "GEN", "LAST EXIT"];
    let row = |worker: &hornpipe_proto::control::WorkerReport| {
        let exit = worker.last_exit.as_ref();
        [
            worker.slot.to_string(),
            worker.pid.map_or("-".into(), |pid| pid.to_string()),
            worker.state.clone(),
            age(worker.age_ms),
            worker.requests.to_string(),
            worker.private_bytes.map_or("-".into(), memory),
            worker.shared_bytes.map_or("-".into(), memory),
            worker.processing_ms.map_or("-".into(), age),
            worker.incarnation.to_string(),
            worker.generation.to_string(),
            exit.map_or("-".into(), |exit| format!("{} ago: {}", age(exit.ago_ms), harmless(&exit.reason))),
        ]
    };
    let rows = report.workers.iter().map(row);
    if !has_several(report) {
        return table(head, rows.collect());
    }
    let services = report.workers.iter().map(|worker| worker.service.as_deref());
    let rows = rows.zip(services);
    let rows = rows.map(|(row, service)| with_service(row, service.map_or("-".into(), harmless)));
    table(with_service(head, "SERVICE"), rows.collect())
}

/// A row of workers with one cell more.
fn with_service<T>(
    [slot, pid, state, age, requests, private, shared, now, incarnation, generation, exit]: [T; 11],
    service: T,
) -> [T; 12] {
    [slot, pid, service, state, age, requests, private, shared, now, incarnation, generation, exit]
}

fn externals(report: &StatusReport) -> Vec<String> {
    if report.external.is_empty() {
        return Vec::new();
    }
    let row = |worker: &hornpipe_proto::control::ExternalReport| {
        let name = worker.name.as_deref().map_or("(no name)".to_owned(), harmless);
        [name, worker.state.clone(), age(worker.age_ms), worker.requests.to_string()]
    };
    let rows = report.external.iter().map(row);
    if !has_several(report) {
        return table(["EXTERNAL", "STATE", "AGE", "REQUESTS"], rows.collect());
    }
    let services = report.external.iter().map(|worker| worker.service.as_deref());
    let rows = rows.zip(services).map(|([name, state, age, requests], service)| {
        [name, service.map_or("-".into(), harmless), state, age, requests]
    });
    table(["EXTERNAL", "SERVICE", "STATE", "AGE", "REQUESTS"], rows.collect())
}

/// Memory, in a unit that leaves at most four digits.
pub(super) fn memory(bytes: u64) -> String {
    match bytes.div_ceil(1024) {
        kib if kib < 10_000 => format!("{kib}KiB"),
        kib => format!("{}MiB", kib / 1024),
    }
}

fn ordinal(number: u32) -> String {
    match (number % 10, number % 100) {
        (_, 11..=13) => format!("{number}th"),
        (1, _) => format!("{number}st"),
        (2, _) => format!("{number}nd"),
        (3, _) => format!("{number}rd"),
        _ => format!("{number}th"),
    }
}

#[cfg(test)]
mod tests;
