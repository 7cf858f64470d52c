//! The small state that the parent keeps for the next router, as bytes.

use serde::{Deserialize, Serialize};

use super::parent::from_link;
use crate::core::{Incarnation, Memory, Slot};
use crate::link;

#[derive(Debug, Serialize, Deserialize)]
struct Blob {
    target: u32,
    generation: u32,
    incarnations: Vec<(u32, u32)>,
    /// Not written down by the first versions.
    #[serde(default)]
    size: Option<u32>,
}

pub(super) fn encode(memory: &Memory) -> Vec<u8> {
    let incarnations = memory.incarnations.iter().map(|(slot, number)| (slot.0, number.0)).collect();
    let blob = Blob { target: memory.target, generation: memory.generation, incarnations, size: memory.size };
    // With names: a router of an earlier version skips what it does not know.
    rmp_serde::to_vec_named(&blob).unwrap_or_default()
}

/// `None` for bytes that no router wrote: the next one starts afresh.
pub(super) fn decode(bytes: &[u8]) -> Option<Memory> {
    let blob: Blob = rmp_serde::from_slice(bytes).ok()?;
    Some(Memory {
        target: blob.target,
        size: blob.size,
        generation: blob.generation,
        incarnations: blob
            .incarnations
            .into_iter()
            .map(|(slot, number)| (Slot(slot), Incarnation(number)))
            .collect(),
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

    #[test]
    fn what_the_first_versions_wrote_down_is_read() {
        let bytes = rmp_serde::to_vec(&(3_u32, 5_u32, vec![(0_u32, 2_u32)])).unwrap();
        let incarnations = vec![(Slot(0), Incarnation(2))];
        assert_eq!(decode(&bytes), Some(Memory { target: 3, size: None, generation: 5, incarnations }));
    }

    #[test]
    fn what_is_written_down_is_read_by_the_first_versions() {
        #[derive(Deserialize)]
        struct First {
            target: u32,
            generation: u32,
            incarnations: Vec<(u32, u32)>,
        }
        let incarnations = vec![(Slot(1), Incarnation(7))];
        let bytes = encode(&Memory { target: 3, size: Some(4), generation: 5, incarnations });
        let First { target, generation, incarnations } = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!((target, generation, incarnations), (3, 5, vec![(1, 7)]));
    }

    #[test]
    fn what_is_written_down_is_read() {
        let incarnations = vec![(Slot(1), Incarnation(7))];
        let memory = Memory { target: 3, size: Some(4), generation: 5, incarnations };
        assert_eq!(decode(&encode(&memory)), Some(memory));
    }
}
