//! A router that dies, and the workers that come back to its successor.

use std::time::Duration;

use hornpipe_proto::worker::JobMeta;
use hornpipe_worker::{Context, Job, State, Stopped, echo};

use crate::broker::{Broker, Worker};

#[test]
fn an_idle_worker_comes_back_and_serves_on_and_on() {
    let mut broker = Broker::new();
    let worker = Worker::start(&broker, echo);
    broker.expect_worker();
    for _ in 0..10 {
        assert_eq!(broker.ask(b"before"), b"before");
    }
    broker.restart();
    broker.expect_hello();
    assert_eq!(broker.expect_state(State::Waiting).seen, 0);
    // libzmq's own count of messages went wrong within 500 of them.
    for count in 1..=1200 {
        broker.send_job("token", &JobMeta::default(), &[b"after"]);
        assert_eq!(broker.expect_state(State::Processing).seen, count);
        assert_eq!(broker.expect_reply("token").1, [b"after"]);
    }
    broker.stop();
    assert_eq!(worker.result().unwrap(), Stopped::ByBroker);
}

#[test]
fn a_busy_worker_is_known_again_at_once_and_waits_after_its_reply() {
    let mut broker = Broker::new();
    let handler = |job: &Job, context: &mut Context<'_>| {
        if *job.body() == *b"long" {
            context.wait(Duration::from_mins(10));
        }
        Ok(job.body().into_owned())
    };
    let _worker = Worker::start(&broker, handler);
    broker.expect_worker();
    broker.send_job("old", &JobMeta::default(), &[b"long"]);
    broker.expect_state(State::Processing);
    broker.restart();
    broker.expect_hello();
    assert!(broker.hears_nothing_for(Duration::from_millis(50)), "a busy worker said that it waits");
    broker.cancel("old");
    assert_eq!(broker.expect_reply("old").1, [b"long"]);
    assert_eq!(broker.expect_state(State::Waiting).seen, 0);
    assert_eq!(broker.ask(b"again"), b"again");
}

#[test]
fn the_last_reply_with_a_key_is_sent_again_until_another_job_has_come() {
    let mut broker = Broker::new();
    let _worker = Worker::start(&broker, echo);
    let instance = broker.expect_hello().instance;
    assert!(instance.as_ref().is_some_and(|name| name.len() == 32), "{instance:?}");
    assert_eq!(broker.expect_state(State::Waiting).instance, instance);
    let keyed = JobMeta { key: Some("k".into()), ..JobMeta::default() };
    broker.send_job("keyed", &keyed, &[b"x", b"", b"y"]);
    broker.expect_state(State::Processing);
    broker.expect_reply("keyed");
    for _ in 0..3 {
        broker.restart();
        assert_eq!(broker.expect_hello().instance, instance);
        assert_eq!(broker.expect_reply("keyed").1, [&b"x"[..], b"", b"y"]);
        broker.expect_state(State::Waiting);
    }
    // Who gives another has read it, and what has no key is not kept.
    broker.ask(b"other");
    broker.restart();
    broker.expect_worker();
}

#[test]
fn a_worker_survives_many_routers() {
    let mut broker = Broker::new();
    let _worker = Worker::start(&broker, echo);
    broker.expect_worker();
    for _ in 0..20 {
        broker.restart();
        broker.expect_hello();
        assert_eq!(broker.expect_state(State::Waiting).seen, 0);
        assert_eq!(broker.ask(b"x"), b"x");
    }
}
