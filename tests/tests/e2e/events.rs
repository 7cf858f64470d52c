//! `hornpipe events`: what happens is told as it happens, in a schema with a version; a
//! reader that is slow or gone costs nobody anything.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hornpipe_proto::control::{self, ControlRequest, ControlResponse, EventKind, EventReport, Scale};
use hornpipe_tests::harness::{Broker, Client, Process, Serve, eventually, hornpipe, send};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL, SIGTERM};
use serde_json::Value;

fn watch(broker: &Broker) -> Process {
    let port = broker.frontend_port().to_string();
    let control = broker.control().display().to_string();
    let verb = Process::start(hornpipe(), &["events", &port, "--control", &control, "--json"]);
    eventually("the stream has begun", || verb.stdout().contains("\"event\":\"hello\""));
    verb
}

fn told(verb: &Process) -> Vec<Value> {
    let text = verb.stdout();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits for an event of this name that is as wanted.
fn wait_for(verb: &Process, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    eventually(&format!("{name} is told"), || {
        found = told(verb).into_iter().find(|event| event["event"] == name && wanted(event));
        found.is_some()
    });
    found.unwrap()
}

fn any(_event: &Value) -> bool {
    true
}

#[test]
fn the_life_of_workers_is_told_with_reasons() {
    let mut broker = Broker::demo(2);
    let mut verb = watch(&broker);
    let hello = &told(&verb)[0];
    assert_eq!(
        (&hello["event"], &hello["schema"], &hello["phase"]),
        (&"hello".into(), &1.into(), &"serving".into())
    );
    assert_eq!((&hello["pid"], &hello["router_pid"]), (&broker.pid().into(), &broker.router_pid().into()));
    assert!(hello["at_ms"].as_u64() > Some(1_700_000_000_000) && hello["router_life"] == 1);

    let killed = broker.workers()[&1];
    assert!(send(killed, SIGKILL));
    let exited = wait_for(&verb, "worker_exited", |event| event["pid"] == killed);
    assert_eq!((&exited["slot"], &exited["incarnation"]), (&1.into(), &1.into()));
    assert_eq!((&exited["reason"], &exited["planned"]), (&"killed by SIGKILL".into(), &false.into()));
    let started = wait_for(&verb, "worker_started", |event| event["incarnation"] == 2);
    let ready = wait_for(&verb, "worker_ready", |event| event["incarnation"] == 2);
    assert_eq!((&started["slot"], &started["pid"]), (&ready["slot"], &ready["pid"]));

    broker.order(&ControlRequest::Scale(Scale::To(3)));
    let changed = wait_for(&verb, "target_changed", any);
    assert_eq!(
        (&changed["from"], &changed["to"], &changed["cause"]),
        (&2.into(), &3.into(), &"operator".into())
    );
    broker.wait_for_idle(3);
    broker.signal(SIGHUP);
    wait_for(&verb, "reload_started", |event| event["generation"] == 1);
    wait_for(&verb, "reload_step", |event| event["generation"] == 1 && event["target"] == 3);
    wait_for(&verb, "reload_finished", |event| event["generation"] == 1);
    broker.order(&ControlRequest::Pause { refuse: true });
    assert_eq!(wait_for(&verb, "paused", any)["refuses"], true);
    wait_for(&verb, "phase", |event| event["from"] == "serving" && event["to"] == "paused");
    broker.order(&ControlRequest::Resume);
    assert!(wait_for(&verb, "resumed", any)["after_ms"].is_u64());

    broker.signal(SIGTERM);
    assert_eq!(broker.wait().code(), Some(0));
    let ended = verb.wait();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let last: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["why"]), (&"end".into(), &"stopped".into()));
}

#[test]
fn what_becomes_of_requests_is_told_by_name_and_refusals_in_bulk() {
    let broker = Serve::demo(2).options(["--timeout", "300ms", "--queue", "5"]).start();
    let verb = watch(&broker);
    let meta = hornpipe_proto::client::RequestMeta { id: "too-long".into(), ..Default::default() };
    let client = Client::dealer(broker.frontend());
    client.send_native(&meta, b"sleep 60000");
    let late = wait_for(&verb, "request_timed_out", any);
    assert_eq!((&late["request"], &late["size"]), (&"too-long".into(), &11.into()));
    assert!(late["after_ms"].as_u64() >= Some(300) && late["slot"].is_u64());
    let poison = hornpipe_proto::client::RequestMeta { id: "arsenic".into(), ..Default::default() };
    client.send_native(&poison, b"exit 3");
    wait_for(&verb, "request_retried", |event| event["request"] == "arsenic");
    assert_eq!(wait_for(&verb, "request_poisoned", any)["request"], "arsenic");
    client.send_native(&hornpipe_proto::client::RequestMeta::default(), b"kill9");
    wait_for(&verb, "request_lost", any);

    broker.order(&ControlRequest::Pause { refuse: false });
    let crowd = Client::dealer(broker.frontend());
    for number in 0..505_u32 {
        crowd.send(&[&number.to_be_bytes(), b"", b"echo x"]);
    }
    let busy = || -> (u64, usize) {
        let counts: Vec<u64> = told(&verb)
            .iter()
            .filter(|event| event["event"] == "refused")
            .flat_map(|event| event["refused"].as_array().unwrap().clone())
            .filter(|pair| pair[0] == "busy")
            .map(|pair| pair[1].as_u64().unwrap())
            .collect();
        (counts.iter().sum(), counts.len())
    };
    eventually("every refusal is counted", || busy().0 == 500);
    assert!(busy().1 <= 60, "{} events are not in bulk", busy().1);
}

