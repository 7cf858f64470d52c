//! Idempotency keys: whoever asks again gets the reply of the one run.

use std::time::Duration;

use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::worker::{Announcement, BrokerMessage, Control, ReplyMeta, ReplyStatus};
use hornpipe_proto::{MAGIC, Status};
use hornpipe_tests::harness::{Broker, Client, Folder, NativeWorker, Serve};

fn with_a_worker<const N: usize>(options: [&str; N]) -> (Broker, NativeWorker) {
    let broker = Serve::bare(0).options(options).start();
    let worker = NativeWorker::connect(broker.backend(), &Announcement::default());
    broker.wait_until("it is known", |report| report.external.iter().any(|one| one.state == "waiting"));
    (broker, worker)
}

fn job(worker: &NativeWorker) -> (Vec<u8>, Vec<u8>) {
    match worker.receive() {
        (BrokerMessage::Job { token, meta: Some(_) }, body) => (token, body.concat()),
        other => panic!("a job with details was expected: {other:?}"),
    }
}

fn keyed(id: &str) -> RequestMeta {
    RequestMeta { id: id.into(), key: Some("order-66".into()), ..RequestMeta::default() }
}

/// The id, status and body of the next reply.
fn heard(client: &Client) -> (String, Status, Vec<u8>) {
    let (meta, body) = client.receive_native();
    (meta.id, meta.status, body.concat())
}

#[test]
fn a_client_that_asks_again_and_again_has_its_work_done_once() {
    let folder = Folder::new();
    let tally = folder.path().join("tally").display().to_string();
    let broker = Broker::demo(4);
    // As the Guide's Lazy Pirate: a new connection for each try.
    for _try in 0..20 {
        let client = Client::dealer(broker.frontend());
        client.send_native(&keyed("a"), format!("count {tally}").as_bytes());
        assert_eq!(heard(&client), ("a".into(), Status::Ok, b"1".to_vec()));
    }
    let other = RequestMeta { key: Some("order-67".into()), ..keyed("b") };
    let client = Client::dealer(broker.frontend());
    client.send_native(&other, format!("count {tally}").as_bytes());
    assert_eq!(heard(&client), ("b".into(), Status::Ok, b"2".to_vec()));
    assert_eq!(std::fs::read_to_string(&tally).unwrap().lines().count(), 2);
}

#[test]
fn who_asks_while_it_runs_joins_and_the_run_outlives_its_client() {
    let (broker, worker) = with_a_worker([]);
    let first = Client::dealer(broker.frontend());
    first.send_native(&keyed("first"), b"work");
    let (token, body) = job(&worker);
    assert_eq!(body, b"work");
    drop(first);
    broker.wait_until("its client has left", |report| report.requests.dropped == 1);
    let (second, third) = (Client::dealer(broker.frontend()), Client::dealer(broker.frontend()));
    second.send_native(&keyed("second"), b"work");
    third.send_native(&keyed("third"), b"work");
    broker.wait_until("both wait", |report| report.requests.waiting == 2);
    worker.reply(&token, &ReplyMeta::default(), b"done");
    assert_eq!(heard(&second), ("second".into(), Status::Ok, b"done".to_vec()));
    assert_eq!(heard(&third), ("third".into(), Status::Ok, b"done".to_vec()));
    third.send_native(&keyed("again"), b"work");
    assert_eq!(heard(&third), ("again".into(), Status::Ok, b"done".to_vec()));
    assert!(worker.receive_within(Duration::from_millis(200)).is_none(), "it runs once");
}

#[test]
fn what_failed_may_be_tried_again_and_what_is_too_old_is_run_again() {
    let (broker, worker) = with_a_worker(["--key-window", "200ms"]);
    let client = Client::dealer(broker.frontend());
    client.send_native(&keyed("a"), b"work");
    let (token, _body) = job(&worker);
    let error = ReplyMeta { status: ReplyStatus::Error, message: Some("no".into()), more: false };
    worker.reply(&token, &error, b"");
    assert_eq!(heard(&client).1, Status::Error);
    client.send_native(&keyed("b"), b"work");
    let (token, _body) = job(&worker);
    worker.reply(&token, &ReplyMeta::default(), b"done");
    assert_eq!(heard(&client).1, Status::Ok);
    // Asked until the window is over, it is run once more then.
    let token = 'asked: loop {
        client.send_native(&keyed("c"), b"work");
        while !client.has_answer_within(Duration::from_millis(10)) {
            match worker.receive_within(Duration::from_millis(10)) {
                Some((BrokerMessage::Job { token, .. }, _body)) => break 'asked token,
                Some(other) => panic!("{other:?}"),
                None => (),
            }
        }
        assert_eq!(heard(&client), ("c".into(), Status::Ok, b"done".to_vec()));
    };
    worker.reply(&token, &ReplyMeta::default(), b"done again");
    assert_eq!(heard(&client).2, b"done again");
}

#[test]
fn a_key_ends_the_work_for_all_who_wait_and_is_free_once_its_worker_lets_go() {
    let (broker, worker) = with_a_worker(["--cancel-grace", "60s"]);
    let (one, other) = (Client::dealer(broker.frontend()), Client::dealer(broker.frontend()));
    one.send_native(&keyed("one"), b"work");
    let (token, _body) = job(&worker);
    other.send_native(&keyed("other"), b"work");
    broker.wait_until("it waits", |report| report.requests.waiting == 1);
    let cancel = RequestMeta { id: String::new(), cancel: true, ..keyed("") };
    let stranger = Client::dealer(broker.frontend());
    stranger.send(&[b"", MAGIC, &cancel.encode()]);
    assert_eq!((heard(&one).1, heard(&other).1), (Status::Cancelled, Status::Cancelled));
    let text = String::from_utf8(token.clone()).unwrap();
    assert_eq!(worker.receive().0, BrokerMessage::Control(Control::Cancel { token: text }));
    one.send_native(&keyed("too early"), b"work");
    assert_eq!(heard(&one).1, Status::Busy);
    worker.reply(&token, &ReplyMeta::default(), b"too late");
    broker.wait_until("it has let go", |report| report.external.iter().all(|one| one.state == "waiting"));
    one.send_native(&keyed("now"), b"work");
    let (token, _body) = job(&worker);
    worker.reply(&token, &ReplyMeta::default(), b"done");
    assert_eq!(heard(&one), ("now".into(), Status::Ok, b"done".to_vec()));
}

#[test]
fn each_of_those_who_wait_has_its_own_time() {
    let (broker, worker) = with_a_worker([]);
    let hurried = Client::dealer(broker.frontend());
    hurried.send_native(&RequestMeta { timeout_ms: Some(100), ..keyed("hurried") }, b"work");
    let (token, _body) = job(&worker);
    let patient = Client::dealer(broker.frontend());
    patient.send_native(&keyed("patient"), b"work");
    assert_eq!(heard(&hurried).1, Status::Timeout);
    worker.reply(&token, &ReplyMeta::default(), b"done");
    assert_eq!(heard(&patient), ("patient".into(), Status::Ok, b"done".to_vec()));
}

#[test]
fn where_no_more_keys_can_be_remembered_a_new_one_is_refused() {
    let broker = Serve::demo(1).options(["--keys", "2"]).start();
    let client = Client::dealer(broker.frontend());
    let ask = |key: &str| {
        client.send_native(&RequestMeta { key: Some(key.into()), ..keyed(key) }, b"echo x");
        heard(&client).1
    };
    assert_eq!([ask("a"), ask("b"), ask("c"), ask("a")], [Status::Ok, Status::Ok, Status::Busy, Status::Ok]);
}
