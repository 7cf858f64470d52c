//! What a client hears, and when, from brokers good and bad.

#![expect(clippy::unwrap_used, reason = "a test's own helpers may fail it")]

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{PATIENCE, Server, answer, free_port, read_request, reply, timed};
use hornpipe_client::{AskError, Client, EndpointError, Request, endpoint};
use hornpipe_proto::Status;

fn echo() -> Server {
    Server::start(|peer, frames| {
        let (meta, body) = read_request(frames);
        vec![reply(peer, &meta.id, body)]
    })
}

fn client(server: &Server) -> Client {
    Client::builder().endpoint(&server.endpoint).timeout(PATIENCE).build().unwrap()
}

fn refusal(server: &Server, status: Status, attempt: u32) -> AskError {
    let broker = endpoint(&server.endpoint).unwrap();
    AskError::Refused { status, message: "so it is".into(), broker, attempt, retry_after: None }
}

#[test]
fn a_reply_comes_back_frame_by_frame() {
    let server = echo();
    let client = client(&server);
    let hello = client.ask("hello").unwrap();
    assert_eq!((hello.bytes(), hello.attempt), (b"hello".to_vec(), 1));
    let frames = vec![b"a".to_vec(), Vec::new(), b"c".to_vec()];
    assert_eq!(client.ask(frames.clone()).unwrap().frames, frames);
    assert_eq!(client.ask("").unwrap().frames, [b""]);
    assert_eq!(client.ask(Vec::<Vec<u8>>::new()).unwrap().frames, [b""]);
    assert_eq!(client.dropped(), 0);
}

#[test]
fn a_reply_without_body_frames_is_a_reply() {
    let server = Server::start(|peer, frames| vec![reply(peer, &read_request(frames).0.id, &[])]);
    let reply = client(&server).ask("x").unwrap();
    assert_eq!((reply.frames.len(), reply.bytes().len()), (0, 0));
}

#[test]
fn the_map_tells_the_service_the_attempts_and_the_time_left() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |peer, frames| {
        let (meta, body) = read_request(frames);
        tell.send(meta.clone()).unwrap();
        vec![reply(peer, &meta.id, body)]
    });
    let client = client(&server);
    client.ask("x").unwrap();
    let request = Request::new("x").service("thumbnails").attempts(1).timeout(Duration::from_secs(5));
    client.request(request).unwrap();
    let (first, second) = (told.recv().unwrap(), told.recv().unwrap());
    assert_ne!(first.id, second.id);
    assert_eq!((first.service, first.attempts), (None, None));
    assert_eq!((second.service.as_deref(), second.attempts), (Some("thumbnails"), Some(1)));
    assert!((1..=5000).contains(&second.timeout_ms.unwrap()), "{:?}", second.timeout_ms);
}

#[test]
fn a_refusal_is_final_and_says_its_status() {
    let server = Server::start(|peer, frames| {
        let (meta, body) = read_request(frames);
        let status = Status::from_word(std::str::from_utf8(&body[0]).unwrap()).unwrap();
        vec![answer(peer, &meta.id, status, Some("so it is"), &[])]
    });
    let client = client(&server);
    let broker = endpoint(&server.endpoint).unwrap();
    let failed = client.ask("error").unwrap_err();
    let handler = AskError::Handler { message: "so it is".into(), broker: broker.clone(), attempt: 1 };
    assert_eq!(failed, handler);
    for status in [Status::Busy, Status::Draining, Status::Lost, Status::TooLarge] {
        let refused = client.ask(status.as_str()).unwrap_err();
        assert_eq!(refused, refusal(&server, status, 1));
        assert!(refused.to_string().contains(&format!("at {broker}: ")), "{refused}");
    }
}

#[test]
fn a_plain_error_of_a_broker_that_could_not_read_us_is_understood() {
    let server = Server::start(|peer, _frames| {
        vec![vec![peer.to_vec(), Vec::new(), b"ERR malformed so it is".to_vec()]]
    });
    let refused = client(&server).ask("x").unwrap_err();
    assert_eq!(refused, refusal(&server, Status::Malformed, 0));
}

