//! USR2 and `hornpipe upgrade`: another program in the parent's place, the same workers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hornpipe_proto::control::StatusReport;
use hornpipe_tests::harness::{
    Broker, Client, Ended, Folder, Process, Serve, eventually, hornpipe, let_pass, python, script, send,
    until,
};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL, SIGTERM, SIGTTIN, SIGUSR2};

/// What an upgrade may take on a slow and crowded machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn upgrade(broker: &Broker, words: &[&str]) -> Ended {
    let port = broker.frontend_port().to_string();
    let control = broker.control().display().to_string();
    let arguments: Vec<&str> =
        ["upgrade", &port, "--control", &control].into_iter().chain(words.iter().copied()).collect();
    Process::run(hornpipe(), &arguments)
}

/// Upgrades by the verb, which must succeed.
fn upgrade_well(broker: &Broker) {
    let ended = upgrade(broker, &[]);
    assert_eq!(ended.code(), Some(0), "{}\n{}", ended.stderr, broker.log());
}

/// Upgrades by the signal, and waits until the next router serves with all its workers.
fn signal_and_wait(broker: &Broker, workers: u32) -> StatusReport {
    let life = broker.status().router_life;
    broker.signal(SIGUSR2);
    broker.look(PATIENCE, "the next router serves", |report| {
        report.router_life > life && report.phase == "serving" && report.pool.ready == workers
    })
}

fn executable(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A link to the binary in a folder of the test, to be switched by `switch`.
fn linked(folder: &Folder) -> PathBuf {
    let link = folder.file("hornpipe");
    switch(&link, &hornpipe());
    link
}

/// Makes the link lead elsewhere in one step, as a deployment does.
fn switch(link: &Path, to: &Path) {
    let fresh = link.with_extension("new");
    symlink(to, &fresh).unwrap();
    fs::rename(fresh, link).unwrap();
}

fn demo_by(binary: &Path, workers: u32) -> Serve {
    Serve::demo(workers).binary(binary)
}

#[test]
fn workers_keep_their_pids_and_the_next_router_serves() {
    let broker = Broker::demo(3);
    let (workers, router, pid) = (broker.workers(), broker.router_pid(), broker.pid());
    let report = signal_and_wait(&broker, 3);
    assert_eq!((report.pid, report.router_life), (pid, 2));
    assert_ne!(report.router_pid, router);
    assert_eq!(broker.workers(), workers);
    assert_eq!(broker.ask("echo x"), "x");
    assert_eq!(broker.screen().matches("frontend tcp").count(), 1, "the start-up screen comes once");
    broker.check_counters();
}

#[test]
fn the_verb_waits_and_tells_what_it_was_and_what_it_is() {
    let broker = Broker::demo(1);
    let router = broker.router_pid();
    let ended = upgrade(&broker, &["--json"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let report = broker.status();
    assert_eq!(told["from"]["router_pid"], router);
    assert_eq!(told["to"]["router_pid"], report.router_pid);
    assert_eq!((&told["from"]["pid"], &told["to"]["pid"]), (&broker.pid().into(), &broker.pid().into()));
    assert_eq!(told["to"]["version"], report.version);
    assert_eq!((&told["from"]["router_life"], &told["to"]["router_life"]), (&1.into(), &2.into()));
}

#[test]
fn what_was_accepted_is_answered_and_what_comes_meanwhile_is_told_to_ask_again() {
    let broker = Serve::demo(1).options(["--drain", "20s"]).start();
    let (running, waiting, late) = (broker.client(), broker.client(), broker.client());
    assert_eq!(late.ask_text("echo here"), "here");
    running.send(&[b"sleep 1500"]);
    broker.wait_for_in_flight(1);
    waiting.send(&[b"echo waited"]);
    broker.wait_until("one waits", |report| report.requests.waiting == 1);
    broker.signal(SIGUSR2);
    broker.wait_until("it hands over", |report| report.phase == "handing over");
    late.send(&[b"echo late"]);
    assert_eq!(running.receive(), [b"slept 1500"]);
    assert_eq!(waiting.receive(), [b"waited"]);
    late.receive_error(hornpipe_proto::Status::Unavailable);
    assert_eq!(broker.ask("echo again"), "again");
    assert_eq!(broker.status().router_life, 2);
}

#[test]
fn what_takes_longer_than_the_drain_time_is_refused() {
    let broker = Serve::demo(1).options(["--drain", "300ms"]).start();
    let workers = broker.workers();
    let client = broker.client();
    client.send(&[b"sleep 3000"]);
    broker.wait_for_in_flight(1);
    broker.signal(SIGUSR2);
    client.receive_error(hornpipe_proto::Status::Unavailable);
    broker.wait_until("the next one serves", |report| report.router_life == 2 && report.pool.ready == 1);
    assert_eq!(broker.ask("echo x"), "x");
    assert_eq!(broker.workers(), workers);
}

/// What clients have seen.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    told_to_ask_again: AtomicU64,
    wrong: AtomicU64,
    silent: AtomicU64,
}

impl Tally {
    fn count(&self, answer: Option<Vec<u8>>, expected: &str) {
        let counter = match answer {
            Some(answer) if answer == expected.as_bytes() => &self.answered,
            Some(answer) if answer.starts_with(b"ERR unavailable ") => &self.told_to_ask_again,
            Some(_other) => &self.wrong,
            None => &self.silent,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A REQ client that knows no time-out of its own, but that this one loses its patience
/// in the end and counts.
fn ask_plainly(endpoint: &str, over: &AtomicBool, tally: &Tally) {
    let mut client = Client::req(endpoint);
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let text = number.to_string();
        client.send(&[format!("echo {text}").as_bytes()]);
        let answer = client.receive_within(Duration::from_secs(5)).map(|mut frames| frames.remove(0));
        let is_silent = answer.is_none();
        tally.count(answer, &text);
        if is_silent {
            client = Client::req(endpoint);
        }
    }
}

/// Plain clients at once.
const CLIENTS: u64 = 4;

#[test]
fn plain_clients_are_answered_through_five_upgrades_in_a_row() {
    let broker = Broker::demo(3);
    let (over, tally) = (AtomicBool::new(false), Tally::default());
    std::thread::scope(|scope| {
        for _client in 0..CLIENTS {
            scope.spawn(|| ask_plainly(broker.frontend(), &over, &tally));
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let port = ("127.0.0.1", broker.frontend_port());
                std::net::TcpStream::connect(port).expect("a port refuses a connection");
                let_pass(Duration::from_millis(3));
            }
        });
        for _upgrade in 0..5 {
            upgrade_well(&broker);
            let_pass(Duration::from_millis(300));
        }
        over.store(true, Ordering::Relaxed);
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(count(&tally.wrong), 0, "{tally:?}");
    // Known limit: on a machine that is so busy that a router needs 200 ms for its end, the
    // kernel lets its refusals go before that, and clients ask it in vain. That hits all of
    // them at once, or none.
    assert!(count(&tally.silent) <= CLIENTS, "{tally:?}");
    assert!(count(&tally.answered) > 100, "{tally:?}");
    broker.check_counters();
}

#[test]
fn our_own_clients_lose_nothing_through_five_upgrades() {
    let broker = Broker::demo(3);
    let workers = broker.workers();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (broker, over) = (&broker, &over);
            scope.spawn(move || {
                let client = hornpipe_client::Client::builder().endpoint(broker.frontend()).tries(20);
                let client = client.build().unwrap();
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let text = format!("{thread} {number}");
                    match client.ask(format!("echo {text}")) {
                        Ok(reply) => assert_eq!(reply.bytes(), text.as_bytes()),
                        Err(error) => assert!(error.to_string().contains("ask again"), "{error}"),
                    }
                }
            });
        }
        for _upgrade in 0..5 {
            upgrade_well(&broker);
        }
        over.store(true, Ordering::Relaxed);
    });
    eventually("all are known again", || broker.workers() == workers);
    broker.check_counters();
}

