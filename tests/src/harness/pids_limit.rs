//! A control group of a test's own, which limits how many processes there may be.
#![allow(clippy::disallowed_methods, reason = "this file knows what the machine has")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::skipped::{NONE, skip};
use super::wait::{DEADLINE, until};

/// The variable that says `none` where no control group can limit processes.
const PIDS_GROUP: &str = "HPTEST_PIDS_GROUP";

/// Where such groups are made: version 1, version 2.
const PARENTS: [&str; 2] = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];

static GROUPS: AtomicU32 = AtomicU32::new(0);

/// The group. Whoever is started by its members is in it too.
#[derive(Debug)]
pub struct PidsLimit(PathBuf);

impl PidsLimit {
    /// An empty group without a limit; `None` if the run was told to do without.
    pub fn new() -> Option<Self> {
        if env::var_os(PIDS_GROUP).is_some_and(|word| word == NONE) {
            skip(PIDS_GROUP);
            return None;
        }
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let name = format!("hptest-{}-{number}", std::process::id());
        let made = PARENTS.iter().map(|parent| Path::new(parent).join(&name)).find(|group| {
            let is_made = fs::create_dir(group).is_ok();
            // Without the controller a directory is all that it is.
            let limits = group.join("pids.max").exists();
            if is_made && !limits {
                fs::remove_dir(group).ok();
            }
            is_made && limits
        });
        Some(Self(made.unwrap_or_else(|| {
            panic!(
                "no control group can be made that limits processes; say {PIDS_GROUP}={NONE} to do without"
            )
        })))
    }

    /// Moves this process there. What it has started before stays where it is.
    pub fn take_in(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Allows no more processes than there are.
    pub fn close(&self) {
        let present = fs::read_to_string(self.0.join("pids.current")).unwrap();
        fs::write(self.0.join("pids.max"), present.trim()).unwrap();
    }

    /// Allows as many as anybody likes.
    pub fn open(&self) {
        fs::write(self.0.join("pids.max"), "max").unwrap();
    }
}

impl Drop for PidsLimit {
    fn drop(&mut self) {
        // Who has ended leaves the group a moment later.
        if !std::thread::panicking() {
            until("the group is empty", DEADLINE, || fs::remove_dir(&self.0).ok());
        }
    }
}
