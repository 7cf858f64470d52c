//! The end-to-end tests that take longer than a test suite may, with their figures.
//!
//! `cargo run --release -p hornpipe-tests --bin soak -- --kills-for 10m --requests 1000000`
//! kills one worker a second under load, and fails unless every request had exactly one
//! right answer. `... --bin soak -- idle` measures what a broker costs that has nothing to
//! do. `... --bin soak -- recycle --requests 1000000` replaces a worker after each hundred
//! requests, and fails if router or parent grow. Build the binary with the same profile first: `cargo build --release -p hornpipe`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its reader sits at a terminal")]

use std::process::ExitCode;
use std::time::Duration;

use hornpipe_tests::harness::{Broker, Chaos, Serve, cpu_time, descriptors, let_pass, resident};

const USAGE: &str = "usage: soak [--kills-for TIME] [--requests N]   TIME as in 90s or 10m\n       soak idle\n       soak recycle [--requests N]";

/// How long a broker is watched that has nothing to do.
const IDLE: Duration = Duration::from_secs(20);

/// What it may cost meanwhile, of one core, in percent.
const IDLE_LIMIT: f64 = 1.0;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["idle"] {
        return idle();
    }
    if let Some((first, rest)) = words.split_first()
        && first == "recycle"
    {
        let requests = match rest {
            [] => Some(100_000),
            [name, value] if name == "--requests" => value.parse().ok(),
            _ => None,
        };
        return requests.map_or_else(usage, recycle);
    }
    let Some(chaos) = parse(&words) else {
        return usage();
    };
    kill(&chaos)
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
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

/// Memory that router and parent may take in the course of it, each.
const GROWTH_LIMIT: u64 = 16 << 20;

/// Descriptors, more than at the beginning: of connections that are just ending.
const DESCRIPTORS_LIMIT: usize = 8;

fn recycle(requests: u64) -> ExitCode {
    let broker = Serve::demo(4).options(["--max-requests", "100"]).start();
    let load = |requests| {
        let time = Duration::ZERO;
        let load = Chaos { clients: 8, time, requests, kill_every: Duration::from_hours(10_000) };
        let figures = load.run(&broker);
        broker.wait_for_idle(4);
        figures
    };
    let processes = [("parent", broker.pid()), ("router", broker.router_pid())];
    let measure = || processes.map(|(name, pid)| (name, descriptors(pid), resident(pid)));
    // Tables and pools reach their sizes first.
    load(requests / 10).check();
    let before = measure();
    let figures = load(requests);
    let mut sound = figures.right == figures.sent && figures.doubled == 0;
    println!("{} of {} right, {} workers", figures.right, figures.sent, broker.status().pool.spawned);
    for ((name, descriptors, resident), (_, descriptors_after, resident_after)) in
        before.into_iter().zip(measure())
    {
        println!(
            "{name}: {descriptors} descriptors, then {descriptors_after}; {} KiB, then {} KiB",
            resident / 1024,
            resident_after / 1024
        );
        sound &= descriptors_after <= descriptors + DESCRIPTORS_LIMIT;
        sound &= resident_after <= resident + GROWTH_LIMIT;
    }
    broker.check_counters();
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
