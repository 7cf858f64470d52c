//! The verbs that look after a running broker: `recycle`, `pause`, `resume`, `workers`,
//! and `status --watch`. They answer whatever the pool goes through.

use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_proto::control::{ControlRequest, Scale, StatusReport};
use hornpipe_tests::harness::{
    Broker, Chaos, Client, Ended, Process, Serve, eventually, hornpipe, refused, send,
};
use nix::sys::signal::Signal::{SIGINT, SIGKILL, SIGQUIT, SIGTERM};
use serde_json::Value;

fn begin(broker: &Broker, verb: &str, words: &[&str]) -> Process {
    let port = broker.frontend_port().to_string();
    let control = broker.control().display().to_string();
    let arguments: Vec<&str> =
        [verb, &port, "--control", &control].into_iter().chain(words.iter().copied()).collect();
    Process::start(hornpipe(), &arguments)
}

fn operate(broker: &Broker, verb: &str, words: &[&str]) -> Ended {
    begin(broker, verb, words).wait()
}

fn done(broker: &Broker, verb: &str, words: &[&str]) -> String {
    let ended = operate(broker, verb, words);
    assert_eq!(ended.code(), Some(0), "{verb}: {}", ended.stderr);
    ended.stdout
}

#[test]
fn recycle_replaces_the_process_of_one_slot_and_nobody_notices() {
    let broker = Broker::demo(3);
    let before = broker.workers();
    let client = broker.client();
    let mut verb = begin(&broker, "recycle", &["1", "--wait"]);
    while verb.is_running() {
        assert_eq!(client.ask_text("echo x"), "x");
    }
    let ended = verb.wait();
    let told = "slot 1: incarnation 1 has ended (recycle: operator), incarnation 2 serves\n";
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), told), "{}", ended.stderr);
    let after = broker.workers();
    assert_ne!(before[&1], after[&1]);
    assert_eq!([before[&0], before[&2]], [after[&0], after[&2]]);
    let report = broker.status();
    assert_eq!((report.requests.retried, report.requests.received), (0, report.requests.answered));

    let text = done(&broker, "recycle", &["2", "--json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["slot"], &value["outcome"]), (&2.into(), &"started".into()));
    broker.wait_until("it has another process", |report| {
        report.workers.iter().any(|worker| worker.slot == 2 && worker.incarnation == 2)
    });
    let ended = operate(&broker, "recycle", &["7"]);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(1), "hornpipe: there is no slot 7\n"));
}

#[test]
fn who_waits_for_a_slot_hears_that_it_was_closed() {
    let broker = Broker::demo(2);
    let clients = [broker.client(), broker.client()];
    for client in &clients {
        client.send(&[b"sleep 1500"]);
    }
    broker.wait_for_in_flight(2);
    let mut verb = begin(&broker, "recycle", &["1", "--wait"]);
    broker.wait_until("its replacement is there", |report| report.workers.len() == 3);
    broker.order(&ControlRequest::Scale(Scale::To(1)));
    let ended = verb.wait();
    assert!(ended.stdout.starts_with("slot 1: incarnation 1 has ended"), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("nobody serves there now\n"), "{}", ended.stdout);
    assert_eq!(ended.code(), Some(1));
    for client in &clients {
        assert_eq!(client.receive(), [b"slept 1500"]);
    }
}

#[test]
fn a_paused_pool_holds_what_arrives_and_finishes_what_runs() {
    let broker = Broker::demo(2);
    let running = broker.client();
    running.send(&[b"sleep 700"]);
    broker.wait_for_in_flight(1);
    let told = done(&broker, "pause", &[]);
    assert!(told.starts_with("paused: 1 running, 0 waiting; new requests wait too."), "{told}");
    let waiting = Client::dealer(broker.frontend());
    for number in 0..5_u8 {
        waiting.send(&[&[number], b"", format!("echo {number}").as_bytes()]);
    }
    assert_eq!(running.receive(), [b"slept 700"]);
    let report = broker.wait_until("all wait", |report| report.requests.waiting == 5);
    assert_eq!((report.phase.as_str(), report.requests.in_flight), ("paused", 0));
    let paused = report.pool.paused.unwrap();
    assert!(!paused.refuses && report.workers.iter().all(|worker| worker.state == "waiting"));
    let check = operate(&broker, "check", &[]);
    assert_eq!(check.code(), Some(1));
    assert!(check.stderr.starts_with("hornpipe: not ready: paused: "), "{}", check.stderr);
    let screen = done(&broker, "status", &[]);
    assert!(screen.contains("PAUSED") && screen.contains("requests wait until hornpipe resume"), "{screen}");

    let told = done(&broker, "resume", &[]);
    assert!(told.starts_with("resumed after ") && told.ends_with(": 5 were waiting\n"), "{told}");
    let mut answers: Vec<Vec<u8>> = (0..5).map(|_| waiting.receive()[2].clone()).collect();
    answers.sort();
    assert_eq!(answers, [b"0", b"1", b"2", b"3", b"4"]);
    assert_eq!(done(&broker, "resume", &[]), "it was not paused\n");
    assert_eq!(operate(&broker, "check", &[]).code(), Some(0));
    broker.check_counters();
}

