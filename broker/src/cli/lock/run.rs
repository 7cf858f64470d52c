//! `hornpipe lock run`: a command that runs only while its lock is held.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::Args;
use hornpipe_lock::{
    Attempt, BootClock, Clock, Ended, Held, LockError, LockOptions, Locker, RenewOptions, Renewal, Retry,
    Timestamp,
};
use nix::sys::signal::Signal;

use super::child::{self, Running};
use super::place::{self, Place};
use super::signals::{Signals, Taken, Woken};
use crate::cli::exit_code::LockExit;
use crate::cli::output::{self, harmless};
use crate::config::{self, show_duration};

/// What the command is given.
const NAME: &str = "HORNPIPE_LOCK_NAME";
const TOKEN: &str = "HORNPIPE_LOCK_TOKEN";
const UNTIL: &str = "HORNPIPE_LOCK_UNTIL";

/// How long a command has after TERM, unless somebody says otherwise or the lock is short.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// So long before the lock ends everything of the command has ended.
const MARGIN: Duration = Duration::from_millis(50);

/// Run a command while a lock is held, and on no other machine meanwhile
#[derive(Debug, Args)]
#[command(after_help = AFTER, after_long_help = LONG)]
pub(super) struct RunArguments {
    /// What is locked: any name
    #[arg(value_name = "NAME")]
    name: String,
    /// How long the lock outlives a holder that dies; renewed at each third
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds, default_value = "30s")]
    ttl: Duration,
    /// Give up if it is not to be had within this time; without it, wait as long as it takes
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds, conflicts_with = "no_wait")]
    wait: Option<Duration>,
    /// Give up at once if somebody else holds it
    #[arg(long)]
    no_wait: bool,
    /// The exit code if somebody else holds it
    #[arg(long, value_name = "CODE", default_value_t = LockExit::Busy.into())]
    conflict_exit_code: u8,
    /// How long before the lock ends that cannot be kept COMMAND gets TERM; KILL follows
    /// [default: 5s, at most a third of --ttl]
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds)]
    kill_after: Option<Duration>,
    /// Keep the lock so long from its beginning, also if COMMAND ends sooner
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds)]
    hold_for: Option<Duration>,
    /// End COMMAND if it takes longer: the lock is not renewed beyond this
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds)]
    at_most: Option<Duration>,
    #[command(flatten)]
    place: Place,
    /// What runs while it is held, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const AFTER: &str = "\
Exit codes: COMMAND's own, 128 + N if signal N ended it · 2 usage · 69 too few servers answer ·
            75 somebody else holds it · 76 the lock was lost · 126, 127 COMMAND cannot be run
hornpipe lock run --help has more, and examples.";

