//! One worker killed a second under load: nothing lost, nothing wrong, nothing doubled.
//! The `soak` program does the same for as long as one likes.

use std::time::Duration;

use hornpipe_tests::harness::{Chaos, Serve};

#[test]
fn twenty_seconds_of_killing_lose_nothing() {
    let broker = Serve::demo(4).options(["--attempts", "5"]).start();
    let chaos =
        Chaos { clients: 4, time: Duration::from_secs(20), requests: 0, kill_every: Duration::from_secs(1) };
    let figures = chaos.run(&broker);
    figures.check();
    assert!(figures.kills >= 15, "{figures:?}");
    let report = broker.status();
    assert_eq!(report.requests.answered, figures.sent);
    broker.check_counters();
}
