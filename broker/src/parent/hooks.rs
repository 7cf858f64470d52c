//! Programs that the operator has run when something happens.
//!
//! Nothing waits for them: few run at a time, each has little time, what is too much is
//! dropped and counted, and none outlives the parent.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal as Number;
use nix::unistd::{Pid, pipe2};
use tracing::{debug, info, warn};

use crate::link::{ExitStatus, HookEvent};

use super::child::HookChild;
use super::children::signal_group;
use super::identity::Identity;
use super::output::Output;
use super::process;

/// The log's name for lines of which none is left out. The parent does not know the log.
const EACH: &str = "each";

/// So many run at once...
const RUNNING_LIMIT: usize = 4;
/// ...and so many wait for that.
const WAITING_LIMIT: usize = 64;
/// One that takes longer is killed.
const TIME: Duration = Duration::from_secs(10);
/// After KILL, before another.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// That hooks were dropped is told no more often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What the operator wants to be run, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When.
    pub event: HookEvent,
    /// What: a command for `sh -c`.
    pub command: String,
}

/// The variables that tell a hook what has happened.
pub(super) type Variables = Vec<(OsString, OsString)>;

/// All hooks: those that there are, those that wait, those that run.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    asked_for: Vec<Hook>,
    waiting: VecDeque<(Hook, Variables)>,
    running: BTreeMap<i32, Running>,
    dropped: u64,
    tell_at: Option<Duration>,
}

/// One that runs.
#[derive(Debug)]
struct Running {
    event: HookEvent,
    output: Output,
    kill_at: Duration,
    /// It has been killed, so its end says nothing new.
    is_killed: bool,
}

impl Hooks {
    pub(super) fn new(hooks: Vec<Hook>) -> Self {
        Self { asked_for: hooks, ..Self::default() }
    }

    /// Those that there are from here on. What waits or runs is not touched.
    pub(super) fn replace(&mut self, hooks: Vec<Hook>) {
        self.asked_for = hooks;
    }

    /// Something has happened: its hooks wait for their turn.
    pub(super) fn happened(&mut self, event: HookEvent, variables: &Variables, now: Duration) {
        for hook in self.asked_for.iter().filter(|hook| hook.event == event) {
            if self.waiting.len() < WAITING_LIMIT {
                self.waiting.push_back((hook.clone(), variables.clone()));
            } else {
                self.dropped = self.dropped.saturating_add(1);
                self.tell_at.get_or_insert(now.saturating_add(TELL_EVERY));
            }
        }
    }

    /// Starts one that waits, if there is room for it. Gives its process.
    pub(super) fn start_next(
        &mut self,
        identity: &Identity,
        environment: &[(OsString, OsString)],
        parent: Pid,
        now: Duration,
    ) -> Option<Pid> {
        while self.running.len() < RUNNING_LIMIT {
            let (hook, variables) = self.waiting.pop_front()?;
            let started = start(&hook, |output| HookChild {
                command: hook.command.clone(),
                identity,
                environment: environment.iter().cloned().chain(variables).collect(),
                output,
                parent,
            });
            match started {
                Ok((pid, output)) => {
                    debug!(hook = %hook.event, pid = pid.as_raw(), "hook started");
                    let kill_at = now.saturating_add(TIME);
                    let running = Running { event: hook.event, output, kill_at, is_killed: false };
                    self.running.insert(pid.as_raw(), running);
                    return Some(pid);
                }
                Err(errno) => warn!(hook = %hook.event, %errno, "hook not started"),
            }
        }
        None
    }

    /// The processes that run.
    pub(super) fn pids(&self) -> impl Iterator<Item = i32> {
        self.running.keys().copied()
    }

