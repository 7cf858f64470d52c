//! Keys outlive the router: what ran goes on, replies are still there, nothing is done twice.

use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::worker::{Announcement, BrokerMessage, ReplyMeta};
use hornpipe_tests::harness::{Broker, Client, Folder, KeyedLoad, NativeWorker, Serve, send};
use nix::sys::signal::Signal::{SIGKILL, SIGUSR2};

fn keyed(id: &str) -> RequestMeta {
    RequestMeta { id: id.into(), key: Some("order-66".into()), ..RequestMeta::default() }
}

fn named() -> Announcement {
    Announcement { instance: Some("one of many".into()), ..Announcement::default() }
}

fn job(worker: &NativeWorker) -> Vec<u8> {
    match worker.receive() {
        (BrokerMessage::Job { token, meta: Some(_) }, _body) => token,
        other => panic!("a job with details was expected: {other:?}"),
    }
}

/// The id, status and body of the next reply.
fn heard(client: &Client) -> (String, Status, Vec<u8>) {
    let (meta, body) = client.receive_native();
    (meta.id, meta.status, body.concat())
}

/// Asks until there is a router that answers: a request may have gone to one that died.
fn ask_anew(broker: &Broker, id: &str, body: &[u8]) -> Client {
    let life = broker.status().router_life;
    broker.wait_until("there is a router", |report| report.router_life >= life);
    let client = Client::dealer(broker.frontend());
    client.send_native(&keyed(id), body);
    client
}

fn kill_router(broker: &Broker) {
    let life = broker.status().router_life;
    send(broker.router_pid(), SIGKILL);
    broker.wait_until("there is another router", |report| report.router_life == life + 1);
}

#[test]
fn a_reply_is_still_there_after_the_death_of_the_router_and_after_an_upgrade() {
    let folder = Folder::new();
    let count = format!("count {}", folder.path().join("tally").display());
    let broker = Broker::demo(2);
    let ask = |id: &str| heard(&ask_anew(&broker, id, count.as_bytes()));
    assert_eq!(ask("a"), ("a".into(), Status::Ok, b"1".to_vec()));
    kill_router(&broker);
    assert_eq!(ask("b"), ("b".into(), Status::Ok, b"1".to_vec()));
    kill_router(&broker);
    assert_eq!(ask("c"), ("c".into(), Status::Ok, b"1".to_vec()));
    broker.signal(SIGUSR2);
    broker.wait_until("there is another program", |report| report.router_life == 4);
    assert_eq!(ask("d"), ("d".into(), Status::Ok, b"1".to_vec()));
    assert_eq!(std::fs::read_to_string(folder.path().join("tally")).unwrap().lines().count(), 1);
}

#[test]
fn who_asks_the_next_router_hears_what_the_worker_brings_that_had_it_from_the_last() {
    let broker = Broker::demo(1);
    let client = Client::dealer(broker.frontend());
    client.send_native(&keyed("first"), b"sleep 1500");
    broker.wait_for_in_flight(1);
    kill_router(&broker);
    let (second, third) = (ask_anew(&broker, "second", b"no verb"), ask_anew(&broker, "third", b"no verb"));
    broker.wait_until("both wait", |report| report.requests.in_flight + report.requests.waiting == 2);
    assert_eq!(heard(&second), ("second".into(), Status::Ok, b"slept 1500".to_vec()));
    assert_eq!(heard(&third), ("third".into(), Status::Ok, b"slept 1500".to_vec()));
    broker.check_counters();
}

/// A worker from elsewhere has a job with a key, and the router that gave it is gone.
fn with_a_job_of_a_router_that_was_killed() -> (Broker, NativeWorker, Vec<u8>) {
    let broker = Serve::bare(0).start();
    let worker = NativeWorker::connect(broker.backend(), &named());
    let first = Client::dealer(broker.frontend());
    first.send_native(&keyed("first"), b"work");
    let token = job(&worker);
    kill_router(&broker);
    (broker, worker, token)
}

