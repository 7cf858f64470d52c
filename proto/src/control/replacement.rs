//! How processes were replaced: all of them by a reload, or one that an operator wanted to go.

use serde::{Deserialize, Serialize};

/// One reload, as `reload --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The generation that it brings.
    pub generation: u32,
    /// What has become of it.
    pub outcome: ReloadOutcome,
    /// Of which service this is told, if it is not the default one.
    #[serde(default)]
    pub service: Option<String>,
}

/// What becomes of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// It has begun.
    Started,
    /// Every worker is of the new generation.
    Finished {
        /// How many there are.
        workers: u32,
    },
    /// A new worker failed, and what was there before serves.
    Failed {
        /// In which slot.
        slot: u32,
        /// Why.
        reason: String,
        /// The last lines that the new worker wrote, oldest first.
        last_words: Vec<String>,
        /// The generation that serves.
        serving: u32,
    },
    /// Another reload began before it had ended.
    Superseded {
        /// That one's generation.
        by: u32,
    },
    /// The broker stopped before it had ended.
    Abandoned,
}

/// One slot's change of processes, as `recycle --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecycleReport {
    /// Which slot.
    pub slot: u32,
    /// The filling of the slot that is to go.
    pub incarnation: u32,
    /// What has become of it.
    pub outcome: RecycleOutcome,
}

/// What becomes of a process that is to be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecycleOutcome {
    /// Its replacement comes as soon as it is its turn.
    Started,
    /// It has ended.
    Ended {
        /// Why: `recycle: operator`, unless something else came first.
        reason: String,
        /// The filling of the slot that serves in its place; absent if the slot is closed or empty.
        successor: Option<u32>,
    },
}
