//! Hornpipe beside `zmq_proxy`, the broker that libzmq brings along: the same
//! libzmq, the same load, the same machine, in turns. Prints medians and ratios.
//!
//! `cargo run --release -p hornpipe-tests --bin compare -- [ROUNDS [SECONDS]]`
#![expect(clippy::disallowed_methods, reason = "the peers are processes, and both start the same way")]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use hornpipe_client::load::{self, Mix, Mode, Outcome, Plan, Shape, Until};

const WORKERS: usize = 4;
const BODY: usize = 16;

/// Name, clients, requests out at once for each.
const SHAPES: [(&str, usize, usize); 3] = [("1 REQ", 1, 1), ("32 REQ", 32, 1), ("4 DEALER x 64", 4, 64)];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["proxy"] => proxy().map(|()| ExitCode::SUCCESS),
        ["worker", backend] => worker(backend).map(|()| ExitCode::SUCCESS),
        numbers => {
            let number =
                |place: usize, default: u64| numbers.get(place).map_or(Ok(default), |text| text.parse());
            compare(number(0, 5)?, Duration::from_secs(number(1, 4)?))
        }
    }
}

/// The peer: a ROUTER and a DEALER, joined by libzmq itself.
fn proxy() -> Result<()> {
    let context = zmq::Context::new();
    let (frontend, backend) = (context.socket(zmq::ROUTER)?, context.socket(zmq::DEALER)?);
    for socket in [&frontend, &backend] {
        socket.bind("tcp://127.0.0.1:*")?;
    }
    let endpoint = |socket: &zmq::Socket| socket.get_last_endpoint()?.map_err(|_bytes| zmq::Error::EINVAL);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {}", endpoint(&frontend)?, endpoint(&backend)?)?;
    out.flush()?;
    Ok(zmq::proxy(&frontend, &backend)?)
}

/// The peer's worker: a REP socket that echoes.
fn worker(backend: &str) -> Result<()> {
    let socket = zmq::Context::new().socket(zmq::REP)?;
    socket.connect(backend)?;
    loop {
        let message = socket.recv_msg(0)?;
        socket.send(message, 0)?;
    }
}

/// Processes that end with this value, the broker last.
struct Stack {
    endpoint: String,
    processes: Vec<Child>,
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

fn start_proxy() -> Result<Stack> {
    let this = std::env::current_exe()?;
    let (proxy, line) = start(Command::new(&this).arg("proxy"))?;
    let (frontend, backend) = line.split_once(' ').ok_or("no endpoints")?;
    let mut processes = vec![proxy];
    for _worker in 0..WORKERS {
        processes.push(Command::new(&this).args(["worker", backend]).spawn()?);
    }
    Ok(Stack { endpoint: frontend.to_owned(), processes })
}

fn start_hornpipe() -> Result<Stack> {
    let binary = std::env::current_exe()?.with_file_name("hornpipe");
    let (broker, line) = start(Command::new(binary).args(["serve", "0", "0", "-n", &WORKERS.to_string()]))?;
    let frontend = line.split_whitespace().find(|word| word.starts_with("tcp://")).ok_or("no endpoint")?;
    Ok(Stack { endpoint: frontend.to_owned(), processes: vec![broker] })
}

fn measure(stack: &Stack, clients: usize, depth: usize, time: Duration) -> Result<Outcome> {
    let plan = Plan {
        endpoints: vec![stack.endpoint.parse()?],
        clients,
        depth,
        mode: Mode::Plain,
        shape: Shape::Closed,
        body_sizes: Mix::of(BODY),
        services: Mix::of(None),
        until: Until::Elapsed(time),
        timeout: Duration::from_secs(5),
        verb_prefix: Vec::new(),
    };
    let outcome = load::run(&plan)?;
    if !outcome.counts.is_flawless() {
        return Err(format!("not every reply was right: {:?}", outcome.counts).into());
    }
    Ok(outcome)
}

fn compare(rounds: u64, time: Duration) -> Result<ExitCode> {
    let stacks = [("zmq_proxy", start_proxy()?), ("hornpipe", start_hornpipe()?)];
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{WORKERS} echo workers, {BODY} byte bodies, {rounds} rounds of {time:?} in turns, medians"
    )?;
    writeln!(
        out,
        "{:<16}{:<12}{:>10}{:>8}{:>10}{:>10}",
        "load", "broker", "req/s", "ratio", "p50 us", "p99 us"
    )?;
    for (name, clients, depth) in SHAPES {
        let mut outcomes = [Vec::new(), Vec::new()];
        for _round in 0..rounds {
            for ((_broker, stack), outcomes) in stacks.iter().zip(&mut outcomes) {
                outcomes.push(measure(stack, clients, depth, time)?);
            }
        }
        let rate = |outcomes: &[Outcome]| median(outcomes.iter().map(|outcome| outcome.rate));
        let peer = rate(outcomes.first().map(Vec::as_slice).unwrap_or_default());
        for ((broker, _stack), outcomes) in stacks.iter().zip(&outcomes) {
            let (rate, p50) = (rate(outcomes), median(outcomes.iter().map(|outcome| outcome.latency.p50)));
            let p99 = median(outcomes.iter().map(|outcome| outcome.latency.p99));
            writeln!(out, "{name:<16}{broker:<12}{rate:>10.0}{:>8.2}{p50:>10.0}{p99:>10.0}", rate / peer)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
