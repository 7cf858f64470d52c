//! The simulation's own random numbers: the same seed gives the same run on
//! every machine and with every version of every crate.

use std::time::Duration;

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `limit - 1`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + u32::try_from(self.below(u64::from(high - low) + 1)).unwrap_or(0)
    }

    pub(super) fn percent(&mut self, chance: u32) -> bool {
        self.below(100) < u64::from(chance)
    }

    /// A time from `low` to `high` milliseconds, in microseconds.
    pub(super) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(low * 1000 + self.below((high - low) * 1000 + 1))
    }

    pub(super) fn pick<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let chosen = self.below(others.len() as u64 + 1);
        let index = usize::try_from(chosen).unwrap_or(0);
        others.get(index).copied().unwrap_or(first)
    }
}

/// A seed as the core's generator takes it.
pub(super) fn seed_bytes(seed: u64) -> [u8; 32] {
    let mut bytes = [1; 32];
    bytes.iter_mut().zip(seed.to_le_bytes()).for_each(|(to, from)| *to = from);
    bytes
}
