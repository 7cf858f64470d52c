//! What is to be done. The router performs actions in order and decides nothing.

use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::{Status, Token};

use super::autoscale::Cause;
use super::degraded::Degraded;
use super::ended::Ended;
use super::flight::Flight;
use super::ids::{Generation, Incarnation, Place, RequestId, Slot, WorkerId};
use super::journal::Entry;
use super::loss::Loss;
use super::pause::{Pause, PauseMode};
use super::telling::Telling;

#[derive(Debug, Clone)]
pub enum Action<B> {
    // To clients.
    /// A part of the reply, to a client that reads parts. `Delivered` or `PartUndelivered`
    /// says what became of it.
    Part {
        request: RequestId,
        attempt: u32,
        body: B,
    },
    // Each of these three is a request's last.
    /// The worker's reply.
    Answer {
        request: RequestId,
        attempt: u32,
        spent: Spent,
        /// What comes before the body: parts that were kept for a client that does not read them.
        parts: Vec<B>,
        body: B,
    },
    /// An error. `attempt` is 0 if no worker ever had it.
    Refuse {
        request: RequestId,
        status: Status,
        attempt: u32,
        spent: Spent,
        /// After how long another try may be worth it, with `busy`.
        retry_after: Option<Duration>,
        message: String,
    },
    /// Nobody waits for it any more.
    Forget {
        request: RequestId,
    },

    // To workers.
    Assign(Assignment<B>),
    Probe(Probe),
    /// Only to workers with details.
    Cancel {
        worker: WorkerId,
        token: Token,
    },
    /// It is to begin nothing that it has not begun. Answered by `Withdrawn`, before anything
    /// else. Only to workers that claim their jobs.
    Withdraw {
        worker: WorkerId,
    },
    /// So many more parts of its reply may be sent. Only to workers with details.
    Allow {
        worker: WorkerId,
        token: Token,
        parts: u32,
    },
    /// Only to workers with details.
    Dismiss {
        worker: WorkerId,
    },
    /// It has been silent for too long, and counts as gone. Should it be heard once more, it
    /// is a newcomer.
    Disown {
        worker: WorkerId,
    },
    // To brokers that lend us their requests, if the settings say that there are some.
    /// So many requests a worker of ours runs at once from here on; 0 is none more.
    Capacity {
        worker: WorkerId,
        requests: u32,
    },

    // To the parent.
    Spawn {
        place: Place,
        generation: Generation,
    },
    Terminate {
        place: Place,
    },
    Kill {
        place: Place,
    },
    // To whoever measures.
    /// How much memory does it hold? Answered by `Measured`, or not at all.
    Measure {
        place: Place,
    },
    /// What the next router must know if this one dies.
    Remember(Memory),
    /// The same of one key, in place of what was said of it before. It is written down before
    /// anything that follows is done.
    Journal {
        key: Arc<str>,
        entry: Entry<B>,
    },

    // To whoever watches.
    Note(Note),
    /// The pool is stopping. Everything will be over within this time, if it is set.
    Stopping {
        within: Option<Duration>,
    },
    /// Every worker is gone: the router may end.
    Finished(Finish),
}

/// Where the time of a request has gone, over all attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// In the queue.
    pub wait: Duration,
    /// With workers.
    pub run: Duration,
}

/// A request handed to a worker.
#[derive(Debug, Clone)]
pub struct Assignment<B> {
    pub worker: WorkerId,
    pub token: Token,
    /// Which job of its connection this is, counted from 1.
    pub ordinal: u64,
    pub request: RequestId,
    pub attempt: u32,
    /// Time left until nobody waits for the reply.
    pub left: Option<Duration>,
    /// Whether the worker is sent a job's details.
    pub detailed: bool,
    /// How many parts of its reply the worker may send ahead; `None` if the reply must be whole.
    pub window: Option<u32>,
    pub body: B,
}

/// A request of the broker's own, to a worker that is to prove itself. Its body is
/// known to whoever performs this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub worker: WorkerId,
    pub token: Token,
    /// Which job of its connection this is, counted from 1.
    pub ordinal: u64,
    /// Time left until the worker has failed.
    pub left: Duration,
    /// Whether the worker is sent a job's details.
    pub detailed: bool,
}

/// The small state that outlives a router.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    pub target: u32,
    /// The size that was configured then; `None` if that was not written down.
    pub size: Option<u32>,
    pub generation: u32,
    /// The last incarnation of each slot ever filled.
    pub incarnations: Vec<(Slot, Incarnation)>,
    /// Processes that have said that they find the next router by themselves.
    pub returning: Vec<Place>,
    /// Whether the operator has paused it.
    pub pause: Option<Pause>,
}

/// The memory of a process and of those it has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// What would be free if they ended.
    pub private_bytes: u64,
    /// Their share of what they have in common with others.
    pub shared_bytes: u64,
    /// What is resident, also what they have in common.
    pub resident_bytes: u64,
}

/// Why everything is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// It was stopped.
    Stopped,
    /// Everything accepted is answered, and the workers wait for the next router.
    HandedOver,
    /// The program cannot be executed, and no worker has ever been ready.
    CannotExecute,
    /// No worker has ever been ready, and none will be.
    CannotStart {
        /// Whether any of them sent a message.
        spoke: bool,
    },
}

