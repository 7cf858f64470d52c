//! When the next request is due, and the timer that tells.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::{Plan, Shape, Until};

/// When the next request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// It may go; its latency counts from this instant.
    Since(Instant),
    /// Not before this instant.
    At(Instant),
    /// There is none.
    Never,
}

#[derive(Debug)]
pub(super) struct Schedule {
    shape: Shape,
    until: Until,
    /// How long overdue requests of open load are still sent after the end.
    grace: Duration,
    start: Instant,
    issued: u64,
}

impl Schedule {
    pub(super) fn new(plan: &Plan, start: Instant) -> Self {
        Self { shape: plan.shape, until: plan.until, grace: plan.timeout, start, issued: 0 }
    }

    pub(super) fn next_due(&self, now: Instant) -> Due {
        let due = match self.shape {
            Shape::Closed => Some(now),
            Shape::Open { rate } => self.start.checked_add(nth(self.issued, rate)),
        };
        let Some(due) = due else { return Due::Never };
        let is_over = match self.until {
            Until::Count(count) => self.issued >= count,
            Until::Elapsed(span) => {
                let so_far = due.saturating_duration_since(self.start);
                let late = now.saturating_duration_since(due);
                span <= so_far || (self.overdue_since(now) > span && late > Duration::ZERO)
            }
        };
        match due {
            _ if is_over => Due::Never,
            due if due <= now => Due::Since(due),
            due => Due::At(due),
        }
    }

    /// The time that counts against the end: open load has its grace.
    fn overdue_since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start).saturating_sub(self.grace)
    }

    pub(super) fn count_issued(&mut self) {
        self.issued += 1;
    }

    /// How many requests were due and did not go.
    pub(super) fn unsent(&self) -> u64 {
        match (self.shape, self.until) {
            (Shape::Closed, _) => 0,
            (Shape::Open { .. }, Until::Count(count)) => count.saturating_sub(self.issued),
            (Shape::Open { rate }, Until::Elapsed(span)) => {
                due_within(span, rate).saturating_sub(self.issued)
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 requests take longer than anybody waits")]
fn nth(number: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX)
}

/// How many requests, counted from zero, are due before `span` is over.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product is not negative, and a cast of too large a float saturates"
)]
fn due_within(span: Duration, rate: f64) -> u64 {
    let near = (span.as_secs_f64() * rate) as u64;
    // The product is rounded: ask the schedule itself about its neighbours.
    let first = near.saturating_sub(1);
    (first..near.saturating_add(3)).find(|number| nth(*number, rate) >= span).unwrap_or(near)
}

/// Wakes a poll at an instant, to the microsecond: a poll's own timeout counts
/// milliseconds, as long as many of the latencies to be measured.
#[derive(Debug)]
pub(super) struct Timer(OwnedFd);

impl Timer {
    pub(super) fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Makes the descriptor readable once `wait` is over, and not before.
    pub(super) fn arm(&self, wait: Duration) -> std::io::Result<()> {
        // A zero wait would disarm it.
        let wait = wait.max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(wait).map_err(std::io::Error::other)?;
        let it_interval = Timespec::try_from(Duration::ZERO).map_err(std::io::Error::other)?;
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        Ok(())
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn open(rate: f64, until: Until) -> Schedule {
        let start = crate::clock::now();
        Schedule { shape: Shape::Open { rate }, until, grace: SECOND, start, issued: 0 }
    }

    #[test]
    fn open_load_is_due_at_its_rate_whatever_went_out() {
        let mut schedule = open(10.0, Until::Elapsed(SECOND));
        let start = schedule.start;
        assert_eq!(schedule.next_due(start), Due::Since(start));
        schedule.count_issued();
        let second = start + Duration::from_millis(100);
        assert_eq!(schedule.next_due(start), Due::At(second));
        assert_eq!(schedule.next_due(start + SECOND), Due::Since(second), "since it was due, not since now");
        assert_eq!(schedule.unsent(), 9);
    }

    #[test]
    fn overdue_load_has_its_grace_and_no_more() {
        let schedule = open(10.0, Until::Elapsed(SECOND));
        let start = schedule.start;
        assert_eq!(schedule.next_due(start + SECOND * 2), Due::Since(start));
        assert_eq!(schedule.next_due(start + SECOND * 2 + Duration::from_millis(1)), Due::Never);
    }

    #[test]
    fn what_is_due_within_a_time_agrees_with_the_schedule() {
        for rate in [0.3, 1.0, 3.0, 7.0, 999.9, 1000.0, 123_456.7] {
            let count = due_within(SECOND * 3, rate);
            assert!(nth(count, rate) >= SECOND * 3, "{rate}: {count}");
            assert!(count == 0 || nth(count - 1, rate) < SECOND * 3, "{rate}: {count}");
        }
    }

    #[test]
    fn a_count_ends_when_that_many_went_out() {
        let mut schedule = open(10.0, Until::Count(1));
        schedule.count_issued();
        assert_eq!(schedule.next_due(schedule.start + SECOND), Due::Never);
        assert_eq!(schedule.unsent(), 0);
    }
}
