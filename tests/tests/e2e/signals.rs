//! Signals to the parent act at once, traffic or not; signals to its children do nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_tests::harness::{Broker, Chaos, Client, Serve, eventually, let_pass, refused, send};
use nix::sys::signal::Signal::{
    SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};

#[test]
fn ttin_adds_a_worker_at_once_and_ttou_takes_one_away() {
    let broker = Broker::demo(2);
    let first = broker.workers();
    broker.signal(SIGTTIN);
    assert_eq!(broker.wait_for_idle(3).pool.target, 3);
    assert!(
        first.iter().all(|(slot, pid)| broker.workers().get(slot) == Some(pid)),
        "the others are left alone"
    );
    broker.signal(SIGTTOU);
    assert_eq!(broker.wait_for_idle(2).pool.target, 2);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn ttou_never_takes_the_last_worker() {
    let broker = Broker::demo(2);
    for _ in 0..5 {
        broker.signal(SIGTTOU);
        broker.wait_for_idle(1);
    }
    assert_eq!(broker.status().pool.target, 1);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn the_pool_is_resized_under_load_and_nothing_is_lost() {
    let broker = Broker::demo(2);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load(Duration::from_secs(4)).run(&broker));
        for target in [3, 4, 5] {
            broker.signal(SIGTTIN);
            broker.wait_until("the pool has grown", |report| {
                report.pool.target == target && report.pool.ready == target
            });
        }
        for target in [4, 3, 2, 1] {
            broker.signal(SIGTTOU);
            broker.wait_until("the pool has shrunk", |report| {
                report.pool.target == target && report.workers.len() == target as usize
            });
        }
        load.join().unwrap().check();
    });
    broker.check_counters();
}

fn load(time: Duration) -> Chaos {
    Chaos { clients: 4, time, requests: 0, kill_every: Duration::from_hours(1) }
}

#[test]
fn a_busy_worker_that_is_to_leave_finishes_its_request_first() {
    let broker = Broker::demo(2);
    let clients = [broker.client(), broker.client()];
    for client in &clients {
        client.send(&[b"sleep 1200"]);
    }
    broker.wait_for_in_flight(2);
    broker.signal(SIGTTOU);
    broker.wait_until("the wish is known", |report| report.pool.target == 1);
    for client in &clients {
        assert_eq!(client.receive(), [b"slept 1200"]);
    }
    let report = broker.wait_for_idle(1);
    assert_eq!(report.requests.retried, 0);
}

#[test]
fn a_burst_while_the_pool_shrinks_loses_nothing() {
    let broker = Broker::demo(8);
    for round in 0..3 {
        let clients: Vec<Client> = (0..12).map(|_| broker.client()).collect();
        for (number, client) in clients.iter().enumerate() {
            client.send(&[format!("sleep {}", 10 + number).as_bytes()]);
            if number % 4 == round {
                broker.signal(SIGTTOU);
            }
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(client.receive(), [format!("slept {}", 10 + number).as_bytes()]);
        }
    }
    let report =
        broker.wait_until("it has shrunk", |report| report.workers.len() == report.pool.target as usize);
    assert!(report.pool.target < 8);
    assert_eq!(report.requests.answered, 36);
    broker.check_counters();
}

#[test]
fn hup_replaces_every_idle_worker_and_never_serves_with_fewer_than_the_target() {
    let broker = Broker::demo(3);
    let before: BTreeSet<i32> = broker.workers().into_values().collect();
    broker.signal(SIGHUP);
    let report = broker.wait_until("all are replaced", |report| {
        assert!(3 <= report.pool.ready, "fewer serve than should: {report:#?}");
        report.workers.len() == 3
            && report.workers.iter().all(|worker| worker.generation == 1 && worker.state == "waiting")
    });
    assert_eq!((report.pool.generation, report.pool.target), (1, 3));
    let after: BTreeSet<i32> = broker.workers().into_values().collect();
    assert!(before.is_disjoint(&after));
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn hup_under_load_loses_nothing() {
    let broker = Broker::demo(3);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load(Duration::from_secs(4)).run(&broker));
        for generation in 1..=3 {
            broker.signal(SIGHUP);
            broker.wait_until("all are replaced", |report| {
                assert!(3 <= report.pool.ready, "fewer serve than should: {report:#?}");
                report.workers.len() == 3
                    && report.workers.iter().all(|worker| worker.generation == generation)
            });
        }
        load.join().unwrap().check();
    });
    let report = broker.status();
    assert_eq!(report.requests.retried, 0, "a worker was replaced in the middle of a request");
    broker.check_counters();
}

