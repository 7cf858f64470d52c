//! A list of brokers: who is asked first, and what happens when one is not well.

#![expect(clippy::unwrap_used, reason = "a test's own helpers may fail it")]

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{PATIENCE, Server, answer, free_port, read_request, reply, timed};
use hornpipe_client::{AskError, Client, Request, Status};

/// Echoes with its name behind.
fn echo(name: &'static str) -> Server {
    echo_at("tcp://127.0.0.1:*", name)
}

fn echo_at(place: &str, name: &'static str) -> Server {
    Server::start_at(place, move |peer, frames| {
        let (meta, body) = read_request(frames);
        vec![reply(peer, &meta.id, &[[body.concat().as_slice(), b" ", name.as_bytes()].concat()])]
    })
}

fn refusing(status: Status) -> Server {
    Server::start(move |peer, frames| vec![answer(peer, &read_request(frames).0.id, status, Some("no"), &[])])
}

fn silent() -> (Server, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |_peer, frames| {
        if !read_request(frames).0.cancel {
            tell.send(()).unwrap();
        }
        Vec::new()
    });
    (server, told)
}

fn client<'a>(endpoints: impl IntoIterator<Item = &'a String>) -> Client {
    Client::builder().endpoints(endpoints).timeout(PATIENCE).build().unwrap()
}

fn asked(client: &Client, request: Request) -> String {
    String::from_utf8(client.request(request).unwrap().bytes()).unwrap()
}

#[test]
fn the_first_that_is_well_is_asked() {
    let (a, b) = (echo("a"), echo("b"));
    let both = client([&a.endpoint, &b.endpoint]);
    for _ in 0..3 {
        assert_eq!(asked(&both, Request::new("x")), "x a");
    }
    assert_eq!(both.request(Request::new("x")).unwrap().broker.to_string(), a.endpoint);
    let gone = free_port().to_string();
    let (reply, took) = timed(|| asked(&client([&gone, &b.endpoint]), Request::new("x")));
    assert_eq!(reply, "x b");
    // Nobody listens there, so nobody is waited for.
    assert!(took < PATIENCE / 10, "{took:?}");
}

#[test]
fn a_broker_that_dies_with_the_request_is_left_for_the_next_and_taken_again_when_it_is_back() {
    let (a, told) = silent();
    let b = echo("b");
    let place = a.endpoint.clone();
    let both = client([&a.endpoint, &b.endpoint]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| timed(|| asked(&both, Request::new("x"))));
        told.recv_timeout(PATIENCE).unwrap();
        a.stop();
        let (reply, took) = asking.join().unwrap();
        assert_eq!(reply, "x b");
        assert!(took < PATIENCE / 3, "{took:?}: it had to be noticed, not waited for");
    });
    let _a = echo_at(&place, "a");
    let mut waited = Duration::ZERO;
    loop {
        let (reply, took) = timed(|| asked(&both, Request::new("x")));
        waited += took;
        if reply == "x a" {
            break;
        }
        assert!(waited < PATIENCE, "it is not taken again");
    }
}

#[test]
fn a_broker_that_keeps_silent_costs_one_try_and_is_asked_last_from_then_on() {
    let (a, told) = silent();
    let b = echo("b");
    let endpoints = [&a.endpoint, &b.endpoint];
    let timeout = Duration::from_secs(3);
    let both = Client::builder().endpoints(endpoints.map(String::as_str)).timeout(timeout).tries(3);
    let both = both.build().unwrap();
    let (reply, took) = timed(|| asked(&both, Request::new("x")));
    assert_eq!(reply, "x b");
    assert!(timeout / 3 <= took && took < timeout, "{took:?}: one try has a third of the time");
    let (_, took) = timed(|| asked(&both, Request::new("x")));
    assert!(took < timeout / 3, "{took:?}");
    assert_eq!(told.try_iter().count(), 1);
}

