//! A worker's connection to its broker: bytes to jobs, replies to bytes, and the
//! duty to be known again after the broker's router was restarted. What a job
//! means, and when to end, is the caller's affair.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use hornpipe_proto::MAP_LIMIT;
use hornpipe_proto::worker::{Announcement, BrokerMessage, Control, HEAD_LEN, ReplyMeta, State};
use nix::errno::Errno;
use tracing::{debug, warn};
use zmq::{DONTWAIT, PollEvents, SNDMORE};

use crate::ffi::{self, BytesOption};
use crate::parts::Parts;
use crate::queue::Queue;
use crate::{Cancelled, Failure, Job, Reply, ServeError, Settings, clock};

/// What libzmq puts among our messages when the connection is lost. Messages of
/// a broker have at least three frames, so it can be no other's.
const HICCUP: &[u8] = b"hornpipe-worker: connection lost";

/// How often an idle worker repeats itself if its libzmq tells it of no lost connection.
const REPEAT: Duration = Duration::from_secs(1);

/// A worker has one job at a time, so more than a few messages wait only for a
/// broker that is away.
const SEND_LIMIT: i32 = 100;

/// A connection to the broker, with at most one job in hand.
pub(crate) struct Session {
    socket: zmq::Socket,
    announcement: Announcement,
    presence: Presence,
    hand: Hand,
    /// What has come and is not begun.
    queue: Queue,
    /// The connection was lost while a job was in hand: say `waiting` after its reply.
    owes_waiting: bool,
    told_to_stop: bool,
    malformed: u64,
}

/// How a new router learns of this worker.
#[derive(Debug, Clone, Copy)]
enum Presence {
    /// libzmq tells us of lost connections, and the broker of new ones.
    OnReconnect,
    /// It does not: repeat `waiting` while idle, next at this time.
    Repeated { next: Option<Instant> },
}

#[derive(Debug)]
enum Hand {
    Empty,
    Holds { token: Vec<u8>, cancelled: bool, parts: Parts },
}

/// What a worker is to do next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "taken apart where it is returned, and never kept")]
pub(crate) enum Next {
    Job(Job),
    Stop,
}

/// A descriptor to wait for beside the socket.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    fd: BorrowedFd<'a>,
    events: PollEvents,
}

impl<'a> Watch<'a> {
    pub(crate) fn readable(fd: BorrowedFd<'a>) -> Self {
        Self { fd, events: zmq::POLLIN }
    }

    pub(crate) fn writable(fd: BorrowedFd<'a>) -> Self {
        Self { fd, events: zmq::POLLOUT }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("hand", &self.hand)
            .field("seen", &self.announcement.seen)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and says `waiting`. Returns at once, also if nobody is there yet.
    pub(crate) fn open(settings: &Settings) -> Result<Self, ServeError> {
        let mut queue = Queue::default();
        let announcement = Announcement {
            service: settings.service.clone(),
            name: settings.name.clone(),
            sdk: Some(concat!("hornpipe-worker/", env!("CARGO_PKG_VERSION")).to_owned()),
            claims: queue.share(),
            ..Announcement::default()
        };
        // `reason` and a large `seen` come on top later.
        let size = announcement.encode().len() + 32;
        if size > MAP_LIMIT {
            return Err(ServeError::AnnouncementTooLarge { size });
        }
        ffi::seed_rand();
        let mut socket = zmq::Context::new().socket(zmq::DEALER)?;
        let presence = introduce(&mut socket, &announcement)?;
        Self::new(socket, (announcement, queue), presence).connect(settings)
    }

    fn new(socket: zmq::Socket, (announcement, queue): (Announcement, Queue), presence: Presence) -> Self {
        Self {
            socket,
            announcement,
            presence,
            hand: Hand::Empty,
            queue,
            owes_waiting: false,
            told_to_stop: false,
            malformed: 0,
        }
    }

    fn connect(mut self, settings: &Settings) -> Result<Self, ServeError> {
        let socket = &self.socket;
        // With any other limit libzmq 4.3.5 counts each hiccup as a message that was
        // read and never written, and stops reading for ever soon after.
        socket.set_rcvhwm(0)?;
        socket.set_sndhwm(SEND_LIMIT)?;
        socket.set_linger(i32::try_from(settings.linger.as_millis()).unwrap_or(i32::MAX))?;
        socket.set_reconnect_ivl(10)?;
        socket.set_reconnect_ivl_max(1000)?;
        // A broker's machine that vanished would otherwise be waited for for ever. The broker notices a
        // broken link as soon, and gives what this worker has to another.
        socket.set_tcp_keepalive(1)?;
        socket.set_tcp_keepalive_idle(1)?;
        socket.set_tcp_keepalive_intvl(1)?;
        socket.set_tcp_keepalive_cnt(3)?;
        socket
            .connect(&settings.backend)
            .map_err(|source| ServeError::Endpoint { endpoint: settings.backend.clone(), source })?;
        self.announce(State::Waiting)?;
        Ok(self)
    }

    /// What to do next, if that is known already. A job is in hand from here on,
    /// and comes before any order to stop: somebody waits for it.
    pub(crate) fn take_next(&mut self) -> Option<Next> {
        match self.queue.begin() {
            Some(job) => {
                let parts = Parts::within(job.window());
                self.hand = Hand::Holds { token: job.token().to_vec(), cancelled: false, parts };
                Some(Next::Job(job))
            }
            None => self.told_to_stop.then_some(Next::Stop),
        }
    }

    /// Whether the job in hand is cancelled, as far as messages have been read.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self.hand, Hand::Holds { cancelled: true, .. })
    }

