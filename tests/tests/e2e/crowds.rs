//! Clients in numbers. The `faults` program does the same with as many as one likes.

use hornpipe_tests::harness::{Broker, Crowd, Vanished};

/// Of each client, in the router; and a little for what is allocated once.
const CLIENT: u64 = 32 << 10;

#[test]
fn hundreds_of_connected_clients_are_served_and_cost_little() {
    const COUNT: usize = 400;
    let broker = Broker::demo(2);
    // What is allocated once, and by the first.
    Crowd::gather(&broker, COUNT / 4).leave();
    let crowd = Crowd::gather(&broker, COUNT);
    assert_eq!(crowd.right, COUNT);
    assert!(crowd.bytes_each <= CLIENT, "{crowd:?}");
    assert_eq!(broker.ask("echo one more"), "one more");
    crowd.leave();
    broker.check_counters();
}

#[test]
fn clients_that_vanish_after_their_request_leave_nothing_behind() {
    const COUNT: u64 = 1000;
    let broker = Broker::demo(2);
    let vanished = Vanished::play(&broker, COUNT);
    // Of those that hung up every request has arrived.
    assert!(vanished.report.requests.received >= COUNT / 2, "{vanished:?}");
    assert!(vanished.grown <= 8 << 20, "{vanished:?}");
    assert_eq!(broker.ask("echo still there"), "still there");
}