#[test]
fn a_refusal_that_another_may_do_better_than_is_taken_there() {
    let b = echo("b");
    for status in [Status::Busy, Status::Draining, Status::Unavailable, Status::NoService] {
        let a = refusing(status);
        assert_eq!(asked(&client([&a.endpoint, &b.endpoint]), Request::new("x")), "x b", "{status}");
        let (other, gone) = (refusing(Status::Draining), free_port().to_string());
        let (error, took) =
            timed(|| client([&a.endpoint, &other.endpoint, &gone]).request(Request::new("x")).unwrap_err());
        assert!(matches!(error, AskError::Refused { status: Status::Draining, .. }), "{error:?}");
        assert!(took < PATIENCE / 2, "{took:?}");
    }
    for status in [Status::Lost, Status::TooLarge, Status::Timeout, Status::Error] {
        let a = refusing(status);
        let error = client([&a.endpoint, &b.endpoint]).request(Request::new("x")).unwrap_err();
        assert!(error.to_string().contains("no"), "{error}");
    }
}

#[test]
fn requests_of_one_word_meet_at_one_broker_from_every_client() {
    let servers = [echo("a"), echo("b"), echo("c")];
    let list: Vec<&String> = servers.iter().map(|server| &server.endpoint).collect();
    let first = client(list.iter().copied());
    let second = client(list.iter().rev().copied());
    let mut names = std::collections::BTreeSet::new();
    for number in 0..40 {
        let word = format!("word {number}");
        let broker = asked(&first, Request::new("x").affinity(&word));
        assert_eq!(asked(&second, Request::new("x").key(&word)), broker, "{word}");
        assert_eq!(asked(&first, Request::new("x").exclusive(&word)), broker, "{word}");
        assert_eq!(asked(&first, Request::new("x").key("other").affinity(&word)), broker, "{word}");
        names.insert(broker);
    }
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn when_nobody_is_there_the_error_names_them_all() {
    let (a, b) = (free_port().to_string(), free_port().to_string());
    let timeout = Duration::from_millis(200);
    let client = Client::builder().endpoints([&a, &b]).timeout(timeout).build().unwrap();
    let error = client.ask("x").unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("no broker at tcp://127.0.0.1:{a}, tcp://127.0.0.1:{b} in ")),
        "{text}"
    );
    assert!(error.was_not_run());
}

#[test]
fn with_a_key_a_lost_connection_is_no_try_and_the_id_stays() {
    // Each router takes the request and dies; more of them than there are tries.
    let (tell, told) = mpsc::channel();
    let serve = move |place: &str| {
        let tell = tell.clone();
        Server::start_at(place, move |_peer, frames| {
            let meta = read_request(frames).0;
            tell.send((meta.id, meta.key)).unwrap();
            Vec::new()
        })
    };
    let mut server = serve("tcp://127.0.0.1:*");
    let place = server.endpoint.clone();
    let client = Client::builder().endpoint(&place).timeout(PATIENCE).tries(1).build().unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| asked(&client, Request::new("x").key("k")));
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(told.recv_timeout(PATIENCE).unwrap());
            server.stop();
            server = serve(&place);
        }
        heard.push(told.recv_timeout(PATIENCE).unwrap());
        server.stop();
        let _server = echo_at(&place, "at last");
        assert_eq!(asking.join().unwrap(), "x at last");
        assert!(heard.windows(2).all(|pair| pair[0] == pair[1]), "{heard:?}");
        assert_eq!(heard[0].1.as_deref(), Some("k"));
    });
}

#[test]
fn without_one_it_is_sent_as_often_as_was_said() {
    let (server, told) = silent();
    let client = Client::builder().endpoint(&server.endpoint).timeout(PATIENCE).tries(1).build().unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| timed(|| client.ask("x").unwrap_err()));
        told.recv_timeout(PATIENCE).unwrap();
        server.stop();
        let (error, took) = asking.join().unwrap();
        assert!(matches!(error, AskError::NoAnswer { tries: 1, .. }), "{error:?}");
        assert!(took < PATIENCE / 2, "{took:?}");
    });
}
