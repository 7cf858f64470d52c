//! The endpoint of the broker's own workers, which is spoken without libzmq: whoever comes there, and whatever is said.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use hornpipe_tests::harness::{Broker, Serve, Zmtp, descriptors, eventually, python, speak_at};

fn door(broker: &Broker) -> PathBuf {
    format!("{}.crew", broker.control().display()).into()
}

fn greet(broker: &Broker) -> Zmtp<UnixStream> {
    Zmtp::greet_at(&door(broker))
}

#[test]
fn what_is_no_zmtp_is_hung_up_on_and_harms_nobody() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    let before = descriptors(broker.router_pid());
    let other_protocols: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0; 4096], &[0xff; 4096], b"\n"];
    for bytes in other_protocols {
        speak_at(&door(&broker), bytes);
    }
    // A message before READY, an endless frame, an endless message, a kind of socket that does not belong here.
    let mut early = greet(&broker);
    early.write(b"\0\x05early");
    let mut endless = greet(&broker).as_socket("DEALER");
    endless.write(b"\x02\x7f\xff\xff\xff\xff\xff\xff\xff");
    let mut long = greet(&broker).as_socket("DEALER");
    long.write(&b"\x01\0".repeat(16 * 4096));
    let mut publisher = greet(&broker);
    publisher.write(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB");
    for mut peer in [early, endless, long, publisher] {
        assert!(peer.is_hung_up());
    }
    assert_eq!(broker.workers(), workers);
    assert_eq!(broker.ask("echo fine"), "fine");
    assert_eq!(broker.status().router_life, 1);
    eventually("their connections are closed", || descriptors(broker.router_pid()) <= before);
}

#[test]
fn a_process_that_is_no_worker_gets_no_work_and_many_of_them_leave_nothing_behind() {
    let broker = Broker::demo(1);
    let before = descriptors(broker.router_pid());
    let strangers: Vec<_> = (0..200)
        .map(|_stranger| {
            let mut stranger = greet(&broker).as_socket("DEALER");
            stranger.send(&[b"", b"waiting"]);
            stranger
        })
        .collect();
    broker.wait_until("they are counted", |report| report.noise.strangers >= 200);
    assert_eq!(broker.status().pool.ready, 1);
    for number in 0..10 {
        assert_eq!(broker.ask(&format!("echo {number}")), number.to_string());
    }
    drop(strangers);
    eventually("their connections are closed", || descriptors(broker.router_pid()) <= before);
}

#[test]
fn who_says_nothing_is_hung_up_on_after_a_while() {
    let broker = Broker::demo(1);
    let mut silent = greet(&broker);
    assert!(silent.is_hung_up());
    assert_eq!(broker.ask("echo fine"), "fine");
}

/// Speaks ZMTP with a socket of its own, a byte at a time, and a large reply in pieces.
const SLOW_SPEAKER: &str = r#"
import os, socket, struct, sys
path = os.environ["HORNPIPE_BACKEND"].removeprefix("ipc://")
link = socket.socket(socket.AF_UNIX)
link.connect(path)

def say(data, step=1):
    for start in range(0, len(data), step):
        link.sendall(data[start:start + step])

def hear(count):
    data = b""
    while len(data) < count:
        piece = link.recv(count - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data

def frame(data, more):
    head = bytes([1 if more else 0, len(data)]) if len(data) < 256 else bytes([3 if more else 2]) + struct.pack(">Q", len(data))
    return head + data

def message():
    frames, more = [], True
    while more:
        flags = hear(1)[0]
        size = hear(1)[0] if not flags & 2 else struct.unpack(">Q", hear(8))[0]
        data = hear(size)
        if not flags & 4:
            frames.append(data)
            more = flags & 1
    return frames

say(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48))
hear(64)
say(b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER")
hear(hear(2)[1])
say(frame(b"", True) + frame(b"waiting", False))
while True:
    empty, token, *rest = message()
    if not token:
        break
    body = rest[-1]
    answer = body * 1000 if body.startswith(b"much") else body
    words = frame(b"", True) + frame(token, True) + frame(b"", True) + frame(answer, False)
    words += frame(b"", True) + frame(b"waiting", False)
    # Seven thousand empty messages: all are read at once with what follows them, and not all are taken at once.
    say(bytes(14000) + words, 1 << 20) if body == b"flood" else say(words, 1 if len(words) < 1000 else 10007)
"#;

#[test]
fn a_worker_whose_words_come_in_pieces_is_understood() {
    let broker = Serve::bare(1).program([python().as_os_str(), "-c".as_ref(), SLOW_SPEAKER.as_ref()]).start();
    for number in 0..20 {
        assert_eq!(broker.ask(&format!("piece {number}")), format!("piece {number}"));
    }
    let much = "much ".to_owned() + &"x".repeat(2000);
    assert_eq!(broker.ask(&much), much.repeat(1000));
    assert_eq!(broker.ask("flood"), "flood");
    assert_eq!(broker.ask("and on"), "and on");
    assert_eq!(broker.status().noise.malformed_workers, 0);
}
