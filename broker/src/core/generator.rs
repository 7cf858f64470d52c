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

    pub(super) fn token(&mut self) -> Token {
        let secret = (u128::from(self.random.next_u64()) << 64) | u128::from(self.random.next_u64());
        Token::new(self.epoch, secret)
    }

    /// `delay`, lengthened by up to a quarter: slots that failed together do not return together.
    pub(super) fn lengthened(&mut self, delay: Duration) -> Duration {
        delay + (delay / 4).mul_f64(f64::from(self.random.next_u32()) / f64::from(u32::MAX))
    }
}
