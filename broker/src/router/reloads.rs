//! Operators who wait for the end of a reload, and what they are told then.

use std::collections::BTreeMap;
use std::time::Duration;

use hornpipe_proto::control::{LastReload, ReloadOutcome, ReloadReport};

use super::Body;
use super::control::Operator;
use super::report::milliseconds;
use crate::core::{Core, Note};

/// Each waits for one generation, and every generation ends: there are never more
/// than wait for the present reload, and for one whose newcomer is still being ended.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    waiting: BTreeMap<Operator, u32>,
    /// The last one that finished or failed.
    last: Option<LastReload>,
}

impl Reloads {
    pub(super) fn wait(&mut self, operator: Operator, generation: u32) {
        self.waiting.insert(operator, generation);
    }

    /// Remembers how one has ended, and when.
    pub(super) fn record(&mut self, report: &ReloadReport, wall: Duration) {
        let succeeded = match report.outcome {
            ReloadOutcome::Finished { .. } => true,
            ReloadOutcome::Failed { .. } => false,
            ReloadOutcome::Started | ReloadOutcome::Superseded { .. } | ReloadOutcome::Abandoned => return,
        };
        self.last = Some(LastReload { succeeded, at_ms: milliseconds(wall) });
    }

    pub(super) fn last(&self) -> Option<LastReload> {
        self.last
    }

    pub(super) fn forget(&mut self, operator: Operator) {
        self.waiting.remove(&operator);
    }

    /// Who has waited for the end of this generation's reload.
    pub(super) fn ended(&mut self, generation: u32) -> Vec<Operator> {
        let told: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, one)| **one == generation)
            .map(|(operator, _)| *operator)
            .collect();
        for operator in &told {
            self.waiting.remove(operator);
        }
        told
    }
}

/// How a reload has ended, if this is the news of it.
pub(super) fn end(note: &Note, core: &Core<Body>, last_words: Vec<String>) -> Option<ReloadReport> {
    let (generation, outcome) = match note {
        Note::ReloadFinished { generation } => {
            (generation, ReloadOutcome::Finished { workers: core.target() })
        }
        Note::ReloadFailed { generation, place, reason } => {
            let serving = core.generation().0;
            let reason = reason.clone();
            (generation, ReloadOutcome::Failed { slot: place.slot.0, reason, last_words, serving })
        }
        Note::ReloadSuperseded { generation, by } => (generation, ReloadOutcome::Superseded { by: by.0 }),
        Note::ReloadAbandoned { generation } => (generation, ReloadOutcome::Abandoned),
        _ => return None,
    };
    Some(ReloadReport { generation: generation.0, outcome })
}
