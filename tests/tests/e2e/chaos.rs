//! One worker killed a second under load: nothing lost, nothing wrong, nothing doubled.
//! The `soak` program does the same for as long as one likes.

use std::time::Duration;

use hornpipe_tests::harness::{Chaos, Fairness, Serve};

#[test]
fn twenty_seconds_of_killing_lose_nothing() {
    let broker = Serve::demo(4).options(["--attempts", "5"]).start();
    let chaos =
        Chaos { clients: 4, time: Duration::from_secs(20), requests: 0, kill_every: Duration::from_secs(1) };
    let figures = chaos.run(&broker);
    figures.check();
    assert!(figures.kills.count >= 15, "{figures:?}");
    broker.wait_for_idle(4);
    let report = broker.status();
    assert_eq!(report.requests.answered, figures.sent);
    broker.check_counters();
}

#[test]
fn no_request_ever_waits_while_a_worker_is_idle() {
    let broker = Serve::demo(6).options(["--attempts", "5"]).start();
    let chaos =
        Chaos { clients: 2, time: Duration::from_secs(5), requests: 0, kill_every: Duration::from_secs(1) };
    let fairness = std::thread::scope(|scope| {
        let load = scope.spawn(|| chaos.run(&broker));
        let fairness = Fairness::watch(&broker, || load.is_finished());
        load.join().unwrap().check();
        fairness
    });
    assert!(fairness.looks > 50 && fairness.waiting > 0 && fairness.idle > 0, "{fairness:?}");
    assert_eq!(fairness.both, 0, "{fairness:?}");
}
