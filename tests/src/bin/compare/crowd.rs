//! What a broker keeps of its rate when 256 REQ clients become 10,000: each broker of ZeroMQ with both, in turns.
//!
//! Each measurement has a broker of its own, so that none pays for connections that were closed before it.

mod client;
mod load;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{BODY, Result, Seen, Stack, WORKERS, median, shapes, start_hornpipe, start_peer};
use load::Load;

/// The first is what the ratio is to.
const CROWDS: [usize; 2] = [256, 10_000];

/// For a client one here and one in the broker, which keeps some for other needs: hornpipe accepts nobody
/// with fewer than 128 left.
const DESCRIPTORS: u64 = 10_500;

/// The one that may lose nothing.
const OURS: &str = "hornpipe";

type Start = fn() -> Result<Stack>;

const BROKERS: [(&str, Start); 3] = [
    ("zmq_proxy", || start_peer("proxy", "proxy-worker")),
    ("LRU", || start_peer("lru", "lru-worker")),
    (OURS, || start_hornpipe(&[])),
];

/// What one broker has shown with one crowd, processor times for each request.
struct Round {
    seen: Seen,
    broker_cpu: f64,
    clients_cpu: f64,
}

pub(super) fn crowd(rounds: u64, time: Duration) -> Result<ExitCode> {
    allow_descriptors()?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "REQ clients of {BODY} bytes, {WORKERS} echo workers, {rounds} rounds of {time:?} in turns, medians\n\
         {:<14}{:>8}{:>10}{:>8}{:>10}{:>10}{:>10}{:>12}",
        "broker", "clients", "req/s", "ratio", "p50 us", "p99 us", "cpu us", "clients us"
    )?;
    out.flush()?;
    let mut all = BROKERS.map(|_broker| CROWDS.map(|_count| Vec::new()));
    for _round in 0..rounds {
        for ((broker, start), seen) in BROKERS.iter().zip(&mut all) {
            for (count, seen) in CROWDS.into_iter().zip(seen) {
                match measure(*start, count, time) {
                    Ok(round) => seen.push(round),
                    // What another broker loses is a figure, too.
                    Err(error) if *broker != OURS => {
                        writeln!(out, "{broker:<14}{count:>8}  {error}")?;
                        out.flush()?;
                    }
                    Err(error) => return Err(format!("{broker} with {count} clients: {error}").into()),
                }
            }
        }
    }
    for ((broker, _start), seen) in BROKERS.iter().zip(&all) {
        let mut few = None;
        for (count, rounds) in CROWDS.into_iter().zip(seen).filter(|(_count, rounds)| !rounds.is_empty()) {
            let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
            let rate = of(|round| round.seen.rate);
            let ratio = rate / *few.get_or_insert(rate);
            let (p50, p99) = (of(|round| round.seen.p50), of(|round| round.seen.p99));
            let (cpu, clients) = (of(|round| round.broker_cpu), of(|round| round.clients_cpu));
            writeln!(
                out,
                "{broker:<14}{count:>8}{rate:>10.0}{ratio:>8.2}{p50:>10.0}{p99:>10.0}{cpu:>10.1}{clients:>12.1}"
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A new broker, and so many clients who are connected and have been served before the time begins.
fn measure(start: Start, count: usize, time: Duration) -> Result<Round> {
    let stack = start()?;
    let mut load = Load::connect(&stack.endpoint, count)?;
    load.warm_up()?;
    let cpu = || -> Result<_> { Ok((shapes::cpu_of(stack.broker)?, shapes::cpu_of(std::process::id())?)) };
    let before = cpu()?;
    let seen = load.measure(time)?;
    let after = cpu()?;
    load.finish()?;
    let requests = (seen.rate * time.as_secs_f64()).max(1.0);
    let each = |before, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / requests;
    Ok(Round { seen, broker_cpu: each(before.0, after.0), clients_cpu: each(before.1, after.1) })
}

/// Here and, by inheritance, in the brokers.
fn allow_descriptors() -> Result<()> {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < DESCRIPTORS {
        return Err(format!(
            "{DESCRIPTORS} descriptors are needed, and the hard limit is {hard}: raise it (ulimit -Hn)"
        )
        .into());
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
