//! A ROUTER that plays the broker, and workers in threads of the test.
#![expect(clippy::disallowed_methods, reason = "a worker loop blocks, so a test runs it in a thread")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hornpipe_proto::worker::{Announcement, Control, JobMeta, ReplyMeta, ReplyStatus, WorkerMessage};
use hornpipe_worker::{Handler, ServeError, Settings, State, Stopped, serve};

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// Waits until this is true.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !check() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        zmq::poll(&mut [], 5).unwrap();
    }
}

/// A folder that is removed with the test.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hornpipe-worker-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The broker's side: one ROUTER, and at most one worker that it talks to.
pub(crate) struct Broker {
    router: Option<(zmq::Context, zmq::Socket)>,
    pub(crate) endpoint: String,
    pub(crate) folder: Folder,
    worker: Vec<u8>,
}

impl Broker {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let endpoint = format!("ipc://{}", folder.0.join("backend").display());
        let mut broker = Self { router: None, endpoint, folder, worker: Vec::new() };
        broker.bind();
        broker
    }

    fn bind(&mut self) {
        let context = zmq::Context::new();
        let router = context.socket(zmq::ROUTER).unwrap();
        router.set_router_mandatory(true).unwrap();
        router.set_linger(0).unwrap();
        router.set_rcvtimeo(i32::try_from(DEADLINE.as_millis()).unwrap()).unwrap();
        router.bind(&self.endpoint).unwrap();
        self.router = Some((context, router));
    }

    /// The router dies, and another takes its place.
    pub(crate) fn restart(&mut self) {
        self.router = None;
        self.bind();
    }

    fn socket(&self) -> &zmq::Socket {
        &self.router.as_ref().unwrap().1
    }

    /// The next message, and who sent it becomes the worker we talk to.
    pub(crate) fn receive_frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = self.socket().recv_multipart(0).expect("the worker says something in time");
        self.worker = frames.remove(0);
        frames
    }

    /// Whether the worker says nothing for this long.
    pub(crate) fn hears_nothing_for(&self, duration: Duration) -> bool {
        self.socket().poll(zmq::POLLIN, i64::try_from(duration.as_millis()).unwrap()).unwrap() == 0
    }

    pub(crate) fn receive(&mut self) -> WorkerMessage {
        WorkerMessage::decode(&self.receive_frames()).unwrap()
    }

    pub(crate) fn expect_hello(&mut self) -> Announcement {
        match self.receive() {
            WorkerMessage::Hello(announcement) => announcement,
            other => panic!("not a hello: {other:?}"),
        }
    }

    pub(crate) fn expect_state(&mut self, expected: State) -> Announcement {
        match self.receive() {
            WorkerMessage::State { state, announcement, .. } if state == expected => announcement.unwrap(),
            other => panic!("not {expected:?}: {other:?}"),
        }
    }

    /// A worker has connected and is ready.
    pub(crate) fn expect_worker(&mut self) {
        self.expect_hello();
        self.expect_state(State::Waiting);
    }

    pub(crate) fn send(&self, frames: &[&[u8]]) {
        let frames = std::iter::once(&*self.worker).chain(frames.iter().copied());
        self.socket().send_multipart(frames, 0).unwrap();
    }

    pub(crate) fn send_job(&self, token: &str, meta: &JobMeta, body: &[&[u8]]) {
        let meta = meta.encode();
        let head: [&[u8]; 3] = [b"", token.as_bytes(), &meta];
        self.send(&[&head, body].concat());
    }

    pub(crate) fn send_control(&self, control: &Control) {
        self.send(&[b"", b"", &control.encode()]);
    }

    pub(crate) fn cancel(&self, token: &str) {
        self.send_control(&Control::Cancel { token: token.to_owned() });
    }

    pub(crate) fn expect_reply(&mut self, token: &str) -> (ReplyMeta, Vec<Vec<u8>>) {
        let mut frames = self.receive_frames();
        assert!(4 <= frames.len(), "not a reply: {frames:?}");
        assert_eq!(frames[0], b"");
        assert_eq!(frames[1], token.as_bytes());
        // The tokens of these tests are no real ones, which are read more strictly.
        let real = hornpipe_proto::Token::new(1, 1);
        frames[1] = real.as_bytes().to_vec();
        let WorkerMessage::Reply { meta, .. } = WorkerMessage::decode(&frames).unwrap() else {
            panic!("not a reply: {frames:?}");
        };
        (meta, frames.split_off(3))
    }

    /// Has a request run, and returns its reply of one frame.
    pub(crate) fn ask(&mut self, body: &[u8]) -> Vec<u8> {
        let (meta, mut body) = self.ask_with(&JobMeta { attempt: 1, ..JobMeta::default() }, &[body]);
        assert_eq!(meta, ReplyMeta::default());
        assert_eq!(body.len(), 1);
        body.remove(0)
    }

    /// Has a request run that fails, and returns its message.
    pub(crate) fn ask_in_vain(&mut self, body: &[u8]) -> String {
        let (meta, body) = self.ask_with(&JobMeta::default(), &[body]);
        assert_eq!(meta.status, ReplyStatus::Error);
        assert_eq!(body, [b""]);
        meta.message.unwrap()
    }

    pub(crate) fn ask_with(&mut self, meta: &JobMeta, body: &[&[u8]]) -> (ReplyMeta, Vec<Vec<u8>>) {
        self.send_job("token", meta, body);
        self.expect_state(State::Processing);
        self.expect_reply("token")
    }

    /// Has the worker stop, and hears its goodbye.
    pub(crate) fn stop(&mut self) -> Announcement {
        self.send_control(&Control::Stop);
        self.expect_state(State::Exiting)
    }
}

/// A worker in a thread, which ends when it is told to stop.
pub(crate) struct Worker {
    result: Receiver<Result<Stopped, ServeError>>,
}

impl Worker {
    pub(crate) fn start(broker: &Broker, handler: impl Handler + Send + 'static) -> Self {
        Self::start_with(Settings::new(&broker.endpoint), handler, |_state| ())
    }

    pub(crate) fn start_with(
        settings: Settings,
        handler: impl Handler + Send + 'static,
        observer: impl FnMut(State) + Send + 'static,
    ) -> Self {
        let (sender, result) = channel();
        std::thread::spawn(move || sender.send(serve(&settings, handler, observer)));
        Self { result }
    }

    pub(crate) fn result(self) -> Result<Stopped, ServeError> {
        self.result.recv_timeout(DEADLINE).expect("the worker ends in time")
    }
}
