//! Peers of ZMTP 2.0, as RFC 15 writes their bytes down, and that a ROUTER has something to say to each version.

use hornpipe_proto::zmtp::{Connection, Event, Limits, Peer, SocketType, ZmtpError};

const LIMITS: Limits = Limits { frame_bytes: 1000, message_bytes: 1500, frames: 3 };
const SIGNATURE: &[u8] = b"\xff\0\0\0\0\0\0\0\x01\x7f";
const ANSWER: &[u8] = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x06\0\0";

fn router() -> Connection {
    Connection::new(SocketType::Router, LIMITS)
}

fn feed(connection: &mut Connection, bytes: &[u8]) -> Result<(), ZmtpError> {
    connection.buffer().extend(bytes);
    connection.received()
}

fn written(connection: &mut Connection) -> Vec<u8> {
    let bytes: Vec<u8> = connection.unsent().flatten().copied().collect();
    connection.sent(bytes.len());
    bytes
}

/// A peer's greeting, with its identity.
fn greeting(kind: u8, identity: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[1, kind, 0, u8::try_from(identity.len()).unwrap()], identity].concat()
}

fn ready(identity: &[u8]) -> Vec<u8> {
    let size = u32::try_from(identity.len()).unwrap().to_be_bytes();
    let body = [b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity", &size[..], identity].concat();
    [&[6][..], &(body.len() as u64).to_be_bytes(), &body].concat()
}

/// The ROUTER's view of a DEALER, and all that it has said.
fn met(identity: &[u8]) -> (Connection, Vec<u8>) {
    let mut connection = router();
    feed(&mut connection, &greeting(5, identity)).unwrap();
    let peer = Peer { socket: SocketType::Dealer, identity: identity.to_vec() };
    assert_eq!(connection.next_event(), Some(Event::Ready(peer)));
    let said = written(&mut connection);
    (connection, said)
}

#[test]
fn a_peer_of_version_2_is_met_step_by_step_with_its_kind_and_its_name() {
    for (number, socket) in [(3, SocketType::Req), (5, SocketType::Dealer), (6, SocketType::Router)] {
        let mut connection = router();
        assert_eq!(written(&mut connection), ANSWER[..11]);
        feed(&mut connection, SIGNATURE).unwrap();
        assert_eq!(written(&mut connection), b"");
        feed(&mut connection, &[1]).unwrap();
        assert_eq!(written(&mut connection), ANSWER[11..]);
        feed(&mut connection, &[number]).unwrap();
        assert_eq!((connection.next_event(), connection.is_open()), (None, false));
        assert!(!connection.send([b"too early"]));
        feed(&mut connection, b"\0\x03old").unwrap();
        let peer = Peer { socket, identity: b"old".to_vec() };
        assert_eq!(connection.next_event(), Some(Event::Ready(peer)));
        assert!(connection.is_open());
        assert_eq!(written(&mut connection), b"");
    }
}

#[test]
fn messages_go_both_ways_in_frames_of_either_length() {
    let (mut connection, said) = met(b"");
    assert_eq!(said, ANSWER);
    let long = [&b"\x01\0\x02\0\0\0\0\0\0\x01\x2c"[..], &[7; 300]].concat();
    feed(&mut connection, &[b"\0\x05hello", &*long].concat()).unwrap();
    assert_eq!(connection.next_event(), Some(Event::Message(vec![b"hello".to_vec()])));
    assert_eq!(connection.next_event(), Some(Event::Message(vec![Vec::new(), vec![7; 300]])));
    assert!(connection.send([Vec::new(), vec![7; 300]]));
    assert_eq!(written(&mut connection), long);
}

#[test]
fn there_are_no_commands_in_version_2() {
    let (mut connection, _said) = met(b"");
    assert!(!connection.ping(10, b"x"));
    assert_eq!(written(&mut connection), b"");
    for flags in [4, 6] {
        for before in [greeting(5, b""), greeting(5, b"")[..12].to_vec()] {
            let mut connection = router();
            let result = feed(&mut connection, &[before, vec![flags]].concat());
            assert_eq!(result, Err(ZmtpError::Flags { flags }));
            assert_eq!(written(&mut connection), ANSWER);
        }
    }
}

#[test]
fn what_is_too_much_is_too_much_in_version_2() {
    let after = |bytes: &[u8]| feed(&mut met(b"").0, bytes);
    let error = ZmtpError::FrameTooLarge { size: 1001, limit: 1000 };
    assert_eq!(after(b"\x02\0\0\0\0\0\0\x03\xe9"), Err(error));
    assert_eq!(after(&b"\x01\0".repeat(48)), Err(ZmtpError::EndlessMessage { limit: 48 }));
}

#[test]
fn an_identity_is_short_and_does_not_begin_with_zero_in_either_version() {
    let of_version_3 = |identity: &[u8]| {
        let mut connection = router();
        let mut greeting = [0; 64];
        greeting[..16].copy_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL");
        feed(&mut connection, &[&greeting[..], &ready(identity)].concat()).map(|()| connection.next_event())
    };
    let wrong = |what| ZmtpError::Identity { what };
    let zero = wrong("begins with a zero byte, as only those do that routers make");
    for identity in [&[0][..], b"\0\x01\x02\x03\x04"] {
        assert_eq!(feed(&mut router(), &greeting(5, identity)), Err(zero.clone()));
        assert_eq!(of_version_3(identity), Err(zero.clone()));
    }
    let longest = [1; 255];
    met(&longest);
    let peer = Peer { socket: SocketType::Dealer, identity: longest.to_vec() };
    assert_eq!(of_version_3(&longest), Ok(Some(Event::Ready(peer))));
    assert_eq!(of_version_3(&[1; 256]), Err(wrong("has more than 255 bytes")));
    // By its head alone, before there is memory for it.
    let with = |frames: &[u8]| feed(&mut router(), &[&greeting(5, b"")[..12], frames].concat());
    assert_eq!(with(b"\x02\0\0\0\0\0\0\x01\0"), Err(wrong("has more than 255 bytes")));
    for frames in [&b"\x01\x01a\0\x01b"[..], &b"\x01\0".repeat(100)] {
        assert_eq!(with(frames), Err(wrong("has more than one frame")));
    }
    assert_eq!(with(&[&[1, 200], &[1; 200][..], &[0, 56]].concat()), Err(wrong("has more than 255 bytes")));
}

#[test]
fn who_connects_does_not_speak_version_2_and_nobody_speaks_version_1() {
    let mut dealer = Connection::new(SocketType::Dealer, LIMITS);
    assert_eq!(written(&mut dealer).len(), 64);
    let error = ZmtpError::Version { major: 2, least: 3 };
    assert_eq!(feed(&mut dealer, &greeting(6, b"")), Err(error));
    assert_eq!(written(&mut dealer), b"");
    // RFC 13: a REQ without an identity, and one with a long one.
    for anonymous in [&b"\x01\0"[..], b"\xff\0\0\0\0\0\0\x01\0\0"] {
        let mut router = router();
        assert_eq!(feed(&mut router, anonymous), Err(ZmtpError::NotZmtp));
        assert_eq!(written(&mut router), ANSWER[..11]);
    }
}

/// What a peer says once it has heard so many bytes.
type Steps = Vec<(usize, Vec<u8>)>;

/// libzmq 3 and 4, peers that say at once what they can, and peers that tell their version and wait for all of ours.
fn careful_and_hasty_peers() -> Vec<Steps> {
    let mut new = vec![0; 64];
    new[..16].copy_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL");
    let step = |heard, bytes: &[u8]| (heard, bytes.to_vec());
    let old = greeting(5, b"me");
    vec![
        vec![step(0, &old[..10]), step(10, &old[10..12]), step(12, &old[12..])],
        vec![step(0, &old)],
        vec![step(0, &old[..11]), step(14, &old[11..])],
        vec![step(0, &new[..10]), step(10, &new[10..11]), step(11, &new[11..]), step(64, &ready(b"me"))],
        vec![step(0, &new[..11]), step(64, &new[11..]), step(64, &ready(b"me"))],
        vec![step(0, &new), step(64, &ready(b"me"))],
    ]
}

#[test]
fn no_peer_waits_in_vain() {
    for (number, steps) in careful_and_hasty_peers().into_iter().enumerate() {
        for piece in [1, 3, 64] {
            let mut router = router();
            let mut heard = written(&mut router).len();
            for (needed, bytes) in &steps {
                assert!(*needed <= heard, "peer {number} waits for byte {needed} and has {heard}");
                for bytes in bytes.chunks(piece) {
                    feed(&mut router, bytes).unwrap();
                    heard += written(&mut router).len();
                }
            }
            let Some(Event::Ready(peer)) = router.next_event() else { panic!("peer {number} is not met") };
            assert_eq!((peer.socket, &*peer.identity), (SocketType::Dealer, &b"me"[..]));
        }
    }
}

#[test]
fn a_peer_with_another_mechanism_reads_which_one_is_served() {
    let mut router = router();
    let mut greeting = [0; 64];
    greeting[..17].copy_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01CURVE");
    assert_eq!(feed(&mut router, &greeting), Err(ZmtpError::Mechanism { name: "CURVE".into() }));
    let said = written(&mut router);
    assert_eq!((said.len(), &said[12..16]), (64, &b"NULL"[..]));
}
