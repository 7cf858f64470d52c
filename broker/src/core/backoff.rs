//! How long a slot stays empty after its process died young.

use std::time::Duration;

use super::settings::{BACKOFF_FIRST, BACKOFF_LAST};

/// After this many deaths in a row the wait has reached its longest.
const DOUBLINGS_LIMIT: u32 = 7;

/// The wait after the `failures`-th death in a row, without jitter.
pub(super) fn delay(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let doublings = (failures - 1).min(DOUBLINGS_LIMIT);
    BACKOFF_LAST.min(BACKOFF_FIRST * 2_u32.pow(doublings))
}

#[cfg(test)]
mod tests {
    use super::delay;

    #[test]
    fn each_death_in_a_row_doubles_the_wait_up_to_ten_seconds() {
        let drawn: Vec<_> = (0..10).map(|failures| delay(failures).as_millis()).collect();
        assert_eq!(drawn, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }
}
