//! `--access-log`: one line for each request, with what a bill or a graph needs and nothing
//! of its body; and floods of any one kind of line, which cost few of them.

use std::collections::BTreeMap;
use std::fs;

use hornpipe_proto::Status;
use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::control::{ControlRequest, Scale};
use hornpipe_proto::worker::Announcement;
use hornpipe_tests::harness::{Broker, Client, Folder, NativeWorker, Serve, eventually, refused};
use nix::sys::signal::Signal::SIGUSR1;
use serde_json::Value;

fn named(id: &str) -> RequestMeta {
    RequestMeta { id: id.into(), ..RequestMeta::default() }
}

fn objects(log: &str) -> Vec<Value> {
    let whole = log.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The access lines, once there are so many.
fn requests(broker: &Broker, count: usize) -> Vec<Value> {
    let all = || -> Vec<Value> {
        objects(&broker.log()).into_iter().filter(|line| line["message"] == "request").collect()
    };
    eventually(&format!("{count} requests are logged"), || all().len() >= count);
    assert_eq!(all().len(), count, "{:#?}", all());
    all()
}

#[test]
fn each_request_is_one_line_with_where_its_time_went() {
    let broker = Serve::demo(2)
        .options(["--access-log", "--log-format", "json", "--timeout", "400ms", "--max-body", "1KiB"])
        .start();
    let client = Client::dealer(broker.frontend());
    client.send_native(&named("fine"), b"echo hello");
    client.receive();
    client.send_native(&named("failed"), b"fail no");
    client.receive();
    client.send_native(&named("late"), b"sleep 60000");
    client.receive();
    client.send_native(&named("twice"), b"kill9");
    client.receive();
    client.send_native(&named("huge"), &[b'x'; 2000]);
    client.receive();
    client.send(&[b"", b"HPIPE1", b"\xc1", b"body"]);
    client.receive();
    broker.wait_for_idle(2);
    let leaver = Client::dealer(broker.frontend());
    leaver.send_native(&named("gone"), b"sleep 300");
    broker.wait_for_in_flight(1);
    drop(leaver);
    broker.ask("echo plain");

    let lines = requests(&broker, 8);
    let line = |name: &str| lines.iter().find(|line| line["request"] == name).unwrap();
    let fine = line("fine");
    let keys: Vec<&str> = fine.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "attempt",
        "client",
        "level",
        "message",
        "reply_size",
        "request",
        "run_us",
        "service",
        "size",
        "slot",
        "status",
        "timestamp",
        "wait_us",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&fine["status"], &fine["level"]), (&"ok".into(), &"INFO".into()));
    assert_eq!((&fine["service"], &fine["attempt"]), (&"default".into(), &1.into()));
    assert_eq!((&fine["size"], &fine["reply_size"]), (&10.into(), &5.into()));
    assert!(fine["slot"].as_u64() < Some(2) && fine["client"].is_u64());
    assert_eq!(line("failed")["status"], "error");
    let late = line("late");
    assert_eq!((&late["status"], &late["reply_size"]), (&"timeout".into(), &Value::Null));
    assert!(late["run_us"].as_u64() >= Some(400_000) && late["wait_us"].as_u64() < Some(20_000_000));
    assert_eq!((&line("twice")["status"], &line("twice")["attempt"]), (&"lost".into(), &2.into()));
    let huge = line("huge");
    assert_eq!(
        (&huge["status"], &huge["attempt"], &huge["size"]),
        (&"too_large".into(), &0.into(), &2000.into())
    );
    assert_eq!((&huge["slot"], &huge["run_us"]), (&Value::Null, &0.into()));
    assert_eq!(line("gone")["status"], "dropped");
    assert_eq!(lines.iter().filter(|line| line["status"] == "malformed").count(), 1);
    assert_eq!(lines.iter().filter(|line| line["status"] == "ok").count(), 2);
}

#[test]
fn nothing_is_logged_for_a_request_unless_somebody_asks() {
    let broker = Serve::demo(1).options(["--log-format", "json"]).start();
    for _ in 0..20 {
        broker.ask("echo x");
    }
    broker.order(&ControlRequest::Scale(Scale::To(2)));
    eventually("later lines are there", || broker.log().contains("pool target changed"));
    assert!(objects(&broker.log()).iter().all(|line| line["message"] != "request"), "{}", broker.log());
}

