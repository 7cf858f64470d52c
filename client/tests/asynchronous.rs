//! Requests of tasks: many at once, dropped, in parts, and what happens at the end.

#![expect(clippy::unwrap_used, reason = "a test's own helpers may fail it")]

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{PATIENCE, Server, part, read_request, reply, timed};
use hornpipe_client::{AskError, AsyncClient, Client, Request};
use hornpipe_proto::client::RequestMeta;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn client(server: &Server) -> AsyncClient {
    AsyncClient::open(Client::builder().endpoint(&server.endpoint).timeout(PATIENCE)).unwrap()
}

/// Echoes, says nothing to `hold`, and tells of every request.
fn echo() -> (Server, mpsc::Receiver<RequestMeta>) {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |peer, frames| {
        let (meta, body) = read_request(frames);
        let answer = match body {
            [] => Vec::new(),
            [word] if word == b"hold" => Vec::new(),
            [word] if word == b"parts" => {
                vec![
                    part(peer, &meta.id, &[b"1".to_vec()]),
                    part(peer, &meta.id, &[b"2".to_vec()]),
                    reply(peer, &meta.id, &[]),
                ]
            }
            body => vec![reply(peer, &meta.id, body)],
        };
        tell.send(meta).ok();
        answer
    });
    (server, told)
}

#[test]
fn tasks_ask_at_once_over_one_connection() {
    let (server, told) = echo();
    let client = client(&server);
    run(async {
        let ask = |number: u32| {
            let client = client.clone();
            async move { client.ask(number.to_string()).await.unwrap().bytes() }
        };
        let (a, b, c) = tokio::join!(ask(1), ask(2), ask(3));
        assert_eq!([a, b, c], [b"1", b"2", b"3"]);
        for number in 0..500 {
            assert_eq!(ask(number).await, number.to_string().as_bytes());
        }
    });
    assert_eq!(told.try_iter().count(), 503);
}

#[test]
fn dropping_a_future_takes_the_request_back() {
    let (server, told) = echo();
    let client = client(&server);
    run(async {
        let request = client.request(Request::new("hold"));
        assert!(tokio::time::timeout(Duration::from_millis(200), request).await.is_err());
    });
    let asked = told.recv_timeout(PATIENCE).unwrap();
    let cancel = told.recv_timeout(PATIENCE).unwrap();
    assert!(cancel.cancel && cancel.id == asked.id, "{cancel:?}");
}

#[test]
fn parts_come_one_by_one() {
    let (server, _told) = echo();
    let client = client(&server);
    run(async {
        let mut parts = client.parts(Request::new("parts")).await.unwrap();
        assert_eq!(parts.next().await.unwrap().unwrap(), [b"1"]);
        assert_eq!(parts.next().await.unwrap().unwrap(), [b"2"]);
        assert!(parts.next().await.is_none());
        assert_eq!(parts.reply().unwrap().attempt, 1);
        assert!(parts.next().await.is_none());
    });
}

#[test]
fn who_finds_no_room_waits_for_it() {
    let (server, told) = echo();
    let builder = Client::builder().endpoint(&server.endpoint).timeout(PATIENCE).in_flight(1);
    let client = AsyncClient::open(builder).unwrap();
    run(async {
        let held = tokio::time::timeout(Duration::from_millis(300), client.ask("hold"));
        let (held, second) = tokio::join!(held, async {
            tokio::task::yield_now().await;
            client.ask("x").await
        });
        assert!(held.is_err());
        assert_eq!(second.unwrap().bytes(), b"x");
    });
    let order: Vec<bool> = told.try_iter().map(|meta| meta.cancel).collect();
    assert_eq!(order, [false, true, false]);
}

#[test]
fn a_time_that_is_over_is_told_without_a_runtimes_timer() {
    let (server, _told) = echo();
    let client = client(&server);
    let request = Request::new("hold").timeout(Duration::from_millis(100)).tries(1);
    let (error, took) = timed(|| run(client.request(request)).unwrap_err());
    assert!(matches!(error, AskError::NoAnswer { tries: 1, .. }), "{error:?}");
    assert!(took < PATIENCE / 2);
}

#[test]
fn the_thread_ends_with_the_last_clone() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().flatten().filter(is_ours).count();
    let (server, _told) = echo();
    let client = AsyncClient::connect(&server.endpoint).unwrap();
    let clone = client.clone();
    run(client.ask("x")).unwrap();
    drop(client);
    run(clone.ask("x")).unwrap();
    drop(clone);
    // Other tests' clients come and go too, so what is looked for is that it becomes none.
    let (mut waited, mut left) = (Duration::ZERO, threads());
    while left > 0 {
        assert!(waited < PATIENCE, "{left} threads are left");
        let ((), took) = timed(std::thread::yield_now);
        waited += took;
        left = threads();
    }
}

fn is_ours(task: &std::fs::DirEntry) -> bool {
    std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "hornpipe-client")
}
