//! Another program in this one's place, step by step: it is tried, the router hands over,
//! and then this process becomes it and keeps its children. Until that last step nothing
//! is changed that could not go on as before.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::fcntl::FdFlag;
use nix::unistd::Pid;
use tracing::{error, info, warn};

use crate::link::{Signal, ToRouter};
use crate::parent::errand::Errand;
use crate::parent::inheritance::{Estate, InheritedPool, PoolState};
use crate::parent::journal::Journal;
use crate::parent::successor::{Successor, Trial};
use crate::parent::{clock, process};

use super::Parent;

/// What the router has for its own end after the time it gives to what it has accepted.
const MARGIN: Duration = Duration::from_secs(5);

/// So many signals are kept for the next router: more than anybody sends by hand.
const PUT_OFF_LIMIT: usize = 1024;

/// How far an upgrade has come.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    stage: Stage,
    /// What the next router is to be told.
    put_off: Vec<Signal>,
    /// A stop that the router may not have read any more.
    unheard_stop: Option<Signal>,
    /// The next router has not said yet that it serves.
    awaits_router: bool,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    None,
    /// The program is a child, and has not said yet whether it would do.
    Trying(Trial),
    /// The router finishes what it has accepted.
    HandingOver {
        /// When it is ended.
        by: Duration,
        /// It has finished.
        is_done: bool,
    },
}

/// Who wants an upgrade, and hears if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Signal,
    Operator,
}

impl Upgrade {
    /// When something is due, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match &self.stage {
            Stage::None => None,
            Stage::Trying(trial) => Some(trial.deadline),
            Stage::HandingOver { by, .. } => Some(*by),
        }
    }

    /// What to poll.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Trying(trial) => trial.pipe(),
            Stage::None | Stage::HandingOver { .. } => None,
        }
    }

    /// Whether one router is being replaced by another.
    pub(super) fn is_replacing(&self) -> bool {
        self.awaits_router
    }

    /// A router has said that it serves.
    pub(super) fn note_ready(&mut self) {
        self.awaits_router = false;
    }

    /// Whether the signal is kept from a router that will not act on it any more.
    pub(super) fn puts_off(&mut self, signal: Signal) -> bool {
        if !matches!(self.stage, Stage::HandingOver { .. }) {
            return false;
        }
        match signal {
            Signal::Term | Signal::Int | Signal::Quit => {
                self.unheard_stop = Some(signal);
                false
            }
            Signal::Usr1 | Signal::Usr2 => false,
            Signal::Hup | Signal::Ttin | Signal::Ttou => {
                if self.put_off.len() < PUT_OFF_LIMIT {
                    self.put_off.push(signal);
                }
                true
            }
        }
    }
}