    pub(super) fn is_running(&self, pid: Pid) -> bool {
        self.running.contains_key(&pid.as_raw())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// What to poll, by pid.
    pub(super) fn pipes(&self) -> impl Iterator<Item = (i32, BorrowedFd<'_>)> {
        self.running.iter().filter_map(|(pid, running)| Some((*pid, running.output.pipe()?)))
    }

    /// Reads one turn's worth of what one writes.
    pub(super) fn read_output(&mut self, pid: i32) {
        if let Some(Running { event, output, .. }) = self.running.get_mut(&pid) {
            output.read_turn(&mut |line| log_line(*event, pid, line));
        }
    }

    /// Reaps one that has ended, with all that is left of its group.
    pub(super) fn bury(&mut self, pid: Pid) {
        let Some(Running { event, output, is_killed, .. }) = self.running.remove(&pid.as_raw()) else {
            return;
        };
        // While the leader is not reaped its number names its group and nobody else's.
        signal_group(pid.as_raw(), Number::SIGKILL);
        let remains = process::reap(pid);
        output.finish(&mut |line| log_line(event, pid.as_raw(), line));
        match remains.map(|remains| remains.status) {
            Some(ExitStatus::Code(0)) | None => debug!(hook = %event, pid = pid.as_raw(), "hook ended"),
            Some(_) if is_killed => {}
            Some(status) => warn!(hook = %event, pid = pid.as_raw(), %status, "hook failed"),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.running.values().map(|running| running.kill_at).chain(self.tell_at).min()
    }

    pub(super) fn see_to_deadlines(&mut self, now: Duration) {
        for (pid, running) in self.running.iter_mut().filter(|(_pid, running)| running.kill_at <= now) {
            if !running.is_killed {
                let seconds = TIME.as_secs();
                warn!(hook = %running.event, pid, seconds, "hook takes too long and is killed");
            }
            running.is_killed = true;
            running.kill_at = now.saturating_add(KILL_AGAIN);
            signal_group(*pid, Number::SIGKILL);
        }
        if self.tell_at.take_if(|at| *at <= now).is_some() {
            warn!(dropped = self.dropped, "hooks dropped: too many wait");
        }
    }

    /// Everything ends, and no other hook is run.
    pub(super) fn kill_all(&mut self) {
        self.asked_for.clear();
        self.waiting.clear();
        for (pid, running) in &mut self.running {
            running.is_killed = true;
            signal_group(*pid, Number::SIGKILL);
        }
    }
}

fn start<'a>(
    hook: &Hook,
    child: impl FnOnce(std::os::fd::OwnedFd) -> HookChild<'a>,
) -> nix::Result<(Pid, Output)> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let child = child(theirs);
    let event = hook.event;
    let pid = process::fork(move || child.run(event))?;
    Ok((pid, Output::new(ours)))
}

fn log_line(event: HookEvent, pid: i32, line: &str) {
    info!(target: EACH, hook = %event, pid, line, "hook output");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(event: HookEvent) -> Hooks {
        Hooks::new(vec![Hook { event, command: "true".into() }])
    }

    #[test]
    fn what_happens_too_often_is_dropped_and_told_once() {
        let now = Duration::from_secs(100);
        let mut hooks = hooks(HookEvent::WorkerExit);
        for _ in 0..WAITING_LIMIT + 5 {
            hooks.happened(HookEvent::WorkerExit, &Vec::new(), now);
        }
        assert_eq!((hooks.waiting.len(), hooks.dropped), (WAITING_LIMIT, 5));
        assert_eq!(hooks.next_deadline(), Some(now + TELL_EVERY));
        hooks.see_to_deadlines(now + TELL_EVERY);
        assert_eq!(hooks.next_deadline(), None);
    }

    #[test]
    fn a_hook_waits_for_its_own_event_alone() {
        let mut hooks = hooks(HookEvent::WorkerExit);
        hooks.happened(HookEvent::WorkerStart, &Vec::new(), Duration::ZERO);
        assert!(hooks.waiting.is_empty());
    }

    #[test]
    fn at_the_end_nothing_waits_and_nothing_comes() {
        let mut hooks = hooks(HookEvent::WorkerExit);
        hooks.happened(HookEvent::WorkerExit, &Vec::new(), Duration::ZERO);
        hooks.kill_all();
        hooks.happened(HookEvent::WorkerExit, &Vec::new(), Duration::ZERO);
        assert!(hooks.waiting.is_empty());
    }
}