#[test]
fn a_program_that_will_not_do_is_refused_and_nothing_changes() {
    let folder = Folder::new();
    let link = linked(&folder);
    let script = folder.file("broken");
    fs::write(&script, "#!/bin/sh\necho it is broken on purpose\nexit 1\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let text = folder.file("text");
    fs::write(&text, "no program at all\n").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
    let silent = folder.file("silent");
    fs::write(&silent, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&silent, fs::Permissions::from_mode(0o755)).unwrap();
    let broker = demo_by(&link, 2).start();
    let (workers, router) = (broker.workers(), broker.router_pid());
    let missing = folder.file("missing");
    let cases = [
        (&script, "it is broken on purpose"),
        (&text, "exec"),
        (&silent, "without an answer"),
        (&missing, "no such file"),
    ];
    for (program, words) in cases {
        switch(&link, program);
        let ended = upgrade(&broker, &[]);
        assert_eq!(ended.code(), Some(1), "{program:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{program:?}: {}", ended.stderr);
        let report = broker.status();
        assert_eq!((report.router_pid, report.router_life), (router, 1));
        assert_eq!(broker.workers(), workers);
    }
    broker.wait_for_log("it is broken on purpose");
    assert_eq!(broker.ask("echo x"), "x");
    // And a good one is accepted afterwards.
    switch(&link, &hornpipe());
    upgrade_well(&broker);
    eventually("all are known again", || broker.workers() == workers);
}

#[test]
fn a_link_that_was_switched_is_followed() {
    let folder = Folder::new();
    let link = linked(&folder);
    let other = folder.file("another-build");
    fs::copy(hornpipe(), &other).unwrap();
    let broker = demo_by(&link, 1).start();
    assert_eq!(executable(broker.pid()), fs::canonicalize(hornpipe()).unwrap());
    let worker = broker.workers();
    switch(&link, &other);
    upgrade_well(&broker);
    let other = fs::canonicalize(other).unwrap();
    assert_eq!(executable(broker.pid()), other);
    assert_eq!(executable(broker.router_pid()), other);
    eventually("it is known again", || broker.workers() == worker);
}

#[test]
fn a_stop_after_an_upgrade_drains() {
    let mut broker = Broker::demo(2);
    signal_and_wait(&broker, 2);
    let client = broker.client();
    client.send(&[b"sleep 500"]);
    broker.wait_for_in_flight(1);
    broker.signal(SIGTERM);
    assert_eq!(client.receive(), [b"slept 500"]);
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn a_stop_in_the_middle_of_an_upgrade_wins() {
    for patience in [0, 5, 20, 60, 150] {
        let mut broker = Broker::demo(2);
        let client = broker.client();
        client.send(&[b"sleep 300"]);
        broker.wait_for_in_flight(1);
        broker.signal(SIGUSR2);
        let_pass(Duration::from_millis(patience));
        broker.signal(SIGTERM);
        assert_eq!(client.receive(), [b"slept 300"]);
        assert_eq!(broker.wait().code(), Some(0));
        broker.wait_until_nothing_is_left();
    }
}

#[test]
fn the_death_of_an_upgraded_parent_leaves_nothing() {
    let mut broker = Broker::demo(3);
    signal_and_wait(&broker, 3);
    broker.let_it_fail();
    send(broker.pid(), SIGKILL);
    broker.wait();
    broker.wait_until_nothing_is_left();
}

#[test]
fn the_pid_file_stays_locked_and_descriptors_do_not_add_up() {
    let folder = Folder::new();
    let file = folder.file("pid");
    let broker = Serve::demo(2).options(["--pid-file", file.to_str().unwrap()]).start();
    signal_and_wait(&broker, 2);
    let pid = broker.pid();
    let open = descriptors(pid);
    for _upgrade in 0..20 {
        upgrade_well(&broker);
    }
    broker.wait_for_idle(2);
    assert_eq!(descriptors(pid), open);
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), pid.to_string());
    let second = Serve::demo(1).options(["--pid-file", file.to_str().unwrap()]).run();
    assert_eq!(second.ended.code(), Some(1), "{}", second.ended.stderr);
    assert_eq!(broker.status().router_life, 22);
}

