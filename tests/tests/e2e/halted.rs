//! Workers that somebody stops without ending them.

use std::time::Duration;

use hornpipe_tests::harness::{Broker, is_alive, send};
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

#[test]
fn a_stopped_idle_worker_gets_no_request_and_is_replaced() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    send(workers[&0], SIGSTOP);
    let client = broker.client();
    // One that was given to it before anybody knew would wait until it is replaced.
    for _ in 0..20 {
        assert_eq!(client.ask_text("echo x"), "x");
    }
    let report = broker.wait_until("it is replaced", |report| {
        report
            .workers
            .iter()
            .any(|worker| worker.slot == 0 && worker.incarnation == 2 && worker.state == "waiting")
    });
    assert!(!is_alive(workers[&0]));
    let reason = report.workers[0].last_exit.as_ref().unwrap().reason.clone();
    assert!(reason.contains("stopped"), "{reason}");
}

#[test]
fn a_stopped_busy_workers_request_goes_to_another_worker() {
    let broker = Broker::demo(2);
    let client = broker.client();
    client.send(&[b"sleep 1000"]);
    let report = broker.wait_for_in_flight(1);
    let busy = report.workers.iter().find(|worker| worker.state == "processing").unwrap().pid.unwrap();
    send(busy, SIGSTOP);
    assert_eq!(client.receive(), [b"slept 1000"]);
    assert!(!is_alive(busy));
    assert_eq!(broker.status().requests.retried, 1);
    broker.wait_for_idle(2);
    broker.check_counters();
}

#[test]
fn a_worker_that_stops_itself_in_a_request_is_replaced() {
    let broker = Broker::demo(2);
    let answer = broker.ask("stop");
    assert!(answer.starts_with("ERR lost "), "{answer}");
    broker.wait_for_idle(2);
}

#[test]
fn a_stopped_worker_that_goes_on_in_time_keeps_its_place_and_its_request() {
    let broker = Broker::demo(1);
    let pid = broker.workers()[&0];
    let client = broker.client();
    client.send(&[b"sleep 300"]);
    broker.wait_for_in_flight(1);
    send(pid, SIGSTOP);
    assert!(client.receive_within(Duration::from_millis(800)).is_none());
    send(pid, SIGCONT);
    assert_eq!(client.receive(), [b"slept 300"]);
    assert_eq!(broker.workers()[&0], pid);
    assert_eq!(broker.status().requests.retried, 0);
}