#[test]
fn many_signals_at_once_end_in_order() {
    let broker = Broker::demo(3);
    for _ in 0..30 {
        for signal in [SIGHUP, SIGTTIN, SIGUSR1, SIGTTOU] {
            broker.signal(signal);
        }
    }
    broker.wait_until("all is settled", |report| {
        report.workers.len() == report.pool.target as usize
            && report.workers.iter().all(|worker| worker.state == "waiting")
            && report.workers.iter().all(|worker| worker.generation == report.pool.generation)
            && report.pool.generation > 0
    });
    assert_eq!(broker.ask("echo x"), "x");
    broker.check_counters();
}

#[test]
fn a_stopped_parent_goes_on_where_it_was() {
    let broker = Broker::demo(2);
    send(broker.pid(), SIGSTOP);
    // Requests need no parent.
    assert_eq!(broker.ask("echo x"), "x");
    let workers = broker.workers();
    send(workers[&0], SIGKILL);
    // Not TTIN: the kernel drops pending TTIN and TTOU when a process is continued.
    broker.signal(SIGHUP);
    send(broker.pid(), SIGCONT);
    broker.wait_until("all are replaced", |report| {
        report.workers.len() == 2
            && report.workers.iter().all(|worker| worker.generation == 1 && worker.state == "waiting")
    });
    assert!(broker.workers().values().all(|pid| !workers.values().any(|old| old == pid)));
}

#[test]
fn quit_serves_what_was_accepted_and_then_ends() {
    let mut broker = Broker::demo(1);
    let clients: [Client; 3] = [(); 3].map(|()| broker.client());
    for client in &clients {
        client.send(&[b"sleep 500"]);
    }
    broker.wait_until("two wait", |report| report.requests.waiting == 2 && report.requests.in_flight == 1);
    broker.signal(SIGQUIT);
    for client in &clients {
        assert_eq!(client.receive(), [b"slept 500"]);
    }
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn term_finishes_what_runs_and_refuses_what_waits() {
    for signal in [SIGTERM, SIGINT] {
        let mut broker = Broker::demo(1);
        let running = broker.client();
        running.send(&[b"sleep 700"]);
        broker.wait_for_in_flight(1);
        let waiting = broker.client();
        waiting.send(&[b"echo x"]);
        broker.wait_until("one waits", |report| report.requests.waiting == 1);
        broker.signal(signal);
        waiting.receive_error(Status::Draining);
        assert_eq!(running.receive(), [b"slept 700"]);
        assert_eq!(broker.wait().code(), Some(0));
    }
}

#[test]
fn a_drain_ends_with_its_time() {
    let mut broker = Serve::demo(1).options(["--drain", "300ms"]).start();
    let client = broker.client();
    client.send(&[b"sleep 600000"]);
    broker.wait_for_in_flight(1);
    broker.signal(SIGTERM);
    client.receive_error(Status::Draining);
    let ended = broker.wait();
    assert_eq!(ended.code(), Some(0));
    assert!(ended.waited < Duration::from_secs(6), "{:?}", ended.waited);
}

#[test]
fn a_second_term_ends_it_now() {
    let mut broker = Serve::demo(1).options(["--drain", "10m"]).start();
    let client = broker.client();
    client.send(&[b"sleep 600000"]);
    broker.wait_for_in_flight(1);
    broker.signal(SIGTERM);
    broker.wait_until("it drains", |report| report.phase == "draining");
    assert!(client.receive_within(Duration::from_millis(300)).is_none());
    broker.signal(SIGTERM);
    client.receive_error(Status::Draining);
    let ended = broker.wait();
    assert_eq!(ended.code(), Some(0));
    assert!(ended.waited < Duration::from_secs(6), "{:?}", ended.waited);
}

#[test]
fn usr1_opens_the_log_file_again() {
    let folder = hornpipe_tests::harness::Folder::new();
    let (file, rotated) = (folder.file("log"), folder.file("log.1"));
    let broker = Serve::demo(1).options(["--log-file", file.to_str().unwrap()]).start();
    eventually("it logs", || file.metadata().is_ok_and(|file| file.len() > 0));
    std::fs::rename(&file, &rotated).unwrap();
    broker.signal(SIGUSR1);
    eventually("there is a new file", || file.exists());
    // Parent and router each open it for themselves; who is first is anybody's guess.
    let mut target = 1;
    eventually("both write to the new file", || {
        target += 1;
        broker.signal(SIGTTIN);
        broker.wait_until("the signal is taken", |report| report.pool.target == target);
        let text = std::fs::read_to_string(&file).unwrap();
        text.contains("signal received") && text.contains("pool target changed")
    });
    let size = || rotated.metadata().unwrap().len();
    let before = size();
    broker.signal(SIGTTIN);
    broker.wait_for_idle(target as usize + 1);
    assert_eq!(size(), before, "the old file is still written to");
}

#[test]
fn signals_to_router_and_workers_change_nothing() {
    let broker = Serve::bare(2).start();
    let before = broker.workers();
    let router = broker.router_pid();
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU] {
        send(router, signal);
        for pid in before.values() {
            send(*pid, signal);
        }
    }
    for _ in 0..10 {
        assert_eq!(broker.ask("x"), "x");
    }
    let report = broker.status();
    assert_eq!((report.router_pid, report.pool.target, report.router_life), (router, 2, 1));
    assert_eq!(broker.workers(), before);
}

