//! Workers that speak our own protocol in full, and were not started by the broker.

use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::worker::{Announcement, BrokerMessage, Control, JobMeta, ReplyMeta, ReplyStatus};
use hornpipe_tests::harness::{Broker, Client, NativeWorker, Process, Serve, hornpipe, refused, send};
use nix::sys::signal::Signal::SIGKILL;

fn expect_job(worker: &NativeWorker) -> (Vec<u8>, JobMeta, Vec<Vec<u8>>) {
    match worker.receive() {
        (BrokerMessage::Job { token, meta: Some(meta) }, body) => (token, meta, body),
        other => panic!("a job with details was expected: {other:?}"),
    }
}

fn start(options: [&str; 2]) -> Broker {
    Serve::bare(0).options(options).start()
}

fn connect(broker: &Broker) -> NativeWorker {
    let worker = NativeWorker::connect(broker.backend(), &Announcement::default());
    broker.wait_until("it is known", |report| report.external.iter().any(|worker| worker.state == "waiting"));
    worker
}

#[test]
fn a_job_comes_with_its_details() {
    let broker = start(["--attempts", "2"]);
    let worker = connect(&broker);
    let client = Client::dealer(broker.frontend());
    let meta = RequestMeta { id: "my-id".into(), timeout_ms: Some(30_000), ..RequestMeta::default() };
    client.send_native(&meta, b"body");
    let (token, job, body) = expect_job(&worker);
    assert_eq!((job.id.as_str(), job.attempt), ("my-id", 1));
    assert!(job.timeout_ms.is_some_and(|left| 10_000 < left && left <= 30_000));
    assert_eq!(body, [b"body"]);
    worker.reply(&token, &ReplyMeta::default(), b"reply");
    let (meta, body) = client.receive_native();
    assert_eq!((meta.id.as_str(), meta.status), ("my-id", Status::Ok));
    assert_eq!(body, [b"reply"]);
}

#[test]
fn its_reply_makes_it_ready_without_a_word_more() {
    let broker = start(["--attempts", "2"]);
    let worker = connect(&broker);
    let client = broker.client();
    for number in 0..10 {
        client.send(&[b"x"]);
        let (token, _meta, _body) = expect_job(&worker);
        worker.reply(&token, &ReplyMeta::default(), format!("{number}").as_bytes());
        assert_eq!(client.receive(), [format!("{number}").as_bytes()]);
    }
}

#[test]
fn its_credits_are_what_it_runs_at_once() {
    let broker = start(["--attempts", "2"]);
    let announcement = Announcement { credits: 3, ..Announcement::default() };
    let worker = NativeWorker::connect(broker.backend(), &announcement);
    broker.wait_until("it is known", |report| report.pool.ready == 1);
    let client = Client::dealer(broker.frontend());
    for number in 0..5_u8 {
        client.send(&[&[number], b"", b"x"]);
    }
    let first: Vec<_> = (0..3).map(|_| expect_job(&worker)).collect();
    assert!(worker.receive_within(Duration::from_millis(200)).is_none());
    // Out of order, as they are done.
    worker.reply(&first[2].0, &ReplyMeta::default(), b"third");
    assert_eq!(client.receive(), [&[2][..], b"", b"third"]);
    let (token, _meta, _body) = expect_job(&worker);
    worker.reply(&token, &ReplyMeta::default(), b"fourth");
    assert_eq!(client.receive(), [&[3][..], b"", b"fourth"]);
}

#[test]
fn it_may_ask_for_another_worker_as_often_as_there_are_attempts() {
    let broker = start(["--attempts", "2"]);
    let worker = connect(&broker);
    let client = broker.client();
    client.send(&[b"x"]);
    let retry = ReplyMeta { status: ReplyStatus::Retry, message: Some("not here".into()), more: false };
    for attempt in 1..=2 {
        let (token, meta, _body) = expect_job(&worker);
        assert_eq!(meta.attempt, attempt);
        worker.reply(&token, &retry, b"");
    }
    assert_eq!(client.receive(), [b"ERR error not here"]);
    broker.check_counters();
}

