//! The process that is asked over HTTP, as the parent sees it: one life after another, and
//! none of the pool's business. That it dies costs a few questions.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal as Number;
use nix::unistd::{Pid, pipe2};
use tracing::{debug, info, warn};

use crate::link::ExitStatus;

use super::child::HttpChild;
use super::children::signal_group;
use super::output::Output;
use super::{Setup, process};

/// One that has lived so long is replaced at once, and its earlier deaths are forgotten.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// The wait after an early death, doubled with each in a row...
const BACK_OFF: Duration = Duration::from_millis(50);
/// ...up to this.
const BACK_OFF_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Http {
    running: Option<Running>,
    start_at: Option<Duration>,
    early_deaths: u32,
    /// Everything ends.
    is_over: bool,
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    output: Output,
    started_at: Duration,
}

impl Http {
    /// Starts one as soon as deadlines are seen to.
    pub(super) fn plan(&mut self, now: Duration) {
        self.start_at = Some(now);
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.start_at
    }

    pub(super) fn is_running(&self, pid: Pid) -> bool {
        self.running.as_ref().is_some_and(|running| running.pid == pid)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    /// What to poll, by pid.
    pub(super) fn pipe(&self) -> Option<(i32, BorrowedFd<'_>)> {
        self.running.as_ref().and_then(|running| Some((running.pid.as_raw(), running.output.pipe()?)))
    }

    /// Reads what it writes, if it is that process: nothing, if all is well.
    pub(super) fn read_output(&mut self, pid: i32) {
        if let Some(running) = self.running.as_mut().filter(|running| running.pid.as_raw() == pid) {
            running.output.read_turn(&mut |line| log_line(pid, line));
        }
    }

    /// Starts one if it is time for it and a port is there for it.
    pub(super) fn see_to_deadlines(&mut self, setup: &mut Setup, parent: Pid, now: Duration) {
        if self.running.is_some() || self.start_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        let Some(address) = setup.listeners.http.as_ref().map(|port| port.address) else { return };
        match start(setup, parent) {
            Ok((pid, output)) => {
                info!(pid = pid.as_raw(), %address, "http started");
                self.running = Some(Running { pid, output, started_at: now });
            }
            Err(errno) => {
                warn!(%errno, "http not started");
                self.plan_another(Duration::ZERO, now);
            }
        }
    }

    /// Reaps one that has ended, and plans the next.
    pub(super) fn bury(&mut self, pid: Pid, now: Duration) {
        let Some(Running { output, started_at, .. }) = self.running.take_if(|running| running.pid == pid)
        else {
            return;
        };
        let remains = process::reap(pid);
        output.finish(&mut |line| log_line(pid.as_raw(), line));
        if self.is_over {
            return;
        }
        match remains.map(|remains| remains.status) {
            // Its router has ended, and the next one needs another.
            Some(ExitStatus::Code(0)) | None => debug!(pid = pid.as_raw(), "http ended with its router"),
            Some(status) => warn!(pid = pid.as_raw(), %status, "http died"),
        }
        self.plan_another(now.saturating_sub(started_at), now);
    }

    fn plan_another(&mut self, lived: Duration, now: Duration) {
        self.early_deaths = if lived < LONG_LIFE { self.early_deaths.saturating_add(1) } else { 0 };
        let wait = self.early_deaths.checked_sub(1).map_or(Duration::ZERO, |doublings| {
            (0..doublings.min(16))
                .fold(BACK_OFF, |wait, _doubling| wait.saturating_mul(2))
                .min(BACK_OFF_LIMIT)
        });
        self.start_at = Some(now.saturating_add(wait));
    }

    pub(super) fn kill(&self) {
        if let Some(running) = &self.running {
            signal_group(running.pid.as_raw(), Number::SIGKILL);
        }
    }

    /// No other one follows.
    pub(super) fn kill_for_good(&mut self) {
        self.is_over = true;
        self.start_at = None;
        self.kill();
    }
}

fn start(setup: &mut Setup, parent: Pid) -> nix::Result<(Pid, Output)> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let Setup { listeners, identity, http, .. } = setup;
    let child = HttpChild { listeners, identity, output: theirs, parent };
    let pid = process::fork(move || child.run(http))?;
    Ok((pid, Output::new(ours)))
}

fn log_line(pid: i32, line: &str) {
    warn!(pid, line, "http output");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(lives: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let now = Duration::from_secs(1000);
        let mut http = Http::default();
        let wait = |lived: u64| {
            http.plan_another(Duration::from_secs(lived), now);
            u64::try_from(http.start_at.unwrap().saturating_sub(now).as_millis()).unwrap()
        };
        lives.into_iter().map(wait).collect()
    }

    #[test]
    fn one_that_dies_young_waits_longer_each_time() {
        assert_eq!(waits([60, 0, 1, 9, 60, 60, 0]), [0, 50, 100, 200, 0, 0, 50]);
        assert_eq!(waits([0; 100]).last(), Some(&5000));
    }
}
