//! Servers for the tests: a raw ROUTER in a thread, which ends with its test.
#![expect(clippy::disallowed_methods, reason = "a test's server is a thread, and its waits have deadlines")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails the test that called"
)]
#![allow(dead_code, reason = "each test program uses its own part of this file")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hornpipe_proto::client::{ClientMessage, ReplyMeta, RequestMeta, Speech};
use hornpipe_proto::{MAGIC, Status};

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type Frames = Vec<Vec<u8>>;

/// A ROUTER that answers each message with whatever `respond` makes of it.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// On a free port. `respond` sees the routing id and the frames after it,
    /// and returns messages that begin with a routing id.
    pub(crate) fn start(respond: impl FnMut(&[u8], &[Vec<u8>]) -> Vec<Frames> + Send + 'static) -> Self {
        Self::start_at("tcp://127.0.0.1:*", respond)
    }

    pub(crate) fn start_at(
        place: &str,
        mut respond: impl FnMut(&[u8], &[Vec<u8>]) -> Vec<Frames> + Send + 'static,
    ) -> Self {
        let context = zmq::Context::new();
        let router = context.socket(zmq::ROUTER).unwrap();
        router.set_linger(0).unwrap();
        let until = Instant::now() + PATIENCE;
        // The port of a server that just ended is free as soon as libzmq has closed it.
        while let Err(error) = router.bind(place) {
            assert!(error == zmq::Error::EADDRINUSE && Instant::now() < until, "{place}: {error}");
            std::thread::yield_now();
        }
        let endpoint = router.get_last_endpoint().unwrap().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                if router.poll(zmq::POLLIN, 10).unwrap() == 0 {
                    continue;
                }
                while let Ok(message) = router.recv_multipart(zmq::DONTWAIT) {
                    let (peer, frames) = message.split_first().unwrap();
                    for answer in respond(peer, frames) {
                        router.send_multipart(answer, 0).unwrap();
                    }
                }
            }
        });
        Self { endpoint, stop, thread: Some(thread) }
    }

    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server's thread panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The map and the body of a native request.
pub(crate) fn read_request(frames: &[Vec<u8>]) -> (RequestMeta, &[Vec<u8>]) {
    let message = ClientMessage::decode(frames).unwrap();
    let body = &frames[message.head_len()..];
    match message.speech {
        Speech::Native(Ok(meta)) => (meta, body),
        other => panic!("not a native request: {other:?}"),
    }
}

/// A reply of status ok.
pub(crate) fn reply(peer: &[u8], id: &str, body: &[Vec<u8>]) -> Frames {
    timed_reply(peer, id, body, Some(1))
}

/// A reply of a broker that says how long it took, or is too old for that.
pub(crate) fn timed_reply(peer: &[u8], id: &str, body: &[Vec<u8>], run_us: Option<u64>) -> Frames {
    framed(peer, &ReplyMeta { id: id.into(), attempt: 1, run_us, ..ReplyMeta::default() }, body)
}

/// A part of a reply; others follow.
pub(crate) fn part(peer: &[u8], id: &str, body: &[Vec<u8>]) -> Frames {
    framed(peer, &ReplyMeta { id: id.into(), attempt: 1, more: true, ..ReplyMeta::default() }, body)
}

fn framed(peer: &[u8], meta: &ReplyMeta, body: &[Vec<u8>]) -> Frames {
    let mut frames = vec![peer.to_vec(), Vec::new(), MAGIC.to_vec(), meta.encode()];
    frames.extend_from_slice(body);
    frames
}

pub(crate) fn answer(
    peer: &[u8],
    id: &str,
    status: Status,
    message: Option<&str>,
    body: &[Vec<u8>],
) -> Frames {
    let meta = ReplyMeta {
        id: id.into(),
        status,
        message: message.map(Into::into),
        attempt: 1,
        ..ReplyMeta::default()
    };
    framed(peer, &meta, body)
}

/// A loopback port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let value = call();
    (value, began.elapsed())
}

pub(crate) fn start_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(work)
}

/// A server that is stuck, as a behaviour under test. Not for waiting.
pub(crate) fn stall(time: Duration) {
    std::thread::sleep(time);
}
