//! Plays the simulation for longer than `cargo test` does.
//!
//! `cargo run --release -p hornpipe-tests --bin simulate -- --seeds 100000 --events 400`
//! plays seeds 1 to 100,000; `--seed 311` plays that one and nothing else, and
//! `--trace` shows every event and every action of it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its reader sits at a terminal")]
#![expect(clippy::disallowed_methods, reason = "how long a run takes is measured, and plays no part in it")]

use std::process::ExitCode;
use std::time::Instant;

use hornpipe_tests::simulation::{self, Report};

const USAGE: &str = "usage: simulate [--seeds N] [--first SEED] [--events M] [--seed SEED [--trace]]";

struct Arguments {
    first: u64,
    seeds: u64,
    events: u64,
    trace: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let start = Instant::now();
    let mut total = Report::default();
    for seed in arguments.first..arguments.first + arguments.seeds {
        let guard = Reproduce { seed, events: arguments.events };
        total = total + simulation::run(seed, arguments.events, arguments.trace);
        std::mem::forget(guard);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{} seeds, {total:?}, {seconds:.1} s", arguments.seeds);
    ExitCode::SUCCESS
}

/// Says how a failure is seen again.
struct Reproduce {
    seed: u64,
    events: u64,
}

impl Drop for Reproduce {
    fn drop(&mut self) {
        let Self { seed, events } = self;
        eprintln!("cargo run -p hornpipe-tests --bin simulate -- --seed {seed} --events {events}");
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { first: 1, seeds: 1000, events: 400, trace: false };
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
            "--seed" => (arguments.first, arguments.seeds) = (number, 1),
            _ => return None,
        }
    }
    Some(arguments)
}
