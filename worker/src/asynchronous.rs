//! A worker whose handler is a future: several requests at once, on the tasks of the program's own tokio.

mod context;

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};

use hornpipe_proto::MAP_LIMIT;
use hornpipe_proto::worker::{Announcement, Control, ReplyMeta, State};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::connection::{Connection, News};
use crate::job::Received;
use crate::{Failure, Job, Reply, ServeError, Settings, Stopped, clock, ffi, serve, session};
pub use context::AsyncContext;
use context::{Parts, Word};

/// Serves requests with this asynchronous handler until the broker says stop, or the program does.
///
/// As many requests as [`Settings::credits`] says run at once, each on a task of its own, so that a runtime of one
/// thread will do. A panic is an error reply. Dropping the future that this returns ends the worker at once:
/// its tasks are aborted, and the broker gives their requests to others.
///
/// ```no_run
/// use hornpipe_worker::{AsyncContext, Failure, Job, Settings, serve_async};
///
/// async fn fetch(job: Job, context: AsyncContext) -> Result<String, Failure> {
///     context.send_part("one moment").await?;
///     Ok(format!("{} bytes", job.body().len()))
/// }
///
/// # async fn work() -> Result<(), hornpipe_worker::ServeError> {
/// let settings = Settings { credits: 16, ..Settings::new("tcp://127.0.0.1:6661") };
/// serve_async(&settings, fetch).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When the worker cannot begin, or this process was forked while it worked.
///
/// # Panics
/// Outside of a tokio runtime with its I/O and time drivers.
pub async fn serve_async<H, F, R>(settings: &Settings, handler: H) -> Result<Stopped, ServeError>
where
    H: Fn(Job, AsyncContext) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, Failure>> + Send + 'static,
    R: Into<Reply>,
{
    let (sender, mut words) = mpsc::unbounded_channel();
    let mut worker = Worker::open(settings, handler, sender)?;
    let stop = settings.stop.clone();
    let stopping = match &stop {
        Some(stop) => Some(ffi::watched_by_tokio(stop.descriptor()?, Interest::READABLE)?),
        None => None,
    };
    let mut registered = None;
    let mut linger = None;
    loop {
        worker.connection.flush()?;
        if worker.is_done() {
            let until = *linger.get_or_insert_with(|| clock::after(settings.linger));
            let over = until.is_some_and(|until| until <= clock::now());
            if over || !worker.connection.has_unsent() {
                return Ok(worker.stopped.unwrap_or(Stopped::ByBroker));
            }
        }
        register(&mut registered, &worker.connection)?;
        let deadline = [linger.flatten(), worker.connection.deadline()].into_iter().flatten().min();
        let mut sleep = pin!(deadline.map(|deadline| tokio::time::sleep_until(deadline.into())));
        let woken = poll_fn(|task| {
            while let Poll::Ready(Some(word)) = words.poll_recv(task) {
                worker.say(word);
                worker.is_changed = true;
            }
            if let (None, Some(stopping)) = (worker.stopped, &stopping)
                && stopping.poll_read_ready(task).is_ready()
            {
                worker.stop(Stopped::ByProgram);
                worker.is_changed = true;
            }
            let ready = poll_connection(task, registered.as_ref(), &mut worker.connection)?;
            let late = match sleep.as_mut().as_pin_mut() {
                Some(sleep) => sleep.poll(task).is_ready(),
                None => false,
            };
            if ready || late || std::mem::take(&mut worker.is_changed) {
                return Poll::Ready(Ok::<bool, ServeError>(late));
            }
            Poll::Pending
        });
        if woken.await? {
            worker.connection.go_on()?;
        }
        worker.take_in();
    }
}

/// The socket of the connection as it is now, as tokio knows it.
type Registered = (u64, AsyncFd<OwnedFd>);

/// Watches another socket, if the connection has another one.
fn register(registered: &mut Option<Registered>, connection: &Connection) -> Result<(), ServeError> {
    let now = connection.descriptor();
    let same = matches!((&*registered, now), (Some((known, _)), Some((number, _))) if *known == number);
    if !same {
        // Closed with ours, or the broker would not see the end of that connection.
        *registered = None;
        if let Some((number, descriptor)) = now {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let copy = descriptor.try_clone_to_owned()?;
            *registered = Some((number, ffi::watched_by_tokio(copy, interest)?));
        }
    }
    Ok(())
}

