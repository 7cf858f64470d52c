//! Bodies of a type, there and back, and what is none.

#![expect(clippy::unwrap_used, reason = "a test's own helpers may fail it")]

mod common;

use common::{PATIENCE, Server, read_request, reply};
use hornpipe_client::{BodyError, Client, Reply, Request};

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Resize {
    picture: u64,
    widths: Vec<u32>,
    name: Option<String>,
}

fn resize() -> Resize {
    Resize { picture: 1 << 60, widths: vec![80, 800], name: Some("dünn".into()) }
}

fn echo() -> (Server, Client) {
    let server = Server::start(|peer, frames| {
        let (meta, body) = read_request(frames);
        vec![reply(peer, &meta.id, body)]
    });
    let client = Client::builder().endpoint(&server.endpoint).timeout(PATIENCE).build().unwrap();
    (server, client)
}

#[test]
fn a_value_comes_back_as_it_went() {
    let (_server, client) = echo();
    let reply = client.request(Request::json(&resize()).unwrap()).unwrap();
    assert_eq!(
        reply.bytes(),
        r#"{"picture":1152921504606846976,"widths":[80,800],"name":"dünn"}"#.as_bytes()
    );
    assert_eq!(reply.json::<Resize>().unwrap(), resize());
    let reply = client.request(Request::msgpack(&resize()).unwrap().service("images")).unwrap();
    assert_eq!(reply.bytes().first(), Some(&0x83), "a map of three, with names");
    assert_eq!(reply.msgpack::<Resize>().unwrap(), resize());
}

#[test]
fn what_is_no_such_value_is_an_error_and_not_a_panic() {
    let (_server, client) = echo();
    let echo = |body: &[u8]| -> Reply { client.ask(body).unwrap() };
    assert!(matches!(echo(b"{}").json::<Resize>(), Err(BodyError::Json(_))));
    assert!(matches!(echo(b"1 2").json::<u8>(), Err(BodyError::Json(_))));
    assert!(matches!(echo(b"").msgpack::<Resize>(), Err(BodyError::Read(_))));
    assert!(matches!(echo(b"\x01\x02").msgpack::<u8>(), Err(BodyError::TrailingBytes)));
    // A text of 4 GiB is announced.
    assert!(echo(b"\xdb\xff\xff\xff\xff").msgpack::<String>().is_err());
    let depth = echo(&vec![0x91; 100_000]).msgpack::<serde_json::Value>();
    assert!(depth.is_err(), "{depth:?}");
    assert!(Request::json(&std::collections::BTreeMap::from([((1, 2), 3)])).is_err());
}
