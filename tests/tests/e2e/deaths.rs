//! Workers die in every state, and no request is lost with them.

use hornpipe_proto::Status;
use hornpipe_tests::harness::{
    Breakable, Broker, Client, Serve, eventually, is_alive, python, refused, script, send, state_of,
};
use nix::sys::signal::Signal::SIGKILL;

#[test]
fn a_killed_idle_worker_is_replaced_without_traffic() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    send(workers[&1], SIGKILL);
    let report = broker.wait_until("the worker is replaced", |report| {
        let other = |pid: Option<i32>| pid.is_some_and(|pid| pid != workers[&1]);
        report.workers.len() == 2
            && report.workers.iter().all(|worker| worker.state == "waiting")
            && other(report.workers[1].pid)
    });
    assert_eq!(report.workers[0].pid, Some(workers[&0]), "the other one is left alone");
    assert_eq!((report.workers[1].slot, report.workers[1].incarnation), (1, 2));
    let last = report.workers[1].last_exit.as_ref().unwrap();
    assert_eq!(last.reason, "killed by SIGKILL");
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn when_every_idle_worker_is_killed_the_next_requests_are_served_all_the_same() {
    // Known limit: until a killed process has ended for the kernel too, it looks alive, and
    // a request may be handed to it.
    let broker = Serve::demo(4).options(["--attempts", "5"]).start();
    for pid in broker.workers().into_values() {
        send(pid, SIGKILL);
    }
    let clients: Vec<Client> = (0..8).map(|_| broker.client()).collect();
    for client in &clients {
        client.send(&[b"echo x"]);
    }
    for client in &clients {
        assert_eq!(client.receive(), [b"x"]);
    }
    broker.wait_for_idle(4);
    broker.check_counters();
}

#[test]
fn when_every_idle_worker_is_killed_no_request_is_lost() {
    let broker = Broker::demo(4);
    for pid in broker.workers().into_values() {
        send(pid, SIGKILL);
    }
    let clients: Vec<Client> = (0..8).map(|_| broker.client()).collect();
    for client in &clients {
        client.send(&[b"echo x"]);
    }
    for client in &clients {
        assert_eq!(client.receive(), [b"x"]);
    }
    broker.wait_for_idle(4);
    assert_eq!(broker.ask("echo x"), "x");
    broker.check_counters();
}

#[test]
fn a_killed_busy_workers_request_goes_to_another_worker() {
    let broker = Broker::demo(2);
    let file = broker.folder().file("runs");
    let client = broker.client();
    client.send(&[b"sleep 700"]);
    let report = broker.wait_for_in_flight(1);
    let busy = report.workers.iter().find(|worker| worker.state == "processing").unwrap();
    send(busy.pid.unwrap(), SIGKILL);
    assert_eq!(client.receive(), [b"slept 700"]);
    assert_eq!(broker.status().requests.retried, 1);
    assert_eq!(broker.ask(&format!("count {}", file.display())), "1");
    broker.check_counters();
}

#[test]
fn the_siblings_of_a_killed_worker_go_on_with_their_requests() {
    let broker = Broker::demo(3);
    let before = broker.workers();
    let clients: Vec<Client> = (0..3).map(|_| broker.client()).collect();
    for client in &clients {
        client.send(&[b"sleep 1000"]);
    }
    broker.wait_for_in_flight(3);
    send(before[&1], SIGKILL);
    for client in &clients {
        assert_eq!(client.receive(), [b"slept 1000"]);
    }
    let report = broker.wait_for_idle(3);
    let after = broker.workers();
    assert_eq!((after[&0], after[&2]), (before[&0], before[&2]), "a sibling was replaced");
    assert_eq!((report.requests.retried, report.pool.exited), (1, 1), "only one request was tried again");
    broker.check_counters();
}

#[test]
fn with_one_attempt_a_request_that_loses_its_worker_is_lost_and_never_runs_twice() {
    let broker = Serve::demo(2).options(["--attempts", "1"]).start();
    let client = broker.client();
    client.send(&[b"sleep 60000"]);
    let report = broker.wait_for_in_flight(1);
    let busy = report.workers.iter().find(|worker| worker.state == "processing").unwrap();
    send(busy.pid.unwrap(), SIGKILL);
    assert_eq!(client.receive(), [b"ERR lost its worker ended without a reply: killed by signal 9"]);
    let report = broker.status();
    assert_eq!((refused(&report, Status::Lost), report.requests.retried), (1, 0));
    broker.check_counters();
}

