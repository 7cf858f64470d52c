//! One server: a thread that owns the connection, and what it is asked.
//!
//! All that one locker asks a server goes over one connection, in order. A server that is
//! stopped and goes on therefore sees a lock before its release, and no key is left over.
//! While it is silent it is asked now and then only, and not told to release what it was
//! never asked for, so that little waits for it.
#![expect(clippy::disallowed_methods, reason = "this file is the door of the servers' threads")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, Connection, ErrorKind, RedisError, RedisResult};

use crate::address::Address;
use crate::clock::{BootClock, Clock, Timestamp};
use crate::doctor::ServerReport;
use crate::guard::{self, Boot, RestartGuard};
use crate::held::Extend;
use crate::info::Info;
use crate::{scripts, token};

/// Questions that wait for one server. Beyond it they are answered with an error, except
/// releases, which wait for their place.
const WAITING: usize = 1024;

/// Replies that may be missing on one connection, until it is given up between two locks;
/// and until it is given up in any case. So many questions fit into the socket's buffers, so
/// that none is ever written by half.
const MISSING: u32 = 150;
const MISSING_AT_MOST: u32 = 300;

/// A silent server is asked no more often.
const PROBE: Duration = Duration::from_millis(100);

/// How long a release waits for an answer where the last one has not come either.
const GLANCE: Duration = Duration::from_millis(1);

/// Values of locks that a silent server was not asked for, as far as they are remembered.
const SKIPPED: usize = 4096;

/// After so long without a sign of life of the server's machine the connection is broken.
/// A machine that answers for a stopped server is one.
const MACHINE_TIMEOUT: Duration = Duration::from_secs(20);

const THREAD_GONE: &str = "the thread that asked it has ended by a fault of ours";

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) server_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) guard: RestartGuard,
    pub(crate) longest_ttl: Duration,
}

/// What a server is asked.
#[derive(Debug)]
pub(crate) enum Ask {
    Take {
        resource: String,
        value: String,
        ttl: Duration,
        extend: Extend,
    },
    Confirm {
        resource: String,
        value: String,
        token: u64,
    },
    Release {
        resource: String,
        value: String,
    },
    /// Whoever holds it.
    Free {
        resource: String,
    },
    Look {
        resource: String,
    },
    Examine,
}

impl Ask {
    /// Whether a key is left behind if the server never hears of it.
    fn is_release(&self) -> bool {
        matches!(self, Self::Release { .. } | Self::Free { .. })
    }
}

/// What it says.
#[derive(Debug)]
pub(crate) enum Reply {
    Granted { fence: u64 },
    Refused { holder: String, free_in: Option<Duration> },
    Done,
    Seen(Seen),
    Report(Box<ServerReport>),
}

/// A resource as one server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the holder is known by; `None` if it is free.
    pub value: Option<String>,
    /// How long until it runs out; `None` if it is free, or never does.
    pub life: Option<Duration>,
    /// The greatest token that was confirmed here; 0 if none is known.
    pub fence: u64,
}

pub(crate) type Answer = Result<Reply, String>;

/// The way to a server.
#[derive(Debug)]
pub(crate) struct Server {
    questions: SyncSender<Question>,
    is_connected: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Question {
    ask: Arc<Ask>,
    by: Timestamp,
    /// The number under which the answer is awaited.
    number: usize,
    answers: Sender<(usize, Answer)>,
}

impl Server {
    /// Starts its thread. What `over` is the sending end of is closed when the thread ends.
    pub(crate) fn start(address: &Address, manner: Manner, over: Sender<()>) -> Result<Self, String> {
        let (questions, asked) = sync_channel(WAITING);
        let is_connected = Arc::new(AtomicBool::new(false));
        let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(MACHINE_TIMEOUT);
        let mut link = Link {
            info: address.info.clone().set_tcp_settings(tcp),
            manner,
            live: None,
            is_connected: Arc::clone(&is_connected),
        };
        let run = move || {
            link.answer(&asked);
            drop(over);
        };
        let thread = thread::Builder::new().name("lock server".to_owned()).spawn(run);
        thread
            .map(|_detached| Self { questions, is_connected })
            .map_err(|error| format!("no thread for it: {error}"))
    }

