//! What a worker and its broker say to each other: bytes to jobs, replies to bytes, and
//! the duty to be known again after the broker's router was restarted. What a job
//! means, and when to end, is the caller's affair; how bytes travel, the connection's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hornpipe_proto::MAP_LIMIT;
use hornpipe_proto::worker::{Announcement, Control, ReplyMeta, State};
use hornpipe_proto::zmtp::Limits;
use tracing::{debug, warn};

use crate::connection::{Connection, News};
use crate::job::{Details, Received};
use crate::kept::{self, Kept};
use crate::parts::Parts;
use crate::queue::Queue;
use crate::{Cancelled, Failure, Job, Reply, ServeError, Settings, StopHandle, Stopped, clock};

pub(crate) use crate::connection::Watch;

/// How long a handler is kept waiting for a router that is yet to come.
const PATIENCE: Duration = Duration::from_secs(1);

/// So often the broker is heard while jobs wait that it has sent ahead: to look costs as much as a short one of them.
const LOOK: Duration = Duration::from_micros(100);

/// More frames than a broker's message ever has.
const FRAMES_LIMIT: usize = 8192;

type Message = Vec<Vec<u8>>;

/// A worker's side of the talk with the broker, with at most one job in hand.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    announcement: Announcement,
    hand: Hand,
    /// What has come and is not begun.
    queue: Queue,
    /// When it was last looked for what the broker says of that.
    looked: Instant,
    kept: Kept,
    /// Replies that were due while no broker was there, and are not kept in any case.
    unsaid: Vec<Message>,
    /// The connection was lost while a job was in hand: say `waiting` after its reply.
    owes_waiting: bool,
    told_to_stop: bool,
    malformed: u64,
    linger: Duration,
    stop: Option<StopHandle>,
    /// The handler was kept waiting once for a broker that is away.
    was_patient: bool,
}

#[derive(Debug)]
enum Hand {
    Empty,
    Holds { details: Arc<Details>, cancelled: bool, parts: Parts },
}

/// What a worker is to do next.
#[derive(Debug)]
pub(crate) enum Next {
    Job(Job),
    Stop,
}

impl Session {
    /// Connects and says `waiting`. Returns at once, also if nobody is there yet.
    pub(crate) fn open(settings: &Settings) -> Result<Self, ServeError> {
        let mut queue = Queue::default();
        let announcement = Announcement { claims: queue.share(), ..announcement_of(settings) };
        // `reason` and a large `seen` come on top later.
        let size = announcement.encode().len() + 32;
        if size > MAP_LIMIT {
            return Err(ServeError::AnnouncementTooLarge { size });
        }
        let connection = Connection::open(&settings.backend, limits_of(settings))
            .map_err(|why| ServeError::Endpoint { endpoint: settings.backend.clone(), why })?;
        Ok(Self {
            connection,
            announcement,
            hand: Hand::Empty,
            queue,
            looked: clock::now(),
            kept: Kept::default(),
            unsaid: Vec::new(),
            owes_waiting: false,
            told_to_stop: false,
            malformed: 0,
            linger: settings.linger,
            stop: settings.stop.clone(),
            was_patient: false,
        })
    }

    /// What to do next, if that is known already. A job is in hand from here on,
    /// and comes before any order to stop: somebody waits for it.
    pub(crate) fn take_next(&mut self) -> Option<Next> {
        if self.stop.as_ref().is_some_and(StopHandle::is_requested) {
            self.told_to_stop = true;
        }
        match self.queue.begin() {
            Some(job) => {
                let details = Arc::clone(job.details());
                let parts = Parts::within(details.window);
                self.hand = Hand::Holds { details, cancelled: false, parts };
                Some(Next::Job(job))
            }
            None => self.told_to_stop.then_some(Next::Stop),
        }
    }

    /// Has somebody answer for the worker while handlers run.
    pub(crate) fn post_sentry(&mut self) {
        self.connection.post_sentry(Announcement { seen: 0, ..self.announcement.clone() }.encode_hello());
    }

    /// A handler runs from here on, and we hear nothing.
    pub(crate) fn begin_handler(&mut self) {
        self.connection.watch();
    }

