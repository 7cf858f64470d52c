//! `hornpipe resume`: the end of a pause.

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse};

use super::exit_code::OperatorExit;
use super::operator::{self, Target};
use super::output;
use super::table::age;

/// Hand out requests again, after `pause`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 requests are handed out · 1 the broker is ending · 2 usage · 5 no broker answers"
)]
pub(super) struct ResumeArguments {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(arguments: &ResumeArguments) -> OperatorExit {
    arguments.target.ask(&ControlRequest::Resume, |response, _| match response {
        ControlResponse::Resumed { waiting, after_ms: Some(after) } => {
            output::say(&format!("resumed after {}: {waiting} were waiting\n", age(after)))
        }
        ControlResponse::Resumed { after_ms: None, .. } => output::say("it was not paused\n"),
        _ => operator::misunderstood(),
    })
}
