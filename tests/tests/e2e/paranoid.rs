//! Paranoid Pirate's workers, RFC 6, on the backend port: frame by frame, and a program that has
//! none of our code.

use std::time::Duration;

use hornpipe_tests::harness::{Client, Process, Serve, python, script, send};
use nix::sys::signal::Signal;

const READY: &[u8] = &[1];
const HEARTBEAT: &[u8] = &[2];

/// A DEALER that does what the test says.
struct Worker(Client);

impl Worker {
    fn ready(backend: &str) -> Self {
        let worker = Self(Client::dealer(backend));
        worker.0.send(&[READY]);
        worker
    }

    /// The next job: exactly three frames, as the Guide's worker wants it.
    fn job(&self) -> (Vec<u8>, Vec<u8>) {
        loop {
            let frames = self.0.receive();
            if frames != [HEARTBEAT] {
                let [address, empty, body] = frames.try_into().expect("a job of three frames");
                assert!(empty.is_empty() && !address.is_empty());
                return (address, body);
            }
        }
    }

    fn reply(&self, address: &[u8], body: &[u8]) {
        self.0.send(&[address, b"", body]);
    }
}

#[test]
fn a_request_and_its_reply_frame_by_frame() {
    let broker = Serve::bare(0).start();
    let worker = Worker::ready(broker.backend());
    let client = broker.client();
    for body in ["one", "two", ""] {
        client.send(&[body.as_bytes()]);
        let (address, asked) = worker.job();
        assert_eq!(asked, body.as_bytes());
        worker.reply(&address, &asked.to_ascii_uppercase());
        assert_eq!(client.receive(), [body.to_uppercase().as_bytes()]);
    }
    assert_eq!(broker.status().external[0].requests, 3);
}

#[test]
fn a_client_that_correlates_its_replies_is_no_riddle_for_it() {
    let broker = Serve::bare(0).start();
    let worker = Worker::ready(broker.backend());
    let client =
        Client::connect(zmq::REQ, broker.frontend(), |socket| socket.set_req_correlate(true).unwrap());
    client.send(&[b"x"]);
    let (address, body) = worker.job();
    worker.reply(&address, &body);
    assert_eq!(client.receive(), [b"x"]);
}

#[test]
fn a_heartbeat_of_a_busy_worker_does_not_make_it_ready() {
    let broker = Serve::bare(0).start();
    let worker = Worker::ready(broker.backend());
    let clients = [broker.client(), broker.client()];
    clients[0].send(&[b"one"]);
    let (address, _body) = worker.job();
    clients[1].send(&[b"two"]);
    broker.wait_until("it waits", |report| report.queue.backlog_len == 1);
    for _ in 0..5 {
        worker.0.send(&[HEARTBEAT]);
        worker.0.send(&[READY]);
    }
    // Nothing but the broker's own heartbeats may come.
    let deadline = Duration::from_millis(300);
    assert!(worker.0.receive_within(deadline).is_none_or(|frames| frames == [HEARTBEAT]));
    worker.reply(&address, b"1");
    let (address, body) = worker.job();
    assert_eq!(body, b"two");
    worker.reply(&address, b"2");
    assert_eq!((clients[0].receive(), clients[1].receive()), (vec![b"1".to_vec()], vec![b"2".to_vec()]));
}

#[test]
fn a_silent_worker_is_given_up_if_it_is_idle_and_taken_back_when_it_beats() {
    let broker = Serve::bare(0).start();
    let (idle, busy) = (Worker::ready(broker.backend()), Worker::ready(broker.backend()));
    broker.wait_until("both are known", |report| report.pool.ready == 2);
    // The idle one is heard of first, so the other is the next in turn or it is: whoever gets it, works.
    let client = broker.client();
    client.send(&[b"long"]);
    let [working, silent] =
        if idle.0.socket().poll(zmq::POLLIN, 500).unwrap() > 0 { [&idle, &busy] } else { [&busy, &idle] };
    let (address, _body) = working.job();
    broker.wait_until("the silent one is given up", |report| report.external.len() == 1);
    assert_eq!(broker.status().external[0].state, "processing", "at work, nobody has to beat");
    // So long as none of the idle would live.
    let more = broker.client();
    more.send(&[b"waits"]);
    broker.wait_until("nobody is there for it", |report| report.queue.backlog_len == 1);
    silent.0.send(&[HEARTBEAT]);
    let (second, body) = silent.job();
    assert_eq!(body, b"waits");
    silent.reply(&second, b"back");
    assert_eq!(more.receive(), [b"back"]);
    working.reply(&address, b"done");
    assert_eq!(client.receive(), [b"done"]);
}

#[test]
fn the_broker_beats_and_leaves_in_peace_who_does_not_listen() {
    let broker = Serve::bare(0).start();
    let worker = Worker::ready(broker.backend());
    assert_eq!(worker.0.receive(), [HEARTBEAT]);
    let client = broker.client();
    client.send(&[b"long"]);
    let (address, _body) = worker.job();
    let mut beats = 0;
    while worker.0.receive_within(Duration::from_millis(1500)).is_some() {
        beats += 1;
    }
    assert!((1..=4).contains(&beats), "{beats} heartbeats wait for a worker that says nothing");
    worker.reply(&address, b"done");
    assert_eq!(worker.0.receive(), [HEARTBEAT], "it is heard, and gets them again");
}

#[test]
fn after_a_restart_of_the_router_a_heartbeat_is_enough() {
    let broker = Serve::bare(0).start();
    let worker = Worker::ready(broker.backend());
    broker.wait_until("it is known", |report| report.external.len() == 1);
    send(broker.router_pid(), Signal::SIGKILL);
    let client = broker.client();
    client.send(&[b"x"]);
    let job = loop {
        worker.0.send(&[HEARTBEAT]);
        match worker.0.receive_within(Duration::from_millis(100)) {
            Some(frames) if frames.len() == 3 => break frames,
            _nothing_yet => (),
        }
    };
    worker.reply(&job[0], b"y");
    assert_eq!(client.receive(), [b"y"]);
}

#[test]
fn a_worker_written_from_rfc_6_serves_and_outlives_a_router() {
    let broker = Serve::bare(0).start();
    let path = script("paranoid_pirate_worker.py");
    let _worker = Process::start(python(), &[path.to_str().unwrap(), broker.backend()]);
    let client = broker.client();
    for number in 0..10 {
        assert_eq!(client.ask_text(&format!("number {number}")), format!("NUMBER {number}"));
    }
}

#[test]
fn a_worker_of_our_own_may_be_a_paranoid_pirate() {
    let worker = [python().into_os_string(), script("paranoid_pirate_worker.py").into()];
    let broker = Serve::bare(2).program(worker).start();
    assert_eq!(broker.ask("hello"), "HELLO");
    let before = broker.workers();
    assert_eq!(broker.ask("sleep 3500"), "SLEPT", "busy for longer than it may be silent");
    assert_eq!(broker.ask("x"), "X");
    assert_eq!(broker.workers(), before);
    // One that hangs while it is idle is replaced.
    assert_eq!(broker.ask("hang"), "HUNG");
    broker.wait_until("it has been replaced", |report| {
        report.workers.iter().any(|worker| worker.incarnation == 2 && worker.state == "waiting")
    });
    let report = broker.status();
    let exits: Vec<_> = report.workers.iter().filter_map(|worker| worker.last_exit.as_ref()).collect();
    assert!(exits.iter().any(|exit| exit.reason == "silent"), "{exits:?}");
}
