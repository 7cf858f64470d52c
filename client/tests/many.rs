//! Many requests of one client at once: out of order, from several threads, in parts,
//! taken back.

#![expect(clippy::unwrap_used, reason = "a test's own helpers may fail it")]

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{Frames, PATIENCE, Server, answer, free_port, part, read_request, reply, start_thread, timed};
use hornpipe_client::{AskError, Client, Priority, Request, Status};
use hornpipe_proto::client::RequestMeta;

fn client(server: &Server) -> Client {
    Client::builder().endpoint(&server.endpoint).timeout(PATIENCE).build().unwrap()
}

/// Answers when it has heard `count` requests, the last one first.
fn backwards(count: usize) -> Server {
    let mut held: Vec<Frames> = Vec::new();
    Server::start(move |peer, frames| {
        let (meta, body) = read_request(frames);
        held.push(reply(peer, &meta.id, body));
        if held.len() == count { held.drain(..).rev().collect() } else { Vec::new() }
    })
}

/// Says what it hears, and answers what is no cancel with `respond`.
fn listening(
    mut respond: impl FnMut(&[u8], &RequestMeta, &[Vec<u8>]) -> Vec<Frames> + Send + 'static,
) -> (Server, mpsc::Receiver<RequestMeta>) {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |peer, frames| {
        let (meta, body) = read_request(frames);
        let answers = if meta.cancel { Vec::new() } else { respond(peer, &meta, body) };
        tell.send(meta).unwrap();
        answers
    });
    (server, told)
}

#[test]
fn replies_find_their_requests_in_whatever_order_they_come() {
    let server = backwards(100);
    let client = client(&server);
    let send = |number: usize| client.send(Request::new(number.to_string())).unwrap();
    let pending: Vec<_> = (0..100).map(send).collect();
    for (number, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap().bytes(), number.to_string().as_bytes());
    }
    assert_eq!(client.dropped(), 0);
}

#[test]
fn threads_share_a_client_and_one_connection() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |peer, frames| {
        let (meta, body) = read_request(frames);
        tell.send(peer.to_vec()).unwrap();
        vec![reply(peer, &meta.id, body)]
    });
    let client = client(&server);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let client = &client;
            scope.spawn(move || {
                for number in 0..200 {
                    let body = format!("{thread} {number}");
                    assert_eq!(client.ask(body.as_str()).unwrap().bytes(), body.as_bytes());
                }
            });
        }
    });
    let mut peers: Vec<_> = told.try_iter().collect();
    assert_eq!(peers.len(), 1600);
    peers.dedup();
    assert_eq!(peers.len(), 1, "more than one connection");
}

#[test]
fn who_waits_in_vain_leaves_the_steering_to_the_others() {
    // One thread waits for what never comes, and steers. When its time is over, the other
    // must not sleep on: its reply comes later still.
    let (answer_now, held) = mpsc::channel::<()>();
    let (mut second, mut is_time) = (None, false);
    let server = Server::start(move |peer, frames| {
        let (meta, body) = read_request(frames);
        if body.first().is_some_and(|body| body == b"later") {
            second = Some(reply(peer, &meta.id, body));
        }
        is_time |= held.try_recv().is_ok();
        if is_time { second.take().into_iter().collect() } else { Vec::new() }
    });
    let client = client(&server);
    std::thread::scope(|scope| {
        let never = scope.spawn(|| {
            client.request(Request::new("never").timeout(Duration::from_millis(300)).tries(1)).unwrap_err()
        });
        let later = scope.spawn(|| client.ask("later").unwrap());
        assert!(matches!(never.join().unwrap(), AskError::NoAnswer { tries: 1, .. }));
        answer_now.send(()).unwrap();
        // Any message makes the server look whether it may answer.
        let nudge = client.send(Request::new("nudge")).unwrap();
        assert_eq!(later.join().unwrap().bytes(), b"later");
        drop(nudge);
    });
}

