//! Hornpipe beside `zmq_proxy`, the broker that libzmq brings along, and beside a plain LRU broker
//! of the Guide's kind: the same libzmq, the same load, the same machine, in turns. And beside
//! gearmand and nats-server, where they are installed, each with clients and workers that speak
//! its own protocol. Prints medians, and ratios to `zmq_proxy` of the same run.
//!
//! `cargo run --release -p hornpipe-tests --bin compare -- [ROUNDS [SECONDS [LOAD]]]` measures rates, of
//! the loads whose name has `LOAD` in it;
//! `compare crowd [ROUNDS [SECONDS]]` what is left of a broker's rate with 10,000 clients,
//! `compare flood [ROUNDS]` one client beside many, `compare memory` what clients and waiting
//! requests cost, `compare pool [ROUNDS]` how soon a pool is large, or whole again.
#![expect(clippy::disallowed_methods, reason = "the peers are processes, and both start the same way")]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

mod peers;
mod wire;
mod gearman;
mod nats;
mod shapes;
mod crowd;

use hornpipe_client::load::{self, Latency, Mix, Mode, Plan, Shape, Until};
use wire::Wire;

const WORKERS: usize = 4;
const BODY: usize = 16;

const MEBIBYTE: usize = 1 << 20;

/// Name, clients, requests out at once for each, bytes of each body.
const SHAPES: [(&str, usize, usize, usize); 5] = [
    ("1 REQ", 1, 1, BODY),
    ("32 REQ", 32, 1, BODY),
    ("256 REQ", 256, 1, BODY),
    ("4 DEALER x 64", 4, 64, BODY),
    ("8 REQ, 1 MiB", 8, 1, MEBIBYTE),
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["proxy"] => peers::proxy().map(|()| ExitCode::SUCCESS),
        ["direct"] => peers::direct().map(|()| ExitCode::SUCCESS),
        ["proxy-worker", backend] => peers::proxy_worker(backend).map(|()| ExitCode::SUCCESS),
        ["lru"] => peers::lru().map(|()| ExitCode::SUCCESS),
        ["lru-worker", backend] => peers::lru_worker(backend).map(|()| ExitCode::SUCCESS),
        ["gearmand-worker", address] => gearman::worker(address).map(|()| ExitCode::SUCCESS),
        ["nats-server-worker", address] => nats::worker(address).map(|()| ExitCode::SUCCESS),
        ["flood", rest @ ..] => shapes::flood(rest.first().map_or(Ok(5), |text| text.parse())?),
        ["memory"] => shapes::memory(),
        ["pool", rest @ ..] => shapes::pool(rest.first().map_or(Ok(20), |text| text.parse())?),
        ["crowd", numbers @ ..] => {
            let (rounds, time) = rounds_and_time(numbers)?;
            crowd::crowd(rounds, time)
        }
        numbers => {
            let (rounds, time) = rounds_and_time(numbers)?;
            compare(rounds, time, numbers.get(2).copied().unwrap_or_default())
        }
    }
}

fn rounds_and_time(numbers: &[&str]) -> Result<(u64, Duration)> {
    let number = |place: usize, default: u64| numbers.get(place).map_or(Ok(default), |text| text.parse());
    Ok((number(0, 5)?, Duration::from_secs(number(1, 4)?)))
}

/// Processes that end with this value, the broker last.
struct Stack {
    endpoint: String,
    processes: Vec<Child>,
    /// The process that moves the messages.
    broker: u32,
    /// What clients speak, if it is not ZeroMQ.
    wire: Option<Wire>,
}

impl Drop for Stack {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

fn start(command: &mut Command) -> Result<(Child, String)> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let stdout: ChildStdout = child.stdout.take().ok_or("no output")?;
    let line = BufReader::new(stdout).lines().next().ok_or("it ended before it was ready")??;
    Ok((child, line))
}

/// For whoever has started this process.
fn say_ready() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    Ok(out.flush()?)
}

fn start_direct() -> Result<Stack> {
    let (peer, line) = start(Command::new(std::env::current_exe()?).arg("direct"))?;
    let (endpoint, _backend) = line.split_once(' ').ok_or("no endpoints")?;
    let broker = peer.id();
    Ok(Stack { endpoint: endpoint.to_owned(), processes: vec![peer], broker, wire: None })
}

fn start_peer(broker: &str, worker: &str) -> Result<Stack> {
    let this = std::env::current_exe()?;
    let (peer, line) = start(Command::new(&this).arg(broker))?;
    let (frontend, backend) = line.split_once(' ').ok_or("no endpoints")?;
    let broker = peer.id();
    let mut processes = vec![peer];
    for _worker in 0..WORKERS {
        processes.push(Command::new(&this).args([worker, backend]).spawn()?);
    }
    Ok(Stack { endpoint: frontend.to_owned(), processes, broker, wire: None })
}

