//! Replies in parts: to clients that read them, to those who do not, and to those who stop.

use std::time::Duration;

use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::worker::{Announcement, BrokerMessage, Control, JobMeta, ReplyMeta};
use hornpipe_proto::{MAGIC, Status};
use hornpipe_tests::harness::{Broker, Client, NativeWorker, PlainWorker, Serve, refused};

/// So many parts go ahead of a client.
const WINDOW: u32 = 8;

fn reads_parts(id: &str) -> RequestMeta {
    RequestMeta { id: id.into(), more: true, ..RequestMeta::default() }
}

fn part() -> ReplyMeta {
    ReplyMeta { more: true, ..ReplyMeta::default() }
}

fn connect(broker: &Broker) -> NativeWorker {
    connect_as(broker, &Announcement::default())
}

fn connect_as(broker: &Broker, announcement: &Announcement) -> NativeWorker {
    let known = broker.status().external.len();
    let worker = NativeWorker::connect(broker.backend(), announcement);
    broker.wait_until("it is known", |report| {
        report.external.len() > known && report.external.iter().all(|worker| worker.state != "starting")
    });
    worker
}

fn job(worker: &NativeWorker) -> (Vec<u8>, JobMeta) {
    match worker.receive().0 {
        BrokerMessage::Job { token, meta: Some(meta) } => (token, meta),
        other => panic!("a job with details was expected: {other:?}"),
    }
}

/// The text of the next part, and of the end as `Err`.
fn next(client: &Client) -> Result<String, (Status, String)> {
    let (meta, body) = client.receive_native();
    let text = String::from_utf8(body.concat()).unwrap();
    if meta.more { Ok(text) } else { Err((meta.status, meta.message.unwrap_or(text))) }
}

fn pid(broker: &Broker) -> i32 {
    *broker.workers().values().next().unwrap()
}

#[test]
fn parts_reach_a_client_that_reads_them_and_are_one_reply_for_all_others() {
    let broker = Serve::demo(1).start();
    let client = Client::dealer(broker.frontend());
    client.send_native(&reads_parts("a"), b"parts 20 0");
    for number in 1..=20 {
        let (meta, body) = client.receive_native();
        assert_eq!((meta.id.as_str(), meta.status, meta.attempt, meta.more), ("a", Status::Ok, 1, true));
        assert_eq!(body, [format!("part {number}").as_bytes()]);
    }
    let (meta, body) = client.receive_native();
    assert_eq!((meta.id.as_str(), meta.status, meta.more), ("a", Status::Ok, false));
    assert_eq!(body, [b"20 parts"]);

    let joined: [&[u8]; 4] = [b"part 1", b"part 2", b"part 3", b"3 parts"];
    client.send_native(&RequestMeta::default(), b"parts 3 0");
    assert_eq!(client.receive_native().1, joined);
    let plain = broker.client();
    plain.send(&[b"parts 3 0"]);
    assert_eq!(plain.receive(), joined);
    assert_eq!(plain.ask("echo whole"), b"whole");
    broker.check_counters();
}

#[test]
fn what_is_joined_has_no_more_than_the_largest_body() {
    let broker = Serve::demo(1).options(["--max-body", "1kB"]).start();
    let before = pid(&broker);
    let plain = broker.client();
    // 100 parts of 6 or 7 bytes fit, and 1000 do not.
    plain.send(&[b"parts 100 0"]);
    assert_eq!(plain.receive().len(), 101);
    plain.send(&[b"parts 1000 0"]);
    plain.receive_error(Status::TooLarge);
    // Its worker has broken off, and lives.
    assert_eq!(plain.ask("echo well"), b"well");
    assert_eq!(pid(&broker), before);
    // Nothing is joined for who reads parts.
    let client = Client::dealer(broker.frontend());
    client.send_native(&reads_parts("a"), b"parts 1000 0");
    for number in 1..=1000 {
        assert_eq!(next(&client), Ok(format!("part {number}")));
    }
    assert_eq!(next(&client), Err((Status::Ok, "1000 parts".into())));
}

