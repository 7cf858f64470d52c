//! The small state that the parent keeps for the next router, as bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::parent::from_link;
use crate::core::{DEFAULT_SERVICE, Incarnation, Memory, SLOTS_APART, Slot};
use crate::link;

#[derive(Debug, Serialize, Deserialize)]
struct Blob {
    target: u32,
    generation: u32,
    incarnations: Vec<(u32, u32)>,
}

pub(super) fn encode(memory: &Memory) -> Vec<u8> {
    let incarnations = memory.incarnations.iter().map(|(slot, number)| (slot.0, number.0)).collect();
    let blob = Blob { target: memory.target, generation: memory.generation, incarnations };
    rmp_serde::to_vec(&blob).unwrap_or_default()
}

/// `None` for bytes that no router wrote: the next one starts afresh.
fn decode(bytes: &[u8]) -> Option<Memory> {
    let blob: Blob = rmp_serde::from_slice(bytes).ok()?;
    Some(Memory {
        target: blob.target,
        generation: blob.generation,
        incarnations: blob
            .incarnations
            .into_iter()
            .map(|(slot, number)| (Slot(slot), Incarnation(number)))
            .collect(),
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

    #[test]
    fn what_a_router_of_one_service_left_is_understood() {
        // As version 0.1 wrote it: target 3, generation 2, slots 0 and 1.
        let blob = b"\x93\x03\x02\x92\x92\x00\x05\x92\x01\x07";
        let memories = read(Some(blob), &BTreeMap::new(), &[place(1, 8), place(2, 1), place(10_000, 4)]);
        let incarnations = [(0, 5), (1, 8), (2, 1)].map(|(slot, last)| (Slot(slot), Incarnation(last)));
        let expected = Memory { target: 3, generation: 2, incarnations: incarnations.to_vec() };
        assert_eq!(memories, BTreeMap::from([("default".into(), expected.clone())]));
        assert_eq!(decode(&encode(&expected)), Some(expected));
    }

    #[test]
    fn each_service_completes_its_own_slots_and_rubbish_is_nothing() {
        let memory = Memory { target: 1, generation: 0, incarnations: vec![(Slot(20_000), Incarnation(1))] };
        let named = BTreeMap::from([("a".to_owned(), encode(&memory)), ("b".to_owned(), vec![0xc1])]);
        let memories =
            read(None, &named, &[place(0, 9), place(20_000, 2), place(20_001, 1), place(30_000, 5)]);
        let expected = [(20_000, 2), (20_001, 1)].map(|(slot, last)| (Slot(slot), Incarnation(last)));
        assert_eq!(memories.len(), 1);
        assert_eq!(memories["a"].incarnations, expected);
    }
}
