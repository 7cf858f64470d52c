//! The workers that are alive, by pid, and which places were ever filled.
//!
//! There are no pidfds. Only the parent reaps, in one thread, and takes the entry out of
//! this table as it does so; a process that is not reaped keeps its pid and its process
//! group. So an entry never names a stranger, and one descriptor per worker is saved.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::sys::signal::{Signal as Number, kill, killpg};
use nix::unistd::Pid;

use crate::link::{ExitStatus, Place};

use super::LiveWorker;
use super::gate::Gate;
use super::output::Output;

/// One worker process, from its fork to its reaping.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) place: Place,
    pub(super) service: String,
    pub(super) generation: u32,
    pub(super) started_at: Duration,
    pub(super) gate: Gate,
    pub(super) output: Output,
    /// Somebody stopped it.
    pub(super) halted: bool,
    /// It was sent KILL from here.
    pub(super) is_killed: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Children {
    by_pid: BTreeMap<i32, Worker>,
    /// The highest incarnation each slot has had.
    used: BTreeMap<u32, u32>,
}

impl Children {
    pub(super) fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    /// Whether a process may be started there: never twice in one place, or two
    /// processes would have one name.
    pub(super) fn is_free(&self, place: Place) -> bool {
        self.used.get(&place.slot).is_none_or(|used| *used < place.incarnation)
    }

    pub(super) fn insert(&mut self, pid: Pid, worker: Worker) {
        self.used.insert(worker.place.slot, worker.place.incarnation);
        self.by_pid.insert(pid.as_raw(), worker);
    }

    /// Notes places that were filled before, whoever has filled them.
    pub(super) fn mark_used(&mut self, places: &[Place]) {
        self.used.extend(places.iter().map(|place| (place.slot, place.incarnation)));
    }

    /// All of them, by pid.
    pub(super) fn all(&self) -> impl Iterator<Item = (i32, &Worker)> {
        self.by_pid.iter().map(|(pid, worker)| (*pid, worker))
    }

    pub(super) fn is_known(&self, pid: Pid) -> bool {
        self.by_pid.contains_key(&pid.as_raw())
    }

    /// Takes out the worker that has ended.
    pub(super) fn remove(&mut self, pid: Pid) -> Option<Worker> {
        self.by_pid.remove(&pid.as_raw())
    }

    /// Lets it run.
    pub(super) fn release(&self, pid: i32) {
        if let Some(worker) = self.by_pid.get(&pid) {
            worker.gate.open();
        }
    }

    /// Notes whether a worker is stopped. Gives its place if that is news.
    pub(super) fn set_halted(&mut self, pid: Pid, halted: bool) -> Option<Place> {
        let Entry::Occupied(mut entry) = self.by_pid.entry(pid.as_raw()) else { return None };
        let worker = entry.get_mut();
        (std::mem::replace(&mut worker.halted, halted) != halted).then_some(worker.place)
    }

    /// Signals the process group of the worker in that place. False if it has ended.
    pub(super) fn signal(&mut self, place: Place, number: Number) -> bool {
        let Some((pid, worker)) = self.by_pid.iter_mut().find(|(_pid, worker)| worker.place == place) else {
            return false;
        };
        worker.is_killed |= number == Number::SIGKILL;
        signal_group(*pid, number)
    }

    /// Kills the process group of every worker.
    pub(super) fn kill_all(&mut self) {
        for (pid, worker) in &mut self.by_pid {
            worker.is_killed = true;
            signal_group(*pid, Number::SIGKILL);
        }
    }

    /// What a new router is told.
    pub(super) fn live(&self) -> Vec<LiveWorker> {
        let describe = |(pid, worker): (&i32, &Worker)| LiveWorker {
            place: worker.place,
            generation: worker.generation,
            pid: *pid,
            started_at: worker.started_at,
        };
        self.by_pid.iter().map(describe).collect()
    }

    /// The places of the workers that are stopped.
    pub(super) fn halted(&self) -> impl Iterator<Item = Place> {
        self.by_pid.values().filter(|worker| worker.halted).map(|worker| worker.place)
    }

    /// The last place filled in each slot.
    pub(super) fn used(&self) -> Vec<Place> {
        self.used.iter().map(|(slot, incarnation)| Place { slot: *slot, incarnation: *incarnation }).collect()
    }

    /// What to poll, by pid.
    pub(super) fn pipes(&self) -> impl Iterator<Item = (i32, BorrowedFd<'_>)> {
        self.by_pid.iter().filter_map(|(pid, worker)| Some((*pid, worker.output.pipe()?)))
    }

    /// What the worker in that place wrote last, with what it has just written.
    pub(super) fn last_lines(&mut self, place: Place, each: &mut dyn FnMut(Place, i32, &str)) -> Vec<String> {
        let Some((pid, worker)) = self.by_pid.iter_mut().find(|(_pid, worker)| worker.place == place) else {
            return Vec::new();
        };
        worker.output.read_turn(&mut |line| each(place, *pid, line));
        worker.output.last_lines()
    }

    /// Reads one turn's worth of what a worker writes.
    pub(super) fn read_output(&mut self, pid: i32, each: &mut dyn FnMut(Place, i32, &str)) {
        if let Some(worker) = self.by_pid.get_mut(&pid) {
            let place = worker.place;
            worker.output.read_turn(&mut |line| each(place, pid, line));
        }
    }
}

/// Signals a worker and all that is in its process group. A worker may have moved to
/// another group, so one that is to die is also named itself.
pub(super) fn signal_group(pid: i32, number: Number) -> bool {
    // To kill(2), the group of process 1 is every process there is, and that of 0 our own.
    if pid <= 1 {
        return false;
    }
    let pid = Pid::from_raw(pid);
    let reached_group = killpg(pid, number).is_ok();
    let names_worker = number == Number::SIGKILL || !reached_group;
    let reached_worker = names_worker && kill(pid, number).is_ok();
    reached_group || reached_worker
}

impl Worker {
    /// Reads what the ended process left: why it never ran, if it did not, and its last lines.
    pub(super) fn finish(self, each: &mut dyn FnMut(&str)) -> (Option<ExitStatus>, Vec<String>) {
        (self.gate.report(), self.output.finish(each))
    }
}
