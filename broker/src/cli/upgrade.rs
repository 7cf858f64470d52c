//! `hornpipe upgrade`: another program in the running broker's place, under the same
//! workers, and wait until it serves.

use std::time::Duration;

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, StatusReport};
use rustix::event::{Timespec, poll};
use serde_json::json;

use super::exit_code::OperatorExit;
use super::operator::{self, Target};
use super::output;
use crate::parent::clock;

/// Between two looks at a broker that answers and is not there yet.
const BETWEEN_LOOKS: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What `--timeout` is for this verb: a drain and a start, and then some.
pub(super) const TIMEOUT: &str = "60s";

/// The help of `--timeout` for this verb.
pub(super) const TIMEOUT_HELP: &str = "How long to wait until the new router serves";

/// Replace the broker's program by what is in its file now, under the same workers
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the new router serves · 1 refused, all stays as it was · 2 usage · 5 no broker answers"
)]
pub(super) struct UpgradeArguments {
    #[command(flatten)]
    target: Target,
    /// Print one JSON object: what it was and what it is
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &UpgradeArguments) -> OperatorExit {
    let target = &arguments.target;
    let deadline = clock::now().saturating_add(target.timeout());
    let mut before = None;
    let known = target.ask(&ControlRequest::Status, |response, _| match response {
        ControlResponse::Status(report) => {
            before = Some(report);
            OperatorExit::Done
        }
        _ => operator::misunderstood(),
    });
    let Some(before) = before else { return known };
    target.ask(&ControlRequest::Upgrade, |response, _| match response {
        ControlResponse::Upgrading => {
            if let Some(after) = wait_for_successor(target, &before, deadline) {
                return print(&before, &after, arguments.json);
            }
            output::complain(format_args!(
                "the program is accepted, but its router does not serve after {}: see the broker's log",
                crate::config::show_duration(target.timeout())
            ));
            OperatorExit::No
        }
        _ => operator::misunderstood(),
    })
}

/// The state of the next router, once it is ready. While there is none, connections wait
/// in the queue of the control socket, so most of the waiting is done there.
fn wait_for_successor(target: &Target, before: &StatusReport, deadline: Duration) -> Option<StatusReport> {
    while clock::now() < deadline {
        let report = target.try_ask(&ControlRequest::Status);
        let is_ready = matches!(
            target.try_ask(&ControlRequest::Check),
            Some(ControlResponse::Check { ready: true, .. })
        );
        if let Some(ControlResponse::Status(report)) = report
            && before.router_life < report.router_life
            && (is_ready || report.pool.target == 0)
        {
            return Some(*report);
        }
        poll(&mut [], Some(&BETWEEN_LOOKS)).ok();
    }
    None
}

fn print(before: &StatusReport, after: &StatusReport, as_json: bool) -> OperatorExit {
    let text = if as_json {
        let one = |report: &StatusReport| {
            json!({
                "version": report.version,
                "pid": report.pid,
                "router_pid": report.router_pid,
                "router_life": report.router_life,
            })
        };
        format!("{}\n", json!({ "from": one(before), "to": one(after) }))
    } else {
        format!(
            "upgraded: version {} -> {}, router {} -> {}, pid {}\n",
            before.version, after.version, before.router_pid, after.router_pid, after.pid
        )
    };
    match output::print(text.as_bytes()) {
        Ok(()) => OperatorExit::Done,
        Err(error) => {
            output::complain(format_args!("cannot write: {error}"));
            OperatorExit::No
        }
    }
}
