//! Whether the kernel killed a process because there was no memory left.
//!
//! `wait` says KILL in that case and no more. But the kernel counts such kills for each
//! control group, or at least for the machine, and a count that has risen explains a KILL
//! that nobody here sent. It is looked at only then.

use std::fs;
use std::path::{Path, PathBuf};

use crate::link::ExitStatus;

/// What a shell returns, and a worker of `--lines`, when KILL has ended its program.
const PROGRAM_KILLED: i32 = 128 + libc::SIGKILL;

/// The count, and how many of its kills have been told of.
#[derive(Debug)]
pub(super) struct OutOfMemory {
    /// The first file that had it; none if the kernel does not count.
    counter: Option<PathBuf>,
    told: u64,
}

impl OutOfMemory {
    /// Counts from here.
    pub(super) fn watch() -> Self {
        Self::within(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
    }

    fn within(processes: &Path, groups: &Path) -> Self {
        let memberships = fs::read_to_string(processes.join("self/cgroup")).unwrap_or_default();
        let mut candidates = candidates(&memberships, groups);
        candidates.push(processes.join("vmstat"));
        let look = |path: PathBuf| kills(&path).map(|kills| (path, kills));
        let (counter, told) = candidates.into_iter().find_map(look).unzip();
        Self { counter, told: told.unwrap_or_default() }
    }

    /// How a process ended that nobody here had killed: a KILL may have been the kernel's,
    /// of itself or of the program that it stands for.
    pub(super) fn explain(&mut self, status: ExitStatus) -> ExitStatus {
        match status {
            ExitStatus::Signal(libc::SIGKILL) | ExitStatus::Code(PROGRAM_KILLED)
                if self.explains_a_kill() =>
            {
                ExitStatus::OutOfMemory
            }
            other => other,
        }
    }

    /// Whether there was a kill that has not been told of yet. It has been, from here on.
    ///
    /// Known limit: whom the kernel killed, the count does not say. A process that a worker
    /// had started, and that was killed so before, makes the next KILL of a worker look
    /// like one more.
    fn explains_a_kill(&mut self) -> bool {
        let kills = self.counter.as_deref().and_then(kills).unwrap_or_default();
        let is_new = self.told < kills;
        self.told = self.told.saturating_add(u64::from(is_new));
        is_new
    }
}

/// Where the count of this process's group may be. Inside a container the group's path
/// is that of the host, and its files are at the root of what is mounted.
fn candidates(memberships: &str, groups: &Path) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            candidates
                .extend([groups.join(path), groups.to_owned()].map(|group| group.join("memory.events")));
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let mounted = groups.join("memory");
            candidates.extend([mounted.join(path), mounted].map(|group| group.join("memory.oom_control")));
        }
    }
    candidates
}

/// All three kinds of file have it as a line of its own.
fn kills(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static NEXT: AtomicU32 = AtomicU32::new(0);

    /// A machine of files.
    struct Machine(PathBuf);

    impl Machine {
        fn new(memberships: &str) -> Self {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let folder = format!("hornpipe-out-of-memory-{}-{number}", std::process::id());
            let machine = Self(std::env::temp_dir().join(folder));
            machine.write("proc/self/cgroup", memberships);
            machine
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn watch(&self) -> OutOfMemory {
            OutOfMemory::within(&self.0.join("proc"), &self.0.join("cgroup"))
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn a_kill_explains_one_death() {
        let machine = Machine::new("0::/box.slice\n");
        let events = |kills: u32| {
            let text = format!("low 0\nhigh 0\nmax 9\noom 5\noom_kill {kills}\noom_group_kill 0\n");
            machine.write("cgroup/box.slice/memory.events", &text);
        };
        events(3);
        let mut out_of_memory = machine.watch();
        assert!(!out_of_memory.explains_a_kill(), "what was before explains nothing");
        events(5);
        let explained: Vec<bool> = (0..3).map(|_death| out_of_memory.explains_a_kill()).collect();
        assert_eq!(explained, [true, true, false]);
    }

    #[test]
    fn only_a_kill_is_explained() {
        let machine = Machine::new("0::/\n");
        machine.write("cgroup/memory.events", "oom_kill 0\n");
        let mut out_of_memory = machine.watch();
        machine.write("cgroup/memory.events", "oom_kill 1\n");
        let (crash, kill) = (ExitStatus::Signal(libc::SIGSEGV), ExitStatus::Signal(libc::SIGKILL));
        assert_eq!(out_of_memory.explain(crash.clone()), crash);
        assert_eq!(out_of_memory.explain(kill.clone()), ExitStatus::OutOfMemory);
        assert_eq!(out_of_memory.explain(kill.clone()), kill);
        machine.write("cgroup/memory.events", "oom_kill 2\n");
        let its_programs = ExitStatus::Code(PROGRAM_KILLED);
        assert_eq!(out_of_memory.explain(its_programs.clone()), ExitStatus::OutOfMemory);
        assert_eq!(out_of_memory.explain(its_programs.clone()), its_programs);
    }

    #[test]
    fn the_first_version_of_control_groups_counts_elsewhere() {
        let machine = Machine::new("5:cpu:/a\n4:hugetlb,memory:/a/b\n0::/\n");
        machine
            .write("cgroup/memory/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        machine.write("proc/vmstat", "nr_free_pages 1\noom_kill 7\n");
        let mut out_of_memory = machine.watch();
        machine.write("proc/vmstat", "oom_kill 8\n");
        assert!(!out_of_memory.explains_a_kill(), "that was another group's");
        machine.write("cgroup/memory/a/b/memory.oom_control", "oom_kill 1\n");
        assert!(out_of_memory.explains_a_kill());
    }

    #[test]
    fn inside_a_container_the_group_is_the_root_of_what_is_mounted() {
        let machine = Machine::new("0::/kubepods/pod1\n");
        machine.write("cgroup/memory.events", "oom_kill 0\n");
        let mut out_of_memory = machine.watch();
        machine.write("cgroup/memory.events", "oom_kill 1\n");
        assert!(out_of_memory.explains_a_kill());
    }

    #[test]
    fn without_groups_the_machine_is_counted() {
        let machine = Machine::new("0::/\n");
        machine.write("proc/vmstat", "oom_kill 2\n");
        let mut out_of_memory = machine.watch();
        machine.write("proc/vmstat", "oom_kill 3\n");
        assert!(out_of_memory.explains_a_kill());
    }

    #[test]
    fn a_kernel_that_does_not_count_explains_nothing() {
        assert!(!Machine::new("").watch().explains_a_kill());
    }

    #[test]
    fn this_kernel_counts() {
        assert!(OutOfMemory::watch().counter.is_some());
    }
}
