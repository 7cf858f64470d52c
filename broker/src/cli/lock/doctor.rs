//! `hornpipe lock doctor`: whether the servers are fit for locks.

use clap::Args;
use hornpipe_lock::{Examined, Finding, ServerReport, Weight};
use serde::Serialize;

use super::place::Place;
use crate::cli::exit_code::LockExit;
use crate::cli::output::{self, harmless};
use crate::cli::table::{age, json, table};

/// Whether the servers are fit for locks: what they are, and what to change
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 fit, maybe with warnings · 1 there is a problem · 2 usage")]
pub(super) struct DoctorArguments {
    /// For programs: one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// As `--json` prints it.
#[derive(Debug, Serialize)]
struct Diagnosis {
    place: String,
    fit: bool,
    servers: Vec<Server>,
    findings: Vec<Remark>,
}

#[derive(Debug, Serialize)]
struct Server {
    name: String,
    error: Option<String>,
    version: Option<String>,
    role: Option<String>,
    replicas: Option<u64>,
    uptime_s: Option<u64>,
    appendonly: Option<String>,
    appendfsync: Option<String>,
    maxmemory: Option<String>,
    maxmemory_policy: Option<String>,
    clock_offset_ms: Option<i64>,
    round_trip_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Remark {
    server: Option<String>,
    weight: &'static str,
    advice: String,
}

pub(super) fn run(arguments: &DoctorArguments) -> LockExit {
    let locker = match arguments.place.locker() {
        Ok(locker) => locker,
        Err(error) => {
            output::complain(error);
            return LockExit::Usage;
        }
    };
    let examined = locker.examine();
    let findings = locker.advise(&examined);
    let fit = findings.iter().all(|finding| finding.weight != Weight::Problem);
    let diagnosis = Diagnosis {
        place: locker.place(),
        fit,
        servers: examined.into_iter().map(Server::of).collect(),
        findings: findings.into_iter().map(Remark::of).collect(),
    };
    let text = if arguments.json { json(&diagnosis) } else { diagnosis.show() };
    if let Err(error) = output::print(text.as_bytes()) {
        output::complain(format_args!("cannot write: {error}"));
        return LockExit::No;
    }
    if fit { LockExit::Done } else { LockExit::No }
}

impl Server {
    fn of((name, answer): Examined) -> Self {
        let (report, error) = match answer {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error)),
        };
        let text = |field: fn(&ServerReport) -> &str| report.as_ref().map(|report| field(report).to_owned());
        Self {
            name,
            error,
            version: text(|report| &report.version),
            role: text(|report| &report.role),
            replicas: report.as_ref().map(|report| report.replicas),
            uptime_s: report.as_ref().map(|report| report.uptime.as_secs()),
            clock_offset_ms: report.as_ref().map(|report| report.clock_offset_ms),
            round_trip_ms: report
                .as_ref()
                .map(|report| report.round_trip.as_millis().try_into().unwrap_or(u64::MAX)),
            appendonly: report.as_ref().and_then(|report| report.appendonly.clone()),
            appendfsync: report.as_ref().and_then(|report| report.appendfsync.clone()),
            maxmemory: report.as_ref().and_then(|report| report.maxmemory.clone()),
            maxmemory_policy: report.and_then(|report| report.maxmemory_policy),
        }
    }

    fn row(&self) -> [String; 7] {
        let text = |text: &Option<String>| text.as_deref().map_or_else(|| "?".to_owned(), harmless);
        let persistence = match (self.appendonly.as_deref(), self.appendfsync.as_deref()) {
            (Some("yes"), Some(fsync)) => format!("aof {}", harmless(fsync)),
            (Some(_), _) => "no aof".to_owned(),
            (None, _) => "?".to_owned(),
        };
        [
            harmless(&self.name),
            text(&self.version),
            text(&self.role),
            self.uptime_s.map_or_else(|| "?".to_owned(), |seconds| age(seconds.saturating_mul(1000))),
            persistence,
            text(&self.maxmemory_policy),
            self.clock_offset_ms.map_or_else(|| "?".to_owned(), |offset| format!("{offset:+}ms")),
        ]
    }
}

impl Remark {
    fn of(finding: Finding) -> Self {
        let weight = match finding.weight {
            Weight::Note => "note",
            Weight::Warning => "warning",
            Weight::Problem => "problem",
        };
        Self { server: finding.server, weight, advice: finding.advice }
    }
}

impl Diagnosis {
    fn show(&self) -> String {
        if self.servers.is_empty() {
            return format!(
                "{}: locks of this machine alone. For several, name servers with --servers or HORNPIPE_LOCK_SERVERS\n",
                harmless(&self.place)
            );
        }
        let rows = self.servers.iter().map(Server::row).collect();
        let mut lines =
            table(["SERVER", "VERSION", "ROLE", "UPTIME", "PERSISTENCE", "MEMORY FULL", "CLOCK"], rows);
        let line = |remark: &Remark| {
            let server =
                remark.server.as_deref().map(|server| format!("{}: ", harmless(server))).unwrap_or_default();
            format!("{} {server}{}", remark.weight, harmless(&remark.advice))
        };
        lines.extend(self.findings.iter().map(line));
        lines.push(if self.fit { "fit for locks".to_owned() } else { "not fit for locks".to_owned() });
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        lines.join("\n") + "\n"
    }
}