#[test]
fn a_stop_counts_every_request() {
    let mut broker = Broker::demo(1);
    let client = Client::dealer(broker.frontend());
    for number in 0..20_u8 {
        client.send(&[&[number], b"", b"sleep 50"]);
    }
    broker.wait_until("all are read", |report| report.requests.received == 20);
    broker.signal(SIGTERM);
    let mut answers = 0;
    let mut draining = 0;
    for _ in 0..20 {
        let answer = client.receive().remove(2);
        if answer.starts_with(b"ERR draining ") {
            draining += 1;
        } else {
            assert_eq!(answer, b"slept 50");
            answers += 1;
        }
    }
    assert!(answers >= 1 && answers + draining == 20);
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn term_at_any_instant_of_the_start_leaves_nothing_and_is_no_crash() {
    for instant in 0..40 {
        let mut broker = Serve::bare(4).spawn();
        let_pass(Duration::from_millis(2 * instant));
        broker.signal(SIGTERM);
        broker.let_it_fail();
        let ended = broker.wait();
        // Before the program has come so far as to hold its signals, which is before it says
        // or binds anything, TERM does what it does to every program.
        let by_term = ended.signal() == Some(SIGTERM as i32) && ended.stderr.is_empty();
        assert!(ended.code() == Some(0) || by_term, "after {instant}: {:?}\n{}", ended.status, ended.stderr);
        broker.wait_until_nothing_is_left();
    }
}

#[test]
fn quit_at_the_start_ends_it_too() {
    let mut broker = Serve::demo(2).spawn();
    broker.wait_until("the router is there", |_report| true);
    broker.signal(SIGQUIT);
    assert_eq!(broker.wait().code(), Some(0));
    assert_eq!(broker.session().describe(), "");
}

#[test]
fn requests_after_a_stop_has_begun_are_refused_with_a_reason() {
    let mut broker = Broker::demo(1);
    let running = broker.client();
    running.send(&[b"sleep 1000"]);
    let late = broker.client();
    assert!(late.receive_within(Duration::ZERO).is_none());
    broker.wait_for_in_flight(1);
    broker.signal(SIGTERM);
    broker.wait_until("it drains", |report| report.phase == "draining");
    let answer = late.ask_text("echo x");
    assert!(answer.starts_with("ERR draining "), "{answer}");
    assert_eq!(refused(&broker.status(), Status::Draining), 1);
    assert_eq!(running.receive(), [b"slept 1000"]);
    assert_eq!(broker.wait().code(), Some(0));
}