    /// Asks without waiting. The answer comes with this number.
    pub(crate) fn ask(
        &self,
        ask: &Arc<Ask>,
        by: Timestamp,
        number: usize,
        answers: &Sender<(usize, Answer)>,
    ) {
        let question = Question { ask: Arc::clone(ask), by, number, answers: answers.clone() };
        let refused = match self.questions.try_send(question) {
            Ok(()) => None,
            // One that is dropped leaves a key behind.
            Err(TrySendError::Full(question)) if ask.is_release() => {
                self.questions.send(question).err().map(|_| THREAD_GONE)
            }
            Err(TrySendError::Full(_)) => Some("too many questions wait for it"),
            Err(TrySendError::Disconnected(_)) => Some(THREAD_GONE),
        };
        if let Some(why) = refused {
            // Whoever asked may not wait any more.
            answers.send((number, Err(why.to_owned()))).ok();
        }
    }

    /// Whether the next answer needs no new connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }
}

/// The thread's side.
struct Link {
    info: redis::ConnectionInfo,
    manner: Manner,
    live: Option<Live>,
    is_connected: Arc<AtomicBool>,
}

struct Live {
    connection: Connection,
    votes_from: Timestamp,
    uptime: Duration,
    /// How long a reply is waited for, as the socket was told.
    timeout: Duration,
    missing: u32,
    /// When the server was asked last, of those times when it did not answer.
    asked: Option<Timestamp>,
    /// Holders whose lock it was asked for without an answer, and not yet told to release.
    doubtful: BTreeSet<String>,
    /// Holders whose lock it was not even asked for.
    skipped: BTreeSet<String>,
}

impl Link {
    fn answer(&mut self, asked: &Receiver<Question>) {
        for question in asked {
            let answer = if question.ask.is_release() || BootClock.now() < question.by {
                self.perform(&question.ask)
            } else {
                Err(self.no_answer())
            };
            self.is_connected.store(self.live.is_some(), Ordering::Relaxed);
            // Whoever asked may not wait any more.
            question.answers.send((question.number, answer)).ok();
        }
    }

    /// Over the connection there is. If that turns out to be broken, once more over a new one.
    fn perform(&mut self, ask: &Ask) -> Answer {
        if let Some(live) = self.live.as_mut() {
            if live.spares(ask) {
                return Err(self.no_answer());
            }
            match live.perform(ask, self.manner.server_timeout) {
                Ok(answer) => return answer,
                Err(error) if error.is_timeout() => {
                    if live.miss(ask) {
                        self.live = None;
                    }
                    return Err(self.no_answer());
                }
                Err(_broken) => self.live = None,
            }
        }
        let mut live = self.connect().map_err(|error| self.describe(&error))?;
        let answer = live.perform(ask, self.manner.server_timeout);
        match answer {
            Ok(answer) => {
                self.live = Some(live);
                answer
            }
            Err(error) if error.is_timeout() => {
                live.miss(ask);
                self.live = Some(live);
                Err(self.no_answer())
            }
            Err(error) => Err(self.describe(&error)),
        }
    }

    fn connect(&self) -> RedisResult<Live> {
        let timeout = self.manner.connect_timeout.max(GLANCE);
        let mut connection = Client::open(self.info.clone())?.get_connection_with_timeout(timeout)?;
        connection.set_read_timeout(Some(timeout))?;
        connection.set_write_timeout(Some(timeout))?;
        let (votes_from, uptime) = match self.manner.guard {
            RestartGuard::Off => (Timestamp::from_origin(Duration::ZERO), Duration::ZERO),
            RestartGuard::LongestTtl => self.guarded(&mut connection)?,
        };
        Ok(Live {
            connection,
            votes_from,
            uptime,
            timeout,
            missing: 0,
            asked: None,
            doubtful: BTreeSet::new(),
            skipped: BTreeSet::new(),
        })
    }

