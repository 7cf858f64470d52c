//! `hornpipe check`: is it ready? For health checks.

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, ServiceRequest};

use super::exit_code::OperatorExit;
use super::operator::{self, Service, Target};
use super::output;

/// Exit code 0 if the broker is ready to serve, for probes
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 ready · 1 not ready, it says why · 2 usage · 5 no broker answers")]
pub(super) struct CheckArguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    service: Service,
}

pub(super) fn run(arguments: &CheckArguments) -> OperatorExit {
    let request = arguments.service.request(ControlRequest::Check, ServiceRequest::Check);
    arguments.target.ask(&request, |response, _| match response {
        ControlResponse::Check { ready: true, reason } => {
            // A probe may have closed its end; the exit code is what counts.
            output::print(format!("{reason}\n").as_bytes()).ok();
            OperatorExit::Done
        }
        ControlResponse::Check { ready: false, reason } => {
            output::complain(format_args!("not ready: {reason}"));
            OperatorExit::No
        }
        _ => operator::misunderstood(),
    })
}
