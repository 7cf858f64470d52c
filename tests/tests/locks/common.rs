//! What several of these files need.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hornpipe_lock::{BootClock, Builder, Clock, Locker, RestartGuard, Timestamp};
use hornpipe_tests::harness::RedisServers;

/// Longer than any test.
pub(crate) const TTL: Duration = Duration::from_secs(30);

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A locker on servers that have just been started.
pub(crate) fn builder(servers: &RedisServers) -> Builder {
    Locker::builder().redis(servers.urls()).restart_guard(RestartGuard::Off)
}

pub(crate) fn locker(servers: &RedisServers) -> Locker {
    builder(servers).build().unwrap()
}

/// Three servers, and two lockers that do not share anything.
pub(crate) fn three() -> (RedisServers, Locker, Locker) {
    let servers = RedisServers::start(3);
    let (one, other) = (locker(&servers), locker(&servers));
    (servers, one, other)
}

/// A locker answers when a majority has. This waits until all have done what they were told.
pub(crate) fn settle(locker: &Locker) {
    let seen = locker.inspect("nothing").unwrap();
    assert!(seen.iter().all(|(_, answer)| answer.is_ok()), "{seen:?}");
}

/// A clock that notes how long it was to wait and does not.
#[derive(Debug, Default)]
pub(crate) struct Hasty {
    pauses: Mutex<Vec<Duration>>,
}

impl Hasty {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().unwrap().clone()
    }
}

impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        BootClock.now()
    }

    fn unix_ms(&self) -> u64 {
        BootClock.unix_ms()
    }

    fn pause(&self, time: Duration) {
        self.pauses.lock().unwrap().push(time);
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct Still(Mutex<Timestamp>);

impl Still {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(BootClock.now())))
    }

    pub(crate) fn advance(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = *now + time;
    }
}

impl Clock for Still {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn unix_ms(&self) -> u64 {
        1
    }

    fn pause(&self, time: Duration) {
        self.advance(time);
    }
}
