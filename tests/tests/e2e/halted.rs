//! Workers, routers and parents that somebody stops without ending them.

use std::time::Duration;

use hornpipe_tests::harness::{
    Broker, Chaos, HALT_TIMEOUT, Halts, Serve, is_alive, let_pass, python, script, send,
};
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

/// Ten times what the long run allows on a machine of its own.
const SLACK: Duration = Duration::from_secs(1);

/// Longer than any request of the load takes, and much longer than a turn of any loop.
const HALT: Duration = Duration::from_secs(2);

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
    client.send(&[b"sleep 2500"]);
    let report = broker.wait_for_in_flight(1);
    let busy = report.workers.iter().find(|worker| worker.state == "processing").unwrap().pid.unwrap();
    send(busy, SIGSTOP);
    assert_eq!(client.receive(), [b"slept 2500"]);
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

#[test]
fn what_a_stopped_worker_says_after_its_time_is_over_reaches_nobody() {
    let timeout = format!("{}ms", HALT_TIMEOUT.as_millis());
    let broker = Serve::demo(2).options(["--timeout", &timeout]).start();
    let halts = Halts::play(&broker, 20);
    assert_eq!(halts.stale, 0, "{halts:?}");
    assert!(halts.late.last().is_some_and(|late| *late < SLACK), "{halts:?}");
    broker.check_counters();
}

/// Stops one process of the broker under load, and lets it go on.
fn stop_under_load(broker: &Broker, pid: i32) {
    let workers = broker.workers();
    let router = broker.router_pid();
    std::thread::scope(|scope| {
        let time = HALT + Duration::from_secs(1);
        let load = Chaos { clients: 4, time, requests: 0, kill_every: Duration::from_hours(1) };
        let load = scope.spawn(move || load.run(broker));
        broker.wait_until("it is at work", |report| report.requests.answered > 100);
        send(pid, SIGSTOP);
        let_pass(HALT);
        send(pid, SIGCONT);
        load.join().unwrap().check();
    });
    let report = broker.wait_for_idle(workers.len());
    assert_eq!(broker.workers(), workers, "a healthy worker was replaced");
    assert_eq!((report.router_pid, report.pool.exited, report.requests.retried), (router, 0, 0));
    broker.check_counters();
}

#[test]
fn a_router_that_was_stopped_kills_nobody_and_loses_nothing_when_it_goes_on() {
    let broker = Broker::demo(3);
    stop_under_load(&broker, broker.router_pid());
}

#[test]
fn a_parent_that_was_stopped_kills_nobody_and_loses_nothing_when_it_goes_on() {
    let broker = Broker::demo(3);
    stop_under_load(&broker, broker.pid());
}

#[test]
fn the_time_in_which_the_router_was_stopped_is_charged_to_nobody() {
    let plain = [python().into_os_string(), script("plain_worker.py").into()];
    // A plain worker that is late gets TERM at once, one with details is told first.
    for serve in [Serve::bare(1).program(plain), Serve::demo(1)] {
        let broker = serve.options(["--timeout", "1s"]).start();
        let (workers, router) = (broker.workers(), broker.router_pid());
        let client = broker.client();
        client.send(&[b"sleep 300"]);
        broker.wait_for_in_flight(1);
        send(router, SIGSTOP);
        let_pass(HALT);
        send(router, SIGCONT);
        assert_eq!(client.receive(), [b"slept 300"], "its reply was there before its time was over");
        broker.wait_for_idle(1);
        assert_eq!(broker.workers(), workers, "a healthy worker was replaced");
    }
}
