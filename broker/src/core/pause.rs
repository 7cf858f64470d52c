//! Paused by the operator: what runs goes on and no request is handed out. What
//! arrives waits, or is refused at once if the operator wants it so.
//!
//! A pause outlives the router. A stop ends it, because what was accepted is to be
//! served or refused; another router gets it with an empty queue (`handover.rs`).

use std::time::Duration;

use hornpipe_proto::Status;

use super::action::{Action, Note};
use super::handover::REPLACED;
use super::ids::Timestamp;
use super::{Core, Phase, Turn};

/// What becomes of requests that arrive meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseMode {
    /// They wait, within the limits of the queue and of their own time.
    Hold,
    /// They are answered `unavailable`. What waits already waits on.
    Refuse,
}

/// No request is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    pub mode: PauseMode,
    pub since: Timestamp,
}

const PAUSED: &str = "the service is paused by its operator, ask again later";

impl<B: Clone> Core<B> {
    /// Hands out no request until `resume_pool`. Once more with another mode changes the mode.
    pub(super) fn pause_pool(&mut self, mode: PauseMode, turn: &mut Turn<'_, B>) {
        if !self.may_be_paused() || self.pause.is_some_and(|pause| pause.mode == mode) {
            return;
        }
        let since = self.pause.map_or(turn.now, |pause| pause.since);
        self.pause = Some(Pause { mode, since });
        self.withdraw_everything(turn);
        turn.act(Action::Remember(self.memory()));
        turn.note(Note::Paused { mode, waiting: self.requests.backlog_len() });
    }

    pub(super) fn resume_pool(&mut self, turn: &mut Turn<'_, B>) {
        if !self.may_be_paused() {
            return;
        }
        let Some(pause) = self.pause.take() else { return };
        if let Some(rules) = self.settings.autoscale {
            // What waited, waited for the operator and not for workers.
            self.pool.autoscale.start_afresh(turn.now, rules.up_wait);
        }
        turn.act(Action::Remember(self.memory()));
        let after = turn.now.since(pause.since);
        turn.note(Note::Resumed { waiting: self.requests.backlog_len(), after });
    }

    /// Whether the pool can be paused and resumed: not once it ends or is handed over.
    pub fn may_be_paused(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Serving | Phase::Failing)
    }

    pub fn pause(&self) -> Option<Pause> {
        self.pause
    }

    /// How long it has been paused, if it is.
    pub(super) fn paused_for(&self, now: Timestamp) -> Option<(PauseMode, Duration)> {
        self.pause.map(|pause| (pause.mode, now.since(pause.since)))
    }

    pub(super) fn refusal_while_paused(&self) -> Option<(Status, &'static str)> {
        match self.pause?.mode {
            PauseMode::Hold => None,
            PauseMode::Refuse => Some((Status::Unavailable, PAUSED)),
        }
    }

    /// What waits in a paused pool that is handed over would wait for nobody: the next
    /// router does not know of it.
    pub(super) fn assess_pause(&mut self, turn: &mut Turn<'_, B>) {
        if self.pause.is_some() && self.phase == Phase::HandingOver {
            self.refuse_waiting(Status::Unavailable, REPLACED, turn);
        }
    }

    /// Whether requests are handed to workers.
    pub(super) fn dispatches(&self) -> bool {
        self.phase.dispatches() && self.pause.is_none()
    }

    /// Where the broker stands, in one word for status and events.
    pub fn phase_word(&self) -> &'static str {
        match (self.phase, self.pause) {
            (Phase::Serving, Some(_)) => "paused",
            (phase, _) => phase.as_str(),
        }
    }
}
