//! `hornpipe pause`: hand out no request for a while.

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse};

use super::exit_code::OperatorExit;
use super::operator::{self, Target};
use super::output;

/// Hand out no request until `resume`; what runs goes on
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 paused · 1 the broker is ending · 2 usage · 5 no broker answers")]
pub(super) struct PauseArguments {
    #[command(flatten)]
    target: Target,
    /// Answer new requests `unavailable` at once, in place of keeping them in the queue
    #[arg(long)]
    refuse: bool,
}

pub(super) fn run(arguments: &PauseArguments) -> OperatorExit {
    let refuse = arguments.refuse;
    arguments.target.ask(&ControlRequest::Pause { refuse }, |response, _| match response {
        ControlResponse::Paused { waiting, in_flight } => {
            let name = arguments.target.name();
            let fate = if refuse { "are refused" } else { "wait too" };
            output::say(&format!(
                "paused: {in_flight} running, {waiting} waiting; new requests {fate}. hornpipe resume {name} ends it\n"
            ))
        }
        _ => operator::misunderstood(),
    })
}