#[test]
fn a_slow_request_does_not_use_up_its_tries_while_the_broker_answers_others() {
    let mut slow = None;
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |peer, frames| {
        let (meta, body) = read_request(frames);
        match body.first().map(Vec::as_slice) {
            Some(b"slow") => {
                tell.send(()).unwrap();
                slow = Some(reply(peer, &meta.id, body));
                Vec::new()
            }
            Some(b"last") => slow.take().into_iter().chain([reply(peer, &meta.id, body)]).collect(),
            _ => vec![reply(peer, &meta.id, body)],
        }
    });
    let client = client(&server);
    // Its share of the time is a second: it would be sent again twice.
    let mut slow = client.send(Request::new("slow").timeout(Duration::from_secs(10)).tries(10)).unwrap();
    let mut waited = Duration::ZERO;
    while waited < Duration::from_millis(2200) {
        client.ask("quick").unwrap();
        let (reply, took) = timed(|| slow.wait_for(Duration::from_millis(20)));
        assert!(reply.is_none());
        waited += took;
    }
    client.ask("last").unwrap();
    assert_eq!(slow.wait().unwrap().bytes(), b"slow");
    assert_eq!(told.try_iter().count(), 1, "it was sent again");
}

#[test]
fn more_than_may_be_out_wait_for_room_and_are_refused_in_time() {
    let (server, _told) = listening(|_peer, _meta, _body| Vec::new());
    let client = Client::builder().endpoint(&server.endpoint).timeout(PATIENCE).in_flight(2).build().unwrap();
    let first = client.send(Request::new("a")).unwrap();
    let _second = client.send(Request::new("b")).unwrap();
    let late = Request::new("c").timeout(Duration::from_millis(100));
    assert_eq!(client.send(late).unwrap_err(), AskError::NoRoom { limit: 2 });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.send(Request::new("d")));
        drop(first);
        drop(waiting.join().unwrap().unwrap());
    });
}

#[test]
fn parts_come_one_by_one_and_a_reply_in_one_piece_is_one_part() {
    let (server, told) = listening(|peer, meta, body| match body[0].as_slice() {
        b"parts" => {
            let parts = (0..3).map(|number: u8| part(peer, &meta.id, &[vec![number], vec![9]]));
            parts.chain([reply(peer, &meta.id, &[])]).collect()
        }
        _ => vec![reply(peer, &meta.id, body)],
    });
    let client = client(&server);
    let mut parts = client.parts(Request::new("parts")).unwrap();
    let frames: Vec<Frames> = parts.by_ref().map(|part| part.unwrap()).collect();
    assert_eq!(frames, [vec![vec![0], vec![9]], vec![vec![1], vec![9]], vec![vec![2], vec![9]]]);
    assert_eq!(parts.reply().unwrap().attempt, 1);
    assert!(parts.next().is_none(), "it has ended");
    assert!(told.recv().unwrap().more, "the broker is told that parts are read");

    let whole: Vec<Frames> = client.parts(Request::new("whole")).unwrap().map(|part| part.unwrap()).collect();
    assert_eq!(whole, [[b"whole"]]);
    // Nobody asked for parts, and they come all the same.
    assert_eq!(client.ask("parts").unwrap().bytes(), [0, 9, 1, 9, 2, 9]);
}

#[test]
fn an_error_after_the_first_part_is_the_end() {
    let (server, _told) = listening(|peer, meta, _body| {
        let lost = answer(peer, &meta.id, Status::Lost, Some("its worker ended without a reply"), &[]);
        vec![part(peer, &meta.id, &[b"one".to_vec()]), lost]
    });
    let client = client(&server);
    let mut parts = client.parts(Request::new("x")).unwrap();
    assert_eq!(parts.next().unwrap().unwrap(), [b"one"]);
    let error = parts.next().unwrap().unwrap_err();
    assert!(matches!(&error, AskError::Refused { status: Status::Lost, .. }), "{error:?}");
    assert!(error.to_string().contains("worker died: its worker ended without a reply"), "{error}");
    assert!(parts.next().is_none() && parts.reply().is_none());
}

