//! The small state that the parent keeps for the next router, as bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parent::from_link;
use crate::core::{
    DEFAULT_SERVICE, Incarnation, Memory, Pause, PauseMode, Place, SLOTS_APART, Slot, Timestamp,
};
use crate::link;

#[derive(Debug, Serialize, Deserialize)]
struct Blob {
    target: u32,
    generation: u32,
    incarnations: Vec<(u32, u32)>,
    /// Not written down by the first versions, and neither is what follows.
    #[serde(default)]
    size: Option<u32>,
    #[serde(default)]
    pause: Option<SavedPause>,
    #[serde(default)]
    returning: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct SavedPause {
    refuses: bool,
    since: Duration,
}

pub(super) fn encode(memory: &Memory) -> Vec<u8> {
    let incarnations = memory.incarnations.iter().map(|(slot, number)| (slot.0, number.0)).collect();
    let pause = memory.pause.map(|pause| SavedPause {
        refuses: pause.mode == PauseMode::Refuse,
        since: pause.since.since_start(),
    });
    let blob = Blob {
        target: memory.target,
        generation: memory.generation,
        incarnations,
        size: memory.size,
        pause,
        returning: memory.returning.iter().map(|place| (place.slot.0, place.incarnation.0)).collect(),
    };
    // With names: a router of an earlier version skips what it does not know.
    rmp_serde::to_vec_named(&blob).unwrap_or_default()
}

/// `None` for bytes that no router wrote: the next one starts afresh.
fn decode(bytes: &[u8]) -> Option<Memory> {
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
        returning: blob
            .returning
            .into_iter()
            .map(|(slot, incarnation)| Place { slot: Slot(slot), incarnation: Incarnation(incarnation) })
            .collect(),
        pause: blob.pause.map(|saved| Pause {
            mode: if saved.refuses { PauseMode::Refuse } else { PauseMode::Hold },
            since: Timestamp::new(saved.since),
        }),
    })
}

/// What routers of before have left of each service, by its name.
pub(super) fn read(
    default: Option<&[u8]>,
    named: &BTreeMap<String, Vec<u8>>,
    used: &[link::Place],
) -> BTreeMap<Arc<str>, Memory> {
    let default = default.map(|blob| (DEFAULT_SERVICE, blob));
    let named = named.iter().map(|(name, blob)| (name.as_str(), blob.as_slice()));
    let memories = default.into_iter().chain(named);
    memories.filter_map(|(name, blob)| Some((name.into(), complete(name, decode(blob)?, used)))).collect()
}

/// What is remembered, and each place that was used after it was written down.
fn complete(name: &str, mut memory: Memory, used: &[link::Place]) -> Memory {
    let range = match memory.incarnations.first() {
        _ if name == DEFAULT_SERVICE => 0,
        Some((slot, _incarnation)) => slot.0 / SLOTS_APART,
        // It has never had a slot.
        None => return memory,
    };
    let own = used.iter().copied().map(from_link).filter(|place| place.slot.0 / SLOTS_APART == range);
    for place in own {
        match memory.incarnations.iter_mut().find(|(slot, _)| *slot == place.slot) {
            Some((_slot, last)) => *last = (*last).max(place.incarnation),
            None => memory.incarnations.push((place.slot, place.incarnation)),
        }
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(slot: u32, incarnation: u32) -> link::Place {
        link::Place { slot, incarnation }
    }

    fn incarnations<const N: usize>(all: [(u32, u32); N]) -> Vec<(Slot, Incarnation)> {
        all.map(|(slot, last)| (Slot(slot), Incarnation(last))).to_vec()
    }

    #[test]
    fn what_the_first_versions_wrote_down_is_read() {
        let bytes = rmp_serde::to_vec(&(3_u32, 5_u32, vec![(0_u32, 2_u32), (1, 7)])).unwrap();
        let memories = read(Some(&bytes), &BTreeMap::new(), &[place(1, 8), place(2, 1), place(10_000, 4)]);
        let incarnations = incarnations([(0, 2), (1, 8), (2, 1)]);
        let expected = Memory { target: 3, generation: 5, incarnations, ..Memory::default() };
        assert_eq!(memories, BTreeMap::from([("default".into(), expected)]));
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
        let memory = Memory { target: 3, size: Some(4), generation: 5, incarnations, ..Memory::default() };
        let bytes = encode(&memory);
        let First { target, generation, incarnations } = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!((target, generation, incarnations), (3, 5, vec![(1, 7)]));
    }

    #[test]
    fn what_is_written_down_is_read() {
        let since = Timestamp::new(Duration::from_millis(1_234_567));
        for pause in [None, Some(PauseMode::Hold), Some(PauseMode::Refuse)] {
            let pause = pause.map(|mode| Pause { mode, since });
            let incarnations = incarnations([(1, 7)]);
            let returning = vec![Place { slot: Slot(1), incarnation: Incarnation(7) }];
            let memory = Memory { target: 3, size: Some(4), generation: 5, incarnations, returning, pause };
            assert_eq!(decode(&encode(&memory)), Some(memory));
        }
    }

    #[test]
    fn each_service_completes_its_own_slots_and_rubbish_is_nothing() {
        let memory = Memory { target: 1, incarnations: incarnations([(20_000, 1)]), ..Memory::default() };
        let named = BTreeMap::from([("a".to_owned(), encode(&memory)), ("b".to_owned(), vec![0xc1])]);
        let used = [place(0, 9), place(20_000, 2), place(20_001, 1), place(30_000, 5)];
        let memories = read(None, &named, &used);
        assert_eq!(memories.len(), 1);
        assert_eq!(memories["a"].incarnations, incarnations([(20_000, 2), (20_001, 1)]));
    }
}
