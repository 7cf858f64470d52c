//! The place where a worker is tried: a ROUTER that plays the broker, the worker's process, and
//! what it has said. Every wait has an end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use hornpipe_proto::Token;
use hornpipe_proto::worker::{Control, JobMeta};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::super::clock::now;
use super::record::{Record, Reply};
use super::subject::{Subject, ending};
use super::word::Word;

/// How many parts of a reply a worker may send ahead, as the broker has it.
const WINDOW: u32 = 8;

/// So long may pass between the end of a worker and what it said before it.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What was asked for on the command line.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) program: Vec<OsString>,
    /// What the worker inherits.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// How long anything may take that it should do.
    pub(super) patience: Duration,
    /// How long it is watched doing nothing.
    pub(super) watch: Duration,
    /// A body that it answers.
    pub(super) body: Vec<u8>,
    /// One that takes it long.
    pub(super) slow: Option<Vec<u8>>,
    /// One that it answers in parts.
    pub(super) parts: Option<Vec<u8>>,
}

/// A worker on trial.
pub(super) struct Bench {
    pub(super) terms: Terms,
    pub(super) record: Record,
    subject: Option<Subject>,
    word: Option<Word>,
    router: Option<Router>,
    endpoint: String,
    folder: PathBuf,
    /// The connection that the worker speaks over.
    peer: Vec<u8>,
    tokens: u128,
    signals: SignalFd,
    is_interrupted: bool,
}

struct Router {
    socket: zmq::Socket,
    // Behind the socket, because it waits for it.
    _context: zmq::Context,
}

/// Why a trial could not go on, in words.
pub(super) type Failed = String;

impl Bench {
    /// A place in a folder of its own.
    pub(super) fn open(terms: Terms) -> io::Result<Self> {
        let signals = signals_to_end()?;
        let name = std::env::temp_dir().join(format!("hornpipe-conform-{}", "X".repeat(6)));
        let folder = nix::unistd::mkdtemp(&name)?;
        let endpoint = format!("ipc://{}", folder.join("backend").display());
        let mut bench = Self {
            terms,
            record: Record::default(),
            subject: None,
            word: None,
            router: None,
            endpoint,
            folder,
            peer: Vec::new(),
            tokens: 0,
            signals,
            is_interrupted: false,
        };
        bench.open_router()?;
        Ok(bench)
    }