/// Reads and writes as far as that goes. True if something may have happened.
fn poll_connection(
    task: &mut TaskContext<'_>,
    registered: Option<&Registered>,
    connection: &mut Connection,
) -> Result<bool, ServeError> {
    let Some((number, descriptor)) = registered else { return Ok(false) };
    let mut happened = false;
    let is_same = |connection: &Connection| connection.descriptor().is_some_and(|(now, _)| now == *number);
    while let Poll::Ready(guard) = descriptor.poll_read_ready(task) {
        let mut guard = guard?;
        happened = true;
        if !connection.go_on()? {
            guard.clear_ready();
        }
        if !is_same(connection) {
            return Ok(true);
        }
    }
    while connection.wants_to_write() {
        let Poll::Ready(guard) = descriptor.poll_write_ready(task) else { break };
        let mut guard = guard?;
        happened = true;
        connection.go_on()?;
        connection.flush()?;
        if !is_same(connection) {
            return Ok(true);
        }
        if connection.wants_to_write() {
            guard.clear_ready();
        }
    }
    Ok(happened)
}

struct Worker<H> {
    connection: Connection,
    announcement: Announcement,
    handler: Arc<H>,
    words: mpsc::UnboundedSender<Word>,
    /// By their tokens.
    hands: BTreeMap<Vec<u8>, Hand>,
    tasks: JoinSet<()>,
    /// The last replies to jobs with a key, which a router may have died with before it read them.
    kept: VecDeque<Vec<Vec<u8>>>,
    /// Replies that were due while no broker was there, and are not kept.
    unsaid: Vec<Vec<Vec<u8>>>,
    /// A broker is there that was not told that we wait, because of what an earlier one has given.
    owes_waiting: bool,
    stopped: Option<Stopped>,
    has_left: bool,
    is_changed: bool,
}

struct Hand {
    cancelled: watch::Sender<bool>,
    parts: Arc<Parts>,
    has_key: bool,
    /// Given by a broker that is gone.
    old: bool,
}

impl Hand {
    fn cancel(&self) {
        self.cancelled.send_replace(true);
        if let Parts::Sent(room) = &*self.parts {
            room.close();
        }
    }
}

