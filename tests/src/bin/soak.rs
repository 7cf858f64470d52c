//! The end-to-end tests that take longer than a test suite may, with their figures.
//!
//! `cargo run --release -p hornpipe-tests --bin soak -- --kills-for 10m --requests 1000000`
//! kills one worker a second under load, and fails unless every request had exactly one
//! right answer. `... --bin soak -- idle` measures what a broker costs that has nothing to
//! do. Build the binary with the same profile first: `cargo build --release -p hornpipe`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its reader sits at a terminal")]

use std::process::ExitCode;
use std::time::Duration;

use hornpipe_tests::harness::{Broker, Chaos, Serve, cpu_time, let_pass};

const USAGE: &str = "usage: soak [--kills-for TIME] [--requests N]   TIME as in 90s or 10m\n       soak idle";

/// How long a broker is watched that has nothing to do.
const IDLE: Duration = Duration::from_secs(20);

/// What it may cost meanwhile, of one core, in percent.
const IDLE_LIMIT: f64 = 1.0;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["idle"] {
        return idle();
    }
    let Some(chaos) = parse(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    kill(&chaos)
}

fn parse(words: &[String]) -> Option<Chaos> {
    let mut chaos = Chaos {
        clients: 8,
        time: Duration::from_mins(10),
        requests: 1_000_000,
        kill_every: Duration::from_secs(1),
    };
    for pair in words.chunks(2) {
        match pair {
            [name, value] if name == "--kills-for" => chaos.time = duration(value)?,
            [name, value] if name == "--requests" => chaos.requests = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(chaos)
}

fn duration(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s')?, 1),
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

fn kill(chaos: &Chaos) -> ExitCode {
    let broker = Serve::demo(4).options(["--attempts", "5"]).start();
    let figures = chaos.run(&broker);
    let retried = broker.status().requests.retried;
    println!("sent     {}", figures.sent);
    println!("right    {}", figures.right);
    println!("errors   {}", figures.errors);
    println!("lost     {}", figures.lost);
    println!("wrong    {}", figures.wrong);
    println!("doubled  {}", figures.doubled);
    println!("kills    {}", figures.kills);
    println!("retried  {retried}");
    if let Some(sample) = &figures.sample {
        println!("one of the errors: {sample}");
    }
    broker.check_counters();
    if figures.right == figures.sent && figures.doubled == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn idle() -> ExitCode {
    let broker = Broker::demo(4);
    let members = broker.session().members();
    let used = || members.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
    let before = used();
    let_pass(IDLE);
    let used = used().saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / IDLE.as_secs_f64();
    println!("{} processes, {used:?} in {IDLE:?}: {percent:.2} % of one core", members.len());
    if percent < IDLE_LIMIT { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
