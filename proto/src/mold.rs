//! What the broker's parent and a mold say to each other: a map in each packet of a
//! socketpair that keeps message boundaries. A mold has loaded a program once and forks
//! workers of it.

use serde::{Deserialize, Serialize};

use crate::{MapError, map};

/// An order of the parent to a mold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum MoldOrder {
    /// Fork a worker. Two descriptors come along: its output, and its gate.
    Fork(ForkOrder),
    /// Say how much memory these workers and the mold hold.
    Measure {
        /// To be repeated in the answer.
        number: u64,
        /// The workers.
        pids: Vec<i32>,
    },
}

/// What a worker is told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkOrder {
    /// To be repeated in the answer.
    pub number: u64,
    /// As `HORNPIPE_BACKEND`.
    pub backend: String,
    /// As `HORNPIPE_SERVICE`.
    pub service: String,
    /// As `HORNPIPE_SLOT`.
    pub slot: u32,
    /// As `HORNPIPE_INCARNATION`.
    pub incarnation: u32,
    /// As `HORNPIPE_GENERATION`.
    pub generation: u32,
}

/// What a mold says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum MoldWord {
    /// The program is loaded.
    Ready {
        /// The version of this protocol that it speaks: 1.
        version: u32,
        /// Which library it uses, with its version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sdk: Option<String>,
    },
    /// The worker is there, and the parent's child.
    Forked {
        /// Of the order.
        number: u64,
        /// The worker.
        pid: i32,
    },
    /// There is no worker.
    Failed {
        /// Of the order.
        number: u64,
        /// Why.
        why: String,
    },
    /// How much memory is held, in KiB.
    Measured {
        /// Of the order.
        number: u64,
        /// What mold and workers have in common, and what is the mold's own.
        shared_kib: u64,
        /// What is the workers' own.
        private_kib: u64,
        /// What the mold held before it had forked: about what one process would hold that
        /// has loaded the program for itself.
        alone_kib: u64,
    },
}

impl MoldOrder {
    /// The map as a packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        map::encode(self)
    }

    /// The order in a packet.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(packet: &[u8]) -> Result<Self, MapError> {
        map::decode(packet)
    }
}

impl MoldWord {
    /// The map as a packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        map::encode(self)
    }

    /// The word in a packet.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(packet: &[u8]) -> Result<Self, MapError> {
        map::decode(packet)
    }
}