#[test]
fn a_pause_that_refuses_answers_at_once_and_keeps_what_waits() {
    let broker = Serve::demo(1).options(["--queue-timeout", "10m"]).start();
    done(&broker, "pause", &[]);
    let early = broker.client();
    early.send(&[b"echo early"]);
    broker.wait_until("it waits", |report| report.requests.waiting == 1);
    let told = done(&broker, "pause", &["--refuse"]);
    assert!(told.starts_with("paused: 0 running, 1 waiting; new requests are refused."), "{told}");
    for _ in 0..3 {
        let late = broker.client();
        late.send(&[b"echo late"]);
        late.receive_error(Status::Unavailable);
    }
    let report = broker.status();
    assert_eq!((refused(&report, Status::Unavailable), report.requests.waiting), (3, 1));
    done(&broker, "resume", &[]);
    assert_eq!(early.receive(), [b"early"]);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn requests_that_wait_for_the_operator_expire_in_their_own_time() {
    let broker = Serve::demo(1).options(["--queue-timeout", "300ms"]).start();
    done(&broker, "pause", &[]);
    let client = broker.client();
    client.send(&[b"echo x"]);
    client.receive_error(Status::Expired);
}

#[test]
fn a_paused_pool_keeps_its_size() {
    let broker = Serve::bare(1).options(["--min", "1", "--max", "4", "--scale-up-wait", "50ms"]).start();
    done(&broker, "pause", &[]);
    let client = Client::dealer(broker.frontend());
    for number in 0..20_u8 {
        client.send(&[&[number], b"", b"x"]);
    }
    let report = broker.wait_until("they have waited for long", |report| {
        report.requests.waiting == 20 && report.queue.oldest_ms >= Some(600)
    });
    assert_eq!((report.pool.target, report.pool.last_change), (1, None));
    done(&broker, "resume", &[]);
    (0..20).for_each(|_| drop(client.receive()));
    broker.check_counters();
}

#[test]
fn a_pause_outlives_the_router() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    done(&broker, "pause", &["--refuse"]);
    assert!(send(broker.router_pid(), SIGKILL));
    let report = broker.wait_until("another router has the workers", |report| {
        report.router_life == 2 && report.workers.iter().all(|worker| worker.state == "waiting")
    });
    assert_eq!((report.phase.as_str(), broker.workers()), ("paused", workers));
    assert!(report.pool.paused.is_some_and(|paused| paused.refuses));
    let client = broker.client();
    client.send(&[b"echo x"]);
    client.receive_error(Status::Unavailable);
    done(&broker, "resume", &[]);
    assert_eq!(broker.ask("echo x"), "x");
    assert!(send(broker.router_pid(), SIGKILL));
    broker.wait_until("the third serves", |report| report.router_life == 3 && report.phase == "serving");
}