impl Parent<'_> {
    /// Goes on where the program of before has stopped, in this process.
    pub(super) fn inherit(&mut self, inherited: InheritedPool) {
        let InheritedPool { children, journal, state } = inherited;
        self.children = children;
        // A program of before may have had none.
        self.journal = journal.or_else(Journal::create);
        for (_pid, worker) in self.children.all() {
            // Programs of before had one service, and no name for it.
            let own = self
                .recipes
                .iter_mut()
                .find(|recipes| worker.service.is_empty() || recipes.serving().service == worker.service);
            if let Some(recipes) = own {
                recipes.know(worker.generation);
            }
        }
        self.blob = state.blob;
        self.named_blobs = state.named_blobs;
        self.life = state.life.saturating_add(1);
        self.started_at = state.started_at;
        self.is_ready = state.is_ready;
        if state.is_ready {
            self.upgrade.awaits_router = true;
            self.manager.inherit();
        }
        self.start_router_at = Some(clock::now());
        // Some may have ended while nobody could see it.
        self.is_reaping = true;
        for signal in state.signals {
            self.tell(ToRouter::Signal(signal));
        }
    }

    /// The first step.
    pub(super) fn begin_upgrade(&mut self, asker: Asker) {
        if !matches!(self.upgrade.stage, Stage::None) {
            return self.refuse_another(asker, "another upgrade is under way");
        }
        if self.stop.has_begun || self.ending.is_some() {
            return self.refuse_another(asker, "the broker is stopping");
        }
        let Some(successor) = self.setup.successor.clone() else {
            return self.refuse_upgrade("the file of this program cannot be found".to_owned());
        };
        let trial = self.estate(Vec::new()).write().and_then(|estate| {
            Trial::start(&successor, &estate, clock::now()).map_err(|errno| errno.desc().to_lowercase())
        });
        match trial {
            Ok(trial) => {
                info!(program = %successor.program().display(), "upgrade: trying the program");
                self.upgrade.stage = Stage::Trying(trial);
            }
            Err(why) => self.refuse_upgrade(format!("it cannot be tried: {why}")),
        }
    }

    fn refuse_another(&mut self, asker: Asker, why: &str) {
        warn!(why, "upgrade refused");
        if asker == Asker::Operator {
            self.tell(ToRouter::UpgradeRefused { why: why.to_owned() });
        }
    }

    fn refuse_upgrade(&mut self, why: String) {
        error!(why, "upgrade refused: everything stays as it is");
        self.tell(ToRouter::UpgradeRefused { why });
    }

    /// Reads what the program on trial writes.
    pub(super) fn read_trial(&mut self) {
        if let Stage::Trying(trial) = &mut self.upgrade.stage {
            trial.read_output();
        }
    }

    /// Takes the end of the program on trial, if it was that child.
    pub(super) fn bury_trial(&mut self, pid: Pid) -> bool {
        match std::mem::take(&mut self.upgrade.stage) {
            Stage::Trying(trial) if trial.pid == pid => {
                match trial.finish() {
                    Ok(verdict) => self.begin_handover(&verdict.version),
                    Err(why) => self.refuse_upgrade(why),
                }
                true
            }
            other => {
                self.upgrade.stage = other;
                false
            }
        }
    }

    /// The second step: the program would do.
    fn begin_handover(&mut self, version: &str) {
        if self.stop.has_begun || self.ending.is_some() {
            return info!("upgrade: given up, because the broker is stopping");
        }
        info!(version, "upgrade: the program is accepted");
        let by = clock::now().saturating_add(self.setup.drain).saturating_add(MARGIN);
        self.upgrade.stage = Stage::HandingOver { by, is_done: false };
        self.upgrade.awaits_router = true;
        if self.router.is_some() {
            self.tell(ToRouter::HandOver);
        } else {
            // It has died and the next one is not there yet: there is nothing to wait for.
            self.become_successor();
        }
    }

    /// The router has finished what it had accepted.
    pub(super) fn note_handed_over(&mut self) {
        if let Stage::HandingOver { by, is_done } = &mut self.upgrade.stage {
            *by = clock::now().saturating_add(MARGIN);
            *is_done = true;
        }
    }

    /// Whether the end of the router is a step of an upgrade, and sees to it.
    pub(super) fn follow_handover(&mut self) -> bool {
        let Stage::HandingOver { is_done, .. } = self.upgrade.stage else { return false };
        if !self.stop.has_begun {
            self.become_successor();
            return true;
        }
        self.upgrade.stage = Stage::None;
        if !is_done {
            return false;
        }
        // It was done before it could read of the stop: the next router of this program
        // sees to that.
        info!("upgrade: given up, because the broker is stopping");
        self.life = self.life.saturating_add(1);
        self.start_router_at = Some(clock::now());
        if let Some(signal) = self.upgrade.unheard_stop.take()
            && !self.unsent.signals().any(|unsent| unsent == signal)
        {
            self.tell(ToRouter::Signal(signal));
        }
        true
    }

    /// The last step. If it returns, this program goes on with a router of its own.
    fn become_successor(&mut self) {
        self.upgrade.stage = Stage::None;
        self.start_router_at = None;
        // The program that follows takes it for granted that this has been said.
        self.tell_manager(clock::now());
        // It is another program then. Should there be none, this one ends it and starts another.
        self.http.kill();
        let mut signals: Vec<Signal> = self.unsent.signals().collect();
        signals.extend(std::mem::take(&mut self.upgrade.put_off));
        let why = match self.setup.successor.clone() {
            Some(successor) => self.execute_with_estate(&successor, signals.clone()),
            None => "the file of this program cannot be found".to_owned(),
        };
        error!(why, "upgrade failed: this program goes on");
        let known = self.unsent.signals().count();
        for signal in signals.into_iter().skip(known) {
            self.tell(ToRouter::Signal(signal));
        }
        self.life = self.life.saturating_add(1);
        self.start_router_at = Some(clock::now());
    }

    /// Gives the reason if it returns at all.
    fn execute_with_estate(&self, successor: &Successor, signals: Vec<Signal>) -> String {
        let estate = self.estate(signals);
        let mut open = estate.descriptors();
        let description = match estate.write() {
            Ok(description) => description,
            Err(why) => return why,
        };
        open.push(description.as_raw_fd());
        for descriptor in &open {
            if let Err(errno) = process::set_flags(*descriptor, FdFlag::empty()) {
                warn!(descriptor, %errno, "cannot be handed down");
            }
        }
        info!(program = %successor.program().display(), "upgrade: becoming the program");
        let why = successor.execute(&Errand::Take { inheritance: description.as_raw_fd() });
        for descriptor in &open {
            process::set_flags(*descriptor, FdFlag::FD_CLOEXEC).ok();
        }
        why
    }

    fn estate(&self, signals: Vec<Signal>) -> Estate<'_> {
        Estate {
            listeners: &self.setup.listeners,
            pid_file: self.setup.pid_file.as_ref(),
            children: &self.children,
            journal: self.journal.as_ref(),
            state: PoolState {
                blob: self.blob.clone(),
                named_blobs: self.named_blobs.clone(),
                life: self.life,
                started_at: self.started_at,
                is_ready: self.is_ready,
                signals,
                settings_text: self.setup.settings_text.clone(),
            },
        }
    }

    pub(super) fn see_to_upgrade(&mut self, now: Duration) {
        match &mut self.upgrade.stage {
            Stage::Trying(trial) if trial.deadline <= now => trial.give_up(),
            Stage::HandingOver { by, .. } if *by <= now => {
                *by = Duration::MAX;
                // A stop has a deadline of its own.
                if !self.stop.has_begun
                    && let Some(router) = &self.router
                {
                    warn!(pid = router.pid.as_raw(), "router does not hand over in time, killing it");
                    router.kill();
                }
            }
            Stage::None | Stage::Trying(_) | Stage::HandingOver { .. } => {}
        }
    }
}