#[test]
fn a_cancel_names_the_request_that_nobody_waits_for() {
    let broker = start(["--timeout", "300ms"]);
    let worker = connect(&broker);
    let client = broker.client();
    client.send(&[b"x"]);
    let (job, _meta, _body) = expect_job(&worker);
    let (order, _body) = worker.receive();
    let token = String::from_utf8(job.clone()).unwrap();
    assert_eq!(order, BrokerMessage::Control(Control::Cancel { token }));
    let answer = client.receive().remove(0);
    assert!(answer.starts_with(b"ERR timeout "));
    let cancelled = ReplyMeta { status: ReplyStatus::Error, message: Some("cancelled".into()), more: false };
    worker.reply(&job, &cancelled, b"");
    broker.wait_until("it is free again", |report| report.external[0].state == "waiting");
    broker.check_counters();
}

#[test]
fn the_request_of_one_that_disconnects_goes_to_another() {
    let broker = start(["--attempts", "2"]);
    let first = connect(&broker);
    let client = broker.client();
    client.send(&[b"x"]);
    expect_job(&first);
    let second = NativeWorker::connect(broker.backend(), &Announcement::default());
    broker.wait_until("both are known", |report| report.external.len() == 2);
    drop(first);
    let (token, meta, _body) = expect_job(&second);
    assert_eq!(meta.attempt, 2);
    second.reply(&token, &ReplyMeta::default(), b"here");
    assert_eq!(client.receive(), [b"here"]);
    broker.check_counters();
}

#[test]
fn one_that_waits_again_without_a_reply_has_lost_its_request() {
    let broker = start(["--attempts", "1"]);
    let worker = connect(&broker);
    let client = broker.client();
    client.send(&[b"x"]);
    expect_job(&worker);
    // This word has crossed the job on the wire, so it means nothing.
    worker.announce("waiting", &Announcement::default());
    assert!(client.receive_within(Duration::from_millis(200)).is_none());
    worker.announce("waiting", &Announcement { seen: 1, ..Announcement::default() });
    assert_eq!(client.receive(), [b"ERR lost its worker ended without a reply"]);
    assert_eq!(refused(&broker.status(), Status::Lost), 1);
    broker.check_counters();
}

#[test]
fn one_for_another_service_gets_nothing_of_this_one() {
    let broker = Serve::bare(1).start();
    let elsewhere = Announcement { service: Some("elsewhere".into()), ..Announcement::default() };
    let worker = NativeWorker::connect(broker.backend(), &elsewhere);
    broker.wait_until("it is known", |report| report.external.len() == 1);
    let client = broker.client();
    for _ in 0..5 {
        assert_eq!(client.ask(b"x"), b"x");
    }
    assert!(worker.receive_within(Duration::ZERO).is_none());
}

#[test]
fn the_demo_worker_joins_a_running_broker() {
    let broker = Serve::bare(0).start();
    let backend = broker.backend_port().to_string();
    let worker = Process::start(hornpipe(), &["worker", "demo", "--backend", &backend]);
    broker.wait_until("it is known", |report| report.external.len() == 1);
    assert_eq!(broker.ask("pid"), worker.pid().to_string());
    let client = broker.client();
    client.send(&[b"sleep 60000"]);
    broker.wait_for_in_flight(1);
    let other = Process::start(hornpipe(), &["worker", "demo", "--backend", &backend]);
    broker.wait_until("there is another", |report| report.external.len() == 2);
    send(worker.pid(), SIGKILL);
    broker.wait_until("its request is the other's", |report| report.requests.retried == 1);
    send(other.pid(), SIGKILL);
    assert_eq!(client.receive(), [b"ERR lost 2 workers ended without a reply, the last: connection lost"]);
}
