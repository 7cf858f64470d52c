//! What `/proc` knows of processes: who lives, in which state, and who belongs to whom.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// All processes that a broker has started, and those that they have.
///
/// They share the broker's session, whoever their parent is by now. One that has opened
/// a session of its own is known by a variable in its environment.
#[derive(Debug, Clone)]
pub struct Session {
    leader: i32,
    mark: String,
}

#[derive(Debug)]
struct Stat {
    state: char,
    session: i32,
    cpu_ticks: u64,
}

impl Session {
    pub(super) fn new(leader: i32, mark: String) -> Self {
        Self { leader, mark }
    }

    /// The living members, the leader included.
    pub fn members(&self) -> Vec<i32> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| is_alive(*pid) && self.has(*pid)).collect()
    }

    /// The living members, in words.
    pub fn describe(&self) -> String {
        let line = |pid: i32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            format!("  {pid} [{}] {command}\n", state_of(pid).unwrap_or('-'))
        };
        self.members().into_iter().map(line).collect()
    }

    fn has(&self, pid: i32) -> bool {
        let marked = || {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == self.mark.as_bytes())
        };
        stat(pid).is_some_and(|stat| stat.session == self.leader) || marked()
    }

    /// Kills every member, by its pid.
    pub fn kill(&self) {
        for pid in self.members() {
            send(pid, Signal::SIGKILL);
        }
    }
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets: what follows the last bracket is counted.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        session: fields.get(3)?.parse().ok()?,
        cpu_ticks: number(11)? + number(12)?,
    })
}

/// The state as `ps` shows it; `None` when there is no such process.
pub fn state_of(pid: i32) -> Option<char> {
    stat(pid).map(|stat| stat.state)
}

/// Whether the process lives. One that waits to be reaped does not.
pub fn is_alive(pid: i32) -> bool {
    state_of(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The processor time that the process has used, with all its threads.
pub fn cpu_time(pid: i32) -> Duration {
    precise_cpu_time(pid).unwrap_or_else(|| coarse_cpu_time(pid))
}

fn precise_cpu_time(pid: i32) -> Option<Duration> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let nanoseconds = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.map(nanoseconds).sum::<Option<u64>>().map(Duration::from_nanos)
}

fn coarse_cpu_time(pid: i32) -> Duration {
    let ticks = stat(pid).map_or(0, |stat| stat.cpu_ticks);
    // The kernel shows these in hundredths of a second on every architecture that Rust runs on.
    Duration::from_millis(ticks * 10)
}

/// How many descriptors the process has open.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What the process has resident, in bytes.
pub fn resident(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * rustix::param::page_size() as u64
}

/// Sends a signal; false if there is no such process.
pub fn send(pid: i32, signal: Signal) -> bool {
    assert!(pid > 1, "{pid} is no process of ours");
    kill(Pid::from_raw(pid), signal).is_ok()
}
