//! The numbers that decisions depend on, complete and checked by `config`.

use std::sync::Arc;
use std::time::Duration;

use super::ids::Slot;

/// Everything the core is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "switches of the operator, each by itself")]
pub struct Settings {
    /// The service that this pool works for.
    pub service: Arc<str>,
    /// The number of its first slot: those of several pools of one broker never meet.
    pub first_slot: Slot,
    /// Local workers at the start.
    pub workers: u32,
    /// The least an operator may ask for.
    pub min: u32,
    /// The most an operator may ask for.
    pub max: u32,
    /// How many workers may try a request.
    pub attempts: u32,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// How long a request may wait for a worker, each time it does.
    pub queue_timeout: Option<Duration>,
    /// The longest silence between a part of a reply and the next.
    pub part_timeout: Option<Duration>,
    /// How long a request waits for the worker of its affinity key while others are idle.
    pub affinity_wait: Duration,
    /// How much work a busy worker may be handed ahead of its time, by what its last requests
    /// took; `None` for none.
    pub prefetch: Option<Duration>,
    /// How long a process may take to be ready.
    pub boot_timeout: Duration,
    /// Between `cancel` and TERM.
    pub cancel_grace: Duration,
    /// Between TERM and KILL, and between `stop` and TERM.
    pub term_grace: Duration,
    /// Requests waiting.
    pub backlog_limit: usize,
    /// Bytes of bodies held, waiting or in flight.
    pub held_bytes_limit: u64,
    /// Requests of one client waiting.
    pub client_backlog_limit: Option<usize>,
    /// Bytes of one client's bodies held.
    pub client_bytes_limit: Option<u64>,
    /// How long the reply to a request with a key is kept for others of the key.
    pub key_window: Duration,
    /// Keys at a time.
    pub keys_limit: usize,
    /// Bytes of the replies that are kept.
    pub key_bytes_limit: u64,
    /// Whether a running request is broken off when its client leaves.
    pub cancel_on_disconnect: bool,
    /// Bytes of one body.
    pub body_limit: u64,
    /// How long running requests may take after a stop.
    pub drain: Duration,
    /// Requests after which a process is replaced.
    pub max_requests: Option<u64>,
    /// Poison requests kept.
    pub quarantine_limit: usize,
    /// Bytes of their bodies.
    pub quarantine_bytes_limit: u64,
    /// The age at which a process is replaced.
    pub max_age: Option<Duration>,
    /// How long a process may be idle before it is replaced.
    pub idle_timeout: Option<Duration>,
    /// Private bytes above which a process is replaced.
    pub max_memory: Option<u64>,
    /// Private bytes above which a process is killed.
    pub max_memory_hard: Option<u64>,
    /// A process for each request.
    pub fresh: bool,
    /// How many slots a reload renews at the same time.
    pub surge: u32,
    /// How long the processes of a reload may take for their probe, if they get one.
    pub probe_timeout: Option<Duration>,
    /// Whether, and how, the pool's size follows the load.
    pub autoscale: Option<AutoscaleRules>,
    /// Whether idle workers are kept ahead of demand.
    pub spares: Option<SpareRules>,
    /// A note for each request that has ended.
    pub tell_ends: bool,
    /// Whether requests come from other brokers, which must know what workers here can do.
    pub lends_workers: bool,
    /// How many processes a second may be started where the last one died early.
    pub forks_after_early_deaths: usize,
}

/// How the pool follows the load between `min` and `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoscaleRules {
    /// A request that waits so long means that workers are missing.
    pub up_wait: Duration,
    /// Workers that are idle for so long are too many.
    pub down_after: Duration,
}

/// How many idle workers there should be, whatever the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpareRules {
    /// Fewer than these are made up for at once.
    pub min: u32,
    /// More than these are let go of at the next check.
    pub max: u32,
    /// Between two checks.
    pub check: Duration,
}

impl Default for Settings {
    /// What DESIGN calls the defaults, with one worker.
    fn default() -> Self {
        Self {
            service: DEFAULT_SERVICE.into(),
            first_slot: Slot(0),
            workers: 1,
            min: 1,
            max: MAX_WORKERS,
            attempts: 2,
            timeout: None,
            queue_timeout: None,
            part_timeout: None,
            affinity_wait: Duration::from_millis(100),
            prefetch: Some(Duration::from_millis(1)),
            boot_timeout: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(1),
            term_grace: Duration::from_secs(5),
            backlog_limit: 10_000,
            held_bytes_limit: 256 * 1024 * 1024,
            client_backlog_limit: None,
            client_bytes_limit: None,
            key_window: Duration::from_mins(2),
            keys_limit: 10_000,
            key_bytes_limit: 64 * 1024 * 1024,
            cancel_on_disconnect: false,
            body_limit: 64 * 1024 * 1024,
            drain: Duration::from_secs(25),
            max_requests: None,
            quarantine_limit: 100,
            quarantine_bytes_limit: 16 * 1024 * 1024,
            max_age: None,
            idle_timeout: None,
            max_memory: None,
            max_memory_hard: None,
            fresh: false,
            surge: 1,
            probe_timeout: None,
            autoscale: None,
            spares: None,
            tell_ends: false,
            lends_workers: false,
            forks_after_early_deaths: 32,
        }
    }
}

/// The service of whoever names none.
pub const DEFAULT_SERVICE: &str = "default";

/// No pool is larger.
pub const MAX_WORKERS: u32 = 1024;

/// A worker runs no more requests at once, whatever it announces: what a
/// connection's high-water mark must hold.
pub const MAX_CREDITS: u32 = 256;

/// A worker from elsewhere that an earlier router knew is back within this time, or is gone.
pub(super) const RETURN_GRACE: Duration = Duration::from_secs(5);

/// Between the last answer of a router that is replaced and its end.
pub(super) const LAST_CALL: Duration = Duration::from_millis(100);

/// A worker whose process has ended may still have replies in its pipe: so
/// long is waited for the end of the pipe.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(200);

/// A process that lives without a connection is replaced after this time. A
/// program that reopens its socket is back sooner; a dying one is reaped sooner.
pub(super) const RECONNECT_GRACE: Duration = Duration::from_secs(1);

/// A worker that a new router has not heard of is replaced after this time, unless it has told
/// an earlier one that it comes back by itself: that one has [`RETURN_GRACE`].
pub(super) const ADOPTION_GRACE: Duration = Duration::from_millis(300);

/// A worker that somebody stopped is killed after this time.
pub(super) const HALT_GRACE: Duration = Duration::from_secs(5);

/// While stopping, workers get so long after `stop` and after TERM, each: the
/// parent ends everything 5 s after the drain time.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(2);

/// A process that KILL has not ended, because the kernel holds it, gets it again after this time.
pub(super) const KILL_AGAIN: Duration = Duration::from_secs(5);

/// A process that lived shorter died young, and its slot backs off.
pub(super) const YOUNG: Duration = Duration::from_secs(1);

/// A process is not measured more often.
pub(super) const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// A slot forgets its failures when a process has lived so long.
pub(super) const HEALTHY: Duration = Duration::from_secs(30);

/// The first back-off; each further failure doubles it.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// The longest back-off, before jitter.
pub(super) const BACKOFF_LAST: Duration = Duration::from_secs(10);
