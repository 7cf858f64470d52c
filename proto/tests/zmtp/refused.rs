//! What is not taken, and that it costs no memory.

use std::time::Duration;

use hornpipe_proto::zmtp::{Connection, Event, Limits, SocketType, ZmtpError};

const LIMITS: Limits = Limits { frame_bytes: 1000, message_bytes: 1500, frames: 3 };

fn greeting() -> Vec<u8> {
    Connection::new(SocketType::Dealer, LIMITS).unsent().flatten().copied().collect()
}

fn ready(socket: &str) -> Vec<u8> {
    let size = u8::try_from(socket.len()).unwrap();
    let body = [b"\x05READY\x0bSocket-Type\0\0\0", &[size][..], socket.as_bytes()].concat();
    [&[4, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

fn read(bytes: &[u8]) -> (Connection, Result<(), ZmtpError>) {
    let mut connection = Connection::new(SocketType::Router, LIMITS);
    connection.buffer().extend(bytes);
    let result = connection.received();
    (connection, result)
}

fn after_handshake(bytes: &[u8]) -> Result<(), ZmtpError> {
    let (mut connection, result) = read(&[&greeting(), &ready("DEALER"), bytes].concat());
    assert!(matches!(connection.next_event(), Some(Event::Ready(_))));
    result
}

#[test]
fn a_frame_of_more_than_is_allowed_is_refused_by_its_head_alone() {
    let size = u64::MAX.to_be_bytes();
    assert_eq!(
        after_handshake(&[&[2][..], &size].concat()),
        Err(ZmtpError::FrameTooLarge { size: u64::MAX, limit: 1000 })
    );
    assert_eq!(
        after_handshake(b"\x02\0\0\0\0\0\0\x03\xe9"),
        Err(ZmtpError::FrameTooLarge { size: 1001, limit: 1000 })
    );
    assert_eq!(after_handshake(b"\x02\0\0\0\0\0\0\x03\xe8"), Ok(()));
    assert_eq!(
        after_handshake(b"\x06\0\0\0\0\0\0\x10\x01"),
        Err(ZmtpError::FrameTooLarge { size: 4097, limit: 4096 })
    );
}

#[test]
fn of_a_message_of_too_many_frames_the_first_are_kept() {
    let overlong = [1, 1, b'a', 1, 1, b'b', 1, 1, b'c', 1, 1, b'd', 0, 1, b'e', 0, 1, b'f'];
    let (mut connection, result) = read(&[&greeting()[..], &ready("DEALER"), &overlong].concat());
    assert_eq!(result, Ok(()));
    assert!(matches!(connection.next_event(), Some(Event::Ready(_))));
    let kept = ["a", "b", "c"].map(|frame| frame.as_bytes().to_vec()).to_vec();
    assert_eq!(connection.next_event(), Some(Event::Overlong(kept)));
    assert_eq!(connection.next_event(), Some(Event::Message(vec![b"f".to_vec()])));
}

#[test]
fn a_message_that_does_not_end_is_left_at_last() {
    let most = [1, 0].repeat(LIMITS.frames * 16 - 1);
    assert_eq!(after_handshake(&most), Ok(()));
    assert_eq!(after_handshake(&[&most[..], &[0, 0]].concat()), Ok(()));
    assert_eq!(after_handshake(&[&most[..], &[1, 0]].concat()), Err(ZmtpError::EndlessMessage { limit: 48 }));
}

#[test]
fn a_message_has_so_many_bytes() {
    assert_eq!(after_handshake(&[1, 0, 1, 0, 0, 0]), Ok(()));
    let frame = [&b"\x03\0\0\0\0\0\0\x03\x20"[..], &[0; 800]].concat();
    let twice = [&*frame, b"\x02\0\0\0\0\0\0\x03\x20"].concat();
    assert_eq!(after_handshake(&twice), Err(ZmtpError::MessageTooLarge { limit: 1500 }));
    // Those that are not kept are counted, too.
    let small = [&[1, 0, 1, 0, 1, 0][..], &twice].concat();
    assert_eq!(after_handshake(&small), Err(ZmtpError::MessageTooLarge { limit: 1500 }));
}

#[test]
fn no_message_comes_before_ready() {
    let (mut connection, result) = read(&[&greeting()[..], &[0, 1, b'x']].concat());
    assert_eq!(result, Err(ZmtpError::EarlyMessage));
    assert_eq!(connection.next_event(), None);
    assert_eq!(connection.received(), Err(ZmtpError::EarlyMessage));
    assert!(!connection.send([b"too late"]));
}

#[test]
fn sockets_that_cannot_talk_are_told_so() {
    let (connection, result) = read(&[greeting(), ready("PUB")].concat());
    let error = ZmtpError::SocketType { ours: SocketType::Router, theirs: "PUB".into() };
    assert_eq!(result, Err(error.clone()));
    let sent: Vec<u8> = connection.unsent().flatten().copied().collect();
    assert!(sent.ends_with(error.to_string().as_bytes()));
}

#[test]
fn the_peers_refusal_is_an_error_with_its_words() {
    let refusal = b"\x04\x0b\x05ERROR\x04full";
    let refused = Err(ZmtpError::Refused { reason: "full".into() });
    assert_eq!(read(&[&greeting()[..], refusal].concat()).1, refused);
    assert_eq!(after_handshake(refusal), refused);
}

#[test]
fn a_ping_says_how_long_its_sender_may_be_silent_until_the_next_one() {
    let (mut connection, result) = read(&[greeting(), ready("DEALER")].concat());
    assert_eq!((result, connection.silence_allowed()), (Ok(()), None));
    let mut hear = |bytes: &[u8]| {
        connection.buffer().extend(bytes);
        connection.received().unwrap();
        connection.silence_allowed()
    };
    let ping = |ttl: u16| [b"\x04\x07\x04PING", &ttl.to_be_bytes()[..]].concat();
    assert_eq!(hear(&ping(1)), Some(Duration::from_millis(100)));
    assert_eq!(hear(&ping(0x0102)), Some(Duration::from_millis(25_800)));
    assert_eq!(hear(b"\0\x01x\x04\x05\x04PONG"), Some(Duration::from_millis(25_800)));
    assert_eq!(hear(&ping(u16::MAX)), Some(Duration::from_millis(6_553_500)));
    assert_eq!(hear(&ping(0)), None);
}

#[test]
fn a_command_of_a_later_version_is_passed_over() {
    assert_eq!(after_handshake(b"\x04\x06\x05LATER\0\x01x"), Ok(()));
    assert!(matches!(
        read(&[&greeting()[..], b"\x04\x06\x05LATER"].concat()).1,
        Err(ZmtpError::Command { .. })
    ));
    assert!(matches!(after_handshake(&ready("DEALER")), Err(ZmtpError::Command { .. })));
}