const LONG: &str = "\
COMMAND leads a process group of its own. HUP, INT, QUIT, TERM, USR1 and USR2 are handed on to that
group. If the lock cannot be renewed, the group gets TERM --kill-after before it ends, and KILL
before it ends. If it is lost (other servers, somebody's release --force), TERM at once. If hornpipe
itself is killed, COMMAND is killed with it. A signal while it waits ends it, and nothing is started.

Exit codes: COMMAND's own, 128 + N if signal N ended it · 2 usage · 69 too few servers answer ·
            75 somebody else holds it · 76 the lock was lost · 126, 127 COMMAND cannot be run

COMMAND finds in its environment:
  HORNPIPE_LOCK_NAME   NAME
  HORNPIPE_LOCK_TOKEN  a number greater than that of every holder before: write it along, and let
                       what you write to refuse a smaller one. It is what protects from a holder
                       that was suspended and goes on
  HORNPIPE_LOCK_UNTIL  until when it is held unless renewed, in milliseconds since 1970

Examples:
  hornpipe lock run backup -- ./backup.sh                  one at a time on this machine
  export HORNPIPE_LOCK_SERVERS=redis://a,redis://b,redis://c
  hornpipe lock run backup --wait 10s -- ./backup.sh       one at a time on many
  0 3 * * * hornpipe lock run report --no-wait --hold-for 5m -- ./report.sh
                                                           in each machine's crontab: it runs once,
                                                           also if their clocks differ by minutes";

/// What is decided once the arguments are read.
#[derive(Debug, Clone, Copy)]
struct Terms {
    kill_after: Duration,
    hold_for: Duration,
}

pub(super) fn run(arguments: &RunArguments) -> u8 {
    let terms = match terms(arguments) {
        Ok(terms) => terms,
        Err(why) => return complain(why, LockExit::Usage),
    };
    child::expect_children();
    // Before any thread is started, which would get them otherwise.
    let signals = match Signals::take() {
        Ok(signals) => signals,
        Err(error) => {
            return complain(format_args!("cannot take signals: {}", error.desc()), LockExit::Unavailable);
        }
    };
    let locker = match arguments.place.locker() {
        Ok(locker) => locker,
        Err(error) => return complain(error, LockExit::Usage),
    };
    match acquire(arguments, &locker, &signals) {
        Ok(held) => hold(arguments, terms, &locker, &signals, held),
        Err(code) => code,
    }
}

fn terms(arguments: &RunArguments) -> Result<Terms, String> {
    let kill_after = arguments.kill_after.unwrap_or_else(|| KILL_AFTER.min(arguments.ttl / 3));
    if kill_after > arguments.ttl / 2 {
        return Err(format!(
            "--kill-after {} leaves no time to renew a lock of {}: at most half of --ttl",
            show_duration(kill_after),
            show_duration(arguments.ttl)
        ));
    }
    Ok(Terms { kill_after, hold_for: arguments.hold_for.unwrap_or_default() })
}

/// Waits for the lock, and for signals meanwhile. The error is an exit code.
fn acquire(arguments: &RunArguments, locker: &Locker, signals: &Signals) -> Result<Held, u8> {
    let retry = match (arguments.no_wait, arguments.wait) {
        (true, _) => Retry::never(),
        (false, Some(wait)) => Retry::within(wait),
        (false, None) => Retry { count: None, ..Retry::default() },
    };
    let options = LockOptions { retry: Some(retry), value: None };
    let mut attempts = locker.attempts(&arguments.name, arguments.ttl, options);
    let mut told = false;
    loop {
        let attempt = attempts.attempt();
        if let Some(signal) = ending_signal(signals) {
            if let Attempt::Held(held) = attempt {
                locker.unlock(&held).ok();
            }
            return Err(code_of(signal));
        }
        match attempt {
            Attempt::Held(held) => return Ok(held),
            Attempt::Failed(error) => return Err(refuse(arguments, &error)),
            Attempt::Wait { time, why } => {
                // Contention takes milliseconds, and is not worth a line.
                if !told && time > Duration::from_millis(100) {
                    output::complain(format_args!("waiting: {}", harmless(&why.to_string())));
                    told = true;
                }
                if let Some(signal) = wait(signals, time, locker) {
                    return Err(code_of(signal));
                }
            }
        }
    }
}

/// So long, unless a signal comes that ends it.
fn wait(signals: &Signals, time: Duration, locker: &Locker) -> Option<Signal> {
    let end = locker.now() + time;
    loop {
        if let Some(signal) = ending_signal(signals) {
            return Some(signal);
        }
        let left = end.since(locker.now());
        if left.is_zero() {
            return None;
        }
        signals.wait(Some(left), None);
    }
}

fn ending_signal(signals: &Signals) -> Option<Signal> {
    std::iter::from_fn(|| signals.next()).find_map(Taken::ends)
}

fn refuse(arguments: &RunArguments, error: &LockError) -> u8 {
    output::complain(harmless(&error.to_string()));
    match place::exit_code(error) {
        LockExit::Busy => arguments.conflict_exit_code,
        code => code.into(),
    }
}

/// Runs the command under the lock, and gives what this process exits with.
fn hold(arguments: &RunArguments, terms: Terms, locker: &Locker, signals: &Signals, held: Held) -> u8 {
    let began = locker.now();
    let variables = [
        (NAME, held.resource().to_owned()),
        (TOKEN, held.token().to_string()),
        (UNTIL, unix_ms_in(locker.left(&held)).to_string()),
    ];
    let (wake, waker) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(error) => {
            locker.unlock(&held).ok();
            return complain(format_args!("cannot wait for anything: {error}"), LockExit::Unavailable);
        }
    };
    let options =
        RenewOptions { limit: arguments.at_most, on_end: None }.on_end(move |ended| tell(ended, &waker));
    let renewal = match locker.renew(held, options) {
        Ok(renewal) => renewal,
        Err(error) => {
            return complain(
                format_args!("no thread can be started that renews it: {error}"),
                LockExit::Unavailable,
            );
        }
    };
    let running = match Running::start(&arguments.command, &variables) {
        Ok(running) => running,
        Err(error) => {
            release(renewal);
            return cannot_start(arguments, &error);
        }
    };
    let mut watch = Watch { locker, signals, renewal: &renewal, wake: Some(&wake), terms, end: None };
    let is_lost = watch.until_it_ends(&running);
    if is_lost {
        // What the command has started may go on without it, and must not.
        running.signal(Signal::SIGKILL);
    }
    let code = running.reap();
    if is_lost {
        return LockExit::Lost.into();
    }
    let rest = (began + terms.hold_for).since(locker.now());
    wait(signals, rest, locker);
    release(renewal);
    code
}