    /// The handler has ended, or calls us.
    pub(crate) fn end_handler(&mut self) -> Result<(), ServeError> {
        self.connection.relieve();
        self.take_in()
    }

    /// The handler, which has called us, goes on. Who is between two routers gets to the next one first, if it
    /// comes soon: it would not hear of us otherwise until the handler ends.
    pub(crate) fn resume_handler(&mut self) -> Result<(), ServeError> {
        let until = clock::after(PATIENCE);
        while self.connection.has_sentry() && !self.connection.is_open() && !self.was_patient {
            self.poll(&[], until)?;
            self.was_patient = until.is_none_or(|until| until <= clock::now());
        }
        self.connection.watch();
        Ok(())
    }

    /// Whether the job in hand is cancelled, as far as messages have been read.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self.hand, Hand::Holds { cancelled: true, .. })
    }

    /// Waits until the broker says something, one of the watches is ready, or the time has come.
    /// Who was it is for the caller to try.
    pub(crate) fn poll(&mut self, watches: &[Watch<'_>], until: Option<Instant>) -> Result<(), ServeError> {
        match &self.stop {
            // Heard of already; what is waited for now is something else.
            Some(stop) if !stop.is_requested() => {
                let watches: Vec<_> = watches.iter().copied().chain([stop.watch()]).collect();
                self.connection.wait(&watches, until)?;
            }
            Some(_) | None => self.connection.wait(watches, until)?,
        }
        self.take_in()
    }

    /// Hears what the broker says of what is not begun yet, if there is such and it was not heard just now: that it
    /// is gone, or wants no more.
    pub(crate) fn look_up(&mut self) -> Result<(), ServeError> {
        if self.queue.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        if now.saturating_duration_since(self.looked) < LOOK {
            return Ok(());
        }
        self.looked = now;
        self.absorb()
    }

    /// Reads what the broker has sent, without waiting.
    pub(crate) fn absorb(&mut self) -> Result<(), ServeError> {
        while self.queue.has_room() && self.connection.go_on()? {
            self.take_in()?;
        }
        self.take_in()
    }

    fn take_in(&mut self) -> Result<(), ServeError> {
        while let Some(news) = self.connection.take_news() {
            match news {
                News::Opened => self.introduce()?,
                News::Message(frames) => self.accept(frames),
                News::Lost => self.lose(),
            }
        }
        Ok(())
    }

    /// Says who we are and what we do, to a broker that knows nothing of us.
    fn introduce(&mut self) -> Result<(), ServeError> {
        self.was_patient = false;
        self.connection.send([self.announcement.encode_hello()]);
        // Before `waiting`, which says that nothing else is owed.
        for reply in self.kept.again().into_iter().chain(std::mem::take(&mut self.unsaid)) {
            self.connection.send(reply);
        }
        match self.hand {
            Hand::Empty => self.announce_return(),
            Hand::Holds { .. } => Ok(self.connection.flush()?),
        }
    }

    /// The router that knew us is gone, and what it gave us is forgotten or given to others. What is
    /// in hand is finished all the same; what is not begun is not run twice.
    fn lose(&mut self) {
        self.announcement.seen = 0;
        self.queue.clear();
        self.owes_waiting = matches!(self.hand, Hand::Holds { .. });
    }

    fn accept(&mut self, frames: Message) {
        match Received::read(frames) {
            Ok(Received::Job(job)) => {
                self.announcement.seen = self.announcement.seen.saturating_add(1);
                self.kept.forget();
                self.queue.push(job);
            }
            Ok(Received::Control(Control::Cancel { token })) => self.cancel(token.as_bytes()),
            Ok(Received::Control(Control::Stop)) => self.told_to_stop = true,
            Ok(Received::Control(Control::More { token, parts: more })) => match &mut self.hand {
                Hand::Holds { details, parts, .. } if details.token == token.as_bytes() => parts.allow(more),
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
    }

    fn cancel(&mut self, subject: &[u8]) {
        if let Hand::Holds { details, cancelled, .. } = &mut self.hand
            && details.token == subject
        {
            *cancelled = true;
        } else {
            // The reply and the order have crossed.
            debug!("a cancelled request is not in hand");
        }
    }

    fn announce_return(&mut self) -> Result<(), ServeError> {
        // A worker that is about to leave takes no more, from nobody.
        if self.told_to_stop { Ok(self.connection.flush()?) } else { self.announce(State::Waiting) }
    }

    /// Says a state. While no broker is there it is dropped: the next one is told anew.
    pub(crate) fn announce(&mut self, state: State) -> Result<(), ServeError> {
        self.connection.send([Vec::new(), state.as_str().into(), self.announcement.encode()]);
        Ok(self.connection.flush()?)
    }

    /// Says goodbye, and waits until that and all before it has left, as long as is allowed.
    pub(crate) fn leave(&mut self, reason: &str) -> Result<(), ServeError> {
        self.retire();
        self.announcement.reason = Some(reason.to_owned());
        self.announce(State::Exiting)?;
        self.connection.flush_all(None, clock::after(self.linger))?;
        Ok(())
    }

    /// Never says `waiting` again.
    pub(crate) fn retire(&mut self) {
        self.told_to_stop = true;
    }

    /// Sends a part of the reply to the job in hand, once the broker takes one.
    pub(crate) fn send_part(&mut self, job: &Job, body: Reply) -> Result<Result<(), Cancelled>, ServeError> {
        loop {
            self.absorb()?;
            // Whoever gave the job is gone, and has forgotten it.
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
            self.poll(&[], None)?;
        }
        let meta = ReplyMeta { more: true, ..ReplyMeta::default() };
        let head = [Vec::new(), job.token().to_vec(), meta.encode()];
        self.connection.send(head.into_iter().chain(body.into_frames()));
        self.connection.flush()?;
        self.deliver()?;
        Ok(Ok(()))
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

    /// Sends these frames in place of the reply, once a broker is there. Waits until it has taken them, or is gone.
    pub(crate) fn put_down(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) -> Result<(), ServeError> {
        let frames: Message = frames.into_iter().collect();
        let has_key = matches!(&self.hand, Hand::Holds { details, .. } if details.has_key);
        if has_key {
            self.kept.keep(&frames);
        }
        self.hand = Hand::Empty;
        if !self.connection.is_open() {
            // The one who comes is told that we wait when it is told of this.
            if !has_key {
                self.unsaid.push(frames);
            }
            self.owes_waiting = false;
            return Ok(());
        }
        self.connection.send(frames);
        if std::mem::take(&mut self.owes_waiting) {
            self.announce_return()?;
        }
        self.connection.flush()?;
        self.deliver()
    }

    /// Waits until all is written or the broker is gone. A broker that does not read is waited for without
    /// limit, but no longer than for a goodbye once the program has asked for the stop.
    fn deliver(&mut self) -> Result<(), ServeError> {
        if !self.connection.has_unsent() {
            return Ok(());
        }
        let watch = self.stop.as_ref().map(StopHandle::watch);
        if !self.connection.flush_all(watch, None)? {
            self.connection.flush_all(None, clock::after(self.linger))?;
        }
        Ok(())
    }

    /// Whose wish the stop was.
    pub(crate) fn who_stopped(&self) -> Stopped {
        match &self.stop {
            Some(stop) if stop.is_requested() => Stopped::ByProgram,
            Some(_) | None => Stopped::ByBroker,
        }
    }
}

/// What a worker with these settings says of itself.
pub(crate) fn announcement_of(settings: &Settings) -> Announcement {
    Announcement {
        service: settings.service.clone(),
        name: settings.name.clone(),
        sdk: Some(concat!("hornpipe-worker/", env!("CARGO_PKG_VERSION")).to_owned()),
        instance: kept::draw_instance(),
        ..Announcement::default()
    }
}

/// What its broker may send.
pub(crate) fn limits_of(settings: &Settings) -> Limits {
    Limits {
        frame_bytes: settings.message_limit,
        message_bytes: settings.message_limit,
        frames: FRAMES_LIMIT,
    }
}
