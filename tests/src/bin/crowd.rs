//! Many REQ sockets of libzmq in one process, for the tests: each is connected, sends one request and stays.
//!
//! `crowd ENDPOINT COUNT` prints `COUNT right` when each of them has its own reply, and holds
//! the connections until it is killed.
#![expect(clippy::print_stdout, reason = "the test reads it")]
#![expect(clippy::expect_used, reason = "what goes wrong ends it, and the test shows why")]

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// libzmq's own limit for one context is 1023.
const SOCKETS_EACH: usize = 1000;

/// For a socket two, and some for each context and for the process.
const DESCRIPTORS_EACH: u64 = 2;
const DESCRIPTORS_MORE: u64 = 200;

const DEADLINE_MS: i32 = 60_000;

fn main() {
    let mut words = std::env::args().skip(1);
    let endpoint = words.next().expect("usage: crowd ENDPOINT COUNT");
    let count: usize = words.next().and_then(|word| word.parse().ok()).expect("usage: crowd ENDPOINT COUNT");
    allow_descriptors(count as u64 * DESCRIPTORS_EACH + DESCRIPTORS_MORE);
    let mut contexts = Vec::new();
    let mut sockets = Vec::with_capacity(count);
    for number in 0..count {
        if number % SOCKETS_EACH == 0 {
            contexts.push(zmq::Context::new());
        }
        let context = contexts.last().expect("one was just made");
        sockets.push(connect(context, &endpoint).expect("a socket connects"));
    }
    for (number, socket) in sockets.iter().enumerate() {
        socket.send(&format!("echo {number}"), 0).expect("it is connected in time");
    }
    let is_right = |(number, socket): &(usize, &zmq::Socket)| {
        socket.recv_bytes(0).is_ok_and(|reply| reply == number.to_string().as_bytes())
    };
    println!("{} right", sockets.iter().enumerate().filter(is_right).count());
    loop {
        std::thread::park();
    }
}

fn connect(context: &zmq::Context, endpoint: &str) -> zmq::Result<zmq::Socket> {
    let socket = context.socket(zmq::REQ)?;
    socket.set_linger(0)?;
    socket.set_sndtimeo(DEADLINE_MS)?;
    socket.set_rcvtimeo(DEADLINE_MS)?;
    socket.connect(endpoint)?;
    Ok(socket)
}

fn allow_descriptors(count: u64) {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit can be read");
    assert!(count <= hard, "{count} descriptors are needed, and the hard limit (ulimit -Hn) is {hard}");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may be the hard one");
}
