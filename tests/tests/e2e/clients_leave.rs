//! Clients that do not wait for their answers.

use std::time::Duration;

use hornpipe_proto::client::RequestMeta;
use hornpipe_tests::harness::{Broker, Client};

#[test]
fn the_waiting_request_of_a_client_that_leaves_is_never_run() {
    let broker = Broker::demo(1);
    let file = broker.folder().file("runs");
    let busy = broker.client();
    busy.send(&[b"sleep 1000"]);
    broker.wait_for_in_flight(1);
    let leaving: Vec<Client> = (0..10).map(|_| broker.client()).collect();
    for client in &leaving {
        client.send(&[format!("count {}", file.display()).as_bytes()]);
    }
    broker.wait_until("they wait", |report| report.requests.waiting == 10);
    drop(leaving);
    broker.wait_until("they are dropped", |report| report.requests.dropped == 10);
    assert_eq!(busy.receive(), [b"slept 1000"]);
    assert_eq!(broker.ask("echo x"), "x");
    assert!(!file.exists(), "somebody ran what nobody waited for");
    broker.check_counters();
}

#[test]
fn the_running_request_of_a_client_that_leaves_ends_without_harm() {
    let broker = Broker::demo(1);
    let client = broker.client();
    client.send(&[b"sleep 300"]);
    broker.wait_for_in_flight(1);
    drop(client);
    let report = broker.wait_until("its worker is free again", |report| {
        report.requests.dropped == 1 && report.workers[0].state == "waiting"
    });
    assert_eq!(report.requests.answered, 0);
    assert_eq!(broker.ask("echo x"), "x");
    broker.check_counters();
}

#[test]
fn a_client_that_comes_back_at_once_under_its_name_never_gets_a_stale_reply() {
    let broker = Broker::demo(3);
    let connect =
        || Client::connect(zmq::REQ, broker.frontend(), |socket| socket.set_identity(b"client_1").unwrap());
    for round in 0..4_u64 {
        let first = connect();
        // Long enough for the second to be heard first: the broker cannot know of it before.
        first.send(&[b"sleep 400"]);
        broker.wait_until("the first is read", |report| report.requests.received == 2 * round + 1);
        drop(first);
        let fresh = format!("fresh {round}");
        let second = connect();
        assert_eq!(second.ask_text(&format!("echo {fresh}")), fresh);
        // The late reply would come now.
        assert!(second.receive_within(Duration::from_millis(450)).is_none());
    }
    broker.wait_for_idle(3);
    broker.check_counters();
}

#[test]
fn a_client_that_comes_back_while_its_request_waits_is_served_once() {
    let broker = Broker::demo(1);
    let file = broker.folder().file("runs");
    let connect =
        || Client::connect(zmq::REQ, broker.frontend(), |socket| socket.set_identity(b"client_2").unwrap());
    let busy = Client::dealer(broker.frontend());
    let meta = RequestMeta { id: "long".into(), ..RequestMeta::default() };
    busy.send_native(&meta, b"sleep 60000");
    broker.wait_for_in_flight(1);
    let count = format!("count {}", file.display());
    for tries in 1..=5 {
        let client = connect();
        client.send(&[count.as_bytes()]);
        broker.wait_until("it is read", |report| report.requests.received == 1 + tries);
        if tries == 5 {
            busy.send_native(&RequestMeta { cancel: true, ..meta.clone() }, b"");
            assert_eq!(client.receive(), [b"1"]);
        }
    }
    broker.check_counters();
}

#[test]
fn a_client_that_never_reads_stops_nobody() {
    let broker = Broker::demo(2);
    let flood = Client::dealer(broker.frontend());
    let body = [b"echo ".to_vec(), vec![b'x'; 10_000]].concat();
    for _ in 0..2000 {
        // What the socket has no room for is not the broker's business.
        flood.socket().send_multipart([&b""[..], &body], zmq::DONTWAIT).ok();
    }
    let client = broker.client();
    for number in 0..20 {
        let text = format!("{number}");
        assert_eq!(client.ask_text(&format!("echo {text}")), text);
    }
    drop(flood);
    broker.wait_until("all is seen to", |report| {
        report.requests.waiting == 0 && report.requests.in_flight == 0
    });
    broker.check_counters();
}
