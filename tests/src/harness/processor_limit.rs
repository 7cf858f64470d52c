//! A control group that allows fewer processors than the machine has.
#![allow(clippy::disallowed_methods, reason = "this file knows what the machine has")]

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::skipped::{skip, tell};
use super::wait::{DEADLINE, until};

const NONE: &str = "none";

/// The variable that says `none` where no control group can be made.
const VARIABLE: &str = "HPTEST_CPU_GROUP";

/// Where control groups with a processor quota are: of version 1, and of version 2.
const CPU_GROUPS: [&str; 3] = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"];

/// A control group with a processor quota, removed when this is dropped.
#[derive(Debug)]
pub struct ProcessorLimit(PathBuf);

impl ProcessorLimit {
    /// A group that may use so many; `None` if the run was told to do without.
    pub fn of(processors: u32) -> Option<Self> {
        if env::var_os(VARIABLE).is_some_and(|word| word == NONE) {
            skip(VARIABLE);
            return None;
        }
        let there_are = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if there_are <= processors as usize {
            tell(format_args!("this machine has no more than {there_are} processors"));
            return None;
        }
        let name = format!("hptest-{}-{processors}", std::process::id());
        let made =
            CPU_GROUPS.iter().find_map(|place| Self::make(&PathBuf::from(place).join(&name), processors));
        Some(made.unwrap_or_else(|| {
            panic!("no control group can be made here; say {VARIABLE}={NONE} to do without")
        }))
    }

    fn make(folder: &Path, processors: u32) -> Option<Self> {
        fs::create_dir(folder).ok()?;
        let group = Self(folder.to_owned());
        let quota = processors * 100_000;
        // Of version 2, and of version 1. The kernel makes them; where it does not, nobody must.
        let files = [("cpu.max", format!("{quota} 100000")), ("cpu.cfs_quota_us", quota.to_string())];
        files.iter().find_map(|(name, text)| {
            OpenOptions::new().write(true).open(folder.join(name)).ok()?.write_all(text.as_bytes()).ok()
        })?;
        Some(group)
    }

    /// Where a process writes its pid to be in it.
    pub fn entrance(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for ProcessorLimit {
    fn drop(&mut self) {
        until("the control group is empty", DEADLINE, || fs::remove_dir(&self.0).ok());
    }
}
