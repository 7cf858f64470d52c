//! Replies in parts, as far as the broker takes them.

use std::time::Duration;

use hornpipe_proto::worker::{Control, JobMeta, ReplyMeta, ReplyStatus};
use hornpipe_worker::{Context, Failure, Job, State};

use crate::broker::{Broker, Worker};

fn three(_job: &Job, context: &mut Context<'_>) -> Result<&'static str, Failure> {
    for part in ["one", "two", "three"] {
        context.send_part(part)?;
    }
    Ok("end")
}

fn start(window: Option<u32>) -> (Broker, Worker) {
    let mut broker = Broker::new();
    let worker = Worker::start(&broker, three);
    broker.expect_worker();
    broker.send_job("token", &JobMeta { window, ..JobMeta::default() }, &[b"x"]);
    broker.expect_state(State::Processing);
    (broker, worker)
}

fn expect_part(broker: &mut Broker, text: &str) {
    let (meta, body) = broker.expect_reply("token");
    assert_eq!((meta.more, body), (true, vec![text.as_bytes().to_vec()]));
}

#[test]
fn no_more_parts_are_sent_than_the_broker_allows() {
    let (mut broker, _worker) = start(Some(2));
    expect_part(&mut broker, "one");
    expect_part(&mut broker, "two");
    assert!(broker.hears_nothing_for(Duration::from_millis(100)), "a part more than was allowed");
    broker.send_control(&Control::More { token: "another".into(), parts: 7 });
    assert!(broker.hears_nothing_for(Duration::from_millis(100)), "another job's allowance");
    broker.send_control(&Control::More { token: "token".into(), parts: 1 });
    expect_part(&mut broker, "three");
    assert_eq!(broker.expect_reply("token"), (ReplyMeta::default(), vec![b"end".to_vec()]));
}

#[test]
fn a_broker_that_knows_no_parts_gets_one_reply() {
    let (mut broker, _worker) = start(None);
    let (meta, body) = broker.expect_reply("token");
    assert_eq!(
        (meta, body),
        (ReplyMeta::default(), [&b"one"[..], b"two", b"three", b"end"].map(Vec::from).to_vec())
    );
    // What was joined belonged to that reply.
    broker.send_job("token", &JobMeta::default(), &[b"x"]);
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("token").1.len(), 4);
}

#[test]
fn who_waits_for_room_hears_that_nobody_waits_any_more() {
    let (mut broker, _worker) = start(Some(1));
    expect_part(&mut broker, "one");
    broker.cancel("token");
    let (meta, _body) = broker.expect_reply("token");
    assert_eq!((meta.status, meta.message.as_deref()), (ReplyStatus::Error, Some("cancelled")));
}

#[test]
fn who_waits_for_room_does_not_wait_for_a_router_that_has_died() {
    let (mut broker, _worker) = start(Some(1));
    expect_part(&mut broker, "one");
    broker.restart();
    broker.expect_hello();
    assert_eq!(broker.expect_reply("token").0.status, ReplyStatus::Error);
    broker.expect_state(State::Waiting);
    broker.send_job("token", &JobMeta { window: Some(8), ..JobMeta::default() }, &[b"x"]);
    broker.expect_state(State::Processing);
    for part in ["one", "two", "three"] {
        expect_part(&mut broker, part);
    }
}
