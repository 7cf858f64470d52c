//! Crews whose brokers restart, and crews of several brokers.

use hornpipe_tests::harness::{Broker, Serve, eventually, send};
use nix::sys::signal::Signal::SIGKILL;

fn broker() -> Broker {
    Serve::bare(0).start()
}

fn wait_for_workers(broker: &Broker, count: usize) {
    broker.wait_until(&format!("{count} workers from elsewhere"), |report| {
        report.external.len() == count && report.external.iter().all(|worker| worker.state == "waiting")
    });
}

#[test]
fn a_crew_finds_its_broker_again() {
    let first = broker();
    let crew = Serve::crew(2, [first.backend()]).start();
    wait_for_workers(&first, 2);
    let workers = crew.workers();
    send(first.router_pid(), SIGKILL);
    wait_for_workers(&first, 2);
    assert_eq!(first.ask("echo x"), "x");
    let next = Serve::bare(0).in_place_of(&first);
    drop(first);
    crew.wait_until("it knows", |report| !report.brokers[0].connected);
    let second = next.start();
    wait_for_workers(&second, 2);
    assert_eq!(second.ask("upper x"), "X");
    assert_eq!(crew.workers(), workers, "nobody had to die for that");
}

#[test]
fn a_crew_may_be_there_before_its_broker() {
    let first = broker();
    let next = Serve::bare(0).in_place_of(&first);
    let backend = first.backend().to_owned();
    drop(first);
    let crew = Serve::crew(1, [&backend]).start();
    crew.wait_for_log("broker cannot be reached");
    let broker = next.start();
    wait_for_workers(&broker, 1);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn workers_serve_the_brokers_that_are_there() {
    let (one, two) = (broker(), broker());
    let crew = Serve::crew(4, [one.backend(), two.backend()]).start();
    wait_for_workers(&one, 2);
    wait_for_workers(&two, 2);
    let workers = crew.workers();
    // One is in the middle of something that its broker will not hear of.
    let client = one.client();
    client.send(&[b"sleep 1000"]);
    one.wait_for_in_flight(1);
    let mut one = one;
    let next = Serve::bare(0).in_place_of(&one);
    one.let_it_fail();
    send(one.pid(), SIGKILL);
    one.wait();
    wait_for_workers(&two, 4);
    assert_eq!(two.ask("upper x"), "X");
    let one_again = next.start();
    wait_for_workers(&one_again, 2);
    wait_for_workers(&two, 2);
    assert_eq!((one_again.ask("echo x"), two.ask("echo y")), ("x".into(), "y".into()));
    assert_eq!(crew.workers(), workers, "nobody had to die for that");
    eventually("it is told", || crew.status().brokers.iter().all(|broker| broker.workers == 2));
}

#[test]
fn a_worker_finishes_before_it_serves_another_broker() {
    let first = broker();
    let two = broker();
    let next = Serve::bare(0).in_place_of(&first);
    let backend = first.backend().to_owned();
    drop(first);
    let crew = Serve::crew(2, [&backend, two.backend()]).start();
    wait_for_workers(&two, 2);
    let clients = [two.client(), two.client()];
    for client in &clients {
        client.send(&[b"sleep 700"]);
    }
    two.wait_for_in_flight(2);
    let one = next.start();
    wait_for_workers(&one, 1);
    for client in &clients {
        assert_eq!(client.receive(), [b"slept 700"]);
    }
    wait_for_workers(&two, 1);
    assert_eq!(two.status().requests.retried, 0);
    crew.wait_for_idle(2);
}
