//! Our own workers' processes: whose connection is it, by the kernel's word.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::core::Place;

/// The live processes that the parent has told of.
#[derive(Debug, Default)]
pub(super) struct CrewList {
    by_pid: BTreeMap<i32, Place>,
    /// Each process as a descriptor, which becomes readable when it ends: sooner than the
    /// parent can say so. Missing where the kernel gives none.
    watched: HashMap<Place, OwnedFd>,
    /// Processes of the operator's hooks, which work for nobody here.
    hooks: BTreeSet<i32>,
}

/// Who connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Ours(Place),
    /// It has ended since, and what it said is of no use.
    Departed,
    /// A process that is no worker's.
    Stranger,
}

impl CrewList {
    pub(super) fn started(&mut self, place: Place, pid: i32) {
        self.by_pid.insert(pid, place);
        let watched =
            rustix::process::Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(descriptor) = watched {
            self.watched.insert(place, descriptor);
        }
    }

    /// Whether the process has ended at this moment, as far as can be seen.
    pub(super) fn has_ended(&self, place: Place) -> bool {
        let Some(process) = self.watched.get(&place) else { return false };
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&at_once)).is_ok_and(|ended| ended > 0)
    }

    pub(super) fn ended(&mut self, place: Place) {
        self.by_pid.retain(|_pid, other| *other != place);
        self.watched.remove(&place);
    }

    pub(super) fn hook_started(&mut self, pid: i32) {
        self.hooks.insert(pid);
    }

    pub(super) fn hook_ended(&mut self, pid: i32) {
        self.hooks.remove(&pid);
    }

    /// Who a peer of the crew socket is: the process in whose group it lives.
    /// Every worker leads a group of its own, so this also holds for a `sh -c`
    /// in between.
    pub(super) fn peer(&self, pid: i32) -> Peer {
        match getpgid(Some(Pid::from_raw(pid))) {
            Ok(group) => self.by_pid.get(&group.as_raw()).map_or(Peer::Stranger, |place| Peer::Ours(*place)),
            Err(_no_such_process) => Peer::Departed,
        }
    }

    /// The parent is gone, and with it the only one who could reap them.
    pub(super) fn kill_all(&self) {
        // To kill(2), the group of process 1 is every process there is.
        for pid in self.by_pid.keys().chain(&self.hooks).filter(|pid| 1 < **pid) {
            if let Err(error) = killpg(Pid::from_raw(*pid), Signal::SIGKILL) {
                tracing::debug!(pid, %error, "group already gone");
            }
        }
    }
}