#[test]
fn a_reply_that_breaks_off_is_not_asked_for_again() {
    let (tell, told) = mpsc::channel();
    let first = Server::start(move |peer, frames| {
        let (meta, _body) = read_request(frames);
        tell.send(()).unwrap();
        vec![part(peer, &meta.id, &[b"one".to_vec()])]
    });
    let endpoint = first.endpoint.clone();
    let client = client(&first);
    let mut parts = client.parts(Request::new("x").key("even with a key")).unwrap();
    assert_eq!(parts.next().unwrap().unwrap(), [b"one"]);
    first.stop();
    let (error, took) = timed(|| parts.next().unwrap().unwrap_err());
    assert!(matches!(error, AskError::BrokenOff { parts: 1, .. }), "{error:?}");
    assert!(took < PATIENCE / 2, "{took:?}");
    assert_eq!(told.try_iter().count(), 1);
    drop(endpoint);
}

#[test]
fn parts_that_nobody_takes_end_the_request_and_not_the_memory() {
    let (server, told) = listening(|peer, meta, body| match body[0].as_slice() {
        b"flood" => vec![part(peer, &meta.id, &[vec![0; 1 << 20]]); 80],
        _ => vec![reply(peer, &meta.id, body)],
    });
    let client = client(&server);
    let flood = client.parts(Request::new("flood")).unwrap();
    // The others' waits are what brings them in.
    while !told.try_iter().any(|meta| meta.cancel) {
        client.ask("another").unwrap();
    }
    let (good, bad): (Vec<_>, Vec<_>) = flood.partition(Result::is_ok);
    assert!((1..=64).contains(&good.len()), "{}", good.len());
    assert_eq!(bad, [Err(AskError::Behind)]);
}

#[test]
fn dropping_a_request_takes_it_back_unless_it_has_a_key() {
    let (server, told) = listening(|_peer, _meta, _body| Vec::new());
    let client = client(&server);
    let (keyed, took) = timed(|| client.send(Request::new("a").key("k")).unwrap());
    assert!(took < Duration::from_millis(900), "{took:?}: it waits for its connection and for nothing else");
    let plain = client.send(Request::new("b").service("s")).unwrap();
    // They have been sent, though nobody has waited for them.
    for key in [Some("k"), None] {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().key.as_deref(), key);
    }
    drop(keyed);
    drop(plain);
    let cancels: Vec<_> = std::iter::from_fn(|| told.recv_timeout(Duration::from_millis(300)).ok())
        .filter(|meta| meta.cancel)
        .collect();
    assert_eq!(cancels.len(), 1, "{cancels:?}");
    let cancel = &cancels[0];
    assert!(cancel.id.ends_with("-2") && cancel.key.is_none(), "{cancel:?}");
    assert_eq!(cancel.service.as_deref(), Some("s"));
    assert!(cancel.timeout_ms.is_none() && !cancel.more);
}

#[test]
fn a_cancelled_request_hears_what_the_broker_says_of_it() {
    let mut held: Option<(Vec<u8>, String)> = None;
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |peer, frames| {
        let (meta, _body) = read_request(frames);
        tell.send(meta.clone()).unwrap();
        if !meta.cancel {
            held = Some((peer.to_vec(), meta.id));
            return Vec::new();
        }
        let (peer, id) = held.take().unwrap();
        vec![answer(&peer, &id, Status::Cancelled, Some("its client took it back"), &[])]
    });
    let client = client(&server);
    for request in [Request::new("x"), Request::new("x").key("k")] {
        let mut pending = client.send(request).unwrap();
        let id = loop {
            assert!(pending.wait_for(Duration::from_millis(5)).is_none());
            if let Ok(meta) = told.try_recv() {
                break meta;
            }
        };
        let canceller = pending.canceller();
        let cancelling = start_thread(move || canceller.cancel());
        let error = pending.wait().unwrap_err();
        let message = "its client took it back";
        assert!(
            matches!(&error, AskError::Refused { status: Status::Cancelled, message: said, .. } if said == message),
            "{error:?}"
        );
        cancelling.join().unwrap();
        let cancel = told.recv_timeout(PATIENCE).unwrap();
        assert!(cancel.cancel);
        // Work with a key is ended by its key, whoever asked for it.
        assert_eq!((cancel.key.clone(), cancel.id.is_empty()), (id.key.clone(), id.key.is_some()));
    }
    assert_eq!(client.dropped(), 0);
}

