//! What operators see and order: `status`, `check`, `scale`, `stop`.

use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_proto::control::{ControlRequest, ControlResponse, Scale};
use hornpipe_tests::harness::{Broker, Chaos, Client, Ended, Process, Serve, hornpipe, python, script, send};
use nix::sys::signal::Signal::SIGKILL;
use serde_json::Value;

fn operate(broker: &Broker, verb: &str, words: &[&str]) -> Ended {
    let port = broker.frontend_port().to_string();
    let control = broker.control().display().to_string();
    let arguments: Vec<&str> =
        [verb, &port, "--control", &control].into_iter().chain(words.iter().copied()).collect();
    Process::run(hornpipe(), &arguments)
}

fn status_json(broker: &Broker) -> Value {
    let ended = operate(broker, "status", &["--json"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn status_tells_every_worker_and_the_queue() {
    let broker = Broker::demo(2);
    let client = broker.client();
    client.ask_text("echo x");
    client.ask_text("fail x");
    client.ask_text("kill9");
    broker.wait_for_idle(2);
    let waiting = Client::dealer(broker.frontend());
    for number in 0..3_u8 {
        waiting.send(&[&[number], b"", b"sleep 3000"]);
    }
    broker.wait_until("one waits", |report| report.requests.waiting == 1 && report.requests.in_flight == 2);
    broker.wait_for_in_flight(2);
    let status = status_json(&broker);
    assert_eq!(status["phase"], "serving");
    assert_eq!(status["frontend"], broker.frontend());
    assert_eq!(status["backend"], broker.backend());
    assert_eq!(status["pid"], broker.pid());
    assert_eq!(status["router_life"], 1);
    assert_eq!(status["pool"]["target"], 2);
    assert_eq!(status["pool"]["processing"], 2);
    assert_eq!(status["queue"]["backlog_len"], 1);
    assert!(status["queue"]["oldest_ms"].is_u64());
    let requests = &status["requests"];
    assert_eq!((&requests["received"], &requests["answered"]), (&6.into(), &1.into()));
    assert_eq!((&requests["waiting"], &requests["in_flight"]), (&1.into(), &2.into()));
    let workers = status["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    for (slot, worker) in workers.iter().enumerate() {
        assert_eq!(worker["slot"], slot);
        assert!(worker["pid"].is_i64() && worker["age_ms"].is_u64() && worker["requests"].is_u64());
        assert_eq!(worker["state"], "processing");
        assert!(worker["processing_ms"].is_u64());
        assert_eq!((&worker["incarnation"], &worker["generation"]), (&2.into(), &0.into()));
        assert_eq!(worker["last_exit"]["reason"], "killed by SIGKILL");
    }
    broker.check_counters();

    let ended = operate(&broker, "status", &[]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let pids = broker.workers().into_values().map(|pid| pid.to_string());
    for word in pids.chain(["processing".into(), "SIGKILL".into(), broker.pid().to_string()]) {
        assert!(ended.stdout.contains(&word), "{word:?} is not on the screen:\n{}", ended.stdout);
    }
}

#[test]
fn the_counters_add_up_whatever_has_happened() {
    let broker =
        Serve::demo(3).options(["--timeout", "600ms", "--queue", "20", "--max-body", "64KiB"]).start();
    let client = Client::dealer(broker.frontend());
    let large = vec![b'x'; 65 * 1024];
    let bodies: [&[u8]; 9] = [
        b"echo x",
        b"fail x",
        b"exit 3",
        b"kill9",
        b"sleep 100",
        b"sleep 60000",
        b"junk",
        b"twice x",
        &large,
    ];
    for (number, body) in bodies.iter().enumerate() {
        client.send(&[&number.to_be_bytes(), b"", body]);
    }
    for _ in &bodies {
        client.receive();
    }
    client.send(&[b"malformed"]);
    client.receive();
    let leaving = broker.client();
    leaving.send(&[b"sleep 300"]);
    broker.wait_for_in_flight(1);
    drop(leaving);
    let report = broker.wait_until("the leaver is noticed", |report| report.requests.dropped == 1);
    assert_eq!(report.requests.received, 11);
    assert_eq!((report.requests.answered, report.requests.waiting, report.requests.in_flight), (3, 0, 0));
    broker.check_counters();
}

#[test]
fn status_names_workers_that_came_by_themselves() {
    let broker = Serve::bare(0).start();
    let worker = hornpipe_tests::harness::PlainWorker::connect_anonymous(broker.backend());
    worker.say("waiting");
    broker.wait_until("it is known", |report| report.external.len() == 1);
    let status = status_json(&broker);
    assert_eq!(status["external"][0]["state"], "waiting");
    drop(worker);
    broker.wait_until("it has left", |report| report.external.is_empty());
}

#[test]
fn check_tells_probes_whether_requests_would_be_served() {
    let mut broker = Broker::demo(1);
    assert_eq!(operate(&broker, "check", &[]).code(), Some(0));
    let client = broker.client();
    client.send(&[b"sleep 1500"]);
    broker.wait_for_in_flight(1);
    assert_eq!(operate(&broker, "check", &[]).code(), Some(0), "busy is no failure");
    broker.signal(nix::sys::signal::Signal::SIGTERM);
    broker.wait_until("it drains", |report| report.phase == "draining");
    let ended = operate(&broker, "check", &[]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stdout);
    assert!(!ended.stderr.is_empty());
    broker.wait();
    assert_eq!(operate(&broker, "check", &[]).code(), Some(5));

    let empty = Serve::bare(0).start();
    assert_eq!(operate(&empty, "check", &[]).code(), Some(1), "nobody would serve a request");
}

#[test]
fn scale_sets_and_changes_the_target_within_the_limits() {
    let broker = Serve::demo(2).options(["--max", "6"]).start();
    let steps = [("4", 4), ("+2", 6), ("+5", 6), ("-1", 5), ("3", 3), ("0", 1), ("100", 6), ("-100", 1)];
    for (word, target) in steps {
        let ended = operate(&broker, "scale", &[word]);
        assert_eq!(ended.code(), Some(0), "{word}: {}", ended.stderr);
        assert_eq!(broker.wait_for_idle(target as usize).pool.target, target, "{word}");
    }
    assert_eq!(operate(&broker, "scale", &["many"]).code(), Some(2));
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_hundred_steps_at_once_are_a_hundred_steps() {
    let broker = Broker::demo(1);
    for _ in 0..100 {
        let up = broker.order(&ControlRequest::Scale(Scale::By(1)));
        assert!(matches!(up, ControlResponse::Scaled { .. }));
        let down = broker.order(&ControlRequest::Scale(Scale::By(-1)));
        assert!(matches!(down, ControlResponse::Scaled { to: 1, .. }), "{down:?}");
    }
    broker.wait_for_idle(1);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn stop_finishes_what_runs_and_waits_for_the_end() {
    let mut broker = Broker::demo(1);
    let client = broker.client();
    client.send(&[b"sleep 800"]);
    broker.wait_for_in_flight(1);
    let ended = operate(&broker, "stop", &[]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(broker.session().members().is_empty(), "{}", broker.session().describe());
    assert_eq!(client.receive(), [b"slept 800"]);
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn stop_now_waits_for_nothing() {
    let mut broker = Serve::demo(1).options(["--drain", "10m"]).start();
    let client = broker.client();
    client.send(&[b"sleep 600000"]);
    broker.wait_for_in_flight(1);
    let ended = operate(&broker, "stop", &["--now"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.waited < Duration::from_secs(8), "{:?}", ended.waited);
    client.receive_error(Status::Draining);
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn without_a_broker_every_verb_says_so() {
    for (verb, words) in [("status", &[][..]), ("check", &[]), ("scale", &["2"]), ("stop", &[])] {
        let arguments: Vec<&str> =
            [verb, "1", "--control", "/no/such/socket"].into_iter().chain(words.iter().copied()).collect();
        let ended = Process::run(hornpipe(), &arguments);
        assert_eq!(ended.code(), Some(5), "{verb}: {}", ended.stderr);
        assert!(ended.stderr.contains("/no/such/socket"), "{verb}: {}", ended.stderr);
    }
}

#[test]
fn the_control_socket_is_for_its_owner_alone_and_goes_with_its_broker() {
    use std::os::unix::fs::PermissionsExt;
    let broker = Broker::demo(1);
    let path = broker.control().to_owned();
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(broker);
    assert!(!path.exists());
}

#[test]
fn the_control_socket_of_a_dead_broker_is_replaced() {
    let mut broker = Broker::demo(1);
    broker.let_it_fail();
    send(broker.pid(), SIGKILL);
    broker.wait();
    assert!(broker.control().exists(), "a killed process cannot tidy up");
    broker.wait_until_nothing_is_left();
    let second = Serve::demo(1).in_place_of(&broker).start();
    assert_eq!(second.ask("echo x"), "x");
}

#[test]
fn log_lines_are_json_objects_when_asked_for() {
    let broker = Serve::demo(1).options(["--log-format", "json"]).start();
    broker.ask("kill9");
    let log = broker.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value.is_object());
    }
    assert!(log.contains("worker died"));
}

#[test]
fn what_workers_print_is_logged_line_by_line_with_slot_and_pid() {
    let command = "echo ready to go >&2; while read line; do echo working on $line >&2; echo $$; done";
    let broker =
        Serve::bare(1).options(["--lines", "--log-format", "json"]).program(["sh", "-c", command]).start();
    broker.ask("x");
    let worker = broker.workers()[&0];
    hornpipe_tests::harness::eventually("its words are logged", || broker.log().contains("working on x"));
    let log = broker.log();
    for words in ["ready to go", "working on x"] {
        let line = log.lines().find(|line| line.contains(words)).expect("its words are logged");
        let value: Value = serde_json::from_str(line).unwrap();
        let text = value.to_string();
        assert!(text.contains("\"slot\":0") && text.contains(&format!("\"pid\":{worker}")), "{line}");
    }
}

#[test]
fn status_lists_every_slot_at_every_moment_of_a_massacre() {
    let broker = Serve::demo(4).options(["--attempts", "20"]).start();
    let time = Duration::from_secs(4);
    let massacre = Chaos { clients: 2, time, requests: 0, kill_every: Duration::from_millis(50) };
    let figures = std::thread::scope(|scope| {
        let load = scope.spawn(|| massacre.run(&broker));
        let mut looks = 0;
        while !load.is_finished() {
            let status = status_json(&broker);
            let workers = status["workers"].as_array().unwrap();
            let mut slots: Vec<u64> = workers.iter().map(|worker| worker["slot"].as_u64().unwrap()).collect();
            // A slot may be there twice while its worker's successor starts.
            slots.dedup();
            assert_eq!(slots, [0, 1, 2, 3], "{status:#}");
            assert!(workers.iter().all(|worker| worker["state"].is_string()), "{status:#}");
            looks += 1;
        }
        assert!(looks >= 10, "{looks} looks are few");
        load.join().unwrap()
    });
    assert!(figures.kills.count >= 8 && figures.lost == 0 && figures.wrong == 0, "{figures:?}");
    broker.check_counters();
}

#[test]
fn megabytes_on_both_outputs_of_a_worker_harm_nobody_and_are_logged_with_its_pid() {
    let (spam, scum) = ("spam ".repeat(20), "scum ".repeat(20));
    let flood = format!("yes {spam} | head -c 2000000; yes {scum} | head -c 2000000 >&2");
    let worker = format!(
        "{flood}; echo the last word; exec {} {}",
        python().display(),
        script("plain_worker.py").display()
    );
    let file = hornpipe_tests::harness::Folder::new();
    let log = file.file("log");
    let broker = Serve::bare(2)
        .options(["--log-format", "json", "--log-file", log.to_str().unwrap()])
        .program(["sh", "-c", &worker])
        .start();
    let pids = broker.workers();
    assert_eq!(broker.ask("x"), "X");
    let report = broker.wait_for_idle(2);
    assert_eq!((report.pool.exited, report.router_life), (0, 1));
    hornpipe_tests::harness::eventually("both are read to the end", || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.matches("the last word").count() == 2
    });
    let log = std::fs::read_to_string(&log).unwrap();
    for (slot, pid) in pids {
        let words = [format!("\"slot\":{slot}"), format!("\"pid\":{pid}")];
        for text in ["spam", "scum"] {
            let count = log.lines().filter(|line| line.contains(text));
            let count = count.filter(|line| words.iter().all(|word| line.contains(word))).count();
            assert!(count > 0, "no {text} of worker {slot}");
        }
    }
    let bad = log.lines().find(|line| serde_json::from_str::<Value>(line).is_err());
    assert_eq!(bad, None, "every line is an object");
}

#[test]
fn a_worker_that_prints_without_end_stops_nobody() {
    let command =
        "while read line; do [ $line = flood ] && yes noise | head -c 1000000 >&2; echo $line; done";
    let broker = Serve::bare(2).options(["--lines"]).program(["sh", "-c", command]).start();
    let flood = broker.client();
    flood.send(&[b"flood"]);
    let client = broker.client();
    for number in 0..50 {
        let text = format!("{number}");
        assert_eq!(client.ask_text(&text), text);
    }
    assert_eq!(flood.receive(), [b"flood"]);
}
