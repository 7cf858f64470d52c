//! More at once than the pool can do: a bounded queue, prompt refusals, an orderly end.

use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_tests::harness::{Client, Serve, refused};
use nix::sys::signal::Signal::SIGTERM;

const WORKERS: u32 = 4;

const QUEUE: u64 = 100;

/// Ten times what runs and what may wait.
const BURST: u64 = 10 * (WORKERS as u64 + QUEUE);

/// Sends this body so often, each time with its number for an envelope.
fn send_many(client: &Client, count: u64, body: &[u8]) {
    for number in 0..count {
        client.send(&[&number.to_be_bytes(), b"", body]);
    }
}

/// The number and the answer that come next.
fn next(client: &Client) -> (u64, Vec<u8>) {
    let [number, empty, answer] = client.receive().try_into().expect("an envelope and one frame");
    assert!(empty.is_empty());
    (u64::from_be_bytes(number.try_into().unwrap()), answer)
}

#[test]
fn a_burst_of_ten_times_the_capacity_fills_the_queue_and_the_rest_is_busy_at_once() {
    let broker = Serve::demo(WORKERS).options(["--queue", &QUEUE.to_string()]).start();
    let occupants = Client::dealer(broker.frontend());
    send_many(&occupants, u64::from(WORKERS), b"sleep 3000");
    broker.wait_for_in_flight(u64::from(WORKERS));
    let client = Client::dealer(broker.frontend());
    send_many(&client, BURST, b"echo x");
    for expected in QUEUE..BURST {
        let (number, answer) = next(&client);
        assert!(answer.starts_with(b"ERR busy "), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(number, expected, "who came first waits");
    }
    let report = broker.status();
    assert_eq!(report.requests.in_flight, u64::from(WORKERS), "the refusals took as long as the work");
    assert_eq!((report.requests.waiting, report.queue.backlog_len), (QUEUE, QUEUE));
    assert_eq!(refused(&report, Status::Busy), BURST - QUEUE);
    assert_eq!(report.requests.received, BURST + u64::from(WORKERS));
    for _served in 0..QUEUE {
        let (number, answer) = next(&client);
        assert!(number < QUEUE && answer == b"x");
    }
    for _occupant in 0..WORKERS {
        assert_eq!(next(&occupants).1, b"slept 3000");
    }
    let report = broker.wait_for_idle(WORKERS as usize);
    assert_eq!(report.requests.answered, QUEUE + u64::from(WORKERS));
    assert_eq!(refused(&report, Status::Busy), BURST - QUEUE);
    broker.check_counters();
}

#[test]
fn term_with_a_thousand_waiting_refuses_them_at_once_and_finishes_what_runs() {
    const WAITING: u64 = 1000;
    let mut broker = Serve::demo(2).options(["--drain", "15s"]).start();
    let running = Client::dealer(broker.frontend());
    send_many(&running, 2, b"sleep 2000");
    broker.wait_for_in_flight(2);
    let waiting = Client::dealer(broker.frontend());
    send_many(&waiting, WAITING, b"echo x");
    broker.wait_until("a thousand wait", |report| report.requests.waiting == WAITING);
    broker.signal(SIGTERM);
    for expected in 0..WAITING {
        let (number, answer) = next(&waiting);
        assert!(answer.starts_with(b"ERR draining "), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(number, expected);
    }
    assert!(running.receive_within(Duration::ZERO).is_none(), "the refusals waited for the work");
    // Whoever comes later is told as well.
    let late = broker.client();
    late.send(&[b"echo x"]);
    late.receive_error(Status::Draining);
    for _running in 0..2 {
        assert_eq!(next(&running).1, b"slept 2000");
    }
    let ended = broker.wait();
    assert_eq!(ended.code(), Some(0));
    assert!(ended.waited < Duration::from_secs(15), "{:?}", ended.waited);
}
