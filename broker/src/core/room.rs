//! Room that a table has needed once, for tens of thousands, and needs no more.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// So much is kept.
const ROOM: usize = 1024;

/// After something was taken out: gives back what is not likely to be needed soon.
pub(crate) fn give_back<K: Eq + Hash, V>(table: &mut FxHashMap<K, V>) {
    let room = table.capacity();
    if room > ROOM && table.len() < room / 8 {
        table.shrink_to(room / 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_has_held_thousands_becomes_small_again() {
        let mut table: FxHashMap<u32, u32> = (0..100_000).map(|number| (number, number)).collect();
        for number in 0..99_990 {
            table.remove(&number);
            give_back(&mut table);
        }
        assert!(table.capacity() <= 2 * ROOM, "room for {}", table.capacity());
        assert_eq!(table.len(), 10);
    }
}
