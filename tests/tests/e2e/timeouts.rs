//! The client hears of a time-out on time, whatever its worker does.

use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_proto::client::RequestMeta;
use hornpipe_tests::harness::{
    Broker, Client, Deadline, Serve, eventually, hornpipe, is_alive, python, refused, script, send,
};
use nix::sys::signal::Signal::SIGSTOP;

/// A second late is late; this much slower no machine is.
const ON_TIME: Duration = Duration::from_secs(4);

fn expect_timeout(client: &Client, after: Duration) {
    let waited = Deadline::after(after);
    let answer = client.receive().remove(0);
    assert!(answer.starts_with(b"ERR timeout "), "{}", String::from_utf8_lossy(&answer));
    assert!(waited.elapsed() < after + ON_TIME, "told after {:?}", waited.elapsed());
}

#[test]
fn a_worker_that_heeds_cancel_lives_on() {
    let broker = Serve::demo(1).options(["--timeout", "500ms"]).start();
    let pid = broker.ask("pid");
    let client = broker.client();
    client.send(&[b"sleep 60000"]);
    expect_timeout(&client, Duration::from_millis(500));
    assert_eq!(client.ask_text("pid"), pid);
    assert_eq!(client.ask_text("sleep 100"), "slept 100");
    let report = broker.status();
    assert_eq!((refused(&report, Status::Timeout), report.requests.retried), (1, 0), "it is final");
    broker.check_counters();
}

#[test]
fn a_worker_that_ignores_cancel_and_term_is_killed_and_replaced() {
    let program = [python().into_os_string(), script("stubborn_worker.py").into()];
    let broker = Serve::bare(1).program(program).options(["--timeout", "500ms"]).start();
    let pid = broker.workers()[&0];
    let client = broker.client();
    client.send(&[b"hang"]);
    expect_timeout(&client, Duration::from_millis(500));
    broker.wait_until("it is replaced", |report| {
        report.workers.iter().any(|worker| worker.incarnation == 2 && worker.state == "waiting")
    });
    assert_eq!(client.ask_text("x"), "x", "nobody waits for the old one's end");
    eventually("the old one is killed", || !is_alive(pid));
}

#[test]
fn the_client_of_a_stopped_worker_hears_it_too() {
    let broker = Serve::demo(1).options(["--timeout", "500ms"]).start();
    let client = broker.client();
    client.send(&[b"sleep 60000"]);
    broker.wait_for_in_flight(1);
    send(broker.workers()[&0], SIGSTOP);
    expect_timeout(&client, Duration::from_millis(500));
    assert_eq!(client.ask_text("echo x"), "x");
}

#[test]
fn the_log_names_the_request_and_what_its_stopped_worker_did() {
    let worker = format!("echo ready to begin; exec {} worker demo", hornpipe().display());
    let serve = Serve::bare(1).options(["--timeout", "800ms"]).program(["sh", "-c", &worker]);
    let broker = serve.start();
    let pid = broker.workers()[&0];
    let client = Client::dealer(broker.frontend());
    let meta = RequestMeta { id: "order-66".into(), ..RequestMeta::default() };
    client.send_native(&meta, b"sleep 60000");
    broker.wait_for_in_flight(1);
    send(pid, SIGSTOP);
    let waited = Deadline::after(ON_TIME);
    let (reply, _body) = client.receive_native();
    assert_eq!(reply.status, Status::Timeout);
    assert!(!waited.is_over(), "told after {:?}", waited.elapsed());
    let mut told = String::new();
    eventually("it is told", || {
        let log = broker.log();
        told = log.lines().find(|line| line.contains("request timed out")).unwrap_or_default().to_owned();
        !told.is_empty()
    });
    let pid = format!("pid={pid}");
    let words = ["request=order-66", "size=11", "slot=0", "incarnation=1", &pid, "state=stopped"];
    for word in words.into_iter().chain(["after_ms=8", "last_words=\"ready to begin\""]) {
        assert!(told.contains(word), "{word:?} is not said: {told}");
    }
}

#[test]
fn the_log_says_where_a_stuck_worker_sleeps() {
    let program = [python().into_os_string(), script("stubborn_worker.py").into()];
    let broker = Serve::bare(1).program(program).options(["--timeout", "500ms"]).start();
    let client = broker.client();
    client.send(&[b"hang"]);
    expect_timeout(&client, Duration::from_millis(500));
    eventually("it is told", || {
        let log = broker.log();
        let stuck = log.lines().find(|line| line.contains("worker is stuck"));
        stuck.is_some_and(|line| line.contains("state=") && line.contains("why=\"no reply in time\""))
    });
}

#[test]
fn a_crowd_of_time_outs_is_answered_in_time_and_told_briefly() {
    let broker = Serve::demo(12).options(["--timeout", "700ms"]).start();
    let clients: Vec<Client> = (0..12).map(|_| broker.client()).collect();
    for client in &clients {
        client.send(&[b"sleep 60000"]);
    }
    for client in &clients {
        expect_timeout(client, Duration::from_millis(700));
    }
    let told = || broker.log().lines().filter(|line| line.contains("request timed out")).count();
    eventually("each of them is told", || told() == 12);
    broker.check_counters();
}

#[test]
fn a_clients_own_time_ends_its_request_wherever_that_is() {
    let broker = Broker::demo(1);
    let client = Client::dealer(broker.frontend());
    let meta = |id: &str, timeout_ms| RequestMeta {
        id: id.into(),
        timeout_ms: Some(timeout_ms),
        ..RequestMeta::default()
    };
    client.send_native(&meta("running", 900), b"sleep 60000");
    broker.wait_for_in_flight(1);
    client.send_native(&meta("waiting", 300), b"echo x");
    let (first, _body) = client.receive_native();
    assert_eq!((first.id.as_str(), first.status), ("waiting", Status::Expired));
    let (second, _body) = client.receive_native();
    assert_eq!((second.id.as_str(), second.status), ("running", Status::Timeout));
    assert_eq!(broker.ask("echo x"), "x");
    broker.check_counters();
}

#[test]
fn a_worker_that_is_never_ready_in_time_is_replaced() {
    let command = "sleep 4715";
    let serve = Serve::bare(1).options(["--boot-timeout", "300ms"]).program(["sh", "-c", command]);
    let outcome = serve.run();
    assert_eq!(outcome.ended.code(), Some(3), "{}", outcome.ended.stderr);
    assert_eq!(outcome.left, "");
}
