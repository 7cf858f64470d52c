//! `hornpipe poison`: requests that ended every worker that tried them.

use clap::{Args, Subcommand};
use hornpipe_proto::Status;
use hornpipe_proto::control::{
    ControlRequest, ControlResponse, PoisonReport, PoisonRequest, PoisonResponse, QuarantineReport,
    RetryReport, ServiceRequest,
};

use super::exit_code::{OperatorExit, ReqExit};
use super::operator::{self, Broker, Service, Target};
use super::output::{self, harmless};
use super::table::{age, json, table};
use crate::config::show_size;

/// Requests that ended every worker that tried them
#[derive(Debug, Args)]
#[command(after_help = "The broker keeps the last 100, with bodies of 16 MiB in all, until its router ends.

Exit codes: 0 done · 1 no such request, the handler failed · 2 usage · 4 poison still, or refused ·
            5 no broker answers")]
pub(super) struct PoisonArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What is kept, the oldest first
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        service: Service,
        /// For programs: everything, as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// One request, and how each of its workers ended
    Show {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        which: Which,
        /// Nothing but the bytes of its body, frames joined
        #[arg(long)]
        body: bool,
        /// For programs: everything but the body, as one JSON object
        #[arg(long, conflicts_with = "body")]
        json: bool,
    },
    /// Run it once more, wait, print the reply; it is kept unless it succeeds
    Retry {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        which: Which,
        /// Print the reply as it is, without a line break after it
        #[arg(long)]
        raw: bool,
    },
    /// Forget it
    Drop {
        #[command(flatten)]
        target: Target,
        /// Its number in `list`
        #[arg(value_name = "N", required_unless_present = "all")]
        number: Option<u64>,
        /// Forget all of them
        #[arg(long, conflicts_with = "number")]
        all: bool,
        #[command(flatten)]
        service: Service,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// Its number in `list`
    #[arg(value_name = "N")]
    number: u64,
}

pub(super) fn run(arguments: &PoisonArguments) -> u8 {
    match &arguments.what {
        What::List { target, service, json: false } => list(target, service, listed).into(),
        What::List { target, service, json: true } => list(target, service, json).into(),
        What::Show { target, which, body: true, .. } => body(target, which.number).into(),
        What::Show { target, which, json: false, .. } => show(target, which.number, shown).into(),
        What::Show { target, which, json: true, .. } => show(target, which.number, json).into(),
        What::Retry { target, which, raw } => {
            let line_end: &[u8] = if *raw { b"" } else { b"\n" };
            retry(target, which.number, line_end).into()
        }
        What::Drop { target, service, number: Some(number), .. } => {
            drop_some(target, service, PoisonRequest::Drop { number: *number }).into()
        }
        What::Drop { target, service, number: None, .. } => {
            drop_some(target, service, PoisonRequest::DropAll).into()
        }
    }
}

/// Asks, and gives what is made of the answer.
fn ask<E: From<OperatorExit>>(
    target: &Target,
    request: &ControlRequest,
    answered: impl FnOnce(PoisonResponse, &mut Broker) -> Option<E>,
) -> E {
    let mut exit = None;
    let ended = target.ask(request, |response, broker| {
        let ControlResponse::Poison(response) = response else { return operator::misunderstood() };
        exit = answered(response, broker);
        if exit.is_none() { operator::misunderstood() } else { OperatorExit::Done }
    });
    exit.unwrap_or_else(|| ended.into())
}

fn print(bytes: &[u8]) -> OperatorExit {
    match output::print(bytes) {
        Ok(()) => OperatorExit::Done,
        Err(error) => {
            output::complain(format_args!("cannot write: {error}"));
            OperatorExit::No
        }
    }
}

/// Of all services, or of one.
fn of(service: &Service, request: PoisonRequest) -> ControlRequest {
    service.request(ControlRequest::Poison(request), ServiceRequest::Poison(request))
}

fn list(target: &Target, service: &Service, text: impl FnOnce(&QuarantineReport) -> String) -> OperatorExit {
    ask(target, &of(service, PoisonRequest::List), |response, _| match response {
        PoisonResponse::List(report) => Some(print(text(&report).as_bytes())),
        _ => None,
    })
}

fn listed(report: &QuarantineReport) -> String {
    if report.entries.is_empty() {
        return "no request is in quarantine\n".into();
    }
    let row = |entry: &PoisonReport| {
        let last = entry.attempts.last().map_or("-".into(), |attempt| harmless(&attempt.ending));
        [
            entry.number.to_string(),
            harmless(&entry.name),
            entry.client.to_string(),
            show_size(entry.size),
            age(entry.ago_ms),
            entry.attempts.len().to_string(),
            if entry.retrying { format!("{last}; being tried once more") } else { last },
        ]
    };
    let head = ["N", "REQUEST", "CLIENT", "SIZE", "AGO", "ATTEMPTS", "THE LAST WORKER"];
    let mut lines = table(head, report.entries.iter().map(row).collect());
    if report.evicted > 0 {
        lines.push(format!("{} had to go to make room", report.evicted));
    }
    screen(&lines)
}

