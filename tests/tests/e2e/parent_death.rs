//! `kill -9` of the parent: nothing is left, and a new start needs no clean-up.

use std::time::Duration;

use hornpipe_tests::harness::{Broker, Client, Deadline, Serve, python, script, send};
use nix::sys::signal::Signal::{SIGKILL, SIGSTOP};

/// Ten times the second in which everything should be gone.
const SOON: Duration = Duration::from_secs(10);

/// Kills the parent, and starts the same broker again as soon as nothing is left.
fn kill_parent_and_start_again(mut broker: Broker) {
    broker.let_it_fail();
    send(broker.pid(), SIGKILL);
    broker.wait();
    broker.wait_until_nothing_is_left();
    let second = Serve::demo(1).in_place_of(&broker).start();
    assert_eq!(second.frontend(), broker.frontend());
    assert_eq!(second.ask("echo x"), "x");
}

#[test]
fn an_idle_broker_leaves_nothing() {
    kill_parent_and_start_again(Broker::demo(3));
}

#[test]
fn busy_workers_are_not_left_behind() {
    let broker = Broker::demo(2);
    let clients: [Client; 3] = [(); 3].map(|()| broker.client());
    for client in &clients {
        client.send(&[b"sleep 600000"]);
    }
    broker.wait_until("all are at work", |report| {
        report.requests.in_flight == 2 && report.requests.waiting == 1
    });
    kill_parent_and_start_again(broker);
}

#[test]
fn stopped_workers_are_not_left_behind() {
    let broker = Broker::demo(2);
    for pid in broker.workers().into_values() {
        send(pid, SIGSTOP);
    }
    kill_parent_and_start_again(broker);
}

#[test]
fn a_stopped_router_is_not_left_behind() {
    let broker = Broker::demo(2);
    send(broker.router_pid(), SIGSTOP);
    kill_parent_and_start_again(broker);
}

#[test]
fn programs_and_what_they_have_started_are_not_left_behind() {
    let command = "sleep 4716 & while read line; do sleep 4716; done";
    let broker = Serve::bare(2).options(["--lines"]).program(["sh", "-c", command]).start();
    let client = broker.client();
    client.send(&[b"x"]);
    broker.wait_for_in_flight(1);
    kill_parent_and_start_again(broker);

    let broker = Serve::bare(2).options(["--each"]).program(["sh", "-c", "sleep 4717 & sleep 4717"]).start();
    let client = broker.client();
    client.send(&[b"x"]);
    broker.wait_for_in_flight(1);
    kill_parent_and_start_again(broker);

    let command = format!("sleep 4718 & {} {}", python().display(), script("plain_worker.py").display());
    let broker = Serve::bare(1).program(["sh", "-c", &command]).start();
    kill_parent_and_start_again(broker);
}

#[test]
fn a_parent_killed_together_with_its_router_leaves_nothing() {
    let mut broker = Broker::demo(3);
    broker.let_it_fail();
    let router = broker.router_pid();
    send(router, SIGKILL);
    send(broker.pid(), SIGKILL);
    broker.wait();
    broker.wait_until_nothing_is_left();
}

#[test]
fn workers_that_never_stop_computing_and_heed_no_signal_are_gone_soon_after() {
    let command = "trap '' TERM HUP INT QUIT; while read line; do while :; do :; done; done";
    let mut broker = Serve::bare(2).options(["--lines"]).program(["sh", "-c", command]).start();
    let clients: [Client; 2] = [(); 2].map(|()| broker.client());
    for client in &clients {
        client.send(&[b"x"]);
    }
    broker.wait_for_in_flight(2);
    broker.let_it_fail();
    send(broker.pid(), SIGKILL);
    let soon = Deadline::after(SOON);
    broker.wait();
    broker.wait_until_nothing_is_left();
    assert!(!soon.is_over(), "it took {:?}", soon.elapsed());
}
