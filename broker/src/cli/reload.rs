//! `hornpipe reload`: fresh workers, and whether they came.

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, ReloadOutcome, ReloadReport, ServiceRequest};

use super::exit_code::OperatorExit;
use super::operator::{self, Service, Target};
use super::output;

/// Fresh workers of all services, or of --service alone; if the new ones fail, the old ones stay
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done (without --wait: begun) · 1 the old workers serve, or it was cut short · 2 usage · \
                  5 no broker answers"
)]
pub(super) struct ReloadArguments {
    #[command(flatten)]
    target: Target,
    /// Wait until it has ended, for ever unless --timeout is given
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    service: Service,
    /// Renew so many slots at the same time, once the first new worker works
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    surge: Option<u32>,
    /// For programs: the outcome as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ReloadArguments) -> OperatorExit {
    let (surge, wait) = (arguments.surge, arguments.wait);
    let request = arguments
        .service
        .request(ControlRequest::Reload { surge, wait }, ServiceRequest::Reload { surge, wait });
    let answered = |response, _: &mut operator::Broker| match response {
        ControlResponse::Reload(report) if arguments.json => print(&report, &json(&report)),
        ControlResponse::Reload(report) => tell(&report),
        _ => operator::misunderstood(),
    };
    if arguments.wait {
        arguments.target.ask_for_the_end(&request, answered)
    } else {
        arguments.target.ask(&request, answered)
    }
}

fn tell(report: &ReloadReport) -> OperatorExit {
    let sentence = sentence(report);
    match exit(report) {
        OperatorExit::Done => print(report, &sentence),
        failed => {
            output::complain(sentence.trim_end());
            failed
        }
    }
}

fn print(report: &ReloadReport, text: &str) -> OperatorExit {
    match output::print(text.as_bytes()) {
        Ok(()) => exit(report),
        Err(error) => {
            output::complain(format_args!("cannot write: {error}"));
            OperatorExit::No
        }
    }
}

fn exit(report: &ReloadReport) -> OperatorExit {
    match report.outcome {
        ReloadOutcome::Started | ReloadOutcome::Finished { .. } => OperatorExit::Done,
        ReloadOutcome::Failed { .. } | ReloadOutcome::Superseded { .. } | ReloadOutcome::Abandoned => {
            OperatorExit::No
        }
    }
}

fn json(report: &ReloadReport) -> String {
    // A report holds no map with keys that are no text, which is all that can fail.
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

fn sentence(report: &ReloadReport) -> String {
    let of = report.service.as_deref().map(|name| format!("{}: ", output::harmless(name)));
    of.unwrap_or_default() + &what_became(report)
}

fn what_became(report: &ReloadReport) -> String {
    let generation = report.generation;
    match &report.outcome {
        ReloadOutcome::Started => format!("reload: generation {generation} has begun\n"),
        ReloadOutcome::Finished { workers: 1 } => format!("reloaded: generation {generation}, 1 worker\n"),
        ReloadOutcome::Finished { workers } => {
            format!("reloaded: generation {generation}, {workers} workers\n")
        }
        ReloadOutcome::Failed { slot, reason, last_words, serving } => {
            let mut text = format!(
                "generation {generation} failed in slot {slot}: {}; generation {serving} keeps serving",
                output::harmless(reason)
            );
            if last_words.is_empty() {
                text.push_str(". The new worker wrote nothing");
            } else {
                text.push_str(". Its last words:");
            }
            for line in last_words {
                text.push_str("\n  ");
                text.push_str(&output::harmless(line));
            }
            text
        }
        ReloadOutcome::Superseded { by } => {
            format!("generation {generation} was superseded by another reload: generation {by}")
        }
        ReloadOutcome::Abandoned => {
            format!("generation {generation} was abandoned: the broker is stopping")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_a_sentence_and_an_exit_code() {
        let last_words = vec!["no module".into(), "\x1b[31m".into()];
        let failed = ReloadOutcome::Failed { slot: 0, reason: "exit code 9".into(), last_words, serving: 2 };
        let cases = [
            (ReloadOutcome::Started, "reload: generation 3 has begun\n", OperatorExit::Done),
            (
                ReloadOutcome::Finished { workers: 4 },
                "reloaded: generation 3, 4 workers\n",
                OperatorExit::Done,
            ),
            (
                failed,
                "generation 3 failed in slot 0: exit code 9; generation 2 keeps serving. Its last words:\n  \
                 no module\n  \\u{1b}[31m",
                OperatorExit::No,
            ),
            (
                ReloadOutcome::Superseded { by: 4 },
                "generation 3 was superseded by another reload: generation 4",
                OperatorExit::No,
            ),
            (
                ReloadOutcome::Abandoned,
                "generation 3 was abandoned: the broker is stopping",
                OperatorExit::No,
            ),
        ];
        for (outcome, words, code) in cases {
            let report = ReloadReport { generation: 3, outcome, service: None };
            assert_eq!((sentence(&report).as_str(), exit(&report)), (words, code));
        }
    }
}
