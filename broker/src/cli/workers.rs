//! `hornpipe workers`: the table of workers alone.

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse};
use serde_json::json;

use super::exit_code::OperatorExit;
use super::operator::{self, Target};
use super::{output, status, table};

/// The table of workers, one line for each process
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done · 2 usage · 5 no broker answers")]
pub(super) struct WorkersArguments {
    #[command(flatten)]
    target: Target,
    /// For programs: `workers` and `external` of `status --json`, as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &WorkersArguments) -> OperatorExit {
    arguments.target.ask(&ControlRequest::Status, |response, _| match response {
        ControlResponse::Status(report) if arguments.json => {
            output::say(&table::json(&json!({ "workers": report.workers, "external": report.external })))
        }
        ControlResponse::Status(report) => output::say(&status::worker_tables(&report)),
        _ => operator::misunderstood(),
    })
}
