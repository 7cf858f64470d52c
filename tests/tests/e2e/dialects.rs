//! Clients and workers that know nothing of hornpipe, on the same two ports as those that do.

use std::time::Duration;

use hornpipe_client::AskError;
use hornpipe_proto::Status;
use hornpipe_proto::client::RequestMeta;
use hornpipe_tests::harness::{
    Broker, Client, Folder, PlainWorker, Process, ReqWorker, Serve, c_program, eventually, hornpipe, python,
    script,
};

fn python_worker(name: &str) -> Vec<std::ffi::OsString> {
    vec![python().into(), script(name).into()]
}

#[test]
fn pyzmq_asks() {
    let broker = Broker::demo(1);
    let script = script("req_client.py");
    let arguments = [script.to_str().unwrap(), broker.frontend(), "echo one", "upper two"];
    let ended = Process::run(python(), &arguments);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "one\nTWO\n"), "{}", ended.stderr);
}

#[test]
fn c_asks() {
    let broker = Broker::demo(1);
    let folder = Folder::new();
    let ended = Process::run(c_program("req_client", &folder), &[broker.frontend(), "echo from C"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "from C"), "{}", ended.stderr);
}

#[test]
fn the_guides_lazy_pirate_gets_its_reply_at_the_second_try() {
    let broker = Serve::bare(0).start();
    let silent = PlainWorker::connect_anonymous(broker.backend());
    silent.say("waiting");
    let script = script("lazy_pirate.py");
    let mut client =
        Process::start(python(), &[script.to_str().unwrap(), broker.frontend(), "1000", "15", "ahoy"]);
    let (given_up, _body) = silent.receive();
    broker.wait_until("the next try waits", |report| report.requests.waiting == 1);
    // The reply to what was given up must not be taken for the next one's.
    silent.send(&[b"", &given_up, b"", b"too late"]);
    broker.wait_until("the late reply is counted", |report| report.noise.stale_replies == 1);
    let worker = PlainWorker::connect_anonymous(broker.backend());
    worker.say("waiting");
    eventually("the client is content", || {
        if let Some((address, body)) = worker.receive_within(Duration::from_millis(50)) {
            worker.reply(&address, &body);
        }
        !client.is_running()
    });
    let ended = client.wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ahoy\n"), "{}", ended.stderr);
}

#[test]
fn our_own_command_asks() {
    let broker = Broker::demo(1);
    let port = broker.frontend_port().to_string();
    let ended = Process::run(hornpipe(), &["req", &port, "echo hello"]);
    assert_eq!((ended.code(), ended.stdout.trim_end()), (Some(0), "hello"), "{}", ended.stderr);
    let ended = Process::start_with_input(hornpipe(), &["req", &port, "-"], b"upper from stdin").wait();
    assert_eq!((ended.code(), ended.stdout.trim_end()), (Some(0), "FROM STDIN"), "{}", ended.stderr);
}

#[test]
fn our_own_command_tells_in_its_exit_code_how_the_request_ended() {
    let broker = Serve::demo(1).options(["--attempts", "1"]).start();
    let port = broker.frontend_port().to_string();
    let code = |arguments: &[&str]| Process::run(hornpipe(), arguments).code();
    assert_eq!(code(&["req", &port, "fail for a reason"]), Some(1), "the handler failed");
    assert_eq!(code(&["req"]), Some(2), "usage");
    assert_eq!(code(&["req", &port, "exit 3"]), Some(4), "refused");
    drop(broker);
    assert_eq!(code(&["req", &port, "-t", "1", "-r", "1", "echo x"]), Some(5), "nobody is there");
    // Somebody who accepts requests and never answers.
    let context = zmq::Context::new();
    let silent = context.socket(zmq::ROUTER).unwrap();
    silent.set_linger(0).unwrap();
    silent.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = silent.get_last_endpoint().unwrap().unwrap();
    assert_eq!(code(&["req", &endpoint, "-t", "1", "-r", "2", "echo x"]), Some(3), "no answer in time");
}

#[test]
fn our_own_client_asks() {
    let broker = Broker::demo(1);
    let client = hornpipe_client::Client::connect(broker.frontend()).unwrap();
    let reply = client.ask("echo hello").unwrap();
    assert_eq!((reply.bytes().as_slice(), reply.attempt), (&b"hello"[..], 1));
    let failed = client.ask("fail on purpose").unwrap_err();
    assert!(matches!(failed, AskError::Handler { message, attempt: 1, .. } if message == "on purpose"));
}

#[test]
fn a_native_request_gets_its_id_back_with_status_and_attempt() {
    let broker = Broker::demo(1);
    let client = Client::dealer(broker.frontend());
    client.send_native(&RequestMeta { id: "seven".into(), ..RequestMeta::default() }, b"echo x");
    let (meta, body) = client.receive_native();
    assert_eq!((meta.id.as_str(), meta.status, meta.attempt), ("seven", Status::Ok, 1));
    assert_eq!(body, [b"x"]);
    let elsewhere = RequestMeta { id: "8".into(), service: Some("other".into()), ..RequestMeta::default() };
    client.send_native(&elsewhere, b"echo x");
    let (meta, body) = client.receive_native();
    assert_eq!((meta.id.as_str(), meta.status), ("8", Status::NoService));
    assert!(meta.message.is_some() && body.is_empty());
}