#[test]
fn signals_that_come_meanwhile_are_not_lost() {
    let broker = Serve::demo(2).options(["--drain", "10s"]).start();
    let client = broker.client();
    client.send(&[b"sleep 1000"]);
    broker.wait_for_in_flight(1);
    broker.signal(SIGUSR2);
    broker.wait_until("it hands over", |report| report.phase == "handing over");
    broker.signal(SIGTTIN);
    broker.signal(SIGHUP);
    assert_eq!(client.receive(), [b"slept 1000"]);
    broker.look(PATIENCE, "there are three of the next generation", |report| {
        report.router_life == 2
            && report.pool.target == 3
            && report.workers.len() == 3
            && report.workers.iter().all(|worker| worker.generation == 1 && worker.state == "waiting")
    });
}

#[test]
fn a_worker_that_dies_in_the_moment_is_replaced() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    broker.signal(SIGUSR2);
    eventually("the program is tried", || broker.log().contains("trying the program"));
    send(workers[&0], SIGKILL);
    let report =
        broker.look(PATIENCE, "both serve", |report| report.router_life == 2 && report.pool.ready == 2);
    assert_ne!(report.workers[0].pid, Some(workers[&0]));
    assert_eq!(report.workers[1].pid, Some(workers[&1]));
}

#[test]
fn plain_programs_are_replaced() {
    let program = [python().into_os_string(), script("plain_worker.py").into()];
    let broker = Serve::bare(2).program(program).start();
    let workers = broker.workers();
    broker.signal(SIGUSR2);
    broker.look(PATIENCE, "both are replaced", |report| {
        let new = |pid: Option<i32>| pid.is_some_and(|pid| !workers.values().any(|old| *old == pid));
        report.router_life == 2
            && report.workers.len() == 2
            && report.workers.iter().all(|worker| worker.state == "waiting" && new(worker.pid))
    });
    assert_eq!(broker.client().ask_text("hello"), "HELLO");
}

#[test]
fn a_program_with_a_closure_is_executed_again_and_its_forks_stay() {
    let broker = Serve::own(env!("CARGO_BIN_EXE_closure"), &[], 2).start();
    let workers = broker.workers();
    signal_and_wait(&broker, 2);
    assert_eq!(broker.workers(), workers);
    assert_eq!(broker.ask("number 1000"), "3000");
    // A fresh fork is one of the program as it is now.
    send(workers[&0], SIGKILL);
    until("it is replaced", PATIENCE, || {
        let now = broker.workers();
        (now.len() == 2 && now[&0] != workers[&0]).then_some(())
    });
    assert_eq!(broker.ask("number 7"), "21");
}