fn show(target: &Target, number: u64, text: impl FnOnce(&PoisonReport) -> String) -> OperatorExit {
    ask(target, &ControlRequest::Poison(PoisonRequest::Show { number }), |response, _| match response {
        PoisonResponse::Shown(report) => Some(print(text(&report).as_bytes())),
        _ => None,
    })
}

fn shown(report: &PoisonReport) -> String {
    let frames = match report.frames {
        None => "too large to be kept".into(),
        Some(1) => "1 frame".into(),
        Some(frames) => format!("{frames} frames"),
    };
    let mut lines = vec![
        format!("request   {} of client {}", harmless(&report.name), report.client),
        format!("body      {} B, {frames}", report.size),
        format!(
            "since     {}{}",
            age(report.ago_ms),
            if report.retrying { ", being tried once more" } else { "" }
        ),
    ];
    lines.extend(report.service.as_deref().map(|name| format!("service   {}", harmless(name))));
    let number = |number: Option<u32>| number.map_or("-".into(), |number| number.to_string());
    let row = |(attempt, report): (usize, &hornpipe_proto::control::AttemptReport)| {
        [
            (attempt + 1).to_string(),
            number(report.slot),
            number(report.incarnation),
            report.pid.map_or("-".into(), |pid| pid.to_string()),
            harmless(&report.ending),
        ]
    };
    let head = ["ATTEMPT", "SLOT", "INC", "PID", "ITS WORKER"];
    lines.extend(table(head, report.attempts.iter().enumerate().map(row).collect()));
    screen(&lines)
}

fn screen(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// Piece by piece: a body may be larger than a response.
fn body(target: &Target, number: u64) -> OperatorExit {
    ask(target, &ControlRequest::Poison(PoisonRequest::Body { number, offset: 0 }), |mut response, broker| {
        let mut offset = 0;
        loop {
            let PoisonResponse::Body { bytes, more } = response else { return None };
            offset += bytes.len() as u64;
            let printed = print(&bytes);
            if !more || printed != OperatorExit::Done {
                return Some(printed);
            }
            let next = ControlRequest::Poison(PoisonRequest::Body { number, offset });
            response = match broker.ask(&next) {
                Ok(ControlResponse::Poison(response)) => response,
                Ok(ControlResponse::Refused { message }) => {
                    output::complain(message);
                    return Some(OperatorExit::No);
                }
                Ok(_) => return None,
                Err(error) => {
                    output::complain(error);
                    return Some(OperatorExit::Unreachable);
                }
            };
        }
    })
}

fn retry(target: &Target, number: u64, line_end: &[u8]) -> ReqExit {
    let request = ControlRequest::Poison(PoisonRequest::Retry { number });
    let mut exit = ReqExit::Unreachable;
    let ended = target.ask_for_the_end(&request, |response, _| match response {
        ControlResponse::Poison(PoisonResponse::Retried(report)) => {
            exit = retried(&report, line_end);
            OperatorExit::Done
        }
        _ => operator::misunderstood(),
    });
    if ended == OperatorExit::Done { exit } else { ended.into() }
}

fn retried(report: &RetryReport, line_end: &[u8]) -> ReqExit {
    match report.status {
        Status::Ok if report.size > report.reply.len() as u64 => {
            output::complain(format_args!(
                "it has succeeded, with a reply too large to be shown: {} B",
                report.size
            ));
            ReqExit::Reply
        }
        Status::Ok => match print(&[&report.reply, line_end].concat()) {
            OperatorExit::Done => ReqExit::Reply,
            _ => ReqExit::HandlerFailed,
        },
        status => {
            output::complain(format_args!("{status}: {}", report.message.as_deref().unwrap_or_default()));
            match status {
                Status::Error => ReqExit::HandlerFailed,
                Status::Timeout => ReqExit::NoAnswer,
                _ => ReqExit::Refused,
            }
        }
    }
}

impl From<OperatorExit> for ReqExit {
    fn from(exit: OperatorExit) -> Self {
        match exit {
            OperatorExit::Done => Self::Reply,
            OperatorExit::No => Self::HandlerFailed,
            OperatorExit::Usage => Self::Usage,
            OperatorExit::Unreachable => Self::Unreachable,
        }
    }
}

fn drop_some(target: &Target, service: &Service, request: PoisonRequest) -> OperatorExit {
    ask(target, &of(service, request), |response, _| match response {
        PoisonResponse::Dropped { count: 1 } => Some(print(b"1 request is forgotten\n")),
        PoisonResponse::Dropped { count } => {
            Some(print(format!("{count} requests are forgotten\n").as_bytes()))
        }
        _ => None,
    })
}
