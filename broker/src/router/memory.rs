//! The small state that the parent keeps for the next router, as bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parent::from_link;
use crate::core::{Incarnation, Memory, Pause, PauseMode, Slot, Timestamp};
use crate::link;

#[derive(Debug, Serialize, Deserialize)]
struct Blob {
    target: u32,
    generation: u32,
    incarnations: Vec<(u32, u32)>,
    /// Left out while there is none, so that a router of before, which knows no pause, can
    /// read the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pause: Option<SavedPause>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct SavedPause {
    refuses: bool,
    since: Duration,
}

pub(super) fn encode(memory: &Memory) -> Vec<u8> {
    let incarnations = memory.incarnations.iter().map(|(slot, number)| (slot.0, number.0)).collect();
    let pause = memory
        .pause
        .map(|pause| SavedPause { refuses: pause.mode == PauseMode::Refuse, since: pause.since.0 });
    let blob = Blob { target: memory.target, generation: memory.generation, incarnations, pause };
    rmp_serde::to_vec(&blob).unwrap_or_default()
}

/// `None` for bytes that no router wrote: the next one starts afresh.
pub(super) fn decode(bytes: &[u8]) -> Option<Memory> {
    let blob: Blob = rmp_serde::from_slice(bytes).ok()?;
    Some(Memory {
        target: blob.target,
        generation: blob.generation,
        incarnations: blob
            .incarnations
            .into_iter()
            .map(|(slot, number)| (Slot(slot), Incarnation(number)))
            .collect(),
        pause: blob.pause.map(|saved| Pause {
            mode: if saved.refuses { PauseMode::Refuse } else { PauseMode::Hold },
            since: Timestamp(saved.since),
        }),
    })
}

/// What is remembered, and each place that was used after it was written down.
pub(super) fn complete(memory: Option<Memory>, used: &[link::Place]) -> Option<Memory> {
    let mut memory = memory?;
    for place in used.iter().copied().map(from_link) {
        match memory.incarnations.iter_mut().find(|(slot, _)| *slot == place.slot) {
            Some((_slot, last)) => *last = (*last).max(place.incarnation),
            None => memory.incarnations.push((place.slot, place.incarnation)),
        }
    }
    Some(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(pause: Option<Pause>) -> Memory {
        Memory { target: 3, generation: 2, incarnations: vec![(Slot(0), Incarnation(4))], pause }
    }

    #[test]
    fn a_pause_is_remembered_with_the_rest() {
        let since = Timestamp(Duration::from_millis(1_234_567));
        for pause in [None, Some(PauseMode::Hold), Some(PauseMode::Refuse)] {
            let memory = memory(pause.map(|mode| Pause { mode, since }));
            assert_eq!(decode(&encode(&memory)), Some(memory));
        }
    }

    #[test]
    fn routers_that_know_no_pause_and_those_that_do_read_each_other() {
        let before = rmp_serde::to_vec(&(3_u32, 2_u32, vec![(0_u32, 4_u32)])).unwrap();
        assert_eq!(decode(&before), Some(memory(None)));
        assert_eq!(encode(&memory(None)), before);
    }
}
