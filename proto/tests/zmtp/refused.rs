//! What is not taken, and that it costs no memory.

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
    connection.space()[..bytes.len()].copy_from_slice(bytes);
    let result = connection.received(bytes.len());
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
fn a_message_has_so_many_frames_and_bytes() {
    assert_eq!(after_handshake(&[1, 0, 1, 0, 0, 0]), Ok(()));
    assert_eq!(after_handshake(&[1, 0, 1, 0, 1, 0, 1, 0]), Err(ZmtpError::TooManyFrames { limit: 3 }));
    let frame = [&b"\x03\0\0\0\0\0\0\x03\x20"[..], &[0; 800]].concat();
    let twice = [&*frame, b"\x02\0\0\0\0\0\0\x03\x20"].concat();
    assert_eq!(after_handshake(&twice), Err(ZmtpError::MessageTooLarge { limit: 1500 }));
}

#[test]
fn no_message_comes_before_ready() {
    let (mut connection, result) = read(&[&greeting()[..], &[0, 1, b'x']].concat());
    assert_eq!(result, Err(ZmtpError::EarlyMessage));
    assert_eq!(connection.next_event(), None);
    assert_eq!(connection.received(0), Err(ZmtpError::EarlyMessage));
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
fn a_command_of_a_later_version_is_passed_over() {
    assert_eq!(after_handshake(b"\x04\x06\x05LATER\0\x01x"), Ok(()));
    assert!(matches!(
        read(&[&greeting()[..], b"\x04\x06\x05LATER"].concat()).1,
        Err(ZmtpError::Command { .. })
    ));
    assert!(matches!(after_handshake(&ready("DEALER")), Err(ZmtpError::Command { .. })));
}
