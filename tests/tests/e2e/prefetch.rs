//! Requests handed to busy workers ahead of their time: none is lost, doubled, or kept waiting
//! behind a long one.

use std::collections::BTreeSet;

use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::control::{ControlRequest, StatusReport, WorkerReport};
use hornpipe_proto::{MAGIC, Status};
use hornpipe_tests::harness::{Broker, Client, Serve, send};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

/// So long a budget that nothing is taken back because of the time.
const GENEROUS: [&str; 2] = ["--prefetch", "60s"];

/// A broker whose workers have answered so often that they are known to be quick, whatever the
/// budget.
fn warm<const N: usize>(workers: u32, options: [&str; N]) -> (Broker, Client) {
    let broker = Serve::demo(workers).options(options).start();
    broker.wait_for_idle(workers as usize);
    for _ in 0..40 * workers {
        broker.ask("echo warm");
    }
    let client = Client::dealer(broker.frontend());
    (broker, client)
}

fn ahead(report: &StatusReport) -> u32 {
    report.workers.iter().map(|worker| worker.ahead).sum()
}

/// Puts a long request into the hands of each worker, and others behind them.
fn put_behind(broker: &Broker, client: &Client, long: &[&str], others: impl Iterator<Item = String>) -> u32 {
    for body in long {
        client.send(&[b"", body.as_bytes()]);
    }
    broker.wait_until("each worker is at a long one", |report| {
        let at_it = |worker: &&WorkerReport| worker.state == "processing";
        report.workers.iter().filter(at_it).count() == long.len()
    });
    let mut count = 0;
    for body in others {
        client.send(&[b"", body.as_bytes()]);
        count += 1;
    }
    count
}

fn receive(client: &Client) -> String {
    String::from_utf8(client.receive().pop().unwrap()).unwrap()
}

#[test]
fn what_a_killed_worker_had_not_begun_costs_no_attempt() {
    let [prefetch, budget] = GENEROUS;
    let (broker, client) = warm(1, [prefetch, budget, "--attempts", "1"]);
    let file = broker.folder().file("runs");
    let count = format!("count {}", file.display());
    let behind = put_behind(&broker, &client, &["sleep 60000"], (0..10).map(|_| count.clone()));
    let report = broker.wait_until("they are handed over", |report| ahead(report) == behind);
    send(report.workers[0].pid.unwrap(), SIGKILL);
    let replies: Vec<String> = (0..=behind).map(|_| receive(&client)).collect();
    let lost = replies.iter().filter(|reply| reply.starts_with("ERR lost")).count();
    assert_eq!(lost, 1, "only the one that it was at: {replies:?}");
    let numbers: BTreeSet<u32> = replies.iter().filter_map(|reply| reply.parse().ok()).collect();
    assert_eq!(numbers, (1..=behind).collect(), "each has run once");
    let report = broker.status();
    assert_eq!((report.requests.retried, report.requests.withdrawn), (0, u64::from(behind)));
    broker.check_counters();
}

#[test]
fn a_short_request_does_not_wait_behind_a_long_one_while_a_worker_is_idle() {
    let (broker, client) = warm(2, ["--prefetch", "100ms"]);
    // Both take others ahead of their time, and both turn out to be slow.
    let long = ["sleep 8000", "sleep 10"];
    let behind = put_behind(&broker, &client, &long, (0..20).map(|number| format!("echo {number}")));
    let replies: Vec<String> = (0..=behind).map(|_| receive(&client)).collect();
    assert!(!replies.iter().any(|reply| reply == "slept 8000"), "they have waited for it: {replies:?}");
    assert_eq!(receive(&client), "slept 8000");
    broker.check_counters();
}