#[test]
fn a_silent_broker_is_asked_again_on_a_fresh_connection_with_the_same_id() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |peer, frames| {
        let meta = read_request(frames).0;
        tell.send((peer.to_vec(), meta.id, meta.timeout_ms.unwrap())).unwrap();
        Vec::new()
    });
    let timeout = Duration::from_millis(600);
    let client = Client::builder().endpoint(&server.endpoint).timeout(timeout).tries(3).build().unwrap();
    let (error, took) = timed(|| client.ask("x").unwrap_err());
    assert!(matches!(error, AskError::NoAnswer { tries: 3, waited, .. } if waited >= timeout), "{error:?}");
    assert!(timeout <= took && took < timeout + PATIENCE, "{took:?}");
    let heard: Vec<_> = told.try_iter().collect();
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard.windows(2).all(|pair| pair[0].1 == pair[1].1), "one id: {heard:?}");
    assert!(heard.windows(2).all(|pair| pair[0].0 != pair[1].0), "three connections: {heard:?}");
    assert!(heard.windows(2).all(|pair| pair[0].2 > pair[1].2), "less time left: {heard:?}");
}

#[test]
fn the_second_try_may_be_the_lucky_one() {
    let mut heard = 0;
    let server = Server::start(move |peer, frames| {
        heard += 1;
        let (meta, body) = read_request(frames);
        if heard == 2 { vec![reply(peer, &meta.id, body)] } else { Vec::new() }
    });
    let timeout = Duration::from_secs(2);
    let client = Client::builder().endpoint(&server.endpoint).timeout(timeout).build().unwrap();
    assert_eq!(client.ask("x").unwrap().bytes(), b"x");
}

#[test]
fn a_stale_reply_is_dropped_and_counted() {
    let mut earlier: Vec<String> = Vec::new();
    let server = Server::start(move |peer, frames| {
        let (meta, body) = read_request(frames);
        let stale = vec![b"stale".to_vec()];
        let mut answers: Vec<_> = earlier.iter().map(|id| reply(peer, id, &stale)).collect();
        answers.push(vec![peer.to_vec(), Vec::new(), b"noise".to_vec()]);
        answers.push(reply(peer, &meta.id, body));
        earlier.push(meta.id);
        answers
    });
    let client = client(&server);
    for turn in 0..4 {
        let body = format!("turn {turn}");
        assert_eq!(client.ask(body.as_str()).unwrap().bytes(), body.as_bytes());
    }
    // Noise four times, and 0 + 1 + 2 + 3 replies to earlier requests.
    assert_eq!(client.dropped(), 4 + 6);
}

#[test]
fn a_flood_of_noise_does_not_hold_a_call_beyond_its_time() {
    let server = Server::start(|peer, _frames| vec![vec![peer.to_vec(), Vec::new(), b"noise".to_vec()]; 900]);
    let timeout = Duration::from_millis(300);
    let client = Client::builder().endpoint(&server.endpoint).timeout(timeout).tries(1).build().unwrap();
    let (error, took) = timed(|| client.ask("x").unwrap_err());
    assert!(matches!(error, AskError::NoAnswer { tries: 1, .. }), "{error:?}");
    assert!(took < timeout + PATIENCE, "{took:?}");
    assert!(client.dropped() > 0);
}

