//! `hornpipe bench`: make load, check every reply, say how it went.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use hornpipe_client::load::{self, LoadError, Mode, Outcome, Plan, Shape, Until};
use serde_json::json;

use super::exit_code::BenchExit;
use super::output;
use crate::config;

/// Make load and check every reply
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct BenchArguments {
    /// Where to ask, as 6660 or HOST:PORT. Its workers must reply what they get
    endpoint: String,
    /// How many connections
    #[arg(short, long, value_name = "N", default_value = "16")]
    clients: usize,
    /// How many requests each connection has out at once
    #[arg(long, value_name = "N", default_value = "1")]
    depth: usize,
    /// For how long [default: 10s]
    #[arg(short, long, value_name = "TIME", value_parser = config::duration_or_seconds, conflicts_with = "count")]
    duration: Option<Duration>,
    /// How many requests, however long that takes
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// So many requests a second, whether replies come or not; without it each reply lets the next one go
    #[arg(long, value_name = "PER SECOND")]
    rate: Option<f64>,
    /// The size of a body
    #[arg(long, value_name = "SIZE", value_parser = config::size, default_value = "32B")]
    size: u64,
    /// A request without reply for so long is lost
    #[arg(short, long, value_name = "TIME", value_parser = config::duration_or_seconds, default_value = "30s")]
    timeout: Duration,
    /// Ask as a REQ socket does, without our own header
    #[arg(long)]
    plain: bool,
    /// Stands before each body; the worker takes it off ("echo " for the demo worker)
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// For programs: one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER: &str = "\
Exit codes: 0 no reply was wrong, lost or doubled · 1 some were · 2 usage · 5 no server there

Examples:
  hornpipe bench 6660 -c 32 -d 10s
  hornpipe bench 6660 -n 100000 --rate 5000 --prefix 'echo '";

pub(super) fn run(arguments: &BenchArguments) -> BenchExit {
    let outcome = match plan(arguments).and_then(|plan| load::run(&plan)) {
        Ok(outcome) => outcome,
        Err(error) => {
            match std::error::Error::source(&error) {
                Some(source) => output::complain(format_args!("{error}: {source}")),
                None => output::complain(&error),
            }
            return match error {
                LoadError::Plan { .. } | LoadError::Endpoint(_) => BenchExit::Usage,
                LoadError::Unreachable { .. } => BenchExit::Unreachable,
                _ => BenchExit::Wrong,
            };
        }
    };
    let text = if arguments.json { as_json(&outcome) } else { as_text(&outcome) };
    if let Err(error) = output::print(text.as_bytes()) {
        output::complain(format_args!("cannot write: {error}"));
        return BenchExit::Wrong;
    }
    let counts = &outcome.counts;
    if counts.wrong + counts.lost + counts.doubled == 0 { BenchExit::Right } else { BenchExit::Wrong }
}

fn plan(arguments: &BenchArguments) -> Result<Plan, LoadError> {
    Ok(Plan {
        endpoint: hornpipe_client::endpoint(&arguments.endpoint).map_err(LoadError::Endpoint)?,
        clients: arguments.clients,
        depth: arguments.depth,
        mode: if arguments.plain { Mode::Plain } else { Mode::Native },
        shape: arguments.rate.map_or(Shape::Closed, |rate| Shape::Open { rate }),
        body_size: usize::try_from(arguments.size).unwrap_or(usize::MAX),
        until: match arguments.count {
            Some(count) => Until::Count(count),
            None => Until::Elapsed(arguments.duration.unwrap_or(Duration::from_secs(10))),
        },
        timeout: arguments.timeout,
        verb_prefix: arguments.prefix.clone().into_bytes(),
    })
}

fn as_text(outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let latency = &outcome.latency;
    let mut text = format!(
        "sent      {} in {:.2} s\nright     {} ({:.0} a second)\nwrong     {}\nlost      {}\ndoubled   {}\n",
        counts.sent,
        outcome.elapsed.as_secs_f64(),
        counts.ok,
        outcome.rate,
        counts.wrong,
        counts.lost,
        counts.doubled
    );
    let others = [("late", counts.late), ("stray", counts.stray), ("unsent", counts.unsent)];
    let errors = counts.errors.iter().map(|(status, count)| (status.as_str(), *count));
    for (what, count) in errors.chain(others.into_iter().filter(|(_, count)| *count != 0)) {
        // Writing to a `String` cannot fail.
        writeln!(text, "{what:<9} {count}").ok();
    }
    let times = [
        ("min", latency.min),
        ("mean", latency.mean),
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p999),
        ("max", latency.max),
    ];
    let times = times.map(|(what, microseconds)| format!("{what} {}", time(microseconds)));
    writeln!(text, "took      {}", times.join("   ")).ok();
    text
}

/// In the unit that reads best.
fn time(microseconds: f64) -> String {
    match microseconds {
        short if short < 1e3 => format!("{short:.0} us"),
        middling if middling < 1e6 => format!("{:.2} ms", middling / 1e3),
        long => format!("{:.2} s", long / 1e6),
    }
}

fn as_json(outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let latency = &outcome.latency;
    let errors: serde_json::Map<String, serde_json::Value> =
        counts.errors.iter().map(|(status, count)| (status.as_str().to_owned(), (*count).into())).collect();
    let object = json!({
        "sent": counts.sent,
        "ok": counts.ok,
        "wrong": counts.wrong,
        "lost": counts.lost,
        "doubled": counts.doubled,
        "errors": errors,
        "late": counts.late,
        "stray": counts.stray,
        "unsent": counts.unsent,
        "elapsed_ms": outcome.elapsed.as_secs_f64() * 1e3,
        "rate": outcome.rate,
        "latency_us": {
            "min": latency.min,
            "mean": latency.mean,
            "p50": latency.p50,
            "p90": latency.p90,
            "p99": latency.p99,
            "p999": latency.p999,
            "max": latency.max,
        },
    });
    format!("{object:#}\n")
}

#[cfg(test)]
mod tests {
    use hornpipe_client::load::{Counts, Latency};
    use hornpipe_proto::Status;

    use super::*;

    fn outcome() -> Outcome {
        let errors = [(Status::Busy, 2)].into_iter().collect();
        Outcome {
            counts: Counts { sent: 12, ok: 9, lost: 1, errors, late: 1, ..Counts::default() },
            elapsed: Duration::from_millis(1500),
            rate: 6.0,
            latency: Latency { min: 90.0, p50: 1500.0, max: 2_500_000.0, ..Latency::default() },
        }
    }

    #[test]
    fn the_text_has_every_count_that_matters() {
        let expected = "\
sent      12 in 1.50 s
right     9 (6 a second)
wrong     0
lost      1
doubled   0
busy      2
late      1
took      min 90 us   mean 0 us   p50 1.50 ms   p90 0 us   p99 0 us   p99.9 0 us   max 2.50 s
";
        assert_eq!(as_text(&outcome()), expected);
    }

    #[test]
    fn the_json_has_every_count() {
        let value: serde_json::Value = serde_json::from_str(&as_json(&outcome())).unwrap();
        assert_eq!(value["ok"], 9);
        assert_eq!(value["errors"]["busy"], 2);
        assert_eq!(value["latency_us"]["p50"], 1500.0);
    }
}