#[test]
fn an_upgrade_of_a_paused_pool_sends_back_what_waits_and_stays_paused() {
    let broker = Broker::demo(2);
    done(&broker, "pause", &[]);
    let client = broker.client();
    client.send(&[b"echo x"]);
    broker.wait_until("it waits", |report| report.requests.waiting == 1);
    done(&broker, "upgrade", &[]);
    client.receive_error(Status::Unavailable);
    let report = broker.status();
    assert_eq!((report.phase.as_str(), report.router_life), ("paused", 2));
    done(&broker, "resume", &[]);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_stop_ends_a_pause_as_it_ends_everything() {
    let mut drained = Broker::demo(1);
    done(&drained, "pause", &[]);
    let client = drained.client();
    client.send(&[b"echo x"]);
    drained.wait_until("it waits", |report| report.requests.waiting == 1);
    drained.signal(SIGTERM);
    client.receive_error(Status::Draining);
    assert_eq!(drained.wait().code(), Some(0));

    let mut finished = Broker::demo(1);
    done(&finished, "pause", &[]);
    let client = finished.client();
    client.send(&[b"echo x"]);
    finished.wait_until("it waits", |report| report.requests.waiting == 1);
    finished.signal(SIGQUIT);
    assert_eq!(client.receive(), [b"x"], "QUIT serves what was accepted");
    assert_eq!(finished.wait().code(), Some(0));
}

#[test]
fn workers_is_the_table_of_status_and_nothing_else() {
    let broker = Broker::demo(2);
    let table = done(&broker, "workers", &[]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("SLOT  PID"), "{table}");
    for (slot, pid) in broker.workers() {
        assert!(lines.iter().any(|line| line.starts_with(&format!("{slot}     {pid}"))), "{table}");
    }
    let value: Value = serde_json::from_str(&done(&broker, "workers", &["--json"])).unwrap();
    assert_eq!(value["workers"].as_array().unwrap().len(), 2);
    assert_eq!(value["external"], Value::Array(Vec::new()));
    assert_eq!(value["workers"][1]["state"], "waiting");
}

#[test]
fn a_watched_status_is_one_block_after_another_and_survives_the_router() {
    let broker = Broker::demo(1);
    let mut watch = begin(&broker, "status", &["--watch=20ms"]);
    let blocks = || watch.stdout().matches("\n\nhornpipe ").count();
    eventually("it has looked three times", || blocks() >= 3);
    assert!(send(broker.router_pid(), SIGKILL));
    eventually("it sees the next router", || watch.stdout().contains("the 2nd of this parent"));
    assert!(!watch.stdout().contains('\x1b'), "no terminal, no escapes");
    assert!(send(watch.pid(), SIGINT));
    assert_eq!(watch.wait().signal(), Some(SIGINT as i32));

    let mut abandoned = begin(&broker, "status", &["--watch=20ms", "--json", "--timeout", "300ms"]);
    eventually("it looks", || abandoned.stdout().lines().count() >= 3);
    drop(broker);
    let ended = abandoned.wait();
    assert_eq!(ended.code(), Some(5), "{}", ended.stderr);
    assert!(ended.stdout.lines().all(|line| serde_json::from_str::<StatusReport>(line).is_ok()));
}

#[test]
fn every_status_of_a_massacre_has_every_slot_and_adds_up() {
    let broker = Serve::demo(4).options(["--attempts", "20"]).start();
    let mut watch = begin(&broker, "status", &["--watch=10ms", "--json"]);
    let time = Duration::from_secs(4);
    let massacre = Chaos { clients: 2, time, requests: 0, kill_every: Duration::from_millis(50) };
    let figures = std::thread::scope(|scope| {
        let load = scope.spawn(|| massacre.run(&broker));
        let mut sizes = [6, 3, 5, 2, 4].into_iter().cycle();
        while !load.is_finished() {
            let size = sizes.next().unwrap_or(4);
            broker.order(&ControlRequest::Scale(Scale::To(size)));
            broker.wait_until("it has begun", |report| report.pool.target == size);
            done(&broker, "workers", &[]);
        }
        load.join().unwrap()
    });
    assert!(figures.kills.count >= 8 && figures.lost == 0 && figures.wrong == 0, "{figures:?}");
    assert!(send(watch.pid(), SIGINT));
    let text = watch.wait().stdout;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
    let reports: Vec<StatusReport> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(reports.len() >= 50, "{} looks are few", reports.len());
    for report in &reports {
        let mut slots: Vec<u32> = report.workers.iter().map(|worker| worker.slot).collect();
        assert!(slots.is_sorted(), "{report:#?}");
        slots.dedup();
        assert!(slots.len() >= report.pool.target as usize, "a wanted slot is missing: {report:#?}");
        let requests = &report.requests;
        let refused: u64 = requests.refused.iter().map(|(_status, count)| count).sum();
        let sum = requests.answered + refused + requests.dropped + requests.waiting + requests.in_flight;
        assert_eq!(requests.received, sum, "{report:#?}");
        assert_eq!(report.pool.spawned - report.pool.exited, living(report), "{report:#?}");
    }
    broker.check_counters();
}

/// Processes that are there, or asked for.
fn living(report: &StatusReport) -> u64 {
    report.workers.iter().filter(|worker| worker.state != "backoff").count() as u64
}