#[test]
fn a_cancel_that_nobody_answers_ends_all_the_same() {
    let (server, _told) = listening(|_peer, _meta, _body| Vec::new());
    let client = client(&server);
    let mut pending = client.send(Request::new("x")).unwrap();
    assert!(pending.wait_for(Duration::from_millis(50)).is_none());
    pending.cancel();
    let (error, took) = timed(|| pending.wait().unwrap_err());
    assert!(matches!(error, AskError::Refused { status: Status::Cancelled, .. }), "{error:?}");
    assert!(took < PATIENCE / 2, "{took:?}");
    // Nobody is there to be told.
    let unreachable = Client::builder().endpoint(free_port().to_string()).timeout(PATIENCE).build().unwrap();
    let pending = unreachable.send(Request::new("x")).unwrap();
    pending.cancel();
    assert!(matches!(pending.wait(), Err(AskError::Refused { status: Status::Cancelled, .. })));
}

#[test]
fn a_broker_of_old_is_not_sent_what_it_would_run_as_an_empty_request() {
    // A reply without times is one of a broker that cannot take a request back.
    let (server, told) = listening(|peer, meta, body| match body[0].as_slice() {
        b"hold" => Vec::new(),
        _ => vec![common::timed_reply(peer, &meta.id, body, None)],
    });
    let client = client(&server);
    client.ask("x").unwrap();
    drop(client.send(Request::new("hold")).unwrap());
    client.ask("x").unwrap();
    assert!(told.try_iter().all(|meta| !meta.cancel));
}

#[test]
fn everything_that_a_request_may_say_is_in_its_map() {
    let (server, told) = listening(|peer, meta, body| vec![reply(peer, &meta.id, body)]);
    let request = Request::new("x")
        .service("images")
        .attempts(2)
        .key("k")
        .priority(Priority::High)
        .affinity("user-7")
        .strict()
        .exclusive("disk")
        .trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("tenant", "blue");
    client(&server).request(request).unwrap();
    let meta = told.recv().unwrap();
    let texts = [&meta.service, &meta.key, &meta.affinity, &meta.exclusive];
    assert_eq!(texts.map(|text| text.as_deref().unwrap()), ["images", "k", "user-7", "disk"]);
    assert_eq!(
        (meta.attempts, meta.priority, meta.strict, meta.more),
        (Some(2), Priority::High, true, false)
    );
    assert!(meta.trace.unwrap().starts_with("00-4bf9"));
    assert_eq!(meta.headers.get("tenant"), Some(&b"blue"[..]));
}

#[test]
fn what_no_broker_takes_is_refused_before_it_is_sent() {
    let client = Client::connect(&free_port().to_string()).unwrap();
    let long = "x".repeat(257);
    for request in [
        Request::new("x").key(&long),
        Request::new("x").affinity(&long),
        Request::new("x").exclusive(&long),
        Request::new("x").trace(&long),
        Request::new("x").header("name", vec![0; 2048]),
        Request::new("x").service("s".repeat(5000)),
    ] {
        let (error, took) = timed(|| client.request(request).unwrap_err());
        assert!(matches!(error, AskError::Request { .. }), "{error:?}");
        assert!(took < Duration::from_secs(5));
    }
}
