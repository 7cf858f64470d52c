//! Who is next, and who may not be: priorities, clients in turn, exclusive and affinity
//! keys, requests that are taken back, and a client's share of the queue.

use std::time::Duration;

use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::worker::{Announcement, BrokerMessage, Control, JobMeta, ReplyMeta};
use hornpipe_proto::{Headers, MAGIC, Priority, Status};
use hornpipe_tests::harness::{Broker, Client, NativeWorker, Serve};

/// Long enough for a message that was sent before to have come, were it to come.
const A_WHILE: Duration = Duration::from_millis(300);

/// A broker without workers of its own, and one from elsewhere.
fn with_a_worker<const N: usize>(options: [&str; N]) -> (Broker, NativeWorker) {
    let broker = Serve::bare(0).options(options).start();
    let worker = another(&broker, 1);
    (broker, worker)
}

fn another(broker: &Broker, number: usize) -> NativeWorker {
    let worker = NativeWorker::connect(broker.backend(), &Announcement::default());
    broker.wait_until("it is known", |report| {
        report.external.iter().filter(|one| one.state == "waiting" || one.state == "processing").count()
            == number
    });
    worker
}

fn job(worker: &NativeWorker) -> (Vec<u8>, JobMeta, String) {
    match worker.receive() {
        (BrokerMessage::Job { token, meta: Some(meta) }, body) => {
            (token, meta, String::from_utf8(body.concat()).unwrap())
        }
        other => panic!("a job with details was expected: {other:?}"),
    }
}

/// Takes the next job and answers it with its own body.
fn serve(worker: &NativeWorker) -> String {
    let (token, _meta, body) = job(worker);
    worker.reply(&token, &ReplyMeta::default(), body.as_bytes());
    body
}

fn named(id: &str) -> RequestMeta {
    RequestMeta { id: id.into(), ..RequestMeta::default() }
}

fn wait_for_waiting(broker: &Broker, waiting: u64) {
    broker.wait_until("all wait", |report| report.queue.backlog_len == waiting);
}

#[test]
fn the_higher_priority_goes_first_and_the_lower_is_not_starved() {
    let (broker, worker) = with_a_worker([]);
    let client = Client::dealer(broker.frontend());
    client.send_native(&named("first"), b"first");
    let (token, _meta, _body) = job(&worker);
    let of = |priority| RequestMeta { priority, ..RequestMeta::default() };
    client.send_native(&of(Priority::Low), b"low");
    client.send_native(&of(Priority::Normal), b"normal");
    for _ in 0..20 {
        client.send_native(&of(Priority::High), b"high");
    }
    wait_for_waiting(&broker, 22);
    worker.reply(&token, &ReplyMeta::default(), b"first");
    let order: Vec<String> = (0..22).map(|_| serve(&worker)).collect();
    let place = |word| order.iter().position(|one| one == word).unwrap();
    assert_eq!(order[..8], ["high"; 8]);
    assert_eq!((place("normal"), place("low")), (8, 9), "{order:?}");
}

#[test]
fn clients_take_turns_and_each_keeps_its_order() {
    let (broker, worker) = with_a_worker([]);
    let (flood, other) = (Client::dealer(broker.frontend()), Client::dealer(broker.frontend()));
    for number in 0..50 {
        flood.send(&[b"", format!("flood {number}").as_bytes()]);
    }
    let (token, _meta, _body) = job(&worker);
    wait_for_waiting(&broker, 49);
    other.send(&[b"", b"other 0"]);
    other.send(&[b"", b"other 1"]);
    wait_for_waiting(&broker, 51);
    worker.reply(&token, &ReplyMeta::default(), b"");
    let order: Vec<String> = (0..5).map(|_| serve(&worker)).collect();
    assert_eq!(order, ["flood 1", "other 0", "flood 2", "other 1", "flood 3"]);
}

#[test]
fn one_runs_at_a_time_under_an_exclusive_key() {
    let (broker, first) = with_a_worker([]);
    let second = another(&broker, 2);
    let client = Client::dealer(broker.frontend());
    let meta = RequestMeta { exclusive: Some("account-7".into()), ..RequestMeta::default() };
    client.send_native(&meta, b"one");
    let (token, _meta, body) = job(&first);
    assert_eq!(body, "one");
    client.send_native(&meta, b"two");
    client.send_native(&RequestMeta::default(), b"free");
    assert_eq!(serve(&second), "free", "what nobody keeps waiting goes to the idle worker");
    assert!(second.receive_within(A_WHILE).is_none(), "nobody runs beside the first");
    first.reply(&token, &ReplyMeta::default(), b"one");
    let next = [&first, &second].into_iter().find_map(|worker| worker.receive_within(A_WHILE));
    assert!(matches!(next, Some((BrokerMessage::Job { .. }, body)) if body == [b"two"]));
}

#[test]
fn requests_of_one_affinity_go_to_one_worker_or_do_not_wait_long() {
    let (broker, first) = with_a_worker(["--affinity-wait", "200ms"]);
    let second = another(&broker, 2);
    let client = Client::dealer(broker.frontend());
    let meta = |strict| RequestMeta { affinity: Some("s".into()), strict, ..RequestMeta::default() };
    for number in 0..4 {
        client.send_native(&meta(false), format!("{number}").as_bytes());
        assert_eq!(serve(&first), format!("{number}"));
    }
    // While it is busy, another takes over after a while, but not what must be its own.
    client.send_native(&meta(false), b"long");
    let (token, _meta, _body) = job(&first);
    client.send_native(&meta(true), b"strict");
    client.send_native(&meta(false), b"loose");
    assert_eq!(serve(&second), "loose");
    assert!(second.receive_within(A_WHILE).is_none());
    first.reply(&token, &ReplyMeta::default(), b"long");
    assert_eq!(serve(&first), "strict");
    // And when it is gone, also that.
    client.send_native(&meta(false), b"long");
    let (_token, _meta, _body) = job(&first);
    client.send_native(&meta(true), b"strict");
    wait_for_waiting(&broker, 1);
    drop(first);
    assert_eq!([serve(&second), serve(&second)].concat().len(), "longstrict".len());
}