#[test]
fn a_broker_that_is_not_there_is_unreachable() {
    let timeout = Duration::from_millis(300);
    let client = Client::builder().endpoint(free_port().to_string()).timeout(timeout).build().unwrap();
    let error = client.ask("x").unwrap_err();
    assert!(matches!(error, AskError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().starts_with("no broker at tcp://127.0.0.1:"), "{error}");
}

#[test]
fn a_server_that_speaks_no_zeromq_is_unreachable() {
    // Its backlog takes the connection; nobody ever answers the greeting.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let timeout = Duration::from_millis(300);
    let client = Client::builder().endpoint(port.to_string()).timeout(timeout).build().unwrap();
    assert!(matches!(client.ask("x"), Err(AskError::Unreachable { .. })));
}

#[test]
fn a_client_that_is_first_waits_for_its_broker() {
    let port = free_port();
    let client = Client::builder().endpoint(port.to_string()).timeout(PATIENCE).build().unwrap();
    let (at, asked) = mpsc::channel();
    let asking = common::start_thread(move || {
        at.send(()).unwrap();
        client.ask("early").map(|reply| reply.bytes())
    });
    asked.recv().unwrap();
    let _server = Server::start_at(&format!("tcp://127.0.0.1:{port}"), |peer, frames| {
        let (meta, body) = read_request(frames);
        vec![reply(peer, &meta.id, body)]
    });
    assert_eq!(asking.join().unwrap().unwrap(), b"early");
}

#[test]
fn a_broker_that_restarts_with_the_request_is_asked_again_at_once() {
    let (tell, told) = mpsc::channel();
    let first = Server::start(move |_peer, frames| {
        tell.send(read_request(frames).0.id).unwrap();
        Vec::new()
    });
    let endpoint = first.endpoint.clone();
    let client =
        Client::builder().endpoint(&endpoint).timeout(Duration::from_mins(1)).tries(2).build().unwrap();
    let asking = common::start_thread(move || timed(|| client.ask("x").map(|reply| reply.bytes())));
    let id = told.recv_timeout(PATIENCE).unwrap();
    first.stop();
    let _second = Server::start_at(&endpoint, move |peer, frames| {
        let (meta, body) = read_request(frames);
        assert_eq!(meta.id, id);
        vec![reply(peer, &meta.id, body)]
    });
    let (answer, took) = asking.join().unwrap();
    assert_eq!(answer.unwrap(), b"x");
    // A try has 30 s; the lost connection was enough to begin the next.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_broker_that_restarts_between_requests_goes_unnoticed() {
    let first = echo();
    let endpoint = first.endpoint.clone();
    let client = client(&first);
    client.ask("before").unwrap();
    first.stop();
    let _second = Server::start_at(&endpoint, |peer, frames| {
        let (meta, body) = read_request(frames);
        vec![reply(peer, &meta.id, body)]
    });
    assert_eq!(client.ask("after").unwrap().bytes(), b"after");
}

#[test]
fn a_clients_identity_is_its_routing_id() {
    let server =
        Server::start(|peer, frames| vec![reply(peer, &read_request(frames).0.id, &[peer.to_vec()])]);
    let builder = Client::builder().endpoint(&server.endpoint).timeout(PATIENCE);
    assert_eq!(builder.clone().identity("till-4").build().unwrap().ask("x").unwrap().bytes(), b"till-4");
    for identity in [&b""[..], b"\0x", &[b'x'; 256]] {
        assert_eq!(builder.clone().identity(identity).build().unwrap_err(), AskError::Identity);
    }
}

#[test]
fn a_client_works_over_a_unix_socket() {
    // A path of libzmq's own choice, which it removes.
    let server = Server::start_at("ipc://*", |peer, frames| {
        let (meta, body) = read_request(frames);
        vec![reply(peer, &meta.id, body)]
    });
    assert_eq!(client(&server).ask("x").unwrap().bytes(), b"x");
}

#[test]
fn what_is_no_endpoint_is_refused_before_anything_is_connected() {
    let error = Client::connect("tcp://127.0.0.1:99999").unwrap_err();
    let source = EndpointError::Port { port: "99999".into() };
    assert_eq!(error, AskError::Endpoint { spelling: "tcp://127.0.0.1:99999".into(), source });
    let error = Client::connect("hornpipe.invalid:6660").unwrap_err();
    assert!(
        matches!(error, AskError::Endpoint { source: EndpointError::Unresolved { .. }, .. }),
        "{error:?}"
    );
}

#[test]
fn dropping_a_client_never_waits() {
    let timeout = Duration::from_millis(100);
    let nobody = free_port().to_string();
    let unreachable = Client::builder().endpoint(nobody).timeout(timeout).build().unwrap();
    assert!(unreachable.ask(vec![0; 1 << 20]).is_err());
    let silent = Server::start(|_peer, _frames| Vec::new());
    let unanswered = Client::builder().endpoint(&silent.endpoint).timeout(timeout).build().unwrap();
    assert!(unanswered.ask(vec![0; 1 << 20]).is_err());
    let ((), took) = timed(|| drop((unreachable, unanswered)));
    assert!(took < Duration::from_secs(1), "{took:?}");
}