    /// Waits until the broker says something, one of the watches is ready, or the time has come.
    /// Who was it is for the caller to try.
    pub(crate) fn poll(&mut self, watches: &[Watch<'_>], until: Option<Instant>) -> Result<(), ServeError> {
        let until = [until, self.repeat_time()].into_iter().flatten().min();
        let timeout = until.map_or(-1, |until| {
            let left = until.saturating_duration_since(clock::now());
            // Rounded up, or the last millisecond would be spent asking for the time.
            i64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
        });
        let mut items: Vec<_> =
            watches.iter().map(|watch| zmq::PollItem::from_fd(watch.fd.as_raw_fd(), watch.events)).collect();
        // What comes behind a full queue is not read, so it must not wake us either.
        if self.queue.has_room() {
            items.push(self.socket.as_poll_item(zmq::POLLIN));
        }
        match zmq::poll(&mut items, timeout) {
            Ok(_) | Err(zmq::Error::EINTR) => (),
            Err(error) => return Err(error.into()),
        }
        self.absorb()?;
        if self.repeat_time().is_some_and(|time| time <= clock::now()) {
            self.announce(State::Waiting)?;
        }
        Ok(())
    }

    /// Reads what the broker has sent, without waiting.
    pub(crate) fn absorb(&mut self) -> Result<(), ServeError> {
        while self.queue.has_room() {
            match self.socket.recv_multipart(DONTWAIT) {
                Ok(frames) => self.accept(frames)?,
                Err(zmq::Error::EINTR) => (),
                Err(zmq::Error::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn accept(&mut self, mut frames: Vec<Vec<u8>>) -> Result<(), ServeError> {
        if frames == [HICCUP] {
            return self.reconnect();
        }
        match BrokerMessage::decode(&frames) {
            Ok(BrokerMessage::Job { token, meta }) => {
                self.count_job();
                let body = frames.split_off(HEAD_LEN.min(frames.len()));
                self.queue.push(Job::new(token, meta.unwrap_or_default(), body));
            }
            Ok(BrokerMessage::Control(Control::Cancel { token: subject })) => match &mut self.hand {
                Hand::Holds { token, cancelled, .. } if *token == subject.as_bytes() => *cancelled = true,
                // The reply and the order have crossed.
                Hand::Holds { .. } | Hand::Empty => debug!("a cancelled request is not in hand"),
            },
            Ok(BrokerMessage::Control(Control::Stop)) => self.told_to_stop = true,
            Ok(BrokerMessage::Control(Control::More { token: subject, parts: more })) => match &mut self.hand
            {
                Hand::Holds { token, parts, .. } if *token == subject.as_bytes() => parts.allow(more),
                // The end of the reply and the order have crossed.
                Hand::Holds { .. } | Hand::Empty => debug!("parts of a reply that is not in hand"),
            },
            Err(error) => {
                self.malformed = self.malformed.saturating_add(1);
                if self.malformed.is_power_of_two() {
                    warn!(%error, malformed = self.malformed, "a message of the broker is malformed");
                }
            }
        }
        Ok(())
    }

    fn count_job(&mut self) {
        match self.presence {
            Presence::OnReconnect => self.announcement.seen = self.announcement.seen.saturating_add(1),
            // The count is of one connection, and here we are not told where one
            // ends. Who has seen nothing is taken to have crossed a job, never to
            // have lost it.
            Presence::Repeated { .. } => (),
        }
    }

    /// The router that knew us is gone. What we say now reaches its successor.
    fn reconnect(&mut self) -> Result<(), ServeError> {
        debug!("the connection to the broker was lost");
        self.announcement.seen = 0;
        self.queue.clear();
        match self.hand {
            Hand::Empty => self.announce_return(),
            Hand::Holds { .. } => {
                self.owes_waiting = true;
                Ok(())
            }
        }
    }

    fn announce_return(&mut self) -> Result<(), ServeError> {
        // A worker that is about to leave takes no more, from nobody.
        if self.told_to_stop { Ok(()) } else { self.announce(State::Waiting) }
    }

    /// Says a state. It is dropped if the broker has been away for so long that
    /// the queue to it is full: the worker is announced anew when it comes back.
    pub(crate) fn announce(&mut self, state: State) -> Result<(), ServeError> {
        self.postpone_repeat();
        let frames = [Vec::new(), state.as_str().into(), self.announcement.encode()];
        match self.send(frames, DONTWAIT) {
            Err(zmq::Error::EAGAIN) => {
                debug!(state = state.as_str(), "no room to announce a state");
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Says goodbye.
    pub(crate) fn leave(&mut self, reason: &str) -> Result<(), ServeError> {
        self.retire();
        self.announcement.reason = Some(reason.to_owned());
        self.announce(State::Exiting)
    }

    /// Never says `waiting` again.
    pub(crate) fn retire(&mut self) {
        self.told_to_stop = true;
    }

    /// Sends a part of the reply to the job in hand, once the broker takes one.
    pub(crate) fn send_part(&mut self, job: &Job, body: Reply) -> Result<Result<(), Cancelled>, ServeError> {
        loop {
            self.absorb()?;
            // Whoever gave the job is gone, or gives another: it has forgotten this one.
            let forgotten = self.owes_waiting || self.queue.supersedes();
            match &mut self.hand {
                Hand::Holds { cancelled: false, parts: Parts::Joined { frames }, .. } => {
                    frames.extend(body.into_frames());
                    return Ok(Ok(()));
                }
                Hand::Holds { cancelled: false, parts: Parts::Sent { left }, .. } if !forgotten => {
                    if let Some(fewer) = left.checked_sub(1) {
                        *left = fewer;
                        break;
                    }
                }
                Hand::Holds { .. } | Hand::Empty => return Ok(Err(Cancelled)),
            }
            self.await_room()?;
        }
        let meta = ReplyMeta { more: true, ..ReplyMeta::default() };
        let head = [Vec::new(), job.token().to_vec(), meta.encode()];
        self.send(head.into_iter().chain(body.into_frames()), 0)?;
        Ok(Ok(()))
    }

    /// Waits for what the broker says next.
    fn await_room(&mut self) -> Result<(), ServeError> {
        match self.presence {
            Presence::OnReconnect => self.poll(&[], None),
            // A router that has come anew is told of us, and gives us a job: a sign that it
            // knows nothing of the one in hand. The one that does know is not confused.
            Presence::Repeated { .. } => {
                self.poll(&[], clock::after(REPEAT))?;
                self.announce(State::Waiting)
            }
        }
    }

    /// Replies to the job in hand, which makes the worker ready for the next.
    pub(crate) fn reply(&mut self, job: &Job, outcome: Result<Reply, Failure>) -> Result<(), ServeError> {
        let (meta, body) = match outcome {
            Ok(reply) => {
                let mut frames = self.take_joined();
                frames.extend(reply.into_frames());
                (ReplyMeta::default(), frames)
            }
            Err(failure) => (failure.into_meta(), vec![Vec::new()]),
        };
        let head = [Vec::new(), job.token().to_vec(), meta.encode()];
        self.put_down(head.into_iter().chain(body))
    }

    fn take_joined(&mut self) -> Vec<Vec<u8>> {
        match &mut self.hand {
            Hand::Holds { parts, .. } => parts.take_joined(),
            Hand::Empty => Vec::new(),
        }
    }

    /// Sends these frames in place of the reply.
    pub(crate) fn put_down(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) -> Result<(), ServeError> {
        // Without a flag: a reply waits for room, because the broker waits for it.
        self.send(frames, 0)?;
        self.hand = Hand::Empty;
        self.postpone_repeat();
        if std::mem::take(&mut self.owes_waiting) { self.announce_return() } else { Ok(()) }
    }

    fn send(&self, frames: impl IntoIterator<Item = Vec<u8>>, flags: i32) -> zmq::Result<()> {
        let mut frames = frames.into_iter().peekable();
        while let Some(frame) = frames.next() {
            let flags = if frames.peek().is_some() { flags | SNDMORE } else { flags };
            match frame.as_slice() {
                // Only the delimiter in front may have to wait, and be interrupted.
                [] => while self.socket.send(&[][..], flags) == Err(zmq::Error::EINTR) {},
                _ => self.socket.send(frame, flags)?,
            }
        }
        Ok(())
    }

    fn repeat_time(&self) -> Option<Instant> {
        match (self.presence, &self.hand, self.queue.is_empty(), self.told_to_stop) {
            (Presence::Repeated { next }, Hand::Empty, true, false) => next,
            _ => None,
        }
    }

    fn postpone_repeat(&mut self) {
        if let Presence::Repeated { next } = &mut self.presence {
            *next = clock::after(REPEAT);
        }
    }
}

/// Lets libzmq say who we are at the start of every connection, and tell us of its end.
fn introduce(socket: &mut zmq::Socket, announcement: &Announcement) -> Result<Presence, ServeError> {
    let hello = ffi::set_bytes(socket, BytesOption::Hello, &announcement.encode_hello());
    match hello.and_then(|()| ffi::set_bytes(socket, BytesOption::Hiccup, HICCUP)) {
        Ok(()) => Ok(Presence::OnReconnect),
        // A libzmq without drafts does not know these options.
        Err(Errno::EINVAL) => Ok(Presence::Repeated { next: None }),
        Err(error) => Err(ServeError::System(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speak(session: &mut Session, router: &zmq::Socket) {
        while router.poll(zmq::POLLIN, 0).unwrap() == 0 {
            session.poll(&[], clock::after(Duration::from_millis(50))).unwrap();
        }
    }

    #[test]
    fn without_drafts_an_idle_worker_repeats_itself_and_has_seen_nothing() {
        let context = zmq::Context::new();
        let router = context.socket(zmq::ROUTER).unwrap();
        router.set_rcvtimeo(10_000).unwrap();
        router.set_linger(0).unwrap();
        router.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = router.get_last_endpoint().unwrap().unwrap();
        let waiting = [Vec::new(), b"waiting".to_vec(), Announcement::default().encode()];

        let socket = zmq::Context::new().socket(zmq::DEALER).unwrap();
        let presence = Presence::Repeated { next: None };
        let begin = clock::now();
        let session = Session::new(socket, (Announcement::default(), Queue::default()), presence);
        let mut session = session.connect(&Settings::new(endpoint)).unwrap();
        let worker = router.recv_multipart(0).unwrap().remove(0);
        speak(&mut session, &router);
        assert!(REPEAT <= clock::now() - begin);
        assert_eq!(router.recv_multipart(0).unwrap()[1..], waiting);

        router.send_multipart([&*worker, b"", b"token", b"", b"body"], 0).unwrap();
        while session.queue.is_empty() {
            session.poll(&[], None).unwrap();
        }
        let Some(Next::Job(job)) = session.take_next() else { panic!("no job") };
        // A busy one does not.
        session.poll(&[], clock::after(REPEAT + Duration::from_millis(100))).unwrap();
        session.reply(&job, Ok("done".into())).unwrap();
        assert_eq!(router.recv_multipart(0).unwrap()[4..], [b"done"]);
        speak(&mut session, &router);
        assert_eq!(router.recv_multipart(0).unwrap()[1..], waiting);
    }
}