#[test]
fn a_request_that_is_taken_back_before_it_begins_is_never_run() {
    let (broker, client) = warm(1, GENEROUS);
    let file = broker.folder().file("runs");
    put_behind(&broker, &client, &["sleep 1000"], std::iter::empty());
    let other = Client::dealer(broker.frontend());
    let meta = RequestMeta { id: "unwanted".into(), ..RequestMeta::default() };
    other.send_native(&meta, format!("count {}", file.display()).as_bytes());
    let report = broker.wait_until("it is handed over", |report| ahead(report) == 1);
    other.send(&[b"", MAGIC, &RequestMeta { cancel: true, ..meta }.encode()]);
    assert_eq!(other.receive_native().0.status, Status::Cancelled);
    // Its worker is handed nothing else before it has replied.
    other.send_native(&RequestMeta::default(), b"echo later");
    assert_eq!(receive(&client), "slept 1000");
    assert_eq!(other.receive_native().1, [b"later"]);
    assert_eq!(broker.status().requests.prefetched, report.requests.prefetched);
    // So is what a client leaves behind.
    put_behind(&broker, &client, &["sleep 1000"], std::iter::empty());
    let leaving = broker.client();
    leaving.send(&[format!("count {}", file.display()).as_bytes()]);
    broker.wait_until("it is handed over", |report| ahead(report) == 1);
    drop(leaving);
    broker.wait_until("it is dropped", |report| report.requests.dropped == 1);
    assert_eq!(receive(&client), "slept 1000");
    assert_eq!(broker.ask("echo x"), "x");
    assert!(!file.exists(), "somebody ran what nobody waited for");
    broker.check_counters();
}

#[test]
fn a_broker_that_drains_finishes_what_it_has_handed_over() {
    let (mut broker, client) = warm(1, GENEROUS);
    let behind = put_behind(&broker, &client, &["sleep 500"], (0..10).map(|number| format!("echo {number}")));
    broker.wait_until("they are handed over", |report| ahead(report) == behind);
    broker.signal(SIGTERM);
    assert_eq!(receive(&client), "slept 500");
    for number in 0..behind {
        assert_eq!(receive(&client), number.to_string());
    }
    assert!(broker.wait().status.success());
}

#[test]
fn a_pause_takes_back_what_has_not_begun() {
    let (broker, client) = warm(1, GENEROUS);
    put_behind(&broker, &client, &["sleep 700"], (0..5).map(|number| format!("echo {number}")));
    broker.wait_until("they are handed over", |report| ahead(report) == 5);
    broker.order(&ControlRequest::Pause { refuse: false });
    assert_eq!(receive(&client), "slept 700");
    let report = broker.wait_until("its worker is free", |report| report.requests.in_flight == 0);
    assert_eq!(report.requests.waiting, 5);
    broker.order(&ControlRequest::Resume);
    for number in 0..5 {
        assert_eq!(receive(&client), number.to_string());
    }
}

#[test]
fn a_router_that_died_has_left_nothing_that_begins_later() {
    let (broker, client) = warm(1, GENEROUS);
    let file = broker.folder().file("runs");
    let count = format!("count {}", file.display());
    put_behind(&broker, &client, &["sleep 3000"], (0..5).map(|_| count.clone()));
    broker.wait_until("they are handed over", |report| ahead(report) == 5);
    let before = broker.router_pid();
    send(before, SIGKILL);
    broker.wait_until("another router has its worker", |report| {
        report.router_pid != before && report.workers.iter().any(|worker| worker.state == "processing")
    });
    // Plain clients ask again.
    assert_eq!(broker.ask(&count), "1");
}

#[test]
fn everything_runs_once_whatever_is_handed_over_and_taken_back() {
    const REQUESTS: u32 = 400;
    let (broker, client) = warm(4, ["--prefetch", "2ms"]);
    let folder = broker.folder().file("runs");
    for number in 0..REQUESTS {
        let body = match number % 40 {
            39 => "sleep 20".to_owned(),
            _ => format!("count {}-{number}", folder.display()),
        };
        client.send(&[b"", body.as_bytes()]);
    }
    for _ in 0..REQUESTS {
        let reply = receive(&client);
        assert!(reply == "1" || reply == "slept 20", "{reply}");
    }
    let runs = |number: &u32| std::fs::read_to_string(format!("{}-{number}", folder.display()));
    for number in (0..REQUESTS).filter(|number| number % 40 != 39) {
        assert_eq!(runs(&number).unwrap().lines().count(), 1, "{number}");
    }
    let report = broker.wait_for_idle(4);
    assert!(report.requests.prefetched > 0, "{:?}", report.requests);
    assert_eq!((report.requests.retried, report.requests.refused.len()), (0, 0));
    broker.check_counters();
}

#[test]
fn without_a_budget_nothing_is_handed_over_ahead_of_its_time() {
    let (broker, client) = warm(1, ["--prefetch", "0"]);
    let behind = put_behind(&broker, &client, &["sleep 100"], (0..50).map(|number| format!("echo {number}")));
    (0..=behind).for_each(|_| drop(receive(&client)));
    assert_eq!(broker.status().requests.prefetched, 0);
}
