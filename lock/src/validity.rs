//! How long what was granted may be relied on. No I/O, no clock.

use std::time::Duration;

/// Added to every drift: the resolution of expiry on the servers, and of this arithmetic.
const DRIFT_FLOOR: Duration = Duration::from_millis(2);

/// How much of a clock's time the clocks of servers may differ by, as a share of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DriftFactor(f64);

/// As Redlock has it.
pub(crate) const DRIFT_FACTOR: DriftFactor = DriftFactor(0.01);

impl DriftFactor {
    /// `None` unless it is at least 0 and less than 1.
    pub(crate) fn new(factor: f64) -> Option<Self> {
        (0.0..1.0).contains(&factor).then_some(Self(factor))
    }

    /// What is taken off a time to live.
    pub(crate) fn drift(self, ttl: Duration) -> Duration {
        ttl.mul_f64(self.0).saturating_add(DRIFT_FLOOR)
    }
}

/// What is left of `ttl` when it took so long to be granted; `None` if nothing is.
pub(crate) fn validity(ttl: Duration, elapsed: Duration, factor: DriftFactor) -> Option<Duration> {
    let left = ttl.checked_sub(elapsed)?.checked_sub(factor.drift(ttl))?;
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_has_passed_and_what_clocks_differ_by_is_taken_off() {
        assert_eq!(validity(ms(1000), ms(100), DRIFT_FACTOR), Some(ms(888)));
        assert_eq!(validity(ms(1000), ms(988), DRIFT_FACTOR), None);
        assert_eq!(validity(ms(1000), ms(2000), DRIFT_FACTOR), None);
        assert_eq!(validity(ms(1), ms(0), DRIFT_FACTOR), None);
    }

    #[test]
    fn a_factor_is_a_share() {
        assert!(
            [f64::NAN, -0.1, 1.0, f64::INFINITY].into_iter().all(|factor| DriftFactor::new(factor).is_none())
        );
        assert_eq!(DriftFactor::new(0.5).map(|factor| factor.drift(ms(10))), Some(ms(7)));
    }
}