impl<H, F, R> Worker<H>
where
    H: Fn(Job, AsyncContext) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, Failure>> + Send + 'static,
    R: Into<Reply>,
{
    fn open(settings: &Settings, handler: H, words: mpsc::UnboundedSender<Word>) -> Result<Self, ServeError> {
        let announcement =
            Announcement { credits: settings.credits.clamp(1, 256), ..session::announcement_of(settings) };
        let size = announcement.encode().len() + 32;
        if size > MAP_LIMIT {
            return Err(ServeError::AnnouncementTooLarge { size });
        }
        let connection = Connection::open(&settings.backend, session::limits_of(settings))
            .map_err(|why| ServeError::Endpoint { endpoint: settings.backend.clone(), why })?;
        Ok(Self {
            connection,
            announcement,
            handler: Arc::new(handler),
            words,
            hands: BTreeMap::new(),
            tasks: JoinSet::new(),
            kept: VecDeque::new(),
            unsaid: Vec::new(),
            owes_waiting: false,
            stopped: None,
            has_left: false,
            is_changed: false,
        })
    }

    fn take_in(&mut self) {
        // Their results came as words.
        while self.tasks.try_join_next().is_some() {}
        let before = self.announcement.seen;
        while let Some(news) = self.connection.take_news() {
            match news {
                News::Opened => self.introduce(),
                News::Lost => self.lose(),
                News::Message(frames) => self.accept(frames),
            }
        }
        if before < self.announcement.seen {
            // One word for all that have come together.
            self.announce(State::Processing);
        }
        self.leave_when_free();
    }

    fn introduce(&mut self) {
        self.connection.send([self.announcement.encode_hello()]);
        // Before `waiting`, which says that nothing else is owed.
        for reply in self.kept.iter().cloned().chain(std::mem::take(&mut self.unsaid)) {
            self.connection.send(reply);
        }
        self.owes_waiting = true;
        self.wait_when_free();
    }

    fn lose(&mut self) {
        self.announcement.seen = 0;
        for hand in self.hands.values_mut() {
            hand.old = true;
            // The broker that would take further parts is gone.
            if let Parts::Sent(room) = &*hand.parts {
                room.close();
            }
        }
    }

    fn accept(&mut self, frames: Vec<Vec<u8>>) {
        match Received::read(frames) {
            Ok(Received::Job(job)) => {
                self.announcement.seen = self.announcement.seen.saturating_add(1);
                self.begin(job);
            }
            Ok(Received::Control(Control::Cancel { token })) => {
                if let Some(hand) = self.hands.get(token.as_bytes()) {
                    hand.cancel();
                }
            }
            Ok(Received::Control(Control::More { token, parts })) => {
                if let Some(Parts::Sent(room)) = self.hands.get(token.as_bytes()).map(|hand| &*hand.parts) {
                    room.add_permits(usize::try_from(parts).unwrap_or(0).min(Semaphore::MAX_PERMITS / 2));
                }
            }
            Ok(Received::Control(Control::Stop)) => self.stop(Stopped::ByBroker),
            Err(error) => warn!(%error, "a message of the broker is malformed"),
        }
    }

    fn begin(&mut self, job: Job) {
        let details = Arc::clone(job.details());
        let (cancelled, receiver) = watch::channel(false);
        let parts = Arc::new(match details.window {
            Some(window) => Parts::Sent(Semaphore::new(usize::try_from(window).unwrap_or(0))),
            None => Parts::Joined(Mutex::new(Vec::new())),
        });
        let context = AsyncContext {
            details: Arc::clone(&details),
            words: self.words.clone(),
            cancelled: receiver,
            parts: Arc::clone(&parts),
        };
        let hand = Hand { cancelled, parts, has_key: details.has_key, old: false };
        self.hands.insert(details.token.clone(), hand);
        self.forget();
        let (handler, words) = (Arc::clone(&self.handler), self.words.clone());
        self.tasks.spawn(async move {
            let outcome = run(&*handler, job, context.clone()).await;
            let (meta, body) = match outcome {
                Ok(reply) => {
                    let mut frames = context.take_joined();
                    frames.extend(reply.into_frames());
                    (ReplyMeta::default(), frames)
                }
                Err(failure) => (failure.into_meta(), vec![Vec::new()]),
            };
            // Nobody listens only after the worker has ended.
            words.send(Word { of: details, meta, body }).ok();
        });
    }

    fn say(&mut self, Word { of, meta, body }: Word) {
        let is_part = meta.more;
        let head = [Vec::new(), of.token.clone(), meta.encode()];
        let frames: Vec<Vec<u8>> = head.into_iter().chain(body).collect();
        if is_part {
            // Of a reply whose broker is gone nobody takes parts any more.
            if self.hands.get(&of.token).is_some_and(|hand| !hand.old) {
                self.connection.send(frames);
            }
            return;
        }
        let is_kept = self.hands.remove(&of.token).is_some_and(|hand| hand.has_key);
        if is_kept {
            self.kept.push_back(frames.clone());
            self.forget();
        }
        if self.connection.is_open() {
            self.connection.send(frames);
        } else if !is_kept {
            self.unsaid.push(frames);
        }
        self.wait_when_free();
        self.leave_when_free();
    }

    /// Replies that are not read and jobs in hand are no more than the credits, so older ones are read.
    fn forget(&mut self) {
        let credits = usize::try_from(self.announcement.credits).unwrap_or(usize::MAX);
        let unread = credits.saturating_sub(self.hands.len());
        self.kept.drain(..self.kept.len().saturating_sub(unread));
    }

    /// A new broker is told that we wait when nothing of its predecessor's is left.
    fn wait_when_free(&mut self) {
        let free = !self.hands.values().any(|hand| hand.old);
        if self.owes_waiting && free && self.connection.is_open() && self.stopped.is_none() {
            self.owes_waiting = false;
            self.announce(State::Waiting);
        }
    }

    fn stop(&mut self, whose: Stopped) {
        self.stopped = self.stopped.or(Some(whose));
        if whose == Stopped::ByProgram && !self.hands.is_empty() {
            debug!(in_hand = self.hands.len(), "stopping when what is in hand is answered");
        }
        self.leave_when_free();
    }

    fn leave_when_free(&mut self) {
        if self.stopped.is_some() && self.hands.is_empty() && !self.has_left {
            self.has_left = true;
            self.announcement.reason = Some("stop".to_owned());
            self.announce(State::Exiting);
        }
    }

    fn is_done(&self) -> bool {
        self.has_left
    }

    fn announce(&mut self, state: State) {
        self.connection.send([Vec::new(), state.as_str().into(), self.announcement.encode()]);
    }
}

/// Runs a handler to its end, and makes a failure of its panic.
async fn run<F, R>(
    handler: &impl Fn(Job, AsyncContext) -> F,
    job: Job,
    context: AsyncContext,
) -> Result<Reply, Failure>
where
    F: Future<Output = Result<R, Failure>>,
    R: Into<Reply>,
{
    let failed = |panic: Box<dyn std::any::Any + Send>| Err(serve::failure_of_panic(panic.as_ref()));
    let mut future = match catch_unwind(AssertUnwindSafe(|| Box::pin(handler(job, context)))) {
        Ok(future) => future,
        Err(panic) => return failed(panic),
    };
    // The future is dropped after a panic, and never polled again.
    let guarded = poll_fn(|task| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(task))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(outcome)) => Poll::Ready(outcome.map(Into::into)),
        Err(panic) => Poll::Ready(failed(panic)),
    });
    guarded.await
}
