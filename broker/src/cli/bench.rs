//! `hornpipe bench`: make load, check every reply, say how it went.

mod chaos;
mod ledger;
mod progress;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hornpipe_client::Endpoint;
use hornpipe_client::load::{self, LoadError, Mix, Mode, Outcome, Plan, Shape, Until};

use self::chaos::{Chaos, Toll};
use self::progress::Screen;
use super::exit_code::BenchExit;
use super::output;
use crate::config;

/// Make load and check every reply
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct BenchArguments {
    /// Where to ask, as 6660 or HOST:PORT; several share the clients. Workers must reply what they get
    #[arg(value_name = "ENDPOINT", required = true, value_delimiter = ',', value_parser = hornpipe_client::endpoint)]
    endpoints: Vec<Endpoint>,
    /// How many connections
    #[arg(short, long, value_name = "N", default_value = "16")]
    clients: usize,
    /// How many requests each connection has out at once
    #[arg(long, value_name = "N", default_value = "1")]
    depth: usize,
    /// For how long [default: 10s]
    #[arg(short, long, visible_short_alias = 't', value_name = "TIME", value_parser = config::duration_or_seconds, conflicts_with = "count")]
    duration: Option<Duration>,
    /// How many requests, however long that takes
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// So many requests a second, whether replies come or not
    ///
    /// Without it each reply lets the next one go. A request that is sent late is timed from when it was due.
    #[arg(long, value_name = "PER SECOND")]
    rate: Option<f64>,
    /// Sizes of bodies, as in 32B:9,64KiB:1
    #[arg(long, value_name = "SIZE[:WEIGHT]", value_delimiter = ',', value_parser = sized, default_value = "32B")]
    size: Vec<(usize, u32)>,
    /// Services to ask, as in images:1,default:3
    #[arg(short, long, value_name = "NAME[:WEIGHT]", value_delimiter = ',', value_parser = weighed)]
    service: Vec<(String, u32)>,
    /// A request without reply for so long is lost
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds, default_value = "30s")]
    timeout: Duration,
    /// Ask as a REQ socket does, without our own header
    #[arg(long)]
    plain: bool,
    /// Before each body; the worker takes it off ("echo " for the demo)
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Kill one of the workers, which must run here, again and again
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds)]
    chaos: Option<Duration>,
    /// With --chaos, the control socket of the one broker [env: HORNPIPE_CONTROL]
    #[arg(long, value_name = "PATH", requires = "chaos", hide_short_help = true)]
    control: Option<PathBuf>,
    /// For programs: one JSON object in one line
    #[arg(long)]
    json: bool,
}

const AFTER: &str = "\
Exit codes: 0 no reply was wrong, lost or doubled · 1 some were · 2 usage · 5 no server there
With --chaos `lost` counts as lost too, and with the demo worker no work may have run twice.

Examples:
  hornpipe bench 6660 -c 32 -d 10s
  hornpipe bench 6660 -n 100000 --rate 5000 --prefix 'echo '
  hornpipe bench 6660 --chaos 500ms -d 60s";

/// What came of it all.
#[derive(Debug)]
struct Made {
    outcome: Outcome,
    toll: Option<Toll>,
}

fn sized(text: &str) -> Result<(usize, u32), String> {
    let (size, weight) = weighed(text)?;
    let size = config::size(&size).map_err(|error| error.to_string())?;
    Ok((usize::try_from(size).unwrap_or(usize::MAX), weight))
}

/// A word and its weight, which is 1 if it has none.
fn weighed(text: &str) -> Result<(String, u32), String> {
    let (word, weight) = text.rsplit_once(':').unwrap_or((text, "1"));
    if word.is_empty() {
        return Err("expected a word, and perhaps a colon and a weight".into());
    }
    let weight = weight.parse().map_err(|_error| format!("{weight:?} is no weight: a number from 0"))?;
    Ok((word.to_owned(), weight))
}