#[test]
fn a_worker_from_elsewhere_is_known_again_by_its_name_and_finishes_what_it_had() {
    let (broker, worker, token) = with_a_job_of_a_router_that_was_killed();
    let second = ask_anew(&broker, "second", b"work");
    worker.announce("processing", &named());
    broker.wait_until("it waits for that", |report| report.requests.in_flight == 1);
    assert!(worker.receive_within(Duration::from_millis(200)).is_none(), "it is not given twice");
    worker.reply(&token, &ReplyMeta::default(), b"done");
    assert_eq!(heard(&second), ("second".into(), Status::Ok, b"done".to_vec()));
    worker.announce("waiting", &named());
    let third = ask_anew(&broker, "third", b"work");
    assert_eq!(heard(&third), ("third".into(), Status::Ok, b"done".to_vec()));
}

#[test]
fn a_reply_that_nobody_read_is_sent_again_and_counts() {
    let (broker, worker, token) = with_a_job_of_a_router_that_was_killed();
    // Nobody has asked again yet.
    worker.reply(&token, &ReplyMeta::default(), b"done");
    worker.announce("waiting", &named());
    broker.wait_until("it is back", |report| report.external.iter().any(|one| one.state == "waiting"));
    let second = ask_anew(&broker, "second", b"work");
    assert_eq!(heard(&second), ("second".into(), Status::Ok, b"done".to_vec()));
    // Once more is no harm.
    worker.reply(&token, &ReplyMeta::default(), b"other");
    let third = ask_anew(&broker, "third", b"work");
    assert_eq!(heard(&third), ("third".into(), Status::Ok, b"done".to_vec()));
    assert!(worker.receive_within(Duration::from_millis(100)).is_none(), "it runs once");
}

#[test]
fn a_job_that_never_arrived_is_given_again_and_is_the_same_attempt() {
    let broker = Serve::bare(0).options(["--attempts", "1"]).start();
    let worker = NativeWorker::connect(broker.backend(), &named());
    let first = Client::dealer(broker.frontend());
    first.send_native(&keyed("first"), b"work");
    job(&worker);
    kill_router(&broker);
    let second = ask_anew(&broker, "second", b"work");
    broker.wait_until("it waits for that", |report| report.requests.in_flight == 1);
    // As if it had not.
    worker.announce("waiting", &named());
    let token = job(&worker);
    worker.reply(&token, &ReplyMeta::default(), b"done");
    let (meta, body) = second.receive_native();
    assert_eq!((meta.status, meta.attempt, body.concat()), (Status::Ok, 1, b"done".to_vec()));
}

#[test]
fn a_worker_that_dies_with_the_router_has_used_an_attempt() {
    let broker = Serve::demo(1).options(["--attempts", "1"]).start();
    let client = Client::dealer(broker.frontend());
    client.send_native(&keyed("first"), b"sleep 20000");
    broker.wait_for_in_flight(1);
    let worker = broker.workers()[&0];
    send(broker.router_pid(), SIGKILL);
    send(worker, SIGKILL);
    broker.wait_until("there are others", |report| report.router_life == 2 && report.pool.ready == 1);
    assert_eq!(heard(&ask_anew(&broker, "second", b"echo x")).1, Status::Lost);
    // An error frees the key.
    assert_eq!(heard(&ask_anew(&broker, "third", b"echo x")), ("third".into(), Status::Ok, b"x".to_vec()));
}

#[test]
fn a_router_killed_each_second_under_load_loses_nothing_and_nothing_is_done_twice() {
    // Room for every key of a quick machine: a full table refuses, and that is another matter.
    let broker = Serve::demo(4).options(["--keys", "1000000"]).start();
    let load = KeyedLoad { clients: 6, time: Duration::from_secs(5), kill_every: Duration::from_secs(1) };
    let figures = load.run(&broker);
    figures.check();
    assert!(figures.kills >= 4, "{figures:?}");
    broker.wait_until("it is still there", |report| report.pool.ready == 4);
}