#[test]
fn after_a_part_has_gone_out_the_request_is_not_tried_again() {
    let broker = Serve::bare(0).start();
    let first = connect(&broker);
    let client = Client::dealer(broker.frontend());
    client.send_native(&reads_parts("a"), b"x");
    let (token, meta) = job(&first);
    assert_eq!(meta.window, Some(WINDOW));
    first.reply(&token, &part(), b"half");
    assert_eq!(next(&client), Ok("half".into()));
    let second = connect(&broker);
    drop(first);
    assert_eq!(next(&client), Err((Status::Lost, "its worker ended after one part of the reply".into())));
    assert!(second.receive_within(Duration::from_millis(100)).is_none());
}

#[test]
fn what_is_kept_of_a_lost_attempt_is_no_part_of_the_next() {
    let broker = Serve::bare(0).start();
    let first = connect(&broker);
    let client = broker.client();
    client.send(&[b"x"]);
    let (token, _meta) = job(&first);
    first.reply(&token, &part(), b"of the first");
    let second = connect(&broker);
    drop(first);
    let (token, meta) = job(&second);
    assert_eq!(meta.attempt, 2);
    second.reply(&token, &part(), b"of the second");
    second.reply(&token, &ReplyMeta::default(), b"end");
    assert_eq!(client.receive(), [&b"of the second"[..], b"end"]);
}

#[test]
fn a_client_can_take_its_request_back_between_two_parts() {
    let broker = Serve::demo(1).start();
    let before = pid(&broker);
    let client = Client::dealer(broker.frontend());
    client.send_native(&reads_parts("a"), b"parts 1000000 1");
    assert_eq!(next(&client), Ok("part 1".into()));
    let cancel = RequestMeta { id: "a".into(), cancel: true, ..RequestMeta::default() };
    client.send(&[b"", MAGIC, &cancel.encode()]);
    let end = std::iter::repeat_with(|| next(&client)).find_map(Result::err);
    assert_eq!(end.map(|(status, _why)| status), Some(Status::Cancelled));
    broker.wait_for_idle(1);
    assert_eq!(pid(&broker), before);
}

#[test]
fn a_client_that_leaves_between_two_parts_ends_them() {
    let broker = Serve::demo(1).start();
    let before = pid(&broker);
    let client = Client::dealer(broker.frontend());
    client.send_native(&reads_parts("a"), b"parts 1000000 1");
    assert_eq!(next(&client), Ok("part 1".into()));
    drop(client);
    broker.wait_for_idle(1);
    assert_eq!(pid(&broker), before);
    // Gone before a part could be sent, or found out by it: that is a matter of who is first.
    let report = broker.status();
    assert_eq!(report.requests.dropped + refused(&report, Status::Lost), 1);
}

#[test]
fn a_worker_that_is_silent_after_a_part_has_the_part_timeout() {
    let broker = Serve::demo(1).options(["--part-timeout", "200ms"]).start();
    let before = pid(&broker);
    let client = Client::dealer(broker.frontend());
    // It does not count before the first part.
    client.send_native(&reads_parts("a"), b"sleep 500");
    assert_eq!(next(&client), Err((Status::Ok, "slept 500".into())));
    client.send_native(&reads_parts("a"), b"parts 2 600000");
    assert_eq!(next(&client), Ok("part 1".into()));
    assert_eq!(next(&client), Err((Status::Timeout, "no part of the reply within 200ms".into())));
    broker.wait_for_idle(1);
    assert_eq!(pid(&broker), before);
}

/// Sends numbered parts while it may: how many there were when nothing more was allowed.
fn send_while_allowed(worker: &NativeWorker, token: &[u8], mut left: u32, most: u32) -> u32 {
    let mut sent = 0;
    while sent < most {
        while left > 0 && sent < most {
            worker.reply(token, &part(), format!("{sent:>16384}").as_bytes());
            (left, sent) = (left - 1, sent + 1);
        }
        match worker.receive_within(Duration::from_millis(500)) {
            Some((BrokerMessage::Control(Control::More { parts, .. }), _)) => left += parts,
            Some((other, _)) => panic!("{other:?}"),
            None => return sent,
        }
        assert!(left <= WINDOW, "more is allowed than a window");
    }
    sent
}