#[test]
fn what_is_taken_back_is_not_run_and_what_runs_is_broken_off() {
    let (broker, worker) = with_a_worker([]);
    let client = Client::dealer(broker.frontend());
    client.send_native(&named("runs"), b"runs");
    client.send_native(&named("waits"), b"waits");
    client.send_native(&named("stays"), b"stays");
    let (token, _meta, _body) = job(&worker);
    wait_for_waiting(&broker, 2);
    let take_back = |id: &str| {
        let meta = RequestMeta { cancel: true, ..named(id) };
        client.send(&[b"", MAGIC, &meta.encode()]);
    };
    for id in ["waits", "runs", "unheard of"] {
        take_back(id);
    }
    let ended = |()| {
        let (meta, body) = client.receive_native();
        assert!(body.is_empty());
        (meta.id, meta.status)
    };
    assert_eq!([ended(()), ended(())], ["waits", "runs"].map(|id| (id.into(), Status::Cancelled)));
    let order = worker.receive().0;
    let token_text = String::from_utf8(token.clone()).unwrap();
    assert_eq!(order, BrokerMessage::Control(Control::Cancel { token: token_text }));
    worker.reply(&token, &ReplyMeta::default(), b"too late");
    assert_eq!(serve(&worker), "stays");
    assert_eq!(client.receive_native().0.id, "stays");
    let requests = broker.status().requests;
    assert_eq!(requests.refused, [(Status::Cancelled, 2)]);
    assert_eq!(requests.received, 3);
}

#[test]
fn what_runs_for_a_client_that_leaves_is_broken_off_if_the_service_says_so() {
    let (broker, worker) = with_a_worker(["--cancel-on-disconnect"]);
    let client = Client::dealer(broker.frontend());
    client.send_native(&named("a"), b"a");
    let (token, _meta, _body) = job(&worker);
    drop(client);
    let token_text = String::from_utf8(token).unwrap();
    assert_eq!(worker.receive().0, BrokerMessage::Control(Control::Cancel { token: token_text }));
    assert_eq!(broker.status().requests.dropped, 1);
}

#[test]
fn headers_and_trace_reach_the_worker_and_times_the_client() {
    let (broker, worker) = with_a_worker([]);
    let client = Client::dealer(broker.frontend());
    let headers: Headers = [("tenant", &b"acme\xff"[..])].into_iter().collect();
    let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let meta = RequestMeta { headers: headers.clone(), trace: trace.clone(), ..named("a") };
    client.send_native(&meta, b"a");
    let (token, job, _body) = job(&worker);
    assert_eq!((job.headers, job.trace), (headers, trace));
    worker.reply(&token, &ReplyMeta::default(), b"a");
    let (reply, _body) = client.receive_native();
    assert!(reply.wait_us.is_some() && reply.run_us.is_some_and(|run| run > 0), "{reply:?}");
}

#[test]
fn a_client_has_no_more_than_its_share_of_the_queue() {
    let (broker, worker) =
        with_a_worker(["--client-queue", "2", "--client-queue-bytes", "1kB", "--max-body", "1kB"]);
    let (greedy, other) = (Client::dealer(broker.frontend()), Client::dealer(broker.frontend()));
    for id in ["runs", "waits 1", "waits 2", "too many"] {
        greedy.send_native(&named(id), b"x");
    }
    let (meta, _body) = greedy.receive_native();
    assert_eq!((meta.id.as_str(), meta.status), ("too many", Status::Busy));
    other.send_native(&named("other"), &[0; 900]);
    other.send_native(&named("too large"), &[0; 200]);
    let (meta, _body) = other.receive_native();
    assert_eq!((meta.id.as_str(), meta.status), ("too large", Status::Busy));
    let served: Vec<usize> = (0..4).map(|_| serve(&worker).len()).collect();
    assert_eq!(served, [1, 1, 900, 1], "the other had its turn");
}

#[test]
fn a_request_that_could_not_be_served_in_its_time_hears_so_at_once() {
    let broker = Broker::demo(1);
    let client = Client::dealer(broker.frontend());
    let ask = |timeout_ms: u64, id: &str| {
        let meta = RequestMeta { timeout_ms: Some(timeout_ms), ..named(id) };
        client.send_native(&meta, b"sleep 30");
    };
    for number in 0..60 {
        ask(60_000, &number.to_string());
    }
    // Once enough has been served to know how long it takes.
    for _ in 0..20 {
        assert_eq!(client.receive_native().0.status, Status::Ok);
    }
    ask(100, "hurried");
    let hurried = loop {
        let (meta, _body) = client.receive_native();
        if meta.id == "hurried" {
            break meta;
        }
    };
    assert_eq!((hurried.status, hurried.attempt), (Status::Busy, 0), "{hurried:?}");
    assert!(hurried.retry_after_ms.is_some(), "{hurried:?}");
}