#[test]
fn no_name_can_forge_a_line_and_no_body_is_in_it() {
    let evil = "evil\n2026-01-01T00:00:00.000Z ERROR forged\r\x1b[31m\u{9b}\u{202e}";
    for format in ["text", "json"] {
        let broker =
            Serve::demo(1).options(["--access-log", "--log-format", format, "--log-level", "trace"]).start();
        let client = Client::dealer(broker.frontend());
        client.send_native(&named(evil), b"echo a secret of the body");
        client.receive();
        eventually("it is logged", || broker.log().contains("wait_us"));
        let log = broker.log();
        assert!(!log.contains("a secret of the body"), "{log}");
        let mentions: Vec<&str> = log.lines().filter(|line| line.contains("forged")).collect();
        assert!(mentions.iter().all(|line| line.contains("evil")), "{mentions:#?}");
        let controls = |line: &&str| line.chars().any(char::is_control);
        assert_eq!(log.lines().find(controls), None);
    }
}

#[test]
fn a_log_that_was_moved_away_is_opened_again_and_goes_on() {
    let folder = Folder::new();
    let (path, moved) = (folder.file("log"), folder.file("log.1"));
    let broker = Serve::demo(1)
        .options(["--access-log", "--log-format", "json", "--log-file", path.to_str().unwrap()])
        .start();
    let client = Client::dealer(broker.frontend());
    client.send_native(&named("before"), b"echo x");
    client.receive();
    eventually("it is in the file", || fs::read_to_string(&path).unwrap().contains("\"before\""));
    fs::rename(&path, &moved).unwrap();
    broker.signal(SIGUSR1);
    let mut number = 0;
    eventually("requests are in the new file", || {
        number += 1;
        client.send_native(&named(&format!("after {number}")), b"echo x");
        client.receive();
        fs::read_to_string(&path).is_ok_and(|log| log.contains("\"after "))
    });
    assert!(fs::read_to_string(&moved).unwrap().contains("\"before\""));
}

/// How many lines of one kind there are in each second, and for how many they stand.
fn tally(log: &str, kind: &str) -> (BTreeMap<String, u64>, u64) {
    let (mut seconds, mut stands_for) = (BTreeMap::new(), 0);
    for line in objects(log) {
        let second = line["timestamp"].as_str().unwrap().split('.').next().unwrap().to_owned();
        if line["message"] == kind {
            *seconds.entry(second).or_default() += 1;
            stands_for += 1 + line["left_out"].as_u64().unwrap_or(0);
        } else if line["message"] == "lines left out" && line["of"] == kind {
            stands_for += line["left_out"].as_u64().unwrap();
        }
    }
    (seconds, stands_for)
}

#[test]
fn a_flood_that_peers_bring_about_costs_few_lines_and_all_are_counted() {
    let broker = Serve::bare(0).options(["--log-format", "json", "--timeout", "300ms"]).start();
    let announcement = Announcement { credits: 256, ..Announcement::default() };
    let sink = NativeWorker::connect(broker.backend(), &announcement);
    sink.announce("waiting", &announcement);
    broker.wait_until("it is known", |report| report.external.len() == 1);
    let client = Client::dealer(broker.frontend());
    for number in 0..250_u32 {
        client.send(&[&number.to_be_bytes(), b"", b"x"]);
    }
    broker.wait_until("all are too late", |report| refused(report, Status::Timeout) == 250);
    eventually("all are told or counted", || tally(&broker.log(), "request timed out").1 == 250);
    let (seconds, _) = tally(&broker.log(), "request timed out");
    assert!(seconds.values().all(|lines| *lines <= 50), "{seconds:?}");
    assert!(seconds.values().sum::<u64>() < 250, "{seconds:?}: nothing was left out");
}

#[test]
fn a_flood_that_operators_bring_about_is_counted_too() {
    let broker = Serve::bare(0).options(["--log-format", "json"]).start();
    for _ in 0..1000 {
        broker.order(&ControlRequest::Pause { refuse: false });
        broker.order(&ControlRequest::Resume);
    }
    for kind in ["resumed", "paused: requests wait"] {
        eventually("all are told or counted", || tally(&broker.log(), kind).1 == 1000);
        let (seconds, _) = tally(&broker.log(), kind);
        assert!(seconds.values().all(|lines| *lines <= 50), "{kind}: {seconds:?}");
    }
}
