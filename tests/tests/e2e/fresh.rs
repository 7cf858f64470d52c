//! `--fresh`: a process for each request, and none that stays behind.

use std::collections::BTreeSet;

use hornpipe_tests::harness::{Broker, Serve, python, script};

fn check_fresh(broker: &Broker, request: &str) {
    let client = broker.client();
    let pids: BTreeSet<String> = (0..8).map(|_each| client.ask_text(request)).collect();
    assert_eq!(pids.len(), 8, "{pids:?}");
    broker.wait_for_idle(2);
    assert!(!broker.log().contains("fresh"), "a process for each request is nothing to tell");
    broker.check_counters();
}

#[test]
fn each_request_has_a_process_of_its_own() {
    check_fresh(&Serve::demo(2).options(["--fresh"]).start(), "pid");
    let plain = [python().into_os_string(), script("plain_worker.py").into()];
    check_fresh(&Serve::bare(2).options(["--fresh"]).program(plain).start(), "pid");
    let lines = Serve::bare(2).options(["--fresh", "--lines"]);
    check_fresh(&lines.program(["sh", "-c", "while read line; do echo $$; done"]).start(), "pid");
}

#[test]
fn no_process_stays_behind_however_its_request_ends() {
    let broker = Serve::demo(2).options(["--fresh", "--timeout", "1s", "--attempts", "1"]).start();
    assert_eq!(broker.session().members().len(), 4);
    for _each in 0..2 {
        assert_eq!(broker.ask("fail x"), "ERR error x");
        assert!(broker.ask("exit 3").starts_with("ERR lost "));
        assert!(broker.ask("sleep 60000").starts_with("ERR timeout "));
        assert!(broker.ask("junk").starts_with("ERR error "));
        let gone = broker.client();
        gone.send(&[b"sleep 800"]);
        broker.wait_for_in_flight(1);
        drop(gone);
    }
    broker.wait_for_idle(2);
    let members = broker.session().members();
    assert_eq!(members.len(), 4, "{}", broker.session().describe());
    broker.check_counters();
}

#[test]
fn no_more_requests_run_at_once_than_there_are_workers() {
    let broker = Serve::demo(2).options(["--fresh"]).start();
    let clients: Vec<_> = (0..6).map(|_each| broker.client()).collect();
    for client in &clients {
        client.send(&[b"sleep 300"]);
    }
    let mut most = 0;
    broker.wait_until("all are served", |report| {
        most = most.max(report.requests.in_flight);
        report.requests.answered == 6
    });
    assert_eq!(most, 2);
}

#[test]
fn a_process_that_dies_of_its_only_request_shows_how() {
    let broker = Serve::demo(1).options(["--fresh", "--attempts", "1"]).start();
    for (request, reason) in [("kill9", "killed by SIGKILL"), ("exit 3", "exit code 3")] {
        assert!(broker.ask(request).starts_with("ERR lost "));
        broker.wait_until("the reason is told", |report| {
            let exit = report.workers.first().and_then(|worker| worker.last_exit.as_ref());
            exit.is_some_and(|exit| exit.reason == reason)
        });
    }
    assert_eq!(broker.ask("echo x"), "x");
}
