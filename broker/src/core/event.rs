//! What can happen. The core learns of the world from these and from nothing else.

use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::worker::ReplyStatus;
use hornpipe_proto::{Priority, Token};

use super::action::Footprint;
use super::ids::{ClientId, Generation, Place, RequestId, Slot, Timestamp, WorkerId};
use super::journal::Entry;
use super::pause::PauseMode;
use super::settings::Settings;

#[derive(Debug, Clone)]
pub enum Event<B> {
    // From clients.
    Request(Request<B>),
    /// A request that cannot be read, but whose sender can be told so.
    UnreadableRequest {
        request: RequestId,
        why: String,
    },
    /// A request follows for a service that may not be there yet: its client would wait.
    Sought {
        service: String,
    },
    /// A client's message that is no request and gets no answer.
    IgnoredClientMessage,
    /// The client's connection is gone, or the client has given up what it
    /// asked before on this connection.
    ClientLeft {
        client: ClientId,
    },
    /// The client takes back what it has asked under this name, on this connection.
    Cancel {
        client: ClientId,
        name: Arc<str>,
    },
    /// The work of this key is to be ended, whoever asked for it.
    CancelKey {
        /// `None` is the default one, or the core's own.
        service: Option<String>,
        key: Arc<str>,
    },
    /// So many parts of a reply have been handed to the client's connection.
    Delivered {
        request: RequestId,
        parts: u32,
    },
    /// A part of a reply never will be: its client is gone, or too much waits for it.
    PartUndelivered {
        request: RequestId,
    },

    // From workers.
    /// A worker's connection that was not heard of before. Always the first
    /// event of a connection.
    Joined {
        worker: WorkerId,
        home: Home,
    },
    /// The worker has connected and says nothing of its state.
    Hello {
        worker: WorkerId,
        details: Details,
    },
    Waiting {
        worker: WorkerId,
        speech: Speech,
    },
    Processing {
        worker: WorkerId,
        speech: Speech,
    },
    Exiting {
        worker: WorkerId,
        speech: Speech,
        reason: Option<String>,
        /// How its process has ended, if that is known of a worker from elsewhere, and nobody
        /// told it to.
        ending: Option<Ending>,
    },
    Reply {
        worker: WorkerId,
        token: Token,
        status: ReplyStatus,
        message: Option<String>,
        /// Bytes of the body, all frames together.
        size: u64,
        body: B,
    },
    /// A part of a reply; others follow.
    Part {
        worker: WorkerId,
        token: Token,
        /// Bytes of the body, all frames together.
        size: u64,
        body: B,
    },
    /// A reply under a token that this broker never made.
    StrayReply {
        worker: WorkerId,
    },
    /// The worker lives, and says no more than that.
    Heartbeat {
        worker: WorkerId,
    },
    /// A word that may not be said now: its worker has been told to begin anew, over another
    /// connection.
    OutOfTurn {
        worker: WorkerId,
    },
    /// A message of a worker that no dialect has.
    Malformed {
        worker: WorkerId,
    },
    /// The worker's connection is gone; everything it sent has been read.
    WorkerLeft {
        worker: WorkerId,
    },
    /// The same of several workers that had one connection: what one held goes to none of the
    /// others.
    WorkersLeft {
        workers: Vec<WorkerId>,
    },
    /// A job could not be handed to the worker's connection at all.
    Undelivered {
        worker: WorkerId,
        token: Token,
    },
    /// The worker has begun its jobs up to this one, as counted on its connection, and never
    /// will begin those that it was sent after it. In answer to `Withdraw`, or because its
    /// connection is gone, which is said next.
    Withdrawn {
        worker: WorkerId,
        begun: u64,
    },
    /// A message of somebody who may not be a worker here.
    Stranger,

    // From an earlier router.
    /// What it has written down of a key. Nothing else comes before these but `Adopted`.
    Recalled {
        /// The service whose key it is.
        service: Arc<str>,
        key: Arc<str>,
        entry: Entry<B>,
    },

    // From the parent.
    /// A worker that an earlier router started and that still lives.
    Adopted {
        place: Place,
        generation: Generation,
        pid: i32,
        started: Timestamp,
    },
    Started {
        place: Place,
        pid: i32,
    },
    /// The process could not be made, and why.
    NotStarted {
        place: Place,
        why: String,
    },
    /// Somebody stopped the process (SIGSTOP).
    Halted {
        place: Place,
    },
    /// And let it go on.
    Continued {
        place: Place,
    },
    Exited {
        place: Place,
        ending: Ending,
    },