    /// A restart breaks every connection, so it is enough to ask when there is a new one.
    fn guarded(&self, connection: &mut Connection) -> RedisResult<(Timestamp, Duration)> {
        let info: String = redis::cmd("INFO").arg("server").query(connection)?;
        let info = Info::parse(&info);
        let uptime = info.seconds("uptime_in_seconds").unwrap_or_default();
        let boot = Boot { uptime, is_durable: is_durable(connection)? };
        let silence = guard::silence(self.manner.guard, self.manner.longest_ttl, boot);
        Ok((BootClock.now() + silence, uptime))
    }

    fn no_answer(&self) -> String {
        format!("no answer within {} ms", self.manner.server_timeout.as_millis())
    }

    fn describe(&self, error: &RedisError) -> String {
        if error.is_timeout() {
            return format!("no connection within {} ms", self.manner.connect_timeout.as_millis());
        }
        if error.is_connection_refusal() {
            return "nobody listens there".to_owned();
        }
        describe(error)
    }
}

impl Live {
    /// The outer error is one of the connection, the inner one the server's word.
    fn perform(&mut self, ask: &Ask, timeout: Duration) -> Result<Answer, RedisError> {
        if let Ask::Take { extend: Extend::OrTake, .. } = ask
            && let Some(left) = self.silence()
        {
            return Ok(Err(format!(
                "it was restarted {} s ago and may have lost locks, so it does not vote for another {} s",
                self.uptime.as_secs(),
                left.as_secs() + 1
            )));
        }
        let timeout = if ask.is_release() && self.asked.is_some() { GLANCE } else { timeout.max(GLANCE) };
        if timeout != self.timeout {
            self.connection.set_read_timeout(Some(timeout))?;
            self.connection.set_write_timeout(Some(timeout))?;
            self.timeout = timeout;
        }
        let answer = match self.call(ask) {
            Ok(reply) => Ok(reply),
            Err(error) if is_the_servers_word(&error) => Err(describe(&error)),
            Err(error) => return Err(error),
        };
        self.missing = 0;
        self.asked = None;
        self.doubtful.clear();
        self.skipped.clear();
        Ok(answer)
    }

    /// Whether a server that is silent is not even asked this.
    fn spares(&mut self, ask: &Ask) -> bool {
        let Some(asked) = self.asked else { return false };
        match ask {
            Ask::Release { value, .. } => self.skipped.remove(value),
            Ask::Free { .. } => false,
            Ask::Take { .. } | Ask::Confirm { .. } | Ask::Look { .. } | Ask::Examine => {
                let spares = self.missing >= MISSING || BootClock.now().since(asked) < PROBE;
                if let (true, Ask::Take { value, extend: Extend::OrTake, .. }) = (spares, ask)
                    && self.skipped.len() < SKIPPED
                {
                    self.skipped.insert(value.clone());
                }
                spares
            }
        }
    }

    /// No answer has come. True if the connection is to be given up: not between a lock and
    /// its release, which a server that goes on could then see in the wrong order.
    fn miss(&mut self, ask: &Ask) -> bool {
        self.missing += 1;
        self.asked = Some(BootClock.now());
        match ask {
            Ask::Take { value, extend: Extend::OrTake, .. } => {
                self.doubtful.insert(value.clone());
            }
            Ask::Release { value, .. } => {
                self.doubtful.remove(value);
            }
            _ => (),
        }
        self.missing >= MISSING_AT_MOST || (self.missing >= MISSING && self.doubtful.is_empty())
    }

    fn silence(&self) -> Option<Duration> {
        let left = self.votes_from.since(BootClock.now());
        (!left.is_zero()).then_some(left)
    }

