//! The core against the simulation, as part of every `cargo test`. Longer runs
//! are the binary `simulate`'s; both name the seed and the step of a failure.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use hornpipe_tests::simulation::{self, keys, services};

/// Enough for each planted bug that was tried to be found.
const SEEDS: std::ops::Range<u64> = 0..2000;

/// The same for several services, whose single cores are played above.
const SERVICES_SEEDS: std::ops::Range<u64> = 0..300;

/// The same for idempotency keys.
const KEYS_SEEDS: std::ops::Range<u64> = 0..400;

/// Long enough for a pool to come up, be disturbed and come up again.
const EVENTS: u64 = 400;

#[test]
fn the_core_keeps_its_laws_whatever_happens() {
    let next = AtomicU64::new(SEEDS.start);
    let play = || {
        while let Some(seed) = Some(next.fetch_add(1, Relaxed)).filter(|seed| SEEDS.contains(seed)) {
            simulation::run(seed, EVENTS, false);
        }
    };
    // The longest of all, and no run knows of another.
    thread::scope(|scope| {
        for _processor in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(play);
        }
    });
}

#[test]
fn the_same_seed_plays_the_same_run() {
    for seed in 0..20 {
        let (once, again) = (simulation::run(seed, EVENTS, false), simulation::run(seed, EVENTS, false));
        assert_eq!(format!("{once:?}"), format!("{again:?}"), "seed {seed}");
    }
}

#[test]
fn the_work_of_a_key_runs_once() {
    let mut seen = keys::Tally::default();
    for seed in KEYS_SEEDS {
        let one = keys::run(seed, EVENTS);
        seen = seen + one;
        if seed < 20 {
            assert_eq!(one, keys::run(seed, EVENTS), "seed {seed}");
        }
    }
    let kinds = [seen.answered, seen.repeated, seen.refused, seen.dropped, seen.runs, seen.lives];
    assert!(kinds.iter().all(|count| *count > 500) && seen.inherited > 100 && seen.ahead > 100, "{seen:?}");
}

#[test]
fn services_keep_to_themselves_whatever_happens() {
    let mut seen = services::Tally::default();
    for seed in SERVICES_SEEDS {
        let one = services::run(seed, EVENTS);
        seen = seen + one;
        if seed < 20 {
            assert_eq!(one, services::run(seed, EVENTS), "seed {seed}");
        }
    }
    // What is to be judged must have happened.
    let kinds =
        [seen.answered, seen.refused, seen.opened, seen.closed, seen.moved, seen.disowned, seen.lives];
    assert!(kinds.iter().all(|count| *count > 500), "{seen:?}");
}