    // From whoever measures.
    /// What a process was found to hold, after `Action::Measure`.
    Measured {
        place: Place,
        footprint: Footprint,
    },

    // From the operator.
    Grow,
    Shrink,
    ScaleTo {
        target: u32,
    },
    ScaleBy {
        change: i32,
    },
    /// Other settings hold from here on.
    Configure {
        settings: Box<Settings>,
    },
    Reload {
        /// How many slots are renewed at the same time; `None` as the settings say.
        surge: Option<u32>,
    },
    /// Another process for this slot, the replacement first.
    Recycle {
        slot: Slot,
    },
    /// Hand out no request, and take new ones or not.
    Pause {
        mode: PauseMode,
    },
    Resume,
    Stop(Stop),
    /// A request in quarantine is to be tried once more, as this new one.
    RetryPoison {
        number: u64,
        request: RequestId,
    },
    DropPoison {
        number: u64,
    },
    DropAllPoison,
    /// Another router follows under the same workers: finish what was accepted, then part.
    HandOver,

    // From the clock.
    /// `next_deadline` has passed.
    Tick,
}

impl<B> Event<B> {
    /// The worker whose word this is, if it is one's.
    pub(super) fn speaker(&self) -> Option<WorkerId> {
        match self {
            Self::Hello { worker, .. }
            | Self::Waiting { worker, .. }
            | Self::Processing { worker, .. }
            | Self::Exiting { worker, .. }
            | Self::Reply { worker, .. }
            | Self::StrayReply { worker }
            | Self::Heartbeat { worker }
            | Self::OutOfTurn { worker }
            | Self::Malformed { worker } => Some(*worker),
            _of_others => None,
        }
    }
}

/// A request as it arrives.
#[derive(Debug, Clone)]
pub struct Request<B> {
    pub request: RequestId,
    pub client: ClientId,
    /// What the client calls it, if anything.
    pub name: Option<Arc<str>>,
    /// The service asked for; `None` is the default one, or the core's own.
    pub service: Option<String>,
    /// How long the client waits; `None` for ever.
    pub timeout: Option<Duration>,
    /// How many workers may try it; `None` as many as the broker allows.
    pub attempts: Option<u32>,
    /// Bytes of the body, all frames together.
    pub size: u64,
    pub wants: Wants,
    pub body: B,
}

/// What a request asks for beside an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    pub priority: Priority,
    /// Those with the same word are run once while the window lasts.
    pub key: Option<Arc<str>>,
    /// Of those with the same word one runs at a time.
    pub exclusive: Option<Arc<str>>,
    /// Those with the same word go to the same worker, while it lives.
    pub affinity: Option<Arc<str>>,
    /// Whether it waits for that worker, however long it is busy.
    pub strict: bool,
    /// Whether its client reads a reply in parts, as they come.
    pub parts: bool,
    /// The one worker that may have it: another broker has chosen that. It ends with that
    /// worker, and goes to no other.
    pub worker: Option<WorkerId>,
}

/// Where a worker's connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// A process of ours: the kernel says whose.
    Local(Place),
    /// A process this broker did not start.
    External,
}

/// How a worker speaks, which says what it understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speech {
    /// State words only: it is sent jobs and nothing else.
    Plain,
    /// State words only, and every reply means that it is ready again.
    PlainReadyByReply,
    /// The same, and its silence means that it is gone.
    Beating {
        /// `None` is the default service.
        service: Option<String>,
        /// Between two of its heartbeats.
        interval: Duration,
    },
    /// With details: it is sent details, cancel and stop too.
    Native(Details),
}

/// What a worker with details says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    pub name: Option<String>,
    /// `None` is the default service.
    pub service: Option<String>,
    /// How many requests it runs at once, at least 1.
    pub credits: u32,
    /// How many jobs it has received on this connection.
    pub seen: u64,
    /// Whether it claims each job as it begins it, so that the others can be taken back.
    pub claims: bool,
    /// What tells it from all others, over every connection. One that has it sends replies to
    /// jobs with a key once more after its connection was lost, before it says `waiting`.
    pub instance: Option<Arc<str>>,
}

/// How a process ended, as far as decisions depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Code(i32),
    Signal(i32),
    /// The kernel killed it because there was no memory left.
    OutOfMemory,
    /// The program could not be executed, or the child not be prepared for it.
    NotExecuted {
        why: String,
    },
}

/// How the operator wants the pool to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Refuse what waits, finish what runs within the drain time. A second one means `Now`.
    Drain,
    /// Serve everything that was accepted, however long it takes.
    Finish,
    /// Refuse everything, kill.
    Now,
}