fn start_hornpipe(options: &[&str]) -> Result<Stack> {
    let binary = std::env::current_exe()?.with_file_name("hornpipe");
    let workers = WORKERS.to_string();
    let arguments = ["serve", "0", "0", "-n", &workers];
    let (broker, line) = start(Command::new(binary).args(arguments).args(options))?;
    let frontend = line.split_whitespace().find(|word| word.starts_with("tcp://")).ok_or("no endpoint")?;
    let router = shapes::router_of(broker.id()).ok_or("no router")?;
    Ok(Stack { endpoint: frontend.to_owned(), processes: vec![broker], broker: router, wire: None })
}

fn measure(stack: &Stack, (clients, depth, body): (usize, usize, usize), time: Duration) -> Result<Seen> {
    if let Some(wire) = stack.wire {
        return wire::measure((wire, &stack.endpoint), (clients, depth, body), time);
    }
    let plan = Plan {
        endpoints: vec![stack.endpoint.parse()?],
        clients,
        depth,
        mode: Mode::Plain,
        shape: Shape::Closed,
        body_sizes: Mix::of(body),
        services: Mix::of(None),
        until: Until::Elapsed(time),
        timeout: Duration::from_secs(5),
        verb_prefix: Vec::new(),
    };
    let outcome = load::run(&plan)?;
    if !outcome.counts.is_flawless() {
        return Err(format!("not every reply was right: {:?}", outcome.counts).into());
    }
    let (rate, Latency { p50, p99, .. }) = (outcome.rate, outcome.latency);
    Ok(Seen { rate, p50, p99 })
}

/// What clients have seen: right replies a second, and how long they took in microseconds.
struct Seen {
    rate: f64,
    p50: f64,
    p99: f64,
}

/// What one round has shown, and the broker's own processor time in it.
struct Round {
    seen: Seen,
    cpu: Duration,
}

fn compare(rounds: u64, time: Duration, load: &str) -> Result<ExitCode> {
    let shapes: Vec<_> = SHAPES.into_iter().filter(|(name, ..)| name.contains(load)).collect();
    if shapes.is_empty() {
        return Err(
            format!("no load is called {load:?}: {}", SHAPES.map(|(name, ..)| name).join(", ")).into()
        );
    }
    let mut stacks = vec![
        ("zmq_proxy", start_peer("proxy", "proxy-worker")?),
        ("LRU", start_peer("lru", "lru-worker")?),
        ("hornpipe", start_hornpipe(&[])?),
        ("  prefetch 0", start_hornpipe(&["--prefetch", "0"])?),
        ("no broker", start_direct()?),
    ];
    let mut out = std::io::stdout().lock();
    for wire in [Wire::Gearman, Wire::Nats] {
        match wire::start(wire)? {
            Some(stack) => stacks.push((wire.program(), stack)),
            None => writeln!(
                out,
                "{} is not installed (Debian: {}): no rows of it",
                wire.program(),
                wire.package()
            )?,
        }
    }
    writeln!(out, "{WORKERS} echo workers, {rounds} rounds of {time:?} in turns, medians")?;
    writeln!(
        out,
        "{:<16}{:<14}{:>10}{:>8}{:>10}{:>10}{:>10}",
        "load", "broker", "req/s", "ratio", "p50 us", "p99 us", "cpu us"
    )?;
    for (name, clients, depth, body) in shapes {
        let mut all: Vec<Vec<Round>> = stacks.iter().map(|_stack| Vec::new()).collect();
        for _round in 0..rounds {
            for ((_broker, stack), rounds) in stacks.iter().zip(&mut all) {
                let before = shapes::cpu_of(stack.broker)?;
                let seen = measure(stack, (clients, depth, body), time)?;
                let cpu = shapes::cpu_of(stack.broker)?.saturating_sub(before);
                rounds.push(Round { seen, cpu });
            }
        }
        let rate = |rounds: &[Round]| median(rounds.iter().map(|round| round.seen.rate));
        let peer = rate(all.first().map(Vec::as_slice).unwrap_or_default());
        for ((broker, _stack), rounds) in stacks.iter().zip(&all) {
            let (rate, p50) = (rate(rounds), median(rounds.iter().map(|round| round.seen.p50)));
            let p99 = median(rounds.iter().map(|round| round.seen.p99));
            let cpu = median(rounds.iter().map(|round| {
                round.cpu.as_secs_f64() * 1e6 / (round.seen.rate * time.as_secs_f64()).max(1.0)
            }));
            let ratio = rate / peer;
            writeln!(out, "{name:<16}{broker:<14}{rate:>10.0}{ratio:>8.2}{p50:>10.0}{p99:>10.0}{cpu:>10.1}")?;
            out.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
