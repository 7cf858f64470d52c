//! The processes of the tour: a broker, whose screen is read as it comes, and the commands that
//! are shown beside it. All of them end with us.
#![expect(clippy::disallowed_methods, reason = "this file starts the processes of `demo`")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::super::child::bind_to_us;
use super::super::clock::now;

/// Where everything takes place: a folder, and the signals that end the tour.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) folder: PathBuf,
    pub(super) environment: Vec<(OsString, OsString)>,
    program: PathBuf,
    signals: SignalFd,
}

/// A broker that runs.
#[derive(Debug)]
pub(super) struct Broker {
    child: Child,
    /// Its standard output and its log.
    screen: Option<PipeReader>,
    unread: Vec<u8>,
}

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// The time, or a line of the broker.
    ByOther,
    /// Somebody wants the tour to end.
    BySignal,
}

impl Stage {
    pub(super) fn set(environment: Vec<(OsString, OsString)>) -> io::Result<Self> {
        let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        ends.thread_block()?;
        let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let program = std::env::current_exe()?;
        let name = std::env::temp_dir().join(format!("hornpipe-demo-{}", "X".repeat(6)));
        let folder = nix::unistd::mkdtemp(&name)?;
        Ok(Self { folder, environment, program, signals })
    }

    /// This program's own file.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs any program to its end.
    pub(super) fn run(&self, program: &OsStr, arguments: &[OsString]) -> io::Result<Output> {
        let mut command = self.command(program);
        bind_to_us(&mut command, Signal::SIGKILL);
        command.args(arguments).output()
    }

    /// Begins one of our verbs, whose output is read at its end.
    pub(super) fn begin(&self, arguments: &[OsString]) -> io::Result<Child> {
        let mut command = self.command(self.program.as_os_str());
        bind_to_us(&mut command, Signal::SIGKILL);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }

    /// Starts a broker.
    pub(super) fn serve(&self, arguments: &[OsString]) -> io::Result<Broker> {
        let mut command = self.command(self.program.as_os_str());
        // It then ends its workers in order.
        bind_to_us(&mut command, Signal::SIGTERM);
        let (screen, end) = io::pipe()?;
        let flags = OFlag::from_bits_retain(fcntl(screen.as_fd(), FcntlArg::F_GETFL)?);
        fcntl(screen.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let child = command.args(arguments).stdout(end.try_clone()?).stderr(end).spawn()?;
        Ok(Broker { child, screen: Some(screen), unread: Vec::new() })
    }

    /// Waits for a line of the broker or a signal, at most this long.
    pub(super) fn wait(&self, broker: &Broker, time: Duration) -> Woken {
        let timeout = PollTimeout::try_from(time.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(broker.screen.as_ref().map(|screen| PollFd::new(screen.as_fd(), PollFlags::POLLIN)));
        // Interrupted or not: whoever waits looks again.
        poll(&mut fds, timeout).ok();
        match fds.first().and_then(PollFd::any) {
            Some(true) => Woken::BySignal,
            _ => Woken::ByOther,
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

impl Broker {
    pub(super) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// A signal to the broker itself.
    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).ok();
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The whole lines that it has written since.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let Some(screen) = &mut self.screen else { return Vec::new() };
        let mut portion = [0; 4096];
        loop {
            match screen.read(&mut portion) {
                Ok(0) => {
                    self.screen = None;
                    break;
                }
                Ok(size) => self.unread.extend_from_slice(portion.get(..size).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(_) => break,
            }
        }
        let whole = self.unread.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.unread.drain(..whole).collect();
        String::from_utf8_lossy(&lines).lines().map(ToOwned::to_owned).collect()
    }

    /// Ends it in order, or else by force.
    pub(super) fn stop(&mut self, within: Duration) {
        self.signal(Signal::SIGTERM);
        let deadline = now() + within;
        // Its end of the pipe is closed when it is about to be gone.
        while let Some(screen) = &self.screen {
            let left = deadline.saturating_sub(now());
            if left.is_zero() {
                self.child.kill().ok();
                break;
            }
            let timeout =
                PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
            poll(&mut [PollFd::new(screen.as_fd(), PollFlags::POLLIN)], timeout).ok();
            self.lines();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.screen.is_some() {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}
