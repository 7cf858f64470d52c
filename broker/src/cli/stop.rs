//! `hornpipe stop`: begin it, and wait until the broker is gone.

use std::io;

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::exit_code::OperatorExit;
use super::operator::{self, Broker, Target};
use super::output;

/// Finish what runs, then stop; wait until the broker is gone
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 stopped · 1 it could not be waited for · 2 usage · 5 no broker answers"
)]
pub(super) struct StopArguments {
    #[command(flatten)]
    target: Target,
    /// Give up what runs, and stop at once
    #[arg(long)]
    now: bool,
    /// Do not wait until the broker is gone
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn run(arguments: &StopArguments) -> OperatorExit {
    arguments.target.ask(&ControlRequest::Stop { now: arguments.now }, |response, broker| match response {
        ControlResponse::Stopping if arguments.no_wait => OperatorExit::Done,
        ControlResponse::Stopping => {
            let who = arguments.target.who();
            output::complain(format_args!("the {who} is stopping; {}", still_running(broker)));
            match wait_until_gone(broker) {
                Ok(()) => {
                    output::complain("it is gone");
                    OperatorExit::Done
                }
                Err(error) => {
                    output::complain(format_args!("it stops, but cannot be waited for: {error}"));
                    OperatorExit::No
                }
            }
        }
        _ => operator::misunderstood(),
    })
}

/// What it still has to do, as far as it tells.
fn still_running(broker: &mut Broker) -> String {
    match broker.ask(&ControlRequest::Status) {
        Ok(ControlResponse::Status(report)) if report.requests.in_flight != 0 => {
            format!("{} requests are running", report.requests.in_flight)
        }
        // One that is quick about it is gone before it could answer.
        Ok(_) | Err(_) => "nothing is running".to_owned(),
    }
}

fn wait_until_gone(broker: &mut Broker) -> io::Result<()> {
    let Some(pid) = broker.pid.and_then(Pid::from_raw) else {
        return broker.wait_until_closed();
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => {
            let mut watch = [PollFd::new(&process, PollFlags::IN)];
            while let Err(error) = poll(&mut watch, None) {
                if error != rustix::io::Errno::INTR {
                    return Err(error.into());
                }
            }
            Ok(())
        }
        Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(_) => broker.wait_until_closed(),
    }
}
