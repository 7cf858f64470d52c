//! Which broker of a list gets the requests of one word.
//!
//! Rendezvous hashing: each broker has a score for the word, the highest is asked first.
//! Whoever leaves the list takes only its own words along. The scores are the same in every
//! process and, as they are written down here, in every language.

use crate::endpoint::Endpoint;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The brokers' places in the list, the one to be asked first in front.
pub(crate) fn order(word: &str, brokers: &[Endpoint]) -> Vec<usize> {
    let scores: Vec<u64> = brokers.iter().map(|broker| score(&broker.to_string(), word)).collect();
    let mut places: Vec<usize> = (0..brokers.len()).collect();
    places.sort_by_key(|place| std::cmp::Reverse(scores.get(*place).copied()));
    places
}

/// FNV-1a of 64 bits over the endpoint as `tcp://HOST:PORT`, a zero byte and the word; then
/// the finish of `MurmurHash3`, because FNV alone leaves the upper bits of short texts alike.
fn score(endpoint: &str, word: &str) -> u64 {
    let bytes = endpoint.bytes().chain([0]).chain(word.bytes());
    let mut hash = bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(count: u16) -> Vec<Endpoint> {
        (0..count).map(|number| Endpoint::Tcp { host: "queue".into(), port: 6660 + number }).collect()
    }

    #[test]
    fn the_words_are_spread_and_only_those_of_a_lost_broker_move() {
        let (all, fewer) = (brokers(4), brokers(3));
        let mut load = [0; 4];
        for number in 0..4000 {
            let word = format!("user-{number}");
            let first = order(&word, &all)[0];
            load[first] += 1;
            let without = order(&word, &fewer)[0];
            let expected = if first == 3 { order(&word, &all)[1] } else { first };
            assert_eq!(without, expected, "{word}");
        }
        assert!(load.iter().all(|count| (850..1150).contains(count)), "{load:?}");
    }

    #[test]
    fn the_scores_are_what_another_language_computes() {
        assert_eq!(score("tcp://127.0.0.1:6660", "a"), EXPECTED);
    }

    // Computed with twelve lines of Python from the description above.
    const EXPECTED: u64 = 0x63a5_5178_35ef_9752;
}
