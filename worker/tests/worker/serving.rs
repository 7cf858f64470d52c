//! The loop of a worker in Rust.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hornpipe_proto::worker::{Control, JobMeta, ReplyMeta, ReplyStatus};
use hornpipe_worker::{Context, Failure, Job, Reply, ServeError, Settings, State, Stopped, echo};

use crate::broker::{Broker, Worker};

#[test]
fn a_worker_says_hello_and_waiting_with_what_it_was_set_to_be() {
    let mut broker = Broker::new();
    let settings = Settings {
        service: Some("pages".into()),
        name: Some("seven".into()),
        ..Settings::new(&broker.endpoint)
    };
    let _worker = Worker::start_with(settings, echo, |_state| ());
    let hello = broker.expect_hello();
    assert_eq!(hello.service.as_deref(), Some("pages"));
    assert_eq!(hello.name.as_deref(), Some("seven"));
    assert_eq!(hello.credits, 1);
    assert!(hello.sdk.as_deref().unwrap().starts_with("hornpipe-worker/"));
    assert_eq!(broker.expect_state(State::Waiting), hello);
}

#[test]
fn an_echo_keeps_every_frame_as_it_is() {
    let mut broker = Broker::new();
    let _worker = Worker::start(&broker, echo);
    broker.expect_worker();
    let large = vec![7; 8 * 1024 * 1024];
    let bodies: [&[&[u8]]; 5] =
        [&[b"hello"], &[b""], &[b"", b"", b""], &[b"a\0b", b"\xff\xfe", b"\n"], &[&large, b"and", &large]];
    for body in bodies {
        let (meta, reply) = broker.ask_with(&JobMeta::default(), body);
        assert_eq!(meta, ReplyMeta::default());
        assert!(reply == body);
    }
}

#[test]
fn each_announcement_counts_the_jobs_of_the_connection() {
    let mut broker = Broker::new();
    let _worker = Worker::start(&broker, echo);
    broker.expect_worker();
    for count in 1..=3 {
        broker.send_job("token", &JobMeta::default(), &[b""]);
        assert_eq!(broker.expect_state(State::Processing).seen, count);
        broker.expect_reply("token");
    }
    let goodbye = broker.stop();
    assert_eq!((goodbye.seen, goodbye.reason.as_deref()), (3, Some("stop")));
}

#[test]
fn a_handler_knows_its_request() {
    let mut broker = Broker::new();
    let handler = |job: &Job, context: &mut Context<'_>| {
        let remaining = context.remaining().is_some_and(|left| left <= Duration::from_mins(1));
        let unlimited = job.remaining().is_none();
        Ok(format!("{} {} {:?} {remaining} {unlimited}", job.id(), job.attempt(), job.service()))
    };
    let _worker = Worker::start(&broker, handler);
    broker.expect_worker();
    let meta = JobMeta {
        id: "x".into(),
        attempt: 2,
        timeout_ms: Some(60_000),
        service: Some("s".into()),
        ..JobMeta::default()
    };
    assert_eq!(broker.ask_with(&meta, &[b""]).1, [b"x 2 Some(\"s\") true false"]);
    assert_eq!(broker.ask_with(&JobMeta::default(), &[b""]).1, [b" 0 None false true"]);
    let meta = JobMeta { timeout_ms: Some(u64::MAX), ..JobMeta::default() };
    assert_eq!(broker.ask_with(&meta, &[b""]).1, [b" 0 None false false"]);
}

#[test]
fn a_handler_knows_what_its_client_says_beside_the_body() {
    let mut broker = Broker::new();
    let handler = |job: &Job, context: &mut Context<'_>| {
        // Whoever has only the one or the other reads the same.
        assert_eq!((job.id(), job.attempt()), (context.request_id(), context.attempt()));
        assert_eq!((job.key(), job.trace()), (context.key(), context.trace()));
        assert_eq!((job.service(), job.headers()), (context.service(), context.headers()));
        let names: Vec<&str> = job.headers().into_keys().collect();
        let raw = (context.header("raw"), job.header("missing"));
        Ok(format!("{:?} {:?} {names:?} {raw:?}", context.key(), context.trace()))
    };
    let _worker = Worker::start(&broker, handler);
    broker.expect_worker();
    let meta = JobMeta {
        key: Some("pay-7".into()),
        trace: Some("00-1-2-01".into()),
        headers: [("tenant", b"acme".to_vec()), ("raw", vec![0xff])].into_iter().collect(),
        ..JobMeta::default()
    };
    let told = r#"Some("pay-7") Some("00-1-2-01") ["raw", "tenant"] (Some([255]), None)"#;
    assert_eq!(broker.ask_with(&meta, &[b""]).1, [told.as_bytes()]);
    assert_eq!(broker.ask_with(&JobMeta::default(), &[b""]).1, [b"None None [] (None, None)"]);
}