/// Something an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The process runs, and is not ready yet.
    WorkerStarted {
        place: Place,
        generation: Generation,
        pid: i32,
    },
    WorkerReady {
        place: Place,
        /// Each request brings one.
        routine: bool,
    },
    /// The first worker of this router is ready, or none is wanted.
    Ready,
    WorkerLeft {
        place: Place,
        generation: Generation,
        pid: Option<i32>,
        reason: ExitReason,
        planned: bool,
        respawn_after: Duration,
        /// What it had at its end, unless that was planned.
        last: LastFlights,
        /// Whether it is worth a line of its own.
        telling: Telling,
    },
    /// A worker did not do what it should: what, and what follows.
    WorkerStuck {
        place: Place,
        why: &'static str,
    },
    /// Workers from elsewhere have brought a service that was not there.
    ServiceOpened {
        name: Arc<str>,
    },
    /// The last worker of such a service is gone; so many requests waited for another.
    ServiceClosed {
        name: Arc<str>,
        refused: usize,
    },
    /// A worker from elsewhere belongs to a service that cannot be opened. It stands for
    /// so many others since the last that was told.
    ServiceRefused {
        worker: WorkerId,
        why: String,
        untold: u64,
    },
    ExternalJoined {
        worker: WorkerId,
        name: Option<String>,
    },
    ExternalLeft {
        worker: WorkerId,
    },
    TargetChanged {
        from: u32,
        to: u32,
        cause: Cause,
    },
    ReloadStarted {
        generation: Generation,
    },
    ReloadFinished {
        generation: Generation,
    },
    /// The process that brought it down has ended.
    ReloadFailed {
        generation: Generation,
        place: Place,
        reason: String,
    },
    /// Another reload began before it was finished.
    ReloadSuperseded {
        generation: Generation,
        by: Generation,
    },
    /// The broker stopped before it was finished.
    ReloadAbandoned {
        generation: Generation,
    },
    /// All slots fail: requests are refused until a worker is ready again.
    Failing,
    Recovered,
    /// Some of the workers that are wanted cannot be had, while others serve.
    Degraded(Degraded),
    /// All that are wanted can be had again.
    Restored,
    /// No request is handed out from here on; so many wait.
    Paused {
        mode: PauseMode,
        waiting: usize,
    },
    /// They are again, after so long.
    Resumed {
        waiting: usize,
        after: Duration,
    },
    DrainStarted {
        waiting_refused: usize,
        in_flight: usize,
    },
    HandOverStarted {
        waiting: usize,
        in_flight: usize,
        within: Duration,
    },
    RequestTimedOut {
        request: RequestId,
        place: Option<Place>,
        attempt: u32,
        after: Duration,
        /// Bytes of the request's body.
        size: u64,
    },
    RequestRetried {
        request: RequestId,
        attempt: u32,
    },
    RequestLost {
        request: RequestId,
        attempt: u32,
        /// How the last attempt ended.
        last: Option<Loss>,
    },
    /// It ended every worker that had it, and is kept under this number.
    RequestPoisoned {
        request: RequestId,
        attempt: u32,
        number: u64,
    },
    WorkerMalformed {
        worker: WorkerId,
        place: Option<Place>,
    },
    /// Only if the settings ask for it.
    RequestEnded(Box<Ended>),
}

/// What a worker had at its end: which request ended it?
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastFlights {
    /// What it held, or may have replied to in its last moment.
    pub held: Vec<Flight>,
    /// What it had before, oldest first.
    pub before: Vec<Flight>,
    /// Whether an earlier router started it: what that one gave it is not known.
    pub adopted: bool,
}

/// Why a worker's process ended: data, not a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// It said so itself, with its own reason.
    Announced(Option<String>),
    Shrink,
    Reload,
    Recycle(RecycleCause),
    Drain,
    /// It did not reply in time.
    Timeout,
    /// It was not ready in time.
    BootTimeout,
    /// It did not answer its probe as it should.
    Unproven,
    /// It held more memory than any may.
    MemoryLimit,
    /// It sent what no worker sends.
    Malformed,
    /// Its connection was lost while it lived.
    Disconnected,
    /// A new router did not hear of it, or its heartbeats failed to come.
    Silent,
    /// Somebody stopped it and did not let it go on.
    Halted,
    /// It ended by itself.
    Code(i32),
    Signal(i32),
    /// The kernel killed it because there was no memory left.
    OutOfMemory,
    NotExecuted(String),
    /// The process could not be made, and why.
    NotStarted(String),
}

impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Announced(Some(reason)) => write!(f, "announced: {reason}"),
            Self::Announced(None) => f.write_str("announced"),
            Self::Shrink => f.write_str("shrink"),
            Self::Reload => f.write_str("reload"),
            Self::Recycle(cause) => write!(f, "recycle: {cause}"),
            Self::Drain => f.write_str("drain"),
            Self::Timeout => f.write_str("timeout"),
            Self::BootTimeout => f.write_str("boot timeout"),
            Self::Unproven => f.write_str("probe failed"),
            Self::MemoryLimit => f.write_str("memory limit"),
            Self::Malformed => f.write_str("malformed message"),
            Self::Disconnected => f.write_str("connection lost"),
            Self::Silent => f.write_str("silent"),
            Self::Halted => f.write_str("stopped by a signal"),
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::OutOfMemory => f.write_str("killed for lack of memory (OOM)"),
            Self::NotExecuted(why) => write!(f, "cannot execute: {why}"),
            Self::NotStarted(why) => write!(f, "cannot fork: {why}"),
        }
    }
}

/// Why a process that works well is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecycleCause {
    MaxRequests,
    MaxAge,
    IdleTimeout,
    MaxMemory,
    /// It was asked for.
    Operator,
    /// It has had the one request that each process gets.
    Fresh,
}

impl std::fmt::Display for RecycleCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MaxRequests => "max_requests",
            Self::MaxAge => "max_age",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxMemory => "max_memory",
            Self::Operator => "operator",
            Self::Fresh => "fresh",
        })
    }
}
