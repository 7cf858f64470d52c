//! The core's only source of what others must not guess: tokens and jitter.
//! Seeded once, outside, from the kernel; the same seed gives the same run.

use std::time::Duration;

use hornpipe_proto::Token;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

#[derive(Debug)]
pub struct Generator {
    epoch: u32,
    random: ChaCha12Rng,
}

impl Generator {
    /// For router life `epoch`: its tokens never match those of another life.
    pub fn new(epoch: u32, seed: [u8; 32]) -> Self {
        Self { epoch, random: ChaCha12Rng::from_seed(seed) }
    }

    /// One for another pool of the same life: its tokens are its own.
    pub(super) fn another(&mut self) -> Self {
        let mut seed = [0; 32];
        for (to, from) in seed.chunks_exact_mut(8).zip(std::iter::repeat_with(|| self.random.next_u64())) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        Self::new(self.epoch, seed)
    }

    pub(super) fn token(&mut self) -> Token {
        let secret = (u128::from(self.random.next_u64()) << 64) | u128::from(self.random.next_u64());
        Token::new(self.epoch, secret)
    }

    /// `most`, or up to a tenth less; less than ten stay as they are.
    pub(super) fn lessened(&mut self, most: u64) -> u64 {
        most - self.random.next_u64() % (most / 10 + 1)
    }

    /// `most`, or up to a tenth less.
    pub(super) fn shortened(&mut self, most: Duration) -> Duration {
        let less = (most / 10).mul_f64(f64::from(self.random.next_u32()) / f64::from(u32::MAX));
        most.saturating_sub(less)
    }

    /// `delay`, lengthened by up to a quarter: slots that failed together do not return together.
    pub(super) fn lengthened(&mut self, delay: Duration) -> Duration {
        delay + (delay / 4).mul_f64(f64::from(self.random.next_u32()) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_drawn_up_to_a_tenth_below_what_was_said_and_small_ones_are_exact() {
        let mut generator = Generator::new(1, [7; 32]);
        let drawn: Vec<u64> = (0..500).map(|_draw| generator.lessened(1000)).collect();
        assert!(drawn.iter().all(|limit| (900..=1000).contains(limit)));
        assert!(drawn.contains(&900) && drawn.contains(&1000));
        for small in 1..10 {
            assert!((0..20).all(|_draw| generator.lessened(small) == small));
        }
        let minute = Duration::from_mins(1);
        let drawn: Vec<Duration> = (0..500).map(|_draw| generator.shortened(minute)).collect();
        assert!(drawn.iter().all(|limit| minute * 9 / 10 <= *limit && *limit <= minute));
        assert!(drawn.iter().any(|limit| *limit < minute * 92 / 100));
    }
}
