//! `hornpipe upgrade`: another program in the running broker's place, under the same
//! workers, and wait until it serves.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, StatusReport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use serde_json::json;

use super::exit_code::OperatorExit;
use super::operator::{self, Target};
use super::output;

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
    let deadline = match Deadline::after(target.timeout()) {
        Ok(deadline) => deadline,
        Err(error) => {
            output::complain(format_args!("cannot wait: {error}"));
            return OperatorExit::No;
        }
    };
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
            if let Some(after) = wait_for_successor(target, &before, &deadline) {
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
fn wait_for_successor(target: &Target, before: &StatusReport, deadline: &Deadline) -> Option<StatusReport> {
    loop {
        let report = target.try_ask(&ControlRequest::Status);
        let is_ready = matches!(
            target.try_ask(&ControlRequest::Check),
            Some(ControlResponse::Check { ready: true, .. })
        );
        if let Some(ControlResponse::Status(report)) = report
            && before.router_life < report.router_life
            && (is_ready || report.pool.target == 0 || report.pool.paused.is_some())
        {
            return Some(*report);
        }
        if deadline.comes_within(&BETWEEN_LOOKS) {
            return None;
        }
    }
}

/// A moment that the kernel tells of.
#[derive(Debug)]
struct Deadline(OwnedFd);

impl Deadline {
    fn after(time: Duration) -> rustix::io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        // Zero would mean never.
        let time = time.max(Duration::from_millis(1));
        let it_value = Timespec::try_from(time).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        Ok(Self(timer))
    }

    /// Waits so long at most. Whether it has come.
    fn comes_within(&self, time: &Timespec) -> bool {
        let mut watch = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        poll(&mut watch, Some(time)).is_ok_and(|count| 0 < count)
    }
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