    /// The program cannot be executed at all, or is.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.discard();
        // What the last one has said may still be on its way, and would be taken for this one's.
        self.close_router();
        self.open_router()?;
        let mut environment = self.terms.environment.clone();
        for (name, value) in [
            ("HORNPIPE_BACKEND", self.endpoint.as_str()),
            ("HORNPIPE_SERVICE", "default"),
            ("HORNPIPE_SLOT", "0"),
            ("HORNPIPE_INCARNATION", "1"),
            ("HORNPIPE_GENERATION", "0"),
        ] {
            environment.push((name.into(), value.into()));
        }
        self.subject = Some(Subject::start(&self.terms.program, &environment)?);
        Ok(())
    }

    /// A worker that is there and has no job in hand, another one if need be.
    pub(super) fn be_ready(&mut self) -> Result<(), Failed> {
        let is_at_rest = self.record.in_hand() == 0 && !self.record.is_exiting && self.is_alive();
        if !self.has_router() {
            self.open_router().map_err(|error| error.to_string())?;
        }
        if !is_at_rest {
            self.start().map_err(|error| format!("it cannot be started: {error}"))?;
        }
        self.until("it did not say `waiting`", Self::would_take_a_job)
    }

    pub(super) fn would_take_a_job(&mut self) -> bool {
        let has_room = self.record.in_hand() < usize::try_from(self.record.credits()).unwrap_or(usize::MAX);
        self.record.is_known && has_room && (self.record.is_waiting || self.record.has_details())
    }

    /// The next check begins with another worker.
    pub(super) fn discard(&mut self) {
        self.subject = None;
        self.word = None;
    }

    /// The word in which it claims its jobs, if it announces one. It is looked for once.
    pub(super) fn word(&mut self) -> Option<Result<&mut Word, Failed>> {
        let descriptor = self.record.announcement.as_ref()?.claims?;
        if self.word.is_none() {
            let processes = self.subject.as_ref().map(Subject::processes).unwrap_or_default();
            match Word::find(&processes, descriptor) {
                Ok(word) => self.word = Some(word),
                Err(why) => return Some(Err(why)),
            }
        }
        self.word.as_mut().map(Ok)
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.subject.as_mut().is_some_and(|subject| subject.status().is_none())
    }

    /// How it has ended, in words.
    pub(super) fn ending(&mut self) -> Option<String> {
        self.subject.as_mut().and_then(Subject::status).map(ending)
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        if let Some(subject) = &mut self.subject {
            subject.signal(signal);
        }
    }

    /// Has a job run, and returns its reply.
    pub(super) fn ask(&mut self, body: &[&[u8]]) -> Result<Reply, Failed> {
        self.be_ready()?;
        let token = self.give(&JobMeta::default(), body)?;
        self.reply_to(token)
    }

    /// Waits for the reply to a job.
    pub(super) fn reply_to(&mut self, token: Token) -> Result<Reply, Failed> {
        let before = self.record.strays();
        self.until("it did not reply", |bench| {
            bench.record.reply_to(token).is_some() || before < bench.record.strays()
        })?;
        let reply = self.record.reply_to(token).cloned();
        reply.ok_or_else(|| "its reply was not under the token of the job".to_owned())
    }

    /// Hands it a job, as the broker would.
    pub(super) fn give(&mut self, meta: &JobMeta, body: &[&[u8]]) -> Result<Token, Failed> {
        let id = format!("conform-{}", self.tokens);
        let meta = JobMeta { id, attempt: 1, window: meta.window.map(|_| WINDOW), ..meta.clone() };
        self.give_encoded(&meta.encode(), meta.window, body)
    }

    /// The same with details of any bytes.
    pub(super) fn give_encoded(
        &mut self,
        meta: &[u8],
        window: Option<u32>,
        body: &[&[u8]],
    ) -> Result<Token, Failed> {
        self.tokens += 1;
        let token = Token::new(1, (u128::from(std::process::id()) << 32) | self.tokens);
        self.record.give(token, window);
        let meta = if self.record.has_details() { meta } else { &[] };
        self.send(&[&[b"", token.as_bytes(), meta], body].concat())?;
        Ok(token)
    }

    /// Gives an order.
    pub(super) fn order(&mut self, order: &Control) -> Result<(), Failed> {
        self.order_encoded(&order.encode())
    }

    /// The same with any bytes for an order.
    pub(super) fn order_encoded(&mut self, order: &[u8]) -> Result<(), Failed> {
        self.send(&[b"", b"", order])
    }

    fn send(&self, frames: &[&[u8]]) -> Result<(), Failed> {
        let Some(router) = &self.router else { return Err("there is no router".to_owned()) };
        let frames = std::iter::once(&*self.peer).chain(frames.iter().copied());
        router.socket.send_multipart(frames, zmq::DONTWAIT).map_err(|error| match error {
            zmq::Error::EHOSTUNREACH => "its connection is gone".to_owned(),
            error => format!("nothing can be sent to it: {error}"),
        })
    }

    /// Waits for this, and fails with `what` if it does not come, or the worker ends before.
    pub(super) fn until(&mut self, what: &str, check: impl FnMut(&mut Self) -> bool) -> Result<(), Failed> {
        if self.within(self.terms.patience, check) {
            return Ok(());
        }
        match self.ending() {
            Some(ending) => Err(format!("{what}: it ended {ending}")),
            None => Err(format!("{what} within {} s", self.terms.patience.as_secs_f64())),
        }
    }

    /// Whether it came true within this time, and while the worker lived.
    pub(super) fn within(&mut self, time: Duration, mut check: impl FnMut(&mut Self) -> bool) -> bool {
        let mut deadline = now() + time;
        let mut has_ended = false;
        loop {
            self.hear();
            if check(self) {
                return true;
            }
            if !has_ended && !self.is_alive() {
                // What it said last may be on its way.
                has_ended = true;
                deadline = deadline.min(now() + LAST_WORDS);
            }
            let left = deadline.saturating_sub(now());
            if left.is_zero() || self.is_interrupted {
                self.hear();
                return check(self);
            }
            self.wait(left, !has_ended);
        }
    }

    /// The part of one processor that it wanted while nobody wanted anything of it.
    pub(super) fn load_at_rest(&mut self) -> f64 {
        let used = |bench: &Self| bench.subject.as_ref().map_or(Duration::ZERO, Subject::processor_time);
        // What has begun is to be over.
        self.within(self.terms.watch / 4, |_bench| false);
        let (before, began) = (used(self), now());
        self.within(self.terms.watch, |_bench| false);
        let (used, took) = (used(self).saturating_sub(before), now().saturating_sub(began));
        used.as_secs_f64() / took.as_secs_f64().max(0.001)
    }

    pub(super) fn has_router(&self) -> bool {
        self.router.is_some()
    }

    /// The router dies.
    pub(super) fn close_router(&mut self) {
        self.router = None;
        self.peer.clear();
        self.record.begin_anew();
    }

    /// And another one takes its place.
    pub(super) fn open_router(&mut self) -> zmq::Result<()> {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::ROUTER)?;
        socket.set_linger(0)?;
        socket.set_router_mandatory(true)?;
        socket.set_router_handover(true)?;
        socket.bind(&self.endpoint)?;
        self.router = Some(Router { socket, _context: context });
        Ok(())
    }

    fn hear(&mut self) {
        let Some(router) = &self.router else { return };
        while let Ok(mut frames) = router.socket.recv_multipart(zmq::DONTWAIT) {
            if frames.is_empty() {
                continue;
            }
            let peer = frames.remove(0);
            // libzmq's own begin with a zero, which nobody may choose.
            self.record.has_chosen_identity |= peer.first() != Some(&0);
            self.peer = peer;
            self.record.hear(&frames);
        }
    }

    /// Somebody wants it to end, and nothing is waited for any more.
    pub(super) fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }

    /// Until something is heard, or the worker ends, if it has not.
    fn wait(&mut self, time: Duration, for_its_end: bool) {
        let timeout = i64::try_from(time.as_millis().saturating_add(1)).unwrap_or(i64::MAX);
        let mut items = Vec::new();
        items.extend(self.router.as_ref().map(|router| router.socket.as_poll_item(zmq::POLLIN)));
        let end =
            self.subject.as_ref().filter(|_subject| for_its_end).map(|subject| subject.watch().as_raw_fd());
        items.extend(end.map(|end| zmq::PollItem::from_fd(end, zmq::POLLIN)));
        items.push(zmq::PollItem::from_fd(self.signals.as_raw_fd(), zmq::POLLIN));
        // Interrupted or not: whoever waits looks again.
        zmq::poll(&mut items, timeout).ok();
        self.is_interrupted |= items.last().is_some_and(zmq::PollItem::is_readable);
    }
}

/// Becomes readable when somebody wants us to end.
pub(super) fn signals_to_end() -> io::Result<SignalFd> {
    let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    ends.thread_block()?;
    Ok(SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.subject = None;
        self.router = None;
        fs::remove_dir_all(&self.folder).ok();
    }
}
