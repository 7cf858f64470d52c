//! A pool that follows its load, and one that is pushed about: nothing is lost on the way.

use std::time::Duration;

use hornpipe_proto::control::{ControlRequest, Scale};
use hornpipe_tests::harness::{Broker, Chaos, Client, Serve};
use nix::sys::signal::Signal::{SIGTTIN, SIGTTOU};

/// Sends this many requests that take `milliseconds` each.
fn saturate(broker: &Broker, requests: usize, milliseconds: u32) -> Client {
    let client = Client::dealer(broker.frontend());
    for _ in 0..requests {
        client.send(&[b"", format!("sleep {milliseconds}").as_bytes()]);
    }
    client
}

fn receive_all(client: &Client, requests: usize, milliseconds: u32) {
    for _ in 0..requests {
        assert_eq!(client.receive(), [b"".to_vec(), format!("slept {milliseconds}").into_bytes()]);
    }
}

#[test]
fn a_pool_grows_while_requests_wait_and_shrinks_to_its_least_when_idle() {
    let limits = ["--min", "2", "--max", "8", "--scale-down-after", "2s"];
    let broker = Serve::demo(2).options(limits).start();
    assert!(broker.status().pool.autoscale);
    let client = saturate(&broker, 60, 300);
    let report = broker.wait_until("the pool is at its most", |report| report.pool.ready == 8);
    let cause = report.pool.last_change.unwrap().cause;
    assert!(cause.starts_with("queue wait: "), "{cause}");
    receive_all(&client, 60, 300);
    let report = broker.wait_until("the pool is at its least", |report| {
        report.pool.target == 2 && report.workers.len() == 2
    });
    let cause = report.pool.last_change.unwrap().cause;
    assert!(cause.starts_with("idle: "), "{cause}");
    assert_eq!(report.requests.answered, 60);
    assert_eq!(report.requests.retried, 0);
    let log = broker.log();
    assert!(log.contains("queue wait: ") && log.contains("idle: "), "{log}");
    broker.check_counters();
}

#[test]
fn the_operators_size_is_where_autoscaling_goes_on() {
    let limits = ["--min", "1", "--max", "8", "--scale-down-after", "2s"];
    let broker = Serve::demo(1).options(limits).start();
    broker.order(&ControlRequest::Scale(Scale::To(5)));
    let report = broker.wait_for_idle(5);
    assert_eq!(report.pool.last_change.unwrap().cause, "operator");
    broker.wait_until("the idle ones have gone", |report| report.workers.len() == 1);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn spare_workers_are_there_before_they_are_needed_and_go_when_they_are_too_many() {
    let options =
        ["--max", "8", "--min-spare-servers", "2", "--max-spare-servers", "3", "--check-for-waiting", "1"];
    let broker = Serve::demo(2).options(options).start();
    let client = saturate(&broker, 4, 2000);
    broker.wait_until("two more than are busy", |report| report.pool.target == 6 && report.pool.ready == 6);
    receive_all(&client, 4, 2000);
    broker.wait_until("three are left", |report| report.pool.target == 3 && report.workers.len() == 3);
    let log = broker.log();
    assert!(log.contains("spare: 0 idle, at least 2 wanted"), "{log}");
    broker.check_counters();
}

#[test]
fn a_storm_of_signals_leaves_the_pool_within_its_limits() {
    let broker = Serve::demo(2).options(["--max", "8"]).start();
    for _ in 0..1000 {
        broker.signal(SIGTTIN);
        broker.signal(SIGTTOU);
    }
    let report = broker.wait_until("the pool has settled", |report| {
        report.pool.ready == report.pool.target && report.workers.len() == report.pool.target as usize
    });
    assert!((1..=8).contains(&report.pool.target), "{}", report.pool.target);
    assert!(report.pool.spawned <= 2 + 1000);
    broker.order(&ControlRequest::Scale(Scale::To(1)));
    broker.wait_for_idle(1);
    for (signal, targets) in [(SIGTTIN, [2, 3, 4, 5, 6, 7, 8, 8]), (SIGTTOU, [7, 6, 5, 4, 3, 2, 1, 1])] {
        for target in targets {
            broker.signal(signal);
            broker.wait_until("one more or less", |report| report.pool.target == target);
        }
    }
    broker.wait_for_idle(1);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_pool_that_is_pushed_up_and_down_under_load_loses_nothing() {
    let broker = Broker::demo(1);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let time = Duration::from_secs(8);
            Chaos { clients: 4, time, requests: 0, kill_every: Duration::from_mins(10) }.run(&broker)
        });
        for target in [16, 1, 16, 1, 16, 1] {
            broker.order(&ControlRequest::Scale(Scale::To(target)));
            broker.wait_until("the pool has its size", |report| {
                report.pool.ready == target && report.workers.len() == target as usize
            });
        }
        load.join().unwrap().check();
    });
    broker.check_counters();
}
