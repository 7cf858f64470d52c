//! Clients that do not read, and replies that are huge: both cost themselves and nobody else.

use std::time::Duration;

use hornpipe_tests::harness::{Broker, Client, Deadline, PlainWorker, Serve, Zmtp, resident};
use nix::sys::signal::Signal::SIGTERM;

const MIB: usize = 1024 * 1024;

/// A DEALER that takes next to nothing before its program reads.
fn slow_client(broker: &Broker) -> Client {
    Client::connect(zmq::DEALER, broker.frontend(), |socket| {
        socket.set_rcvhwm(1).unwrap();
        socket.set_rcvbuf(64 * 1024).unwrap();
    })
}

/// A worker in the test's hands, and how it answers `count` requests with `size` bytes, the
/// request's own first.
fn worker(broker: &Broker) -> PlainWorker {
    let worker = PlainWorker::connect_anonymous(broker.backend());
    worker.say("waiting");
    broker.wait_until("it is known", |report| !report.external.is_empty());
    worker
}

fn answer(worker: &PlainWorker, count: usize, size: usize) {
    for _ in 0..count {
        let (address, asked) = worker.receive();
        let mut body = vec![0; size];
        body[..asked.len()].copy_from_slice(&asked);
        worker.reply(&address, &body);
    }
}

#[test]
fn a_client_that_does_not_read_loses_its_own_replies_beyond_its_budget() {
    const COUNT: usize = 200;
    let broker = Serve::bare(0).start();
    let worker = worker(&broker);
    let (slow, other) = (slow_client(&broker), broker.client());
    let before = resident(broker.router_pid());
    for number in 0..COUNT {
        slow.send(&[b"", format!("{number:04}").as_bytes()]);
    }
    broker.wait_until("all of them are here", |report| report.requests.received == COUNT as u64);
    answer(&worker, COUNT, MIB);
    broker.wait_until("all are answered", |report| report.requests.answered == COUNT as u64);
    let grown = resident(broker.router_pid()).saturating_sub(before) / MIB as u64;
    assert!(grown < 140, "64 MiB are kept and 16 replies more, and the router has grown by {grown} MiB");
    // Another is served as if nothing were.
    for number in 0..20 {
        let text = format!("{number}");
        other.send(&[text.as_bytes()]);
        answer(&worker, 1, 8);
        assert!(other.receive()[0].starts_with(text.as_bytes()));
    }
    let dropped = broker.wait_until("it is counted", |report| report.noise.undelivered > 0).noise.undelivered;
    // What it has not lost it gets in its order, once it reads.
    for number in 0..COUNT - usize::try_from(dropped).unwrap() {
        let [_, body] = slow.receive().try_into().unwrap();
        assert_eq!((body.len(), &body[..4]), (MIB, format!("{number:04}").as_bytes()));
    }
    assert!(dropped >= 100, "{dropped} of {COUNT} MiB were dropped");
    assert!(slow.receive_within(Duration::from_millis(100)).is_none());
    // And then it is a client like any other.
    slow.send(&[b"", b"last"]);
    answer(&worker, 1, 8);
    assert!(slow.receive()[1].starts_with(b"last"));
}

#[test]
fn replies_to_one_client_keep_their_order_however_slow_it_is() {
    let broker = Serve::bare(1).start();
    let slow = slow_client(&broker);
    let body = vec![b'x'; 64 * 1024];
    for number in 0..300 {
        slow.send(&[b"", format!("{number}").as_bytes(), &body]);
    }
    // Those that come while it reads find room, and wait all the same for those before them.
    broker.wait_until("many are answered", |report| report.requests.answered >= 100);
    for number in 0..300 {
        assert_eq!(slow.receive()[1], format!("{number}").as_bytes());
    }
    assert_eq!(broker.status().noise.undelivered, 0);
}

#[test]
fn a_slow_client_that_leaves_takes_what_waits_for_it_along() {
    let broker = Serve::bare(0).start();
    let worker = worker(&broker);
    let before = resident(broker.router_pid());
    for round in 1..=3 {
        let slow = slow_client(&broker);
        for number in 0..60 {
            slow.send(&[b"", format!("{number:04}").as_bytes()]);
        }
        answer(&worker, 60, MIB);
        broker.wait_until("all are answered", |report| report.requests.answered == round * 60);
        drop(slow);
        broker.wait_until("what waited is counted", |report| report.noise.undelivered >= round * 20);
    }
    let grown = resident(broker.router_pid()).saturating_sub(before) / MIB as u64;
    assert!(grown < 140, "the router has grown by {grown} MiB");
}

#[test]
fn a_reply_on_its_way_still_arrives_when_the_broker_stops() {
    const SIZE: usize = 16 * MIB;
    let mut broker = Serve::bare(1).start();
    let mut client = Zmtp::connect(broker.frontend_port(), "DEALER");
    client.write(b"\x01\0\x02");
    client.write(&(SIZE as u64).to_be_bytes());
    client.write(&vec![7; SIZE]);
    broker.wait_until("it is answered", |report| report.requests.answered == 1);
    broker.signal(SIGTERM);
    // The kernel has not taken all of it.
    let reply = client.read_rest();
    assert_eq!(reply.len(), 2 + 9 + SIZE);
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn a_huge_reply_does_not_stall_small_requests() {
    let broker = Serve::bare(1).start();
    let huge = worker(&broker);
    let reader = Client::dealer(broker.frontend());
    reader.send(&[b"", b"huge"]);
    // The one that waits longest is next: if it was not this one, it is now.
    let small = broker.client();
    let (address, _asked) = loop {
        if let Some(job) = huge.receive_within(Duration::from_millis(200)) {
            break job;
        }
        reader.receive();
        reader.send(&[b"", b"huge"]);
    };
    small.ask_text("warm");
    huge.send(&[b"", &address, b"", &vec![7; 60 * MIB]]);
    let mut longest = Duration::ZERO;
    let deadline = Deadline::after(Duration::from_secs(20));
    let mut asked = 0;
    let body = loop {
        let one = Deadline::after(Duration::from_secs(2));
        assert_eq!(small.ask_text("small"), "small");
        longest = longest.max(one.elapsed());
        asked += 1;
        // It takes its time over it, so that the reply is under way all the while.
        if let Some(mut frames) = reader.receive_within(Duration::ZERO) {
            break frames.remove(1);
        }
        assert!(!deadline.is_over(), "the huge reply never comes");
    };
    assert_eq!(body.len(), 60 * MIB);
    assert!(asked >= 3, "{asked} small requests in {:?}", deadline.elapsed());
    assert!(longest < Duration::from_secs(2), "a small request took {longest:?}");
}
