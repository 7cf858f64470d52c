//! `hornpipe check`: is it ready, or at least alive? For health checks.

use std::time::Duration;

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, ServiceRequest};
use serde::Serialize;

use super::exit_code::OperatorExit;
use super::operator::{self, Service, Target};
use super::output;
use super::table::json;

/// What a router that is well has to answer, as `/livez` has it.
const TIME_TO_LIVE: Duration = Duration::from_secs(2);

/// Exit code 0 if the broker is ready to serve, for probes
#[derive(Debug, Args)]
#[command(after_help = "\
Not ready: no worker serves, the queue is full, or the broker is stopping. It says which.
With --live only a broker that does not answer within 2s fails: for what restarts it.

Exit codes: 0 ready, or live · 1 not ready, it says why · 2 usage · 5 no broker answers")]
pub(super) struct CheckArguments {
    #[command(flatten)]
    target: Target,
    /// Whether it lives, ready or not
    #[arg(long)]
    live: bool,
    /// For programs: one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

/// As `--json` prints it.
#[derive(Debug, Serialize)]
struct Told {
    ready: bool,
    reason: String,
}

pub(super) fn run(arguments: &CheckArguments) -> OperatorExit {
    let answered = |response, _broker: &mut operator::Broker| match response {
        ControlResponse::Check { ready, reason } => tell(arguments, &Told { ready, reason }),
        _ => operator::misunderstood(),
    };
    let request = arguments.service.request(ControlRequest::Check, ServiceRequest::Check);
    if arguments.live {
        arguments.target.ask_within(TIME_TO_LIVE, &request, answered)
    } else {
        arguments.target.ask(&request, answered)
    }
}

fn tell(arguments: &CheckArguments, told: &Told) -> OperatorExit {
    let well = told.ready || arguments.live;
    let line = match (arguments.json, arguments.live, told.ready) {
        (true, _, _) => Some(json(told)),
        (false, true, true) => Some("live\n".to_owned()),
        (false, true, false) => Some(format!("live, and not ready: {}\n", told.reason)),
        (false, false, true) => Some(format!("{}\n", told.reason)),
        (false, false, false) => None,
    };
    match line {
        // A probe may have closed its end; the exit code is what counts.
        Some(line) => {
            output::print(line.as_bytes()).ok();
        }
        None => output::complain(format_args!("not ready: {}", told.reason)),
    }
    if well { OperatorExit::Done } else { OperatorExit::No }
}
