//! Workers that need a process of their own, run by the example `adapter`.
#![expect(clippy::disallowed_methods, reason = "this file starts the processes of these tests")]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::broker::{Broker, eventually};

/// A process that runs a worker. It ends with the test, and its group with it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(broker: &Broker, kind: &str, program: &[&str]) -> Self {
        Self::start_limited(broker, kind, 64 * 1024 * 1024, program)
    }

    pub(crate) fn start_limited(broker: &Broker, kind: &str, limit: usize, program: &[&str]) -> Self {
        let tests = std::env::current_exe().unwrap();
        let adapter = tests.ancestors().nth(2).unwrap().join("examples/adapter");
        // As the parent of a pool leaves its workers.
        let ignoring = "trap '' HUP INT QUIT USR1 USR2 TTIN TTOU; exec \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", ignoring, "sh"])
            .arg(&adapter)
            .arg(kind)
            .arg(limit.to_string())
            .arg(&broker.endpoint)
            .args(program);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        assert!(adapter.exists(), "`cargo build -p hornpipe-worker --examples` makes {}", adapter.display());
        let child = command.spawn().unwrap();
        Self { child }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the worker has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// What the ended worker wrote to its standard error.
    pub(crate) fn errors(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// The most that it has ever had in memory, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        1024 * peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap()
    }

    /// Its children, ended ones that nobody reaped included.
    pub(crate) fn children(&self) -> Vec<Pid> {
        let list = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap();
        list.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        killpg(self.pid(), Signal::SIGKILL).ok();
        self.child.wait().ok();
    }
}

/// Whether a process of this pid exists and has not ended.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}
