//! A closure in a program of one's own: forked workers that share what was loaded before.

use hornpipe_tests::harness::{Broker, Folder, Serve, eventually, send};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL};

const PROGRAM: &str = env!("CARGO_BIN_EXE_closure");

fn start(workers: u32) -> Broker {
    Serve::own(PROGRAM, &[], workers).start()
}

#[test]
fn a_closure_answers_in_forked_workers() {
    let broker = start(2);
    assert_eq!(broker.ask("number 1000"), "3000");
    let pid: i32 = broker.ask("pid").parse().unwrap();
    assert!(pid != broker.pid() && broker.workers().values().any(|worker| *worker == pid));
    broker.check_counters();
}

#[test]
fn an_error_and_a_panic_are_error_replies_and_the_worker_lives() {
    let broker = start(1);
    let pid = broker.ask("pid");
    assert_eq!(broker.ask("fail on purpose"), "ERR error on purpose");
    let answer = broker.ask("panic at the disco");
    assert!(answer.starts_with("ERR error ") && answer.contains("at the disco"), "{answer}");
    assert_eq!(broker.ask("pid"), pid);
}

#[test]
fn a_worker_that_aborts_is_replaced() {
    let broker = start(2);
    let answer = broker.ask("abort");
    assert!(answer.starts_with("ERR poison "), "{answer}");
    broker.wait_for_idle(2);
    assert_eq!(broker.ask("number 2"), "6");
}

#[test]
fn what_was_loaded_before_is_shared_by_all_workers() {
    let broker = start(3);
    let client = broker.client();
    for _ in 0..3 {
        let answer = client.ask_text("memory");
        let private_kib: u64 = answer.split(' ').next().unwrap().parse().unwrap();
        assert!(private_kib < 16 * 1024, "64 MB were loaded, and a worker has {private_kib} KiB of its own");
    }
}

#[test]
fn hup_gives_fresh_processes_of_the_same_code() {
    let broker = start(2);
    let before = broker.workers();
    broker.signal(SIGHUP);
    broker.wait_until("all are replaced", |report| {
        report.workers.len() == 2 && report.workers.iter().all(|worker| worker.generation == 1)
    });
    assert!(broker.workers().values().all(|pid| !before.values().any(|old| old == pid)));
    assert_eq!(broker.ask("number 3"), "9");
}

#[test]
fn its_workers_survive_the_router_with_all_that_they_have() {
    let broker = start(2);
    let before = broker.workers();
    send(broker.router_pid(), SIGKILL);
    broker.wait_until("they are adopted", |report| report.router_life == 2 && report.pool.ready == 2);
    assert_eq!(broker.workers(), before);
    assert_eq!(broker.ask("number 4"), "12");
}

#[test]
fn a_handler_that_hears_nothing_is_known_to_one_router_after_another() {
    let broker = start(1);
    let pid = broker.workers()[&0];
    let client = broker.client();
    client.send(&[b"nap 4000"]);
    broker.wait_for_in_flight(1);
    for life in 2..=3 {
        send(broker.router_pid(), SIGKILL);
        // A worker that is silent for longer would be replaced.
        broker.wait_until("it is adopted", |report| report.router_life == life && report.pool.ready == 1);
        assert_eq!(broker.workers()[&0], pid);
    }
    assert_eq!(broker.ask("pid"), pid.to_string());
    assert_eq!(broker.workers()[&0], pid);
}

#[test]
fn a_program_with_threads_is_refused_and_they_are_named() {
    let outcome = Serve::own(PROGRAM, &["thread"], 1).run();
    assert_ne!(outcome.ended.code(), Some(0));
    assert!(outcome.ended.stderr.contains("busybody"), "{}", outcome.ended.stderr);
    assert_eq!(outcome.left, "");
}

#[test]
fn callbacks_are_called_around_each_workers_life() {
    let folder = Folder::new();
    let file = folder.file("calls");
    let broker = Serve::own(PROGRAM, &["callbacks", file.to_str().unwrap()], 1).start();
    let calls = || std::fs::read_to_string(&file).unwrap_or_default();
    let first = broker.workers()[&0];
    assert_eq!(calls(), "fork 0.1 true\n", "before the fork, in the parent");
    assert_eq!(broker.ask("connection"), format!("0.1 of {first}"), "after it, in the worker");
    send(first, SIGKILL);
    broker.wait_until("it is replaced", |report| {
        report.workers.iter().any(|worker| worker.incarnation == 2 && worker.state == "waiting")
    });
    assert_eq!(calls(), format!("fork 0.1 true\nexit 0.1 {first} signal SIGKILL\nfork 0.2 true\n"));
    let second = broker.workers()[&0];
    assert_eq!(broker.ask("connection"), format!("0.2 of {second}"), "a panic in the parent is contained");
    broker.wait_for_log("callback panicked callback=before_fork");
}

#[test]
fn titles_tell_who_is_who() {
    let broker = Serve::bare(1).start();
    let title = |pid: i32| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim_end().to_owned()
    };
    let ports = format!("{} {}", broker.frontend_port(), broker.backend_port());
    assert_eq!(title(broker.pid()), format!("hornpipe: parent {ports}"));
    assert_eq!(title(broker.router_pid()), format!("hornpipe: router {ports}"));
    let worker = broker.workers()[&0];
    eventually("the worker says that it waits", || title(worker) == "hornpipe: worker 0 [waiting]");
}
