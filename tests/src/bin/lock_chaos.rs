//! The failure tests of locks in their long form, with figures.
//!
//! `cargo run --release -p hornpipe-tests --bin lock_chaos` plays all of them, and fails if
//! one that must hold does not. [`USAGE`] has each by itself. The crate's README says what
//! the figures mean.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its reader sits at a terminal")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "it fails by panicking, as tests do")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hornpipe_lock::{BootClock, Clock, Locker, RenewOptions, RestartGuard, Retry};
use hornpipe_tests::harness::{
    Deadline, Folder, LockChaos, Process, RedisServer, RedisServers, ShiftedTime, let_pass, send, until,
};
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};
use nix::sys::signalfd::{SfdFlags, SignalFd};

const USAGE: &str = "\
usage: lock_chaos                  all of these
       lock_chaos servers SECONDS  5 servers, 6 clients, kills and stops; with and without guard, with AOF
       lock_chaos clock            two of three clocks jump over the end of a lock
       lock_chaos restart          two of three servers restart empty under a lock
       lock_chaos holder ROUNDS    the holder is killed, stopped, or ends: when does the next one take over?";

/// As a role of a cluster would have it: short, because it is what a takeover takes.
const TTL: Duration = Duration::from_secs(3);

/// How long a holder is stopped.
const STOPPED: Duration = Duration::from_secs(8);

/// Between two pieces of a holder's work.
const STEP: Duration = Duration::from_millis(10);

/// A takeover takes at most what is left of the lock, and one try.
const TAKEOVER: Duration = Duration::from_millis(3500);

/// After a release it takes one wait between tries.
const HANDOVER: Duration = Duration::from_millis(500);

