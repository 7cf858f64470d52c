//! How long things took: counted in fixed buckets, summed exactly. To count one is a
//! search among sixteen numbers and two additions; nothing is allocated.

use std::time::Duration;

/// The upper bounds of the buckets but the last, which has none, in microseconds.
pub const BOUNDS_US: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Durations of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
}

impl Histogram {
    pub(super) fn observe(&mut self, time: Duration) {
        // What lasted a nanosecond longer than a bound is beyond it.
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound * 1000 < nanoseconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(time);
    }

    fn add(&mut self, other: &Self) {
        let Self { counts, sum } = other;
        for (mine, others) in self.counts.iter_mut().zip(counts) {
            *mine += others;
        }
        self.sum = self.sum.saturating_add(*sum);
    }

    /// How many fell into each bucket and into none below it.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// What is timed, since this router started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// Requests that were admitted, from their arrival to their end, whatever that was.
    pub request: Histogram,
    /// Each wait of a request in the queue, until a worker had it or it ended there.
    pub queue_wait: Histogram,
    /// Each attempt of a worker, until it let go, whether or not somebody still waited.
    pub processing: Histogram,
    /// Processes from their start until they were ready.
    pub start: Histogram,
}

impl Times {
    pub(super) fn add(&mut self, other: &Self) {
        let Self { request, queue_wait, processing, start } = other;
        self.request.add(request);
        self.queue_wait.add(queue_wait);
        self.processing.add(processing);
        self.start.add(start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(microseconds: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for time in microseconds {
            histogram.observe(Duration::from_micros(*time));
        }
        histogram
    }

    #[test]
    fn each_falls_into_the_first_bucket_that_holds_it() {
        assert_eq!(of(&[0, 499, 500]).counts()[0], 3);
        assert_eq!(of(&[501, 1000]).counts()[..2], [0, 2]);
        let far = of(&[60_000_000, 60_000_001, u64::MAX]);
        assert_eq!(far.counts()[15..], [1, 2]);
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_nanos(500_001));
        assert_eq!(histogram.counts()[..2], [0, 1]);
    }

    #[test]
    fn the_sum_is_exact() {
        let histogram = of(&[1, 999, 70_000_000]);
        assert_eq!((histogram.count(), histogram.sum()), (3, Duration::from_millis(70_001)));
    }
}
