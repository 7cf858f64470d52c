//! Clients in numbers. The `faults` program does the same with as many as one likes.

use hornpipe_tests::harness::{Broker, Crowd, Vanished};

/// Of each client, in the router; and a little for what is allocated once.
const CLIENT: u64 = 32 << 10;

/// Of all clients of a round that have vanished: less than they could be remembered by.
const LEFT_BEHIND: i64 = 256 << 10;

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
    const COUNT: u32 = 800;
    const ROUNDS: u32 = 6;
    let vanished = Vanished::play(ROUNDS, COUNT);
    // Of those that hung up every request has arrived.
    assert!(vanished.report.requests.received >= u64::from((1 + ROUNDS) * COUNT / 2), "{vanished:?}");
    assert!(vanished.left_behind() <= LEFT_BEHIND, "{vanished:?}");
}
