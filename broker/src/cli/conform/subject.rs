//! The worker that is tried: started as a broker would start it, watched by the kernel's means,
//! and ended with all that it has started.
#![expect(clippy::disallowed_methods, reason = "this file starts the worker that `conform` tries")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::super::child::bind_to_us;

/// A process that should be a worker.
#[derive(Debug)]
pub(super) struct Subject {
    child: Child,
    group: Pid,
    /// Readable once it has ended.
    end: OwnedFd,
    status: Option<ExitStatus>,
}

impl Subject {
    /// Starts it with this environment and no other. What it writes goes to our standard error.
    pub(super) fn start(program: &[OsString], environment: &[(OsString, OsString)]) -> io::Result<Self> {
        let errors = io::stderr().as_fd().try_clone_to_owned()?;
        Self::start_with(program, environment, Stdio::null(), Stdio::from(errors))
    }

    /// Starts it with pipes to us as its standard input and output: take them with [`Self::take_pipes`].
    pub(super) fn start_piped(
        program: &[OsString],
        environment: &[(OsString, OsString)],
    ) -> io::Result<Self> {
        Self::start_with(program, environment, Stdio::piped(), Stdio::piped())
    }

    fn start_with(
        program: &[OsString],
        environment: &[(OsString, OsString)],
        stdin: Stdio,
        stdout: Stdio,
    ) -> io::Result<Self> {
        let [name, arguments @ ..] = program else { return Err(io::ErrorKind::NotFound.into()) };
        let mut command = Command::new(name);
        command.args(arguments).env_clear();
        command.envs(environment.iter().map(|(name, value)| (OsStr::new(name), value)));
        command.stdin(stdin).stdout(stdout).process_group(0);
        bind_to_us(&mut command, Signal::SIGKILL);
        let child = command.spawn()?;
        let group = Pid::from_raw(child.id().cast_signed());
        let end = pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { child, group, end, status: None })
    }

    /// Becomes readable when it has ended.
    pub(super) fn watch(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// How it has ended, if it has. What it has left behind is ended with it.
    pub(super) fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() && self.has_ended() {
            // Before it is reaped, so that its group's number is nobody else's.
            killpg(self.group, Signal::SIGKILL).ok();
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Our sides of its pipes, if it was started with any.
    pub(super) fn take_pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        (self.child.stdin.take(), self.child.stdout.take())
    }

    /// Whether it has ended. What it has left behind goes on.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let pid = rustix::process::Pid::from_child(&self.child);
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// To it and all of its group, as the broker does. Nobody is there once it was reaped.
    pub(super) fn signal(&mut self, signal: Signal) {
        if self.status().is_none() {
            killpg(self.group, signal).ok();
        }
    }

    /// The ids of it and of all in its group.
    pub(super) fn processes(&self) -> Vec<i32> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_its = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            ticks_of(&stat, self.group).is_some()
        };
        processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).filter(is_its).collect()
    }

    /// The processor time that it and its group have wanted: what they have used, and what they
    /// have waited for it while others had it.
    pub(super) fn processor_time(&self) -> Duration {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes.filter_map(|process| wanted_by(&process.path(), self.group)).sum()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().ok();
    }
}

/// How a process has ended, in words.
pub(super) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("by {signal}"),
            Err(_) => format!("by signal {number}"),
        },
        (None, None) => "somehow".to_owned(),
    }
}

/// What all threads of a process have wanted, if it is one of this group.
fn wanted_by(process: &Path, group: Pid) -> Option<Duration> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let ticks = ticks_of(&stat, group)?;
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let wanted: u64 = threads
        .filter_map(|thread| nanoseconds_of(&fs::read_to_string(thread.path().join("schedstat")).ok()?))
        .sum();
    if wanted > 0 {
        return Some(Duration::from_nanos(wanted));
    }
    // A kernel that does not tell what was waited for.
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_millis(ticks.saturating_mul(1000) / per_second))
}

/// Time on a processor and time in its queue: the first two fields of schedstat, in nanoseconds.
fn nanoseconds_of(schedstat: &str) -> Option<u64> {
    let mut fields = schedstat.split_whitespace();
    let (ran, waited): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    ran.checked_add(waited)
}

/// User and system time of a process, if it is one of this group: proc(5), fields 5, 14 and 15.
fn ticks_of(stat: &str, group: Pid) -> Option<u64> {
    // The name in front may hold anything.
    let (_name, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    if fields.nth(2)?.parse() != Ok(group.as_raw()) {
        return None;
    }
    let user: u64 = fields.nth(8)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "12 (a) b) S 1 34 34 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 999";
        assert_eq!(ticks_of(stat, Pid::from_raw(34)), Some(12));
        assert_eq!(ticks_of(stat, Pid::from_raw(35)), None);
        assert_eq!(ticks_of("", Pid::from_raw(35)), None);
        assert_eq!(nanoseconds_of("1000 24 3\n"), Some(1024));
        assert_eq!(nanoseconds_of("1000"), None);
    }
}
