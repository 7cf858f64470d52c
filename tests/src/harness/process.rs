//! A process that a test has started, what it printed and how it ended.
#![allow(clippy::disallowed_methods, reason = "this file starts the processes of tests")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use super::folder::Folder;
use super::wait::{DEADLINE, Deadline};

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Tells of the end without a look at a clock.
    end: OwnedFd,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
    /// Where the output is, if it is nobody else's.
    folder: Option<Folder>,
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// All that it printed.
    pub stdout: String,
    /// All that it complained of.
    pub stderr: String,
    /// How long it was waited for.
    pub waited: Duration,
}

impl Ended {
    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

impl Process {
    /// Starts a program with no input.
    pub fn start(program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        Self::start_with_input(program, arguments, b"")
    }

    /// Starts a program with this input.
    pub fn start_with_input(program: impl AsRef<OsStr>, arguments: &[&str], input: &[u8]) -> Self {
        let folder = Folder::new();
        let stdin = folder.file("stdin");
        File::create(&stdin).unwrap().write_all(input).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).stdin(File::open(stdin).unwrap());
        let mut process = Self::spawn(command, &folder, "");
        process.folder = Some(folder);
        process
    }

    /// Runs a program to its end.
    pub fn run(program: impl AsRef<OsStr>, arguments: &[&str]) -> Ended {
        Self::start(program, arguments).wait()
    }

    /// Starts it as the leader of a session of its own, by which all that it ever starts
    /// is found again.
    pub(super) fn start_session(
        program: &OsStr,
        arguments: &[std::ffi::OsString],
        variables: &[(&str, &OsStr)],
        (folder, name): (&Folder, &str),
    ) -> Self {
        // `setsid` executes the program in its own place, so the pid is the program's.
        let mut command = Command::new("setsid");
        command.arg(program).args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
        Self::spawn(command, folder, name)
    }

    fn spawn(mut command: Command, folder: &Folder, name: &str) -> Self {
        let stdout = folder.file(&format!("{name}stdout"));
        let stderr = folder.file(&format!("{name}stderr"));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let pid = rustix::process::Pid::from_child(&child);
        let end = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        Self { child, end, name: format!("{command:?}"), stdout, stderr, folder: None }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// What it has complained of so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; panics if that takes longer than [`DEADLINE`].
    pub fn wait(&mut self) -> Ended {
        let Some(ended) = self.wait_for(DEADLINE) else {
            panic!("{} did not end\n{}\n{}", self.name, self.stdout(), self.stderr());
        };
        ended
    }

    /// Waits for its end, no longer than this.
    pub fn wait_for(&mut self, within: Duration) -> Option<Ended> {
        let deadline = Deadline::after(within);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let (stdout, stderr) = (self.stdout(), self.stderr());
                return Some(Ended { status, stdout, stderr, waited: deadline.elapsed() });
            }
            let left = deadline.left();
            if left.is_zero() {
                return None;
            }
            let timeout = Timespec::try_from(left).unwrap();
            poll(&mut [PollFd::new(&self.end, PollFlags::IN)], Some(&timeout)).ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