#[test]
fn a_client_that_correlates_its_replies_is_served() {
    let broker = Broker::demo(1);
    let client = Client::connect(zmq::REQ, broker.frontend(), |socket| {
        socket.set_req_correlate(true).unwrap();
        socket.set_req_relaxed(true).unwrap();
    });
    for number in 0..20 {
        let text = format!("{number}");
        assert_eq!(client.ask_text(&format!("echo {text}")), text);
    }
    // A second question gives up the first, whose answer must not come.
    client.send(&[b"sleep 300"]);
    assert_eq!(client.ask_text("echo second"), "second");
    assert_eq!(client.ask_text("echo third"), "third");
}

/// A `zmq_proxy` of the test's own, turned by hand.
struct Proxy {
    front: zmq::Socket,
    back: zmq::Socket,
    endpoint: String,
    _context: zmq::Context,
}

impl Proxy {
    fn to(frontend: &str) -> Self {
        let context = zmq::Context::new();
        let front = context.socket(zmq::ROUTER).unwrap();
        let back = context.socket(zmq::DEALER).unwrap();
        for socket in [&front, &back] {
            socket.set_linger(0).unwrap();
            socket.set_rcvtimeo(20_000).unwrap();
        }
        front.bind("tcp://127.0.0.1:*").unwrap();
        back.connect(frontend).unwrap();
        let endpoint = front.get_last_endpoint().unwrap().unwrap();
        Self { front, back, endpoint, _context: context }
    }

    fn forward(&self) {
        self.back.send_multipart(self.front.recv_multipart(0).unwrap(), 0).unwrap();
    }

    fn give_back(&self) {
        self.front.send_multipart(self.back.recv_multipart(0).unwrap(), 0).unwrap();
    }
}

#[test]
fn clients_behind_proxies_are_served() {
    let broker = Serve::bare(1).start();
    let outer = Proxy::to(broker.frontend());
    let inner = Proxy::to(&outer.endpoint);
    let clients: Vec<Client> = (0..3).map(|_| Client::req(&inner.endpoint)).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&[format!("{number}").as_bytes(), b"", b"more"]);
        inner.forward();
        outer.forward();
    }
    for _ in &clients {
        outer.give_back();
        inner.give_back();
    }
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.receive(), [format!("{number}").as_bytes(), b"", b"more"]);
    }
}

#[test]
fn envelopes_come_back_as_they_were() {
    let broker = Serve::bare(1).start();
    let client = Client::dealer(broker.frontend());
    let hops: Vec<Vec<u8>> = (1..=15_u8).map(|hop| vec![hop; usize::from(hop)]).collect();
    let mut message: Vec<&[u8]> = hops.iter().map(Vec::as_slice).collect();
    message.extend([&b""[..], b"body"]);
    client.send(&message);
    assert_eq!(client.receive(), message);
}

#[test]
fn a_dealer_that_forgets_the_empty_frame_is_told_so_without_one() {
    let broker = Broker::demo(1);
    let client = Client::dealer(broker.frontend());
    for body in [&[&b"hello"[..]][..], &[b"hello", b"world"]] {
        client.send(body);
        let answer = client.receive();
        assert!(answer.len() == 1 && answer[0].starts_with(b"ERR malformed "), "{answer:?}");
    }
}

