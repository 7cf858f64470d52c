//! The processes that an adapter answers for: it hears of each end, reaps them
//! all, its program's orphans included, and can end a program with all that the
//! program has started.
//!
//! An adapter's process does nothing else: whoever waits for children of its own
//! in the same process would find them reaped.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpid};
use tracing::warn;

use crate::session::Watch;
use crate::{clock, ffi};

/// How long a family is given between TERM and KILL, and to be gone after KILL.
const GRACE: Duration = Duration::from_secs(1);

/// All children of this process.
#[derive(Debug)]
pub(crate) struct Children {
    ends: SignalFd,
}

impl Children {
    /// Takes charge of them, and of those that lose their parent from here on.
    ///
    /// To be called on the main thread: the kernel asks that one whether anybody
    /// wants to hear of ended children.
    pub(crate) fn adopt() -> io::Result<Self> {
        prctl::set_child_subreaper(true)?;
        // Whoever ignores SIGCHLD is never told how a child ended.
        ffi::default_action(Signal::SIGCHLD)?;
        let ends = SigSet::from(Signal::SIGCHLD);
        ends.thread_block()?;
        Ok(Self { ends: SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    /// Wakes when a child has ended.
    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch::readable(self.ends.as_fd())
    }

    /// Reaps whoever has ended. Tells how `program` did, if it is among them.
    pub(crate) fn reap(&self, program: Option<Pid>) -> Option<ExitStatus> {
        // Emptied before the children are asked, so that no end falls in between.
        while let Ok(Some(_)) = self.ends.read_signal() {}
        let mut status = None;
        while let Some((pid, its_status)) = ffi::reap_any() {
            if Some(pid) == program {
                status = Some(its_status);
            }
        }
        status
    }
}

/// A program and all that it has started and not yet outlived.
#[derive(Debug)]
pub(crate) struct Family {
    /// Left behind by earlier programs, who had the right to.
    spared: BTreeSet<Pid>,
    ending: Ending,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Unwanted,
    Asked { until: Option<Instant> },
    Killed { until: Option<Instant> },
    GivenUp,
}

impl Family {
    /// The family of the program that is started next.
    pub(crate) fn of_next_program() -> Self {
        Self { spared: children_of(getpid()).collect(), ending: Ending::Unwanted }
    }

    /// Sends TERM, and KILL a second later.
    pub(crate) fn end(&mut self) {
        if matches!(self.ending, Ending::Unwanted) {
            self.signal(Signal::SIGTERM);
            self.ending = Ending::Asked { until: clock::after(GRACE) };
        }
    }

    /// Sends KILL.
    pub(crate) fn kill(&mut self) {
        if matches!(self.ending, Ending::Unwanted | Ending::Asked { .. }) {
            self.ending = Ending::Killed { until: clock::after(GRACE) };
        }
        self.signal(Signal::SIGKILL);
    }

    /// When `press` is to be called again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.ending {
            Ending::Asked { until } | Ending::Killed { until } => until,
            Ending::Unwanted | Ending::GivenUp => None,
        }
    }

    /// Goes on with the ending, if it was begun. To be called whenever something happened.
    pub(crate) fn press(&mut self) {
        let due = self.deadline().is_some_and(|deadline| deadline <= clock::now());
        match (self.ending, due) {
            (Ending::Asked { .. }, true) => self.kill(),
            // Somebody may have been forked between our look and our signal.
            (Ending::Killed { .. }, false) => self.signal(Signal::SIGKILL),
            (Ending::Killed { .. }, true) => {
                warn!("processes of a killed program are still there");
                self.ending = Ending::GivenUp;
            }
            (Ending::Unwanted | Ending::GivenUp, _) | (Ending::Asked { .. }, false) => (),
        }
    }

    /// Whether nothing more is to be waited for, once the program itself has ended.
    pub(crate) fn is_settled(&self) -> bool {
        match self.ending {
            Ending::Unwanted | Ending::GivenUp => true,
            Ending::Asked { .. } | Ending::Killed { .. } => self.members().is_empty(),
        }
    }

    /// Whether even the program itself need not be waited for any more.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self.ending, Ending::GivenUp)
    }

    fn signal(&self, signal: Signal) {
        for member in self.members() {
            // It may have ended in the meantime.
            kill(member, signal).ok();
        }
    }

    /// Parents before their children. Orphans have become children of this process.
    fn members(&self) -> Vec<Pid> {
        let mut members: Vec<Pid> =
            children_of(getpid()).filter(|child| !self.spared.contains(child)).collect();
        let mut next = 0;
        while let Some(&member) = members.get(next) {
            members.extend(children_of(member));
            next += 1;
        }
        members
    }
}

fn children_of(parent: Pid) -> impl Iterator<Item = Pid> {
    // A child belongs to the thread that started it.
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .map(Pid::from_raw)
}