#[test]
fn the_verb_goes_on_with_the_next_router() {
    let broker = Broker::demo(1);
    let mut verb = watch(&broker);
    assert!(send(broker.router_pid(), SIGKILL));
    let second = wait_for(&verb, "hello", |event| event["router_life"] == 2);
    assert_eq!(second["router_pid"], broker.router_pid());
    broker.wait_for_idle(1);
    let port = broker.frontend_port().to_string();
    let control = broker.control().display().to_string();
    let upgrade = Process::run(hornpipe(), &["upgrade", &port, "--control", &control]);
    assert_eq!(upgrade.code(), Some(0), "{}", upgrade.stderr);
    wait_for(&verb, "phase", |event| event["to"] == "handing over");
    wait_for(&verb, "end", |event| event["why"] == "replaced" && event["router_life"] == 2);
    wait_for(&verb, "hello", |event| event["router_life"] == 3);
    assert!(verb.stderr().contains("waiting for the next one"), "{}", verb.stderr());

    let mut broker = broker;
    broker.let_it_fail();
    assert!(send(broker.pid(), SIGKILL));
    let ended = verb.wait();
    assert_eq!(ended.code(), Some(5), "{}", ended.stderr);
}

/// Reads until there is a whole event.
fn read_event(stream: &mut UnixStream, input: &mut Vec<u8>) -> Option<EventReport> {
    loop {
        if let Some(response) = control::take(input, control::RESPONSE_LIMIT).unwrap() {
            let ControlResponse::Event(event) = response else { panic!("{response:?} is no event") };
            return Some(event);
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).unwrap() {
            0 => return None,
            size => input.extend_from_slice(&chunk[..size]),
        }
    }
}

#[test]
fn a_reader_that_does_not_read_loses_events_is_told_how_many_and_slows_nobody() {
    let broker = Broker::demo(1);
    let mut slow = UnixStream::connect(broker.control()).unwrap();
    slow.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    slow.write_all(&control::encode(&ControlRequest::Events)).unwrap();
    let mut input = Vec::new();
    let hello = read_event(&mut slow, &mut input).unwrap();
    assert!(matches!(hello.what, EventKind::Hello { schema: 1, .. }));
    // Each of these is two events, of some seventy bytes: more than a socket and the router keep.
    let rounds = 10_000_u64;
    for _ in 0..rounds {
        broker.order(&ControlRequest::Pause { refuse: false });
        broker.order(&ControlRequest::Resume);
    }
    assert_eq!(broker.ask("echo x"), "x");
    broker.order(&ControlRequest::Scale(Scale::To(2)));
    let mut pauses = 0;
    let dropped = loop {
        match read_event(&mut slow, &mut input).unwrap().what {
            EventKind::Paused { .. } | EventKind::Resumed { .. } => pauses += 1,
            EventKind::Phase { .. } => (),
            EventKind::Dropped { count } => break count,
            other => panic!("{other:?} was not to be expected"),
        }
    };
    assert!(pauses > 1000 && dropped > 1000, "{pauses} told, {dropped} dropped");
    // It has caught up, and hears what happens from here on.
    broker.order(&ControlRequest::Scale(Scale::To(3)));
    loop {
        if let EventKind::TargetChanged { to: 3, .. } = read_event(&mut slow, &mut input).unwrap().what {
            break;
        }
    }
    drop(slow);
    assert_eq!(broker.ask("echo y"), "y");
}

#[test]
fn there_are_streams_for_sixteen_and_the_next_is_told_so() {
    let broker = Broker::demo(1);
    let open = || {
        let mut stream = UnixStream::connect(broker.control()).unwrap();
        stream.write_all(&control::encode(&ControlRequest::Events)).unwrap();
        stream
    };
    let mut streams: Vec<UnixStream> = (0..16).map(|_| open()).collect();
    for stream in &mut streams {
        assert!(read_event(stream, &mut Vec::new()).is_some());
    }
    let port = broker.frontend_port().to_string();
    let control = broker.control().display().to_string();
    let one_more = Process::run(hornpipe(), &["events", &port, "--control", &control]);
    assert_eq!(one_more.code(), Some(1), "{}", one_more.stdout);
    assert!(one_more.stderr.contains("16 streams of events are open already"), "{}", one_more.stderr);
    // A crowd of other operators puts no stream out.
    let crowd: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(broker.control()).unwrap()).collect();
    broker.order(&ControlRequest::Scale(Scale::To(2)));
    for stream in &mut streams {
        let event = read_event(stream, &mut Vec::new()).unwrap();
        assert!(matches!(event.what, EventKind::TargetChanged { .. }), "{event:?}");
    }
    drop(crowd);
}
