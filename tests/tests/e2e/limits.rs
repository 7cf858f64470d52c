//! Workers that have served their time are replaced: by requests, age, idleness and memory.

use std::collections::BTreeSet;
use std::time::Duration;

use hornpipe_proto::control::StatusReport;
use hornpipe_tests::harness::{Broker, Chaos, Deadline, Serve, descriptors, python, resident, script};

fn plain(workers: u32) -> Serve {
    Serve::bare(workers).program([python().into_os_string(), script("plain_worker.py").into()])
}

/// Whether some slot's last process has ended for this reason.
fn has_left(report: &StatusReport, reason: &str) -> bool {
    let exits = report.workers.iter().filter_map(|worker| worker.last_exit.as_ref());
    exits.into_iter().any(|exit| exit.reason == reason)
}

/// Load without anybody being killed.
fn load(requests: u64) -> Chaos {
    Chaos { clients: 8, time: Duration::ZERO, requests, kill_every: Duration::from_hours(1) }
}

#[test]
fn a_worker_that_grows_is_replaced_after_its_request() {
    let broker = plain(2).options(["--max-memory", "60MiB"]).start();
    assert_eq!(broker.ask("x"), "X");
    broker.wait_until("its memory is known", |report| {
        report.workers.iter().any(|worker| worker.private_bytes.is_some_and(|bytes| bytes > 1 << 20))
    });
    // A worker that has just been measured is not measured again for a second.
    let client = broker.client();
    broker.wait_until("one that has grown is replaced", |report| {
        assert_eq!(client.ask_text("grow 40"), "GROW 40");
        has_left(report, "recycle: max_memory")
    });
    let report = broker.status();
    assert_eq!((report.requests.retried, report.requests.refused.len()), (0, 0));
    assert_eq!(broker.ask("x"), "X");
}

#[test]
fn a_worker_beyond_the_hard_limit_is_killed_in_its_request() {
    let broker = plain(2).options(["--max-memory-hard", "100MiB"]).start();
    assert_eq!(broker.ask("swell 200"), "ERR lost 2 workers ended without a reply, the last: memory limit");
    broker.wait_until("the reason is told", |report| has_left(report, "memory limit"));
    broker.wait_for_idle(2);
    assert_eq!(broker.ask("x"), "X");
    broker.check_counters();
}

#[test]
fn the_program_behind_an_adapter_counts_too() {
    let code = "import sys\nkept = []\nfor line in sys.stdin:\n kept.append(bytearray(20 << 20))\n print(len(kept), flush=True)";
    let broker = Serve::bare(1).options(["--lines", "--max-memory", "60MiB"]);
    let broker = broker.program([python().as_os_str(), "-c".as_ref(), code.as_ref()]).start();
    let client = broker.client();
    broker.wait_until("it is replaced", |report| {
        client.ask_text("x");
        has_left(report, "recycle: max_memory")
    });
    assert_eq!(broker.status().requests.retried, 0);
}

#[test]
fn eight_workers_with_a_limit_of_requests_are_replaced_one_at_a_time_under_load() {
    let broker = Serve::demo(8).options(["--max-requests", "200"]).start();
    let figures = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(6000).run(&broker));
        let (mut answered, mut stands_since) = (0, Deadline::after(Duration::from_secs(20)));
        while !load.is_finished() {
            let report = broker.status();
            let serves = |state: &str| matches!(state, "waiting" | "processing");
            let serving = report.workers.iter().filter(|worker| serves(&worker.state));
            let serving: BTreeSet<u32> = serving.map(|worker| worker.slot).collect();
            assert_eq!(serving.len(), 8, "{:#?}", report.workers);
            let starting = report.workers.iter().filter(|worker| worker.state == "starting").count();
            assert!(starting <= 1, "{:#?}", report.workers);
            if answered != report.requests.answered {
                answered = report.requests.answered;
                stands_since = Deadline::after(Duration::from_secs(20));
            }
            assert!(load.is_finished() || !stands_since.is_over(), "nothing is answered any more");
        }
        load.join().unwrap()
    });
    figures.check();
    let report = broker.status();
    assert_eq!(report.requests.retried, 0);
    assert!(report.workers.iter().all(|worker| worker.incarnation > 1), "{:#?}", report.workers);
    assert!(has_left(&report, "recycle: max_requests"));
    broker.check_counters();
}

#[test]
fn a_worker_of_age_is_replaced_without_traffic() {
    let broker = Serve::demo(2).options(["--max-age", "500ms"]).start();
    broker.wait_until("both are replaced", |report| {
        report.workers.iter().all(|worker| worker.incarnation > 1) && has_left(report, "recycle: max_age")
    });
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_worker_that_was_idle_for_too_long_is_replaced_though_it_never_had_a_request() {
    let broker = Serve::demo(2).options(["--idle-timeout", "400ms"]).start();
    broker.wait_until("both are replaced", |report| {
        report.workers.iter().all(|worker| worker.incarnation > 1)
            && has_left(report, "recycle: idle_timeout")
    });
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_thousand_replaced_workers_leave_nothing_behind_in_router_and_parent() {
    let broker = Serve::demo(4).options(["--max-requests", "20"]).start();
    let measure = |broker: &Broker| {
        let pids = [broker.pid(), broker.router_pid()];
        (pids.map(descriptors), pids.map(resident))
    };
    load(4000).run(&broker).check();
    broker.wait_for_idle(4);
    let (descriptors, before) = measure(&broker);
    load(12_000).run(&broker).check();
    broker.wait_for_idle(4);
    let (descriptors_after, after) = measure(&broker);
    // Connections of clients that have just left may still be there.
    assert!(descriptors_after.iter().zip(descriptors).all(|(after, before)| *after <= before + 8));
    let grown = after.iter().zip(before).map(|(after, before)| after.saturating_sub(before)).max();
    assert!(grown < Some(8 << 20), "{before:?} became {after:?}");
    broker.check_counters();
}

#[test]
fn a_worker_that_leaves_before_it_begins_a_request_costs_it_no_attempt() {
    let program = [python().into_os_string(), script("leaving_worker.py").into()];
    let broker = Serve::bare(2).options(["--attempts", "1"]).program(program).start();
    let client = broker.client();
    for _each in 0..4 {
        assert_eq!(client.ask_text("x"), "x");
    }
    let file = broker.folder().file("left").display().to_string();
    assert_eq!(client.ask_text(&format!("leave {file}")), "attempt 1");
    let report = broker.wait_until("the slot is filled", |report| {
        report.workers.iter().any(|worker| worker.incarnation == 2 && worker.state == "waiting")
    });
    assert!(has_left(&report, "announced: out of tokens"), "{:#?}", report.workers);
    assert_eq!(report.requests.retried, 0);
    broker.check_counters();
}