/// By the thread that renews, when it does so no more.
fn tell(ended: &Ended, mut waker: &UnixStream) {
    match ended {
        Ended::Limit => output::complain("the time of --at-most is over, so the lock is renewed no more"),
        Ended::Lost => output::complain("the lock is lost: a majority of servers does not have it any more"),
        Ended::Unreachable(error) => {
            output::complain(format_args!("the lock could not be renewed: {}", harmless(&error.to_string())));
        }
    }
    // Whoever is to be woken may have ended.
    waker.write_all(&[0]).ok();
}

fn release(renewal: Renewal) {
    if let Err(error) = renewal.unlock() {
        let error = harmless(&error.to_string());
        output::complain(format_args!("the lock could not be released, and ends by itself: {error}"));
    }
}

fn cannot_start(arguments: &RunArguments, error: &io::Error) -> u8 {
    let program = arguments.command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    output::complain(format_args!("cannot run {}: {error}", harmless(&program)));
    if error.kind() == io::ErrorKind::NotFound { LockExit::NoCommand } else { LockExit::NotExecutable }.into()
}

/// A running command, its lock, and what comes to both.
struct Watch<'a> {
    locker: &'a Locker,
    signals: &'a Signals,
    renewal: &'a Renewal,
    wake: Option<&'a UnixStream>,
    terms: Terms,
    /// When KILL is due, once TERM was sent because the lock cannot be kept.
    end: Option<Timestamp>,
}

impl Watch<'_> {
    /// True if the lock could not be kept as long.
    fn until_it_ends(&mut self, running: &Running) -> bool {
        loop {
            while let Some(taken) = self.signals.next() {
                hand_on(taken, running);
            }
            if running.has_ended() {
                return self.end.is_some();
            }
            let now = self.locker.now();
            let left = self.renewal.left();
            match self.end {
                None if left <= self.terms.kill_after => {
                    output::complain("the lock cannot be kept, so the command is ended");
                    running.signal(Signal::SIGTERM);
                    // A stopped one could not end.
                    running.signal(Signal::SIGCONT);
                    self.end = Some(self.last_moment(now));
                }
                None => {
                    let time = left.saturating_sub(self.terms.kill_after);
                    if self.signals.wait(Some(time), self.wake) == Woken::ByWake {
                        // It is woken once, and the lock then has its end.
                        self.wake = None;
                    }
                }
                Some(end) if end <= now => {
                    running.signal(Signal::SIGKILL);
                    self.signals.wait(None, None);
                }
                Some(end) => {
                    self.signals.wait(Some(end.since(now)), None);
                }
            }
        }
    }

    /// By which everything must have ended. One that is lost belongs to somebody else by now,
    /// and the command has no more time than it would have had.
    fn last_moment(&self, now: Timestamp) -> Timestamp {
        (now + self.terms.kill_after).min(self.renewal.until() - MARGIN)
    }
}

fn hand_on(taken: Taken, running: &Running) {
    match taken {
        Taken::Signal(signal) => running.signal(signal),
        Taken::Child if running.was_stopped_by_the_terminal() => {
            output::complain("a command under a lock is not to be stopped, and goes on");
            running.signal(Signal::SIGCONT);
        }
        Taken::Child => (),
    }
}

fn unix_ms_in(time: Duration) -> u64 {
    BootClock.unix_ms().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// What a shell says of a process that this signal has ended.
fn code_of(signal: Signal) -> u8 {
    u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)
}

fn complain(why: impl std::fmt::Display, code: LockExit) -> u8 {
    output::complain(why);
    code.into()
}
