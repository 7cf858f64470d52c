//! Degraded: the pool serves, and some of the workers that are wanted cannot be had.
//! It is said once when it begins and once when it is over, for operators and their
//! programs, however often the slots in question fail.

use super::action::{Action, ExitReason, Note};
use super::settings::YOUNG;
use super::timers::Timer;
use super::{Core, Phase, Turn};

/// How many workers are missing, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    pub unfilled: u32,
    pub target: u32,
    /// How the last of them failed.
    pub reason: ExitReason,
}

/// What is known of the pool's health.
#[derive(Debug, Default)]
pub(super) struct Health {
    degraded: Option<Degraded>,
    /// Every slot is filled again, and it is seen whether it stays so.
    mending: bool,
}

impl<B: Clone> Core<B> {
    pub(super) fn assess_health(&mut self, turn: &mut Turn<'_, B>) {
        match self.phase {
            Phase::Serving | Phase::Failing => (),
            Phase::Starting => return,
            // What fails while the pool is handed over is the next router's to find, and so
            // is whether it stays mended.
            Phase::HandingOver | Phase::HandedOver => {
                self.pool.health.mending = false;
                self.timers.disarm(Timer::Mended);
                return;
            }
            Phase::Draining { .. } | Phase::Ending | Phase::Over => {
                self.pool.health = Health::default();
                self.timers.disarm(Timer::Mended);
                return;
            }
        }
        let unfilled = self.roster.tally().unfilled;
        let Health { degraded, mending } = &self.pool.health;
        match (degraded.is_some(), unfilled) {
            (false, 0) => (),
            (false, _) => {
                self.pool.health.degraded = self.missing_workers();
                turn.actions.extend(self.degraded().map(|degraded| Action::Note(Note::Degraded(degraded))));
            }
            (true, 0) if !mending => {
                // A program may say that it is ready and end in the next moment.
                self.pool.health.mending = true;
                self.timers.arm(turn.now.after(YOUNG), Timer::Mended);
            }
            (true, 0) => (),
            (true, _) => {
                if std::mem::take(&mut self.pool.health.mending) {
                    self.timers.disarm(Timer::Mended);
                }
            }
        }
    }

    /// Every slot has been filled for a while.
    pub(super) fn mended(&mut self, turn: &mut Turn<'_, B>) {
        // One may have failed in this very turn.
        if self.roster.tally().unfilled > 0 {
            return;
        }
        self.pool.health = Health::default();
        turn.note(Note::Restored);
    }

    /// Whether some of the workers that are wanted cannot be had.
    pub fn is_degraded(&self) -> bool {
        self.pool.health.degraded.is_some()
    }

    /// What is to be said about it now.
    pub(super) fn degraded(&self) -> Option<Degraded> {
        let told = self.pool.health.degraded.as_ref()?;
        Some(self.missing_workers().unwrap_or_else(|| told.clone()))
    }

    fn missing_workers(&self) -> Option<Degraded> {
        let unfilled =
            || self.roster.wanted().map(|(_slot, record)| record).filter(|record| record.is_unfilled());
        let last = unfilled().filter_map(|record| record.failed.as_ref()).max_by_key(|failure| failure.at);
        last.map(|failure| Degraded {
            unfilled: u32::try_from(unfilled().count()).unwrap_or(u32::MAX),
            target: self.pool.target,
            reason: failure.reason.clone(),
        })
    }
}