pub(super) fn run(arguments: &BenchArguments) -> BenchExit {
    let made = match make(arguments) {
        Ok(made) => made,
        Err(exit) => return exit,
    };
    let text = if arguments.json { report::as_json(&made) } else { report::as_text(&made) };
    if let Err(error) = output::print(text.as_bytes()) {
        output::complain(format_args!("cannot write: {error}"));
        return BenchExit::Wrong;
    }
    if made.is_right() { BenchExit::Right } else { BenchExit::Wrong }
}

fn make(arguments: &BenchArguments) -> Result<Made, BenchExit> {
    let mut plan = plan(arguments).map_err(|error| explain(&error))?;
    let chaos = match arguments.chaos {
        None => None,
        Some(every) => Some(
            Chaos::prepare(&arguments.endpoints, arguments.control.as_deref(), every, arguments.timeout)
                .map_err(|error| {
                    output::complain(&error);
                    error.exit_code()
                })?,
        ),
    };
    if chaos.as_ref().is_some_and(Chaos::has_demo_workers) && arguments.prefix.is_none() {
        plan.verb_prefix = b"echo ".to_vec();
    }
    let mut screen = Screen::new(arguments.json);
    let (outcome, toll) = match chaos {
        None => (load::run_watched(&plan, &mut |progress| screen.show(progress, None)), None),
        Some(chaos) => {
            let (outcome, toll) = chaos.during(|killed| {
                load::run_watched(&plan, &mut |progress| screen.show(progress, Some(killed())))
            });
            (outcome, Some(toll))
        }
    };
    screen.clear();
    let outcome = outcome.map_err(|error| explain(&error))?;
    Ok(Made { outcome, toll })
}

fn explain(error: &LoadError) -> BenchExit {
    match std::error::Error::source(error) {
        Some(source) => output::complain(format_args!("{error}: {source}")),
        None => output::complain(error),
    }
    match error {
        LoadError::Plan { .. } | LoadError::Endpoint(_) => BenchExit::Usage,
        LoadError::Unreachable { .. } => BenchExit::Unreachable,
        _ => BenchExit::Wrong,
    }
}

fn plan(arguments: &BenchArguments) -> Result<Plan, LoadError> {
    let empty = |_error| LoadError::Plan { why: "a mix needs something with a weight of at least 1" };
    let services = arguments.service.iter().cloned().map(|(name, weight)| (Some(name), weight));
    Ok(Plan {
        endpoints: arguments.endpoints.clone(),
        clients: arguments.clients,
        depth: arguments.depth,
        mode: if arguments.plain { Mode::Plain } else { Mode::Native },
        shape: arguments.rate.map_or(Shape::Closed, |rate| Shape::Open { rate }),
        body_sizes: Mix::weighted(arguments.size.iter().copied()).map_err(empty)?,
        services: if arguments.service.is_empty() {
            Mix::of(None)
        } else {
            Mix::weighted(services).map_err(empty)?
        },
        until: match arguments.count {
            Some(count) => Until::Count(count),
            None => Until::Elapsed(arguments.duration.unwrap_or(Duration::from_secs(10))),
        },
        timeout: arguments.timeout,
        verb_prefix: arguments.prefix.clone().unwrap_or_default().into_bytes(),
    })
}

impl Made {
    /// Whether no reply was wrong, lost or doubled, and no work either.
    fn is_right(&self) -> bool {
        let counts = &self.outcome.counts;
        let missing = |status| counts.errors.get(status).copied().unwrap_or_default();
        let chaos = self.toll.as_ref().map_or(0, |toll| {
            use hornpipe_proto::Status::{Lost, Poison};
            missing(&Lost) + missing(&Poison) + toll.ledger.as_ref().map_or(0, |ledger| ledger.doubled)
        });
        counts.wrong + counts.lost + counts.doubled + chaos == 0
    }
}
