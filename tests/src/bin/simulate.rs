//! Plays the simulation for longer than `cargo test` does.
//!
//! `cargo run --release -p hornpipe-tests --bin simulate -- --seeds 100000 --events 400`
//! plays seeds 1 to 100,000, on every processor there is or on `--threads N`; `--seed 311`
//! plays that one and nothing else, and `--trace` shows every event and every action of it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its reader sits at a terminal")]
#![expect(clippy::disallowed_methods, reason = "how long a run takes is measured, and plays no part in it")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use hornpipe_tests::simulation::{self, Report};

const USAGE: &str =
    "usage: simulate [--seeds N] [--first SEED] [--events M] [--threads N] [--seed SEED [--trace]]";

struct Arguments {
    first: u64,
    seeds: u64,
    events: u64,
    threads: u64,
    trace: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let start = Instant::now();
    let total = play(&arguments);
    let seconds = start.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(total.events).unwrap_or(u32::MAX)) / seconds.max(1e-9);
    let Arguments { seeds, threads, .. } = arguments;
    println!("{seeds} seeds, {total:?}, {seconds:.1} s on {threads} threads: {rate:.0} events/s");
    ExitCode::SUCCESS
}

/// Every seed once, each by whichever thread is free: no run knows of another.
fn play(arguments: &Arguments) -> Report {
    let Arguments { first, seeds, events, threads, trace } = *arguments;
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let some = || {
        let mut total = Report::default();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + seeds || failed.load(Relaxed) {
                return total;
            }
            let guard = Reproduce { seed, events, failed: &failed };
            total = total + simulation::run(seed, events, trace);
            std::mem::forget(guard);
        }
    };
    thread::scope(|scope| {
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        // One that panics has said why.
        let totals = players
            .into_iter()
            .map(|player| player.join().unwrap_or_else(|why| std::panic::resume_unwind(why)));
        totals.fold(Report::default(), std::ops::Add::add)
    })
}

/// Says how a failure is seen again, and that nobody need go on.
struct Reproduce<'a> {
    seed: u64,
    events: u64,
    failed: &'a AtomicBool,
}

impl Drop for Reproduce<'_> {
    fn drop(&mut self) {
        let Self { seed, events, failed } = self;
        failed.store(true, Relaxed);
        eprintln!("cargo run -p hornpipe-tests --bin simulate -- --seed {seed} --events {events}");
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let threads = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let mut arguments = Arguments { first: 1, seeds: 1000, events: 400, threads, trace: false };
    while let Some(word) = words.next() {
        if word == "--trace" {
            arguments.trace = true;
            continue;
        }
        let number = words.next()?.parse().ok()?;
        match word.as_str() {
            "--seeds" => arguments.seeds = number,
            "--first" => arguments.first = number,
            "--events" => arguments.events = number,
            "--threads" => arguments.threads = number,
            "--seed" => (arguments.first, arguments.seeds) = (number, 1),
            _ => return None,
        }
    }
    Some(arguments)
}