#[test]
fn a_request_that_ends_every_worker_is_tried_no_more_than_its_attempts() {
    let broker = Serve::demo(3).options(["--attempts", "3"]).start();
    let client = broker.client();
    assert_eq!(
        client.ask_text("exit 3"),
        "ERR poison 3 workers ended while they had it, the last: exit code 3"
    );
    broker.wait_for_idle(3);
    assert_eq!(
        client.ask_text("kill9"),
        "ERR lost 3 workers ended without a reply, the last: killed by signal 9"
    );
    let report = broker.wait_for_idle(3);
    assert_eq!(client.ask_text("echo x"), "x");
    assert_eq!(
        (refused(&report, Status::Lost), refused(&report, Status::Poison), report.requests.retried),
        (1, 1, 4)
    );
    broker.check_counters();
}

#[test]
fn an_exit_code_is_told_by_status_and_log_with_the_last_words() {
    let command = "read line; echo something is wrong >&2; exit 42";
    let broker = Serve::bare(1).options(["--lines"]).program(["sh", "-c", command]).start();
    assert_eq!(broker.ask("x"), "ERR poison 2 workers ended while they had it, the last: exit code 42");
    broker.wait_until("the exit is told", |report| {
        report.workers[0].last_exit.as_ref().is_some_and(|last| last.reason == "exit code 42")
    });
    let log = broker.log();
    let died = log.lines().find(|line| line.contains("worker died")).expect("a death is told");
    assert!(died.contains("something is wrong") && died.contains("exit code 42"), "{died}");
}

#[test]
fn a_worker_killed_just_after_its_reply_has_replied() {
    let broker = Broker::demo(3);
    let file = broker.folder().file("runs");
    let client = broker.client();
    for round in 1..=9 {
        let pid: i32 = client.ask_text("pid").parse().unwrap();
        send(pid, SIGKILL);
        let runs = client.ask_text(&format!("count {}", file.display()));
        assert_eq!(runs, round.to_string(), "a request was run twice");
        broker.wait_for_idle(3);
    }
    assert_eq!(broker.status().requests.answered, 18);
    broker.check_counters();
}

#[test]
fn a_worker_that_ends_by_itself_while_idle_is_replaced() {
    let command = "read line; echo one; exit 0";
    let broker = Serve::bare(1).options(["--lines"]).program(["sh", "-c", command]).start();
    for incarnation in 1..=3 {
        broker.wait_until("it is replaced", |report| {
            report.workers[0].incarnation == incarnation && report.workers[0].state == "waiting"
        });
        assert_eq!(broker.ask("x"), "one");
    }
    broker.check_counters();
}

#[test]
fn workers_that_die_young_are_not_started_in_a_busy_loop() {
    // One that never comes so far as to be ready: a program of lines is taken for ready when
    // it has been started, and may be given a request in the moment of its death.
    let program = Breakable::new();
    let broker = Serve::bare(1).program(program.program()).start();
    program.break_it();
    let client = broker.client();
    client.send(&[b"exit 7"]);
    let report = broker.wait_until("it fails", |report| report.phase == "failing");
    assert!(report.pool.spawned < 10, "{} were started", report.pool.spawned);
    let answer = broker.ask("x");
    assert!(answer.starts_with("ERR unavailable "), "{answer}");
    client.receive_error(Status::Unavailable);
    broker.check_counters();
}

#[test]
fn a_worker_that_replies_twice_is_heard_once() {
    let broker = Broker::demo(1);
    let client = broker.client();
    assert_eq!(client.ask_text("twice upon a time"), "upon a time");
    assert_eq!(client.ask_text("echo x"), "x");
    assert_eq!(broker.status().noise.stale_replies, 1);
    broker.check_counters();
}

#[test]
fn a_worker_that_sends_rubbish_fails_its_request_and_is_replaced() {
    let broker = Broker::demo(1);
    let pid = broker.ask("pid");
    let answer = broker.ask("junk");
    assert!(answer.starts_with("ERR error "), "{answer}");
    assert_ne!(broker.ask("pid"), pid);
    assert_eq!(broker.status().noise.malformed_workers, 1);
    broker.check_counters();
}

#[test]
fn a_worker_that_hangs_up_and_lives_is_replaced_and_its_request_goes_to_another() {
    let program = [python().into_os_string(), script("plain_worker.py").into()];
    let broker = Serve::bare(1).program(program).start();
    let pid = broker.workers()[&0];
    let file = broker.folder().file("first");
    let client = broker.client();
    assert_eq!(client.ask_text(&format!("hangup {}", file.display())), "SECOND");
    eventually("the old one has ended", || !is_alive(pid));
}

#[test]
fn dead_workers_leave_no_zombies() {
    let broker = Broker::demo(2);
    for _ in 0..3 {
        let workers = broker.workers();
        for pid in workers.values() {
            send(*pid, SIGKILL);
        }
        broker.wait_until("they are replaced", |report| {
            report.pool.ready == 2
                && report.workers.iter().all(|worker| !workers.values().any(|old| Some(*old) == worker.pid))
        });
        assert!(workers.values().all(|pid| state_of(*pid).is_none()));
    }
}
