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
mod tests {
    use hornpipe_proto::Status;
    use hornpipe_proto::control::{
        ExternalReport, LastExit, PausedReport, PoolReport, QueueReport, RequestReport, TargetReport,
        WorkerReport,
    };

    use super::*;

    fn report() -> StatusReport {
        StatusReport {
            version: "0.1.0".into(),
            frontend: "tcp://127.0.0.1:6660".into(),
            backend: "tcp://127.0.0.1:6661".into(),
            pid: 4711,
            router_pid: 4712,
            router_life: 2,
            uptime_ms: 8_100_000,
            phase: "serving".into(),
            pool: PoolReport {
                target: 2,
                min: 1,
                max: 1024,
                ready: 2,
                processing: 1,
                generation: 0,
                reload: None,
                probed: 0,
                spawned: 3,
                exited: 1,
                autoscale: true,
                last_change: Some(TargetReport {
                    from: 1,
                    to: 2,
                    cause: "queue wait: 3 waiting, the oldest for 51 ms".into(),
                    ago_ms: 2000,
                }),
                degraded: Some("1 of 2 workers cannot start: exit code 1".into()),
                paused: Some(PausedReport { refuses: false, for_ms: 61_000 }),
            },
            queue: QueueReport {
                backlog_len: 0,
                backlog_limit: 10_000,
                held_bytes: 1024,
                held_bytes_limit: 256 << 20,
                oldest_ms: None,
            },
            requests: RequestReport {
                received: 12,
                answered: 10,
                refused: vec![(Status::Busy, 0), (Status::Timeout, 1)],
                dropped: 0,
                waiting: 0,
                in_flight: 1,
                retried: 0,
                parts: 0,
                prefetched: 0,
                withdrawn: 0,
            },
            noise: NoiseReport { stale_replies: 3, ..NoiseReport::default() },
            workers: vec![
                WorkerReport {
                    slot: 0,
                    pid: Some(4713),
                    incarnation: 1,
                    generation: 0,
                    state: "waiting".into(),
                    age_ms: 8_099_000,
                    requests: 9,
                    private_bytes: Some(31_400_000),
                    shared_bytes: Some(1_000_000),
                    processing_ms: None,
                    ahead: 0,
                    last_exit: None,
                    service: None,
                },
                WorkerReport {
                    slot: 1,
                    pid: Some(9120),
                    incarnation: 2,
                    generation: 0,
                    state: "processing".into(),
                    age_ms: 61_000,
                    requests: 1,
                    private_bytes: None,
                    shared_bytes: None,
                    processing_ms: Some(120),
                    ahead: 0,
                    last_exit: Some(LastExit { reason: "killed by SIGKILL".into(), ago_ms: 61_000 }),
                    service: None,
                },
            ],
            external: vec![ExternalReport {
                name: Some("evil\x1b[31m\nname".into()),
                state: "waiting".into(),
                age_ms: 5,
                requests: 0,
                service: None,
            }],
            services: Vec::new(),
            brokers: Vec::new(),
        }
    }

    #[test]
    fn several_services_have_a_line_each() {
        let mut report = report();
        let service = |name: &str, configured| ServiceReport {
            name: name.into(),
            configured,
            phase: "serving".into(),
            pool: report.pool.clone(),
            queue: report.queue.clone(),
            requests: report.requests.clone(),
        };
        report.services = vec![service("default", true), service("brought", false)];
        report.workers[1].service = Some("default".into());
        report.external[0].service = Some("brought".into());
        let screen = screen(&report);
        for expected in [
            "SERVICE  STATE    READY  WANTED    WAITING  RUNNING  RECEIVED  ANSWERED  ERRORS  GEN\n",
            "default  serving  2      2         0        1        12        10        1       0\n",
            "brought  serving  2      external  0        1        12        10        1       0\n",
            "1     9120  default  processing  1m01s  1",
            "target    default: 2   autoscaling   1 to 2 2s ago, queue wait",
            "degraded  brought: 1 of 2 workers cannot start: exit code 1\n",
            "EXTERNAL              SERVICE  STATE    AGE  REQUESTS\n",
        ] {
            assert!(screen.contains(expected), "{expected}\n{screen}");
        }
    }

    #[test]
    fn the_screen_shows_what_there_is() {
        let expected = "\
hornpipe 0.1.0   clients tcp://127.0.0.1:6660   workers tcp://127.0.0.1:6661   SERVING
parent    pid 4711   up 2h15m   router pid 4712, the 2nd of this parent
requests  12 received   10 answered   1 timeout   1 running
queue     0 of 10000   1KiB of 256MiB held
workers   2 ready of 2 wanted (1 to 1024)   and 1 external   1 processing   generation 0   3 started   1 ended
paused    for 1m01s: requests wait until hornpipe resume
target    2   autoscaling   1 to 2 2s ago, queue wait: 3 waiting, the oldest for 51 ms
degraded  1 of 2 workers cannot start: exit code 1
noise     3 stale replies
SLOT  PID   STATE       AGE    REQUESTS  PRIVATE  SHARED  NOW    INC  GEN  LAST EXIT
0     4713  waiting     2h14m  9         29MiB    977KiB  -      1    0    -
1     9120  processing  1m01s  1         -        -       120ms  2    0    1m01s ago: killed by SIGKILL
";
        let screen = screen(&report());
        assert!(screen.starts_with(expected), "{screen}");
    }

    #[test]
    fn a_workers_name_cannot_draw_on_the_terminal() {
        let screen = screen(&report());
        assert!(screen.contains("evil\\u{1b}[31m\\nname"), "{screen}");
        assert!(!screen.contains('\x1b'));
    }

    #[test]
    fn json_has_an_object_for_each_worker() {
        let value: serde_json::Value = serde_json::from_str(&json(&report())).unwrap();
        let worker = &value["workers"][1];
        for (key, expected) in [("slot", 1), ("pid", 9120), ("incarnation", 2), ("generation", 0)] {
            assert_eq!(worker[key], expected, "{key}");
        }
        assert_eq!(worker["state"], "processing");
    }
}