#[test]
fn a_reply_of_no_frames_is_an_empty_one() {
    let mut broker = Broker::new();
    let _worker =
        Worker::start(&broker, |_: &Job, _: &mut Context<'_>| Ok(Reply::from(Vec::<Vec<u8>>::new())));
    broker.expect_worker();
    assert_eq!(broker.ask(b"x"), b"");
}

#[test]
fn a_failure_and_a_panic_are_told_and_the_worker_goes_on() {
    let mut broker = Broker::new();
    let handler = |job: &Job, _: &mut Context<'_>| match &*job.body() {
        b"fail" => Err(Failure::from("no such page")),
        b"retry" => Err(Failure::retry("try elsewhere")),
        b"long" => Err(Failure::new("ö".repeat(10_000))),
        b"panic" => panic!("out of {}", "luck"),
        body => Ok(body.to_vec()),
    };
    let _worker = Worker::start(&broker, handler);
    broker.expect_worker();
    assert_eq!(broker.ask_in_vain(b"fail"), "no such page");
    let (meta, body) = broker.ask_with(&JobMeta::default(), &[b"retry"]);
    let retry = ReplyMeta { status: ReplyStatus::Retry, message: Some("try elsewhere".into()), more: false };
    assert_eq!((meta, body), (retry, vec![Vec::new()]));
    assert_eq!(broker.ask_in_vain(b"long"), "ö".repeat(1536));
    assert_eq!(broker.ask_in_vain(b"panic"), "the handler panicked: out of luck");
    assert_eq!(broker.ask(b"still here"), b"still here");
}

#[test]
fn a_worker_told_to_stop_finishes_what_it_has_and_says_exiting() {
    let mut broker = Broker::new();
    let states = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&states);
    let observer = move |state| seen.lock().unwrap().push(state);
    let worker = Worker::start_with(Settings::new(&broker.endpoint), echo, observer);
    broker.expect_worker();
    broker.send_job("token", &JobMeta::default(), &[b"last"]);
    broker.send_control(&Control::Stop);
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("token").1, [b"last"]);
    broker.expect_state(State::Exiting);
    assert_eq!(worker.result().unwrap(), Stopped::ByBroker);
    assert_eq!(*states.lock().unwrap(), [State::Waiting, State::Processing, State::Waiting, State::Exiting]);
}

#[test]
fn a_handler_sees_that_its_request_is_cancelled() {
    let mut broker = Broker::new();
    let handler = |_: &Job, context: &mut Context<'_>| {
        let cancelled = context.wait(Duration::from_mins(10));
        Ok(format!("{cancelled} {}", context.cancelled()))
    };
    let _worker = Worker::start(&broker, handler);
    broker.expect_worker();
    for token in ["first", "second"] {
        broker.send_job(token, &JobMeta::default(), &[b""]);
        broker.expect_state(State::Processing);
        broker.cancel("other");
        broker.cancel(token);
        assert_eq!(broker.expect_reply(token).1, [b"true true"]);
    }
}

#[test]
fn the_cancelling_of_another_request_disturbs_nobody() {
    let mut broker = Broker::new();
    let handler =
        |_: &Job, context: &mut Context<'_>| Ok(context.wait(Duration::from_millis(50)).to_string());
    let _worker = Worker::start(&broker, handler);
    broker.expect_worker();
    broker.cancel("token");
    broker.send_job("token", &JobMeta::default(), &[b""]);
    broker.cancel("other");
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("token").1, [b"false"]);
}

#[test]
fn a_job_that_comes_too_early_is_run_after_the_one_in_hand() {
    let mut broker = Broker::new();
    let handler = |job: &Job, context: &mut Context<'_>| {
        // Reads the second job, and must not take the messages behind it for its own.
        let cancelled = context.wait(Duration::from_millis(30));
        Ok(format!("{} {cancelled}", String::from_utf8_lossy(&job.body())))
    };
    let worker = Worker::start(&broker, handler);
    broker.expect_worker();
    broker.send_job("1", &JobMeta::default(), &[b"one"]);
    broker.send_job("2", &JobMeta::default(), &[b"two"]);
    broker.send_control(&Control::Stop);
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("1").1, [b"one false"]);
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("2").1, [b"two false"]);
    broker.expect_state(State::Exiting);
    assert_eq!(worker.result().unwrap(), Stopped::ByBroker);
}

#[test]
fn malformed_messages_are_ignored() {
    let mut broker = Broker::new();
    let _worker = Worker::start(&broker, echo);
    broker.expect_worker();
    let large = vec![0; 100_000];
    let rubbish: [&[&[u8]]; 8] = [
        &[b""],
        &[b"rubbish"],
        &[b"", b""],
        &[b"", b"", b"\xc1"],
        &[b"", b"token", b""],
        &[b"x", b"token", b"", b"body"],
        &[b"", b"token", b"\xc1", b"body"],
        &[b"", b"", &large],
    ];
    for frames in rubbish {
        broker.send(frames);
    }
    assert_eq!(broker.ask(b"still here"), b"still here");
}

#[test]
fn a_job_without_details_is_run_too() {
    let mut broker = Broker::new();
    let _worker = Worker::start(&broker, echo);
    broker.expect_worker();
    broker.send(&[b"", b"token", b"", b"body"]);
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("token").1, [b"body"]);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let broker = Broker::new();
    let worker = Worker::start_with(Settings::new("carrier pigeon"), echo, |_state| ());
    assert!(matches!(worker.result(), Err(ServeError::Endpoint { .. })));
    let settings = Settings { name: Some("n".repeat(5000)), ..Settings::new(&broker.endpoint) };
    let worker = Worker::start_with(settings, echo, |_state| ());
    assert!(matches!(worker.result(), Err(ServeError::AnnouncementTooLarge { .. })));
}
