//! The main job: a request of any REQ client reaches an idle worker, its reply the client.

use std::collections::BTreeSet;
use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_tests::harness::{Broker, Client, Serve, refused};

#[test]
fn a_request_reaches_a_worker_and_its_reply_the_client() {
    let broker = Broker::demo(2);
    assert_eq!(broker.ask("echo hello"), "hello");
    assert_eq!(broker.ask("upper hello"), "HELLO");
    let pid: i32 = broker.ask("pid").parse().unwrap();
    assert!(broker.workers().values().any(|worker| *worker == pid));
    broker.check_counters();
}

#[test]
fn without_a_program_requests_are_echoed() {
    let broker = Serve::bare(2).start();
    assert_eq!(broker.ask("hello"), "hello");
}

#[test]
fn a_handlers_failure_is_told_and_its_worker_lives() {
    let broker = Broker::demo(1);
    let pid = broker.ask("pid");
    assert_eq!(broker.ask("fail no such page"), "ERR error no such page");
    assert_eq!(broker.ask("pid"), pid);
    assert_eq!(refused(&broker.status(), Status::Error), 1);
    broker.check_counters();
}

#[test]
fn idle_workers_are_used_in_turn() {
    let broker = Broker::demo(3);
    let client = broker.client();
    let pids: Vec<String> = (0..9).map(|_| client.ask_text("pid")).collect();
    for three in pids.windows(3) {
        assert_eq!(
            BTreeSet::from_iter(three).len(),
            3,
            "one worker was used twice in a row of three: {pids:?}"
        );
    }
}

#[test]
fn a_long_request_delays_no_short_one_while_a_worker_is_idle() {
    let broker = Broker::demo(2);
    let patient = broker.client();
    patient.send(&[b"sleep 3000"]);
    broker.wait_for_in_flight(1);
    let client = broker.client();
    for number in 0..50 {
        let text = format!("{number}");
        assert_eq!(client.ask_text(&format!("echo {text}")), text);
    }
    assert!(
        patient.receive_within(Duration::ZERO).is_none(),
        "fifty short requests took as long as the long one"
    );
    assert_eq!(patient.receive(), [b"slept 3000"]);
}

#[test]
fn waiting_requests_are_served_in_the_order_of_their_arrival() {
    let broker = Broker::demo(1);
    let client = Client::dealer(broker.frontend());
    client.send(&[b"first", b"", b"sleep 300"]);
    for number in 0..100_u8 {
        client.send(&[&[number], b"", b"echo x"]);
    }
    assert_eq!(client.receive()[0], b"first");
    for number in 0..100_u8 {
        assert_eq!(client.receive(), [&[number][..], b"", b"x"]);
    }
    broker.check_counters();
}

#[test]
fn what_a_full_queue_has_no_room_for_is_answered_busy_at_once() {
    let broker = Serve::demo(1).options(["--queue", "2"]).start();
    let client = Client::dealer(broker.frontend());
    for number in 0..5_u8 {
        client.send(&[&[number], b"", b"sleep 1500"]);
    }
    // One runs and two wait.
    for number in 3..5_u8 {
        let within = Duration::from_millis(1400);
        let answer = client.receive_within(within).expect("busy is answered before anything is done");
        assert_eq!(answer[0], [number]);
        assert!(answer[2].starts_with(b"ERR busy "), "{answer:?}");
    }
    for _served in 0..3 {
        assert_eq!(client.receive()[2], b"slept 1500");
    }
    broker.check_counters();
}

#[test]
fn a_hundred_clients_each_get_their_own_answers() {
    let broker = Broker::demo(3);
    std::thread::scope(|scope| {
        for thread in 0..10 {
            let broker = &broker;
            scope.spawn(move || {
                let clients: Vec<Client> = (0..10).map(|_| broker.client()).collect();
                for round in 0..20 {
                    for (number, client) in clients.iter().enumerate() {
                        client.send(&[format!("echo {thread} {number} {round}").as_bytes()]);
                    }
                    for (number, client) in clients.iter().enumerate() {
                        let expected = format!("{thread} {number} {round}");
                        assert_eq!(client.receive(), [expected.as_bytes()]);
                    }
                }
            });
        }
    });
    let requests = broker.status().requests;
    assert_eq!((requests.received, requests.answered), (2000, 2000));
}

#[test]
fn a_request_sent_before_the_broker_runs_is_served_when_it_does() {
    let first = Broker::demo(1);
    let frontend = first.frontend().to_owned();
    let again = Serve::demo(1).ports(&first.frontend_port().to_string(), &first.backend_port().to_string());
    drop(first);
    let client = Client::req(&frontend);
    client.send(&[b"echo early"]);
    let _second = again.start();
    assert_eq!(client.receive(), [b"early"]);
}
