//! `hornpipe recycle`: another process for one slot.

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, RecycleOutcome, RecycleReport};

use super::exit_code::OperatorExit;
use super::operator::{self, Target};
use super::output;
use super::table::json;

/// Replace the process of one slot, the replacement first
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done (without --wait: begun) · 1 there is no such worker, or its slot is empty now · \
                  2 usage · 5 no broker answers"
)]
pub(super) struct RecycleArguments {
    #[command(flatten)]
    target: Target,
    /// Its number in `status` and `workers`
    #[arg(value_name = "SLOT")]
    slot: u32,
    /// Wait until the old process has ended, for ever unless --timeout is given
    #[arg(long)]
    wait: bool,
    /// For programs: the outcome as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &RecycleArguments) -> OperatorExit {
    let request = ControlRequest::Recycle { slot: arguments.slot, wait: arguments.wait };
    let answered = |response, _: &mut operator::Broker| match response {
        ControlResponse::Recycle(report) => {
            let text = if arguments.json { json(&report) } else { sentence(&report) };
            match (output::say(&text), exit(&report)) {
                (OperatorExit::Done, exit) => exit,
                (unsaid, _) => unsaid,
            }
        }
        _ => operator::misunderstood(),
    };
    if arguments.wait {
        arguments.target.ask_for_the_end(&request, answered)
    } else {
        arguments.target.ask(&request, answered)
    }
}

fn exit(report: &RecycleReport) -> OperatorExit {
    match report.outcome {
        RecycleOutcome::Started | RecycleOutcome::Ended { successor: Some(_), .. } => OperatorExit::Done,
        RecycleOutcome::Ended { successor: None, .. } => OperatorExit::No,
    }
}

fn sentence(report: &RecycleReport) -> String {
    let RecycleReport { slot, incarnation, outcome } = report;
    match outcome {
        RecycleOutcome::Started => {
            format!("slot {slot}: incarnation {incarnation} goes as soon as its replacement is ready\n")
        }
        RecycleOutcome::Ended { reason, successor } => {
            let reason = output::harmless(reason);
            let follows = match successor {
                Some(successor) => format!("incarnation {successor} serves"),
                None => "nobody serves there now".to_owned(),
            };
            format!("slot {slot}: incarnation {incarnation} has ended ({reason}), {follows}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_a_sentence_and_an_exit_code() {
        let ended = |successor| RecycleOutcome::Ended { reason: "recycle: operator".into(), successor };
        for (outcome, words, code) in [
            (
                RecycleOutcome::Started,
                "slot 3: incarnation 2 goes as soon as its replacement is ready\n",
                OperatorExit::Done,
            ),
            (
                ended(Some(3)),
                "slot 3: incarnation 2 has ended (recycle: operator), incarnation 3 serves\n",
                OperatorExit::Done,
            ),
            (
                ended(None),
                "slot 3: incarnation 2 has ended (recycle: operator), nobody serves there now\n",
                OperatorExit::No,
            ),
        ] {
            let report = RecycleReport { slot: 3, incarnation: 2, outcome };
            assert_eq!((sentence(&report).as_str(), exit(&report)), (words, code));
        }
    }
}