    fn call(&mut self, ask: &Ask) -> RedisResult<Reply> {
        let connection = &mut self.connection;
        match ask {
            Ask::Take { resource, value, ttl, extend } => {
                let may_take = if *extend == Extend::OrTake { "yes" } else { "no" };
                let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                let mut call = scripts::TAKE.key(resource);
                call.key(scripts::fence_key(resource)).arg(value).arg(ttl).arg(may_take);
                match call.invoke::<(u8, String, String)>(connection)? {
                    (1, fence, _) => Ok(Reply::Granted { fence: fence_of(&fence)? }),
                    (_, life, holder) => {
                        let free_in = life.parse().ok().map(Duration::from_millis);
                        Ok(Reply::Refused { holder, free_in })
                    }
                }
            }
            Ask::Confirm { resource, value, token } => {
                let mut call = scripts::CONFIRM.key(resource);
                call.key(scripts::fence_key(resource)).arg(value).arg(token).arg(scripts::FENCE_LIFE_MS);
                match call.invoke::<u8>(connection)? {
                    1 => Ok(Reply::Done),
                    _ => Ok(Reply::Refused { holder: String::new(), free_in: None }),
                }
            }
            Ask::Release { resource, value } => {
                scripts::RELEASE.key(resource).arg(value).invoke::<u8>(connection).map(|_held| Reply::Done)
            }
            Ask::Free { resource } => {
                redis::cmd("DEL").arg(resource).query::<u64>(connection).map(|_held| Reply::Done)
            }
            Ask::Look { resource } => {
                let mut call = scripts::LOOK.key(resource);
                let (value, life, fence): (String, i64, String) =
                    call.key(scripts::fence_key(resource)).invoke(connection)?;
                let life = u64::try_from(life).ok().map(Duration::from_millis);
                let value = (!value.is_empty()).then_some(value);
                Ok(Reply::Seen(Seen { value, life, fence: fence_of(&fence)? }))
            }
            Ask::Examine => examine(connection).map(|report| Reply::Report(Box::new(report))),
        }
    }
}

fn examine(connection: &mut Connection) -> RedisResult<ServerReport> {
    let before = BootClock.unix_ms();
    let (seconds, microseconds): (u64, u64) = redis::cmd("TIME").query(connection)?;
    let after = BootClock.unix_ms();
    let theirs = i128::from(seconds) * 1000 + i128::from(microseconds / 1000);
    let ours = i128::from(u64::midpoint(before, after));
    let info: String = redis::cmd("INFO").query(connection)?;
    Ok(ServerReport::of(
        &Info::parse(&info),
        |key| setting(connection, key),
        i64::try_from(theirs - ours).unwrap_or(i64::MAX),
        Duration::from_millis(after.saturating_sub(before)),
    ))
}

/// Whether no answer can be lost. Users who may not see the settings are not told; then not.
fn is_durable(connection: &mut Connection) -> RedisResult<bool> {
    let mut is = |key: &str, expected: &str| match setting(connection, key) {
        Ok(value) => Ok(value == expected),
        Err(error) if is_the_servers_word(&error) => Ok(false),
        Err(error) => Err(error),
    };
    Ok(is("appendonly", "yes")? && is("appendfsync", "always")?)
}

fn setting(connection: &mut Connection, key: &str) -> RedisResult<String> {
    let (_key, value): (String, String) = redis::cmd("CONFIG").arg("GET").arg(key).query(connection)?;
    Ok(value)
}

fn fence_of(text: &str) -> RedisResult<u64> {
    let no_fence = || RedisError::from((ErrorKind::UnexpectedReturnType, "its fence is no number"));
    token::parse(text).ok_or_else(no_fence)
}

/// Whether the connection is as good as before.
fn is_the_servers_word(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType)
}

fn describe(error: &RedisError) -> String {
    if error.kind() == ErrorKind::Parse {
        return "it does not answer as a Redis server does".to_owned();
    }
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (_, Some(detail)) => detail.to_owned(),
        _ => error.to_string(),
    }
}
