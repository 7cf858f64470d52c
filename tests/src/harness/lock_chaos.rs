//! Clients that want one lock while its servers are killed, stopped and restarted: who held
//! it when, and whether ever two did.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hornpipe_lock::{BootClock, Clock, Locker, RestartGuard, Retry, Timestamp};

use super::redis::{RedisServer, RedisServers};
use super::wait::{Deadline, let_pass};

/// What is wanted by all.
const RESOURCE: &str = "the only one";

/// How long each holds it: long beside what a majority takes to restart.
const WORK: Duration = Duration::from_millis(700);

/// From one massacre to the next. Servers that wait after their start vote before it.
const BETWEEN: Duration = Duration::from_secs(4);

/// How long a server is stopped, and how long it is left in peace then.
const STOPPED: Duration = Duration::from_millis(400);

/// What is played.
#[derive(Debug, Clone)]
pub struct LockChaos {
    /// How many servers.
    pub servers: usize,
    /// How many who want the lock.
    pub clients: usize,
    /// For how long.
    pub time: Duration,
    /// The time to live of each lock.
    pub ttl: Duration,
    /// Whether servers that were restarted wait.
    pub guard: RestartGuard,
    /// What the servers are started with.
    pub options: Vec<String>,
}

impl Default for LockChaos {
    fn default() -> Self {
        Self {
            servers: 5,
            clients: 6,
            time: Duration::from_secs(80),
            ttl: Duration::from_millis(1500),
            guard: RestartGuard::LongestTtl,
            options: Vec::new(),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct LockFigures {
    /// How often it was held.
    pub holds: usize,
    /// How often a hold began before an earlier one had ended.
    pub overlaps: usize,
    /// How often a token was not greater than that of the hold before.
    pub tokens_not_growing: usize,
    /// Servers killed and started again.
    pub kills: usize,
    /// Servers stopped for a while.
    pub stops: usize,
}

impl fmt::Display for LockFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} holds, {} overlap, {} tokens do not grow, {} kills, {} stops",
            self.holds, self.overlaps, self.tokens_not_growing, self.kills, self.stops
        )
    }
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    from: Timestamp,
    /// When it was given up, or had run out.
    until: Timestamp,
    token: u64,
}

impl LockChaos {
    /// Plays it.
    pub fn run(&self) -> LockFigures {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let mut servers = RedisServers((0..self.servers).map(|_| RedisServer::with(&options, &[])).collect());
        let urls = servers.urls();
        let holds = Mutex::new(Vec::new());
        let over = AtomicBool::new(false);
        let mut figures = thread::scope(|scope| {
            for _ in 0..self.clients {
                scope.spawn(|| self.want(&urls, &holds, &over));
            }
            let figures = self.torment(&mut servers);
            over.store(true, Ordering::Relaxed);
            figures
        });
        let mut holds = holds.into_inner().unwrap();
        holds.sort_unstable_by_key(|hold: &Hold| hold.from);
        figures.holds = holds.len();
        // The one that lasts longest of all before.
        let mut until = Timestamp::from_origin(Duration::ZERO);
        for pair in holds.windows(2) {
            until = until.max(pair[0].until);
            figures.overlaps += usize::from(pair[1].from < until);
            figures.tokens_not_growing += usize::from(pair[1].token <= pair[0].token);
        }
        figures
    }

    fn want(&self, urls: &[String], holds: &Mutex<Vec<Hold>>, over: &AtomicBool) {
        let retry = Retry { jitter: Duration::from_millis(40), ..Retry::within(Duration::from_secs(1)) };
        let retry = Retry { delay: Duration::from_millis(20).into(), ..retry };
        let locker = Locker::builder().redis(urls).retry(retry);
        let locker = locker.restart_guard(self.guard).longest_ttl(self.ttl).build().unwrap();
        while !over.load(Ordering::Relaxed) {
            let Ok(held) = locker.lock(RESOURCE, self.ttl) else { continue };
            let from = BootClock.now();
            let_pass(WORK);
            let until = held.until().min(BootClock.now());
            holds.lock().unwrap().push(Hold { from, until, token: held.token() });
            // It ends with its time to live.
            locker.unlock(&held).ok();
        }
    }

    /// Now and then a majority is killed, one after the other and each started again at once,
    /// so that all keys of a lock may be forgotten while it is held. Meanwhile others are stopped.
    fn torment(&self, servers: &mut RedisServers) -> LockFigures {
        let mut figures = LockFigures::default();
        // Servers that wait after their start are left alone until they vote.
        if self.guard == RestartGuard::LongestTtl {
            let_pass(self.ttl + Duration::from_secs(2));
        }
        let time = Deadline::after(self.time);
        // In another order each time: a step that has no divisor in common with 5 or 3.
        let mut victims = (0_usize..).map(|turn| turn * 7 % self.servers);
        while !time.is_over() {
            let next = Deadline::after(BETWEEN);
            for victim in victims.by_ref().take(self.servers / 2 + 1) {
                servers.0[victim].restart();
                figures.kills += 1;
            }
            while !next.is_over() {
                let Some(victim) = victims.next() else { break };
                servers.0[victim].stop();
                let_pass(STOPPED);
                servers.0[victim].go_on();
                let_pass(STOPPED);
                figures.stops += 1;
            }
        }
        figures
    }
}