const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let passed = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some([servers(80), clock(), restart(), holder(3)].into_iter().all(|passed| passed)),
        ["servers", seconds] => seconds.parse().ok().map(servers),
        ["clock"] => Some(clock()),
        ["restart"] => Some(restart()),
        ["holder", rounds] => rounds.parse().ok().map(holder),
        ["work", urls, file] => {
            work(urls, Path::new(file));
            Some(true)
        }
        _ => None,
    };
    match passed {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// With the guard, or servers that keep everything, nothing may overlap; tokens grow always.
fn servers(seconds: u64) -> bool {
    let time = Duration::from_secs(seconds);
    let guarded = LockChaos { time, ..LockChaos::default() }.run();
    println!("servers, restart guard: {guarded}");
    let unguarded = LockChaos { time: time / 2, guard: RestartGuard::Off, ..LockChaos::default() }.run();
    println!("servers, no guard and no persistence: {unguarded}");
    let options = ["--appendonly", "yes", "--appendfsync", "always"].map(ToOwned::to_owned).to_vec();
    let durable = LockChaos { time: time / 2, options, ..LockChaos::default() }.run();
    println!("servers, AOF always: {durable}");
    guarded.holds > 0
        && durable.holds > 0
        && guarded.overlaps + durable.overlaps == 0
        && [guarded, unguarded, durable].iter().all(|figures| figures.tokens_not_growing == 0)
}

fn unguarded(servers: &RedisServers) -> Locker {
    Locker::builder().redis(servers.urls()).restart_guard(RestartGuard::Off).build().unwrap()
}

fn clock() -> bool {
    let shift = ShiftedTime::new();
    let mut servers: Vec<RedisServer> = (0..2).map(|_| RedisServer::with(&[], &shift.variables())).collect();
    servers.push(RedisServer::start());
    let servers = RedisServers(servers);
    let (one, other) = (unguarded(&servers), unguarded(&servers));
    let first = one.lock("job", Duration::from_mins(1)).unwrap();
    shift.set(120);
    let second = other.lock("job", Duration::from_mins(1)).unwrap();
    let grows = second.token() > first.token();
    println!(
        "clock, 2 of 3 ahead by 120 s: a second holder with {:?} left of the first; its token is greater: {grows}",
        one.left(&first)
    );
    grows
}

fn restart() -> bool {
    let mut servers = RedisServers::start(3);
    let build = || Locker::builder().redis(servers.urls()).longest_ttl(TTL).build().unwrap();
    let (guarded, refused) = (build(), build());
    let held = until("the servers vote", PATIENCE, || guarded.try_lock("job", TTL).ok());
    servers.0[0].restart();
    servers.0[1].restart();
    let error = refused.try_lock("job", TTL).err().map(|error| error.to_string());
    println!("restart, guard: {}", error.as_deref().unwrap_or("a second holder"));
    let second = until("they vote again", PATIENCE, || refused.try_lock("job", TTL).ok());
    let is_after = refused.now() >= held.until();
    println!("restart, guard: the next holder came after the first had ended: {is_after}");
    servers.0[0].restart();
    servers.0[1].restart();
    let stolen = unguarded(&servers).try_lock("job", TTL);
    println!("restart, no guard: a second holder: {}", stolen.is_ok());
    let grow = second.token() > held.token() && stolen.is_ok_and(|stolen| stolen.token() > second.token());
    error.is_some_and(|error| error.contains("restarted")) && is_after && grow
}

/// Two who want to work; what the one that does suffers, and how long until the other works.
fn holder(rounds: usize) -> bool {
    let mut passed = true;
    for round in 0..rounds {
        for (what, limit) in [("killed", TAKEOVER), ("stopped", TAKEOVER), ("released", HANDOVER)] {
            let (takeover, late) = takeover(what);
            println!(
                "holder {what}, round {round}: the next one works after {takeover:?}; late steps: {late}"
            );
            passed &= takeover <= limit && late == 0;
        }
    }
    passed
}

/// How long it took, and how many steps were worked under a token that was not the greatest.
fn takeover(what: &str) -> (Duration, usize) {
    let servers = RedisServers::start(3);
    let folder = Folder::new();
    let file = folder.file("work");
    let me = std::env::current_exe().unwrap();
    let start = || Process::start(&me, &["work", &servers.list(), file.to_str().unwrap()]);
    let first = start();
    let mine = until("the first works", PATIENCE, || tokens(&file).first().copied());
    let _second = start();
    // Half a lock, so that it has been renewed.
    let_pass(TTL / 2);
    let signal = match what {
        "killed" => SIGKILL,
        "stopped" => SIGSTOP,
        _ => SIGTERM,
    };
    send(first.pid(), signal);
    let time = Deadline::after(PATIENCE);
    until("the second works", PATIENCE, || tokens(&file).into_iter().find(|token| *token != mine));
    let takeover = time.elapsed();
    if what == "stopped" {
        let_pass(STOPPED.saturating_sub(time.elapsed()));
        send(first.pid(), SIGCONT);
        // Whatever it wants to do, it does now.
        let_pass(Duration::from_secs(1));
    }
    let mut greatest = 0;
    let late = tokens(&file).into_iter().filter(|token| {
        greatest = greatest.max(*token);
        *token < greatest
    });
    (takeover, late.count())
}

fn tokens(file: &Path) -> Vec<u64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A process that works while it holds the lock: it writes its token into the file. TERM
/// ends its work in order.
fn work(urls: &str, file: &Path) {
    let mask = SigSet::from_iter([SIGTERM]);
    mask.thread_block().unwrap();
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).unwrap();
    let retry = Retry { count: None, delay: Duration::from_millis(100).into(), ..Retry::default() };
    let builder = Locker::builder().restart_guard(RestartGuard::Off).retry(retry);
    let locker = builder.place(urls).unwrap().build().unwrap();
    loop {
        let held = locker.lock("role", TTL).unwrap();
        let token = held.token();
        let renewal = locker.renew(held, RenewOptions::default()).unwrap();
        let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
        while BootClock.now() < renewal.until() && !renewal.left().is_zero() {
            writeln!(file, "{token}").unwrap();
            let_pass(STEP);
            if signals.read_signal().unwrap().is_some() {
                renewal.unlock().unwrap();
                return;
            }
        }
    }
}