#[test]
fn plain_clients_may_be_spared_the_errors() {
    let broker = Serve::demo(1).options(["--plain-errors", "silent"]).start();
    let client = broker.client();
    client.send(&[b"fail x"]);
    assert!(client.receive_within(Duration::from_millis(300)).is_none(), "the classic silence was asked for");
    let native = Client::dealer(broker.frontend());
    native.send_native(&RequestMeta { id: "1".into(), ..RequestMeta::default() }, b"fail x");
    assert_eq!(native.receive_native().0.status, Status::Error);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_child_of_net_server_zmq_serves_on_the_backend_port() {
    let broker = Serve::bare(0).start();
    let worker = PlainWorker::connect(broker.backend(), "child_4711");
    worker.say("waiting");
    broker.wait_until("the worker is known", |report| report.external.len() == 1);
    let client = broker.client();
    for body in ["one", "two", ""] {
        client.send(&[body.as_bytes()]);
        let (address, asked) = worker.receive();
        assert_eq!(asked, body.as_bytes());
        worker.say("processing");
        worker.reply(&address, &asked.to_ascii_uppercase());
        assert_eq!(client.receive(), [body.to_uppercase().as_bytes()]);
    }
    let report = broker.status();
    assert_eq!(report.external[0].requests, 3);
    assert_eq!(report.requests.answered, 3);
}

#[test]
fn a_plain_worker_gets_no_more_than_one_request_at_a_time() {
    let broker = Serve::bare(0).start();
    let worker = PlainWorker::connect_anonymous(broker.backend());
    for _ in 0..3 {
        worker.say("waiting");
    }
    broker.wait_until("the worker is known", |report| report.external.len() == 1);
    let clients = [broker.client(), broker.client()];
    clients[0].send(&[b"one"]);
    clients[1].send(&[b"two"]);
    let (address, first) = worker.receive();
    assert!(worker.receive_within(Duration::from_millis(200)).is_none(), "three words are no three credits");
    worker.reply(&address, &first);
    let (address, second) = worker.receive();
    worker.reply(&address, &second);
    for (client, body) in clients.iter().zip(["one", "two"]) {
        assert_eq!(client.receive(), [body.as_bytes()]);
    }
}

#[test]
fn a_plain_worker_that_leaves_gets_no_more() {
    let broker = Serve::bare(0).start();
    let worker = PlainWorker::connect_anonymous(broker.backend());
    worker.say("waiting");
    worker.say("exiting");
    let other = PlainWorker::connect_anonymous(broker.backend());
    other.say("waiting");
    broker.wait_until("both are known", |report| {
        let states = || report.external.iter().map(|worker| worker.state.as_str());
        states().any(|state| state == "exiting") && states().any(|state| state == "waiting")
    });
    let client = broker.client();
    for _ in 0..3 {
        client.send(&[b"x"]);
        let (address, body) = other.receive();
        other.reply(&address, &body);
        client.receive();
    }
    assert!(worker.receive_within(Duration::ZERO).is_none());
}

#[test]
fn a_python_program_with_net_servers_frames_is_started_and_serves() {
    let broker = Serve::bare(2).program(python_worker("plain_worker.py")).start();
    assert_eq!(broker.ask("hello"), "HELLO");
    let pid: i32 = broker.ask("pid").parse().unwrap();
    assert!(broker.workers().values().any(|worker| *worker == pid), "its slot is known by its pid");
    // It dies with its request, and so does the next one.
    let answer = broker.ask("die");
    assert!(answer.starts_with("ERR poison "), "{answer}");
    broker.wait_for_idle(2);
    assert_eq!(broker.ask("hello"), "HELLO");
}

#[test]
fn a_shell_around_a_python_program_changes_nothing() {
    let command = format!("{} {}; exit", python().display(), script("plain_worker.py").display());
    let broker = Serve::bare(1).program(["sh", "-c", &command]).start();
    let report = broker.wait_for_idle(1);
    let shell = report.workers[0].pid.unwrap();
    let program: i32 = broker.ask("pid").parse().unwrap();
    assert_ne!(shell, program, "the shell should not have given its place to the program");
    assert_eq!(broker.ask("hello"), "HELLO");
}

#[test]
fn the_guides_simple_pirate_worker_is_started_and_serves() {
    let broker = Serve::bare(2).program(python_worker("simple_pirate_worker.py")).start();
    let client = broker.client();
    for number in 0..20 {
        assert_eq!(client.ask_text(&format!("number {number}")), format!("NUMBER {number}"));
    }
}

#[test]
fn a_simple_pirate_worker_serves_on_the_backend_port() {
    let broker = Serve::bare(0).start();
    let worker = ReqWorker::connect(broker.backend());
    let client = broker.client();
    for body in ["one", "two"] {
        client.send(&[body.as_bytes()]);
        let (address, asked) = worker.receive();
        worker.reply(&address, &asked);
        assert_eq!(client.receive(), [body.as_bytes()]);
    }
}

#[test]
fn workers_of_all_kinds_serve_side_by_side() {
    let broker = Serve::bare(1).start();
    let plain = PlainWorker::connect_anonymous(broker.backend());
    plain.say("waiting");
    let pirate = ReqWorker::connect(broker.backend());
    broker.wait_until("all three are known", |report| report.pool.ready == 3);
    let clients = [broker.client(), broker.client(), broker.client()];
    for client in &clients {
        client.send(&[b"x"]);
    }
    let (address, _body) = plain.receive();
    plain.reply(&address, b"plain");
    let (address, _body) = pirate.receive();
    pirate.reply(&address, b"pirate");
    let mut answers: Vec<Vec<u8>> = clients.iter().map(|client| client.receive().remove(0)).collect();
    answers.sort();
    assert_eq!(answers, [&b"pirate"[..], b"plain", b"x"]);
}

#[test]
fn with_no_external_workers_allowed_nobody_becomes_one() {
    let broker = Serve::bare(1).options(["--no-external"]).start();
    let worker = PlainWorker::connect_anonymous(broker.backend());
    worker.say("waiting");
    let client = broker.client();
    for _ in 0..10 {
        assert_eq!(client.ask_text("mine"), "mine");
    }
    assert!(worker.receive_within(Duration::from_millis(100)).is_none());
    assert!(broker.status().external.is_empty());
}
