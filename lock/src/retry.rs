//! When to ask again. No I/O, no clock, no randomness of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait between two tries.
#[derive(Clone)]
pub enum Delay {
    /// Always so long.
    Fixed(Duration),
    /// So long after the first try, the second try, and so on; the count begins with 1.
    ByAttempt(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl Delay {
    /// A delay that depends on how many tries have failed.
    pub fn by_attempt(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self::ByAttempt(Arc::new(delay))
    }

    fn after(&self, attempt: u32) -> Duration {
        match self {
            Self::Fixed(delay) => *delay,
            Self::ByAttempt(delay) => delay(attempt),
        }
    }
}

impl From<Duration> for Delay {
    fn from(delay: Duration) -> Self {
        Self::Fixed(delay)
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(delay) => write!(f, "Fixed({delay:?})"),
            Self::ByAttempt(_) => f.write_str("ByAttempt(..)"),
        }
    }
}

/// How often a lock is asked for that is not to be had, and how fast.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Tries after the first; `None` for as many as fit into `wait`.
    pub count: Option<u32>,
    /// Between two tries.
    pub delay: Delay,
    /// Up to so much is added to each delay, at random, so that those who wait do not ask together.
    pub jitter: Duration,
    /// No try begins later than this after the first; `None` for no such limit.
    pub wait: Option<Duration>,
}

impl Default for Retry {
    /// 3 more tries, after 200 to 250 ms each.
    fn default() -> Self {
        Self {
            count: Some(3),
            delay: Delay::Fixed(Duration::from_millis(200)),
            jitter: Duration::from_millis(50),
            wait: None,
        }
    }
}

impl Retry {
    /// One try.
    pub fn never() -> Self {
        Self { count: Some(0), ..Self::default() }
    }

    /// As many tries as begin within this time.
    pub fn within(wait: Duration) -> Self {
        Self { count: None, wait: Some(wait), ..Self::default() }
    }

    /// How long to wait after so many failed tries, of which the first began so long ago;
    /// `None` to give up. `free_in` is when the lock is free at the latest, where that is
    /// known. `chance` is below 1.
    pub(crate) fn pause(
        &self,
        attempts: u32,
        elapsed: Duration,
        free_in: Option<Duration>,
        chance: f64,
    ) -> Option<Duration> {
        if self.count.is_some_and(|count| attempts > count) {
            return None;
        }
        let delay = self.delay.after(attempts).saturating_add(self.jitter.mul_f64(chance));
        // A lock that runs out sooner is not waited for longer.
        let delay = free_in.map_or(delay, |free| delay.min(free.saturating_add(EXPIRY)));
        let left = match self.wait {
            // The last try is at the end of the time.
            Some(wait) => wait.checked_sub(elapsed).filter(|left| !left.is_zero())?,
            None => delay,
        };
        // Without any delay it would be a busy loop.
        Some(delay.min(left).max(SHORTEST))
    }
}

/// How long to wait where several have asked at the same moment and nobody has a majority,
/// for the so-many-th time; `None` to give up. It grows until one of them is alone.
pub(crate) fn after_contention(times: u32, chance: f64) -> Option<Duration> {
    if times > CONTENTIONS {
        return None;
    }
    Some(SHORTEST + CONTENTION.saturating_mul(1 << times.min(5)).mul_f64(chance))
}

/// One try takes less than a millisecond on a network of one place.
const CONTENTION: Duration = Duration::from_millis(5);

/// How often it is asked again after a draw.
const CONTENTIONS: u32 = 15;

/// Servers tell a remaining life in whole milliseconds, and the key goes a moment later.
const EXPIRY: Duration = Duration::from_millis(2);

/// Between two tries there is always so much.
const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_delay_is_never_less_than_asked_for_and_never_more_than_with_jitter() {
        let retry = Retry::default();
        assert_eq!(retry.pause(1, ms(0), None, 0.0), Some(ms(200)));
        assert_eq!(retry.pause(1, ms(0), None, 0.5), Some(ms(225)));
        assert!(retry.pause(1, ms(0), None, 0.999).unwrap() < ms(250));
    }

    #[test]
    fn there_are_as_many_tries_as_asked_for_and_one() {
        let retry = Retry { count: Some(2), ..Retry::default() };
        let tries: Vec<bool> = (1..=4).map(|tries| retry.pause(tries, ms(0), None, 0.0).is_some()).collect();
        assert_eq!(tries, [true, true, false, false]);
        assert_eq!(Retry::never().pause(1, ms(0), None, 0.0), None);
    }

    #[test]
    fn a_delay_may_depend_on_the_attempt() {
        let retry =
            Retry { delay: Delay::by_attempt(|attempt| ms(u64::from(attempt) * 10)), ..Retry::default() };
        assert_eq!(retry.pause(3, ms(0), None, 0.0), Some(ms(30)));
    }

    #[test]
    fn a_lock_that_is_free_sooner_is_not_waited_for_longer() {
        assert_eq!(Retry::default().pause(1, ms(0), Some(ms(20)), 0.9), Some(ms(22)));
        assert_eq!(Retry::default().pause(1, ms(0), Some(ms(9000)), 0.0), Some(ms(200)));
    }

    #[test]
    fn the_last_try_is_when_the_time_is_over() {
        let retry = Retry::within(ms(500));
        assert_eq!(retry.pause(1, ms(0), None, 0.0), Some(ms(200)));
        assert_eq!(retry.pause(99, ms(450), None, 0.0), Some(ms(50)));
        assert_eq!(retry.pause(99, ms(500), None, 0.0), None);
    }

    #[test]
    fn after_a_draw_the_next_try_comes_soon_and_at_random_and_not_for_ever() {
        assert_eq!(after_contention(1, 0.0), Some(ms(1)));
        assert_eq!(after_contention(1, 0.5), Some(ms(6)));
        assert_eq!(after_contention(15, 0.5), Some(ms(81)));
        assert_eq!(after_contention(16, 0.5), None);
    }

    #[test]
    fn no_delay_at_all_is_no_busy_loop() {
        let retry = Retry { delay: ms(0).into(), jitter: ms(0), ..Retry::default() };
        assert_eq!(retry.pause(1, ms(0), None, 0.0), Some(ms(1)));
    }
}