#[test]
fn a_client_that_does_not_read_stops_its_worker_and_misses_nothing() {
    let broker = Serve::bare(0).start();
    let worker = connect(&broker);
    let slow = Client::connect(zmq::DEALER, broker.frontend(), |socket| {
        socket.set_rcvhwm(1).unwrap();
        socket.set_rcvbuf(16 * 1024).unwrap();
    });
    slow.send_native(&reads_parts("a"), b"x");
    let (token, meta) = job(&worker);
    let sent = send_while_allowed(&worker, &token, meta.window.unwrap(), 50_000);
    assert!(sent < 20_000, "nobody reads, and {sent} parts were sent");
    // Whoever is not slow does not notice.
    let second = connect(&broker);
    let other = broker.client();
    other.send(&[b"x"]);
    let (others, _meta) = job(&second);
    second.reply(&others, &ReplyMeta::default(), b"at once");
    assert_eq!(other.receive(), [b"at once"]);
    for number in 0..sent {
        assert_eq!(next(&slow).map(|text| text.trim().to_owned()), Ok(number.to_string()));
    }
    let allowed = worker.receive().0;
    assert!(matches!(allowed, BrokerMessage::Control(Control::More { .. })), "{allowed:?}");
    worker.reply(&token, &ReplyMeta::default(), b"end");
    assert_eq!(next(&slow), Err((Status::Ok, "end".into())));
}

#[test]
fn parts_of_a_service_of_its_own_are_allowed_by_that_service() {
    let broker = Serve::bare(0).start();
    let images = Announcement { service: Some("images".into()), ..Announcement::default() };
    let worker = NativeWorker::connect(broker.backend(), &images);
    let client = Client::dealer(broker.frontend());
    broker.wait_until("the service is open", |report| {
        report.services.iter().any(|service| service.name == "images")
    });
    let meta = RequestMeta { service: Some("images".into()), ..reads_parts("a") };
    client.send_native(&meta, b"x");
    let (token, meta) = job(&worker);
    let reader = |count: u32| {
        for number in 0..count {
            assert_eq!(next(&client).map(|text| text.trim().to_owned()), Ok(number.to_string()));
        }
    };
    let sent = send_while_allowed(&worker, &token, meta.window.unwrap(), 50);
    assert_eq!(sent, 50);
    reader(sent);
    worker.reply(&token, &ReplyMeta::default(), b"end");
    assert_eq!(next(&client), Err((Status::Ok, "end".into())));
}

#[test]
fn the_work_of_a_key_is_never_answered_in_parts() {
    let broker = Serve::demo(1).start();
    let meta = RequestMeta { key: Some("k".into()), ..reads_parts("a") };
    let joined: [&[u8]; 4] = [b"part 1", b"part 2", b"part 3", b"3 parts"];
    let client = Client::dealer(broker.frontend());
    // The second gets what is kept of the first.
    for _time in 0..2 {
        client.send_native(&meta, b"parts 3 0");
        let (reply, body) = client.receive_native();
        assert!(!reply.more && body == joined, "{reply:?} {body:?}");
    }
}

#[test]
fn a_plain_worker_may_send_no_parts() {
    let broker = Serve::bare(0).start();
    let worker = PlainWorker::connect_anonymous(broker.backend());
    worker.say("waiting");
    let client = broker.client();
    client.send(&[b"x"]);
    let (token, _body) = worker.receive();
    worker.send(&[b"", &token, &part().encode(), b"half"]);
    assert_eq!(client.receive(), [b"ERR error its worker sent an unreadable message"]);
    assert_eq!(broker.status().noise.malformed_workers, 1);
}
