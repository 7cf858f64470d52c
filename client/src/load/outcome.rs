//! What came of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use hornpipe_proto::Status;

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What became of the requests.
    pub counts: Counts,
    /// From the first request to the last reply, and at least the planned time.
    pub elapsed: Duration,
    /// Right replies a second.
    pub rate: f64,
    /// How long the right replies took.
    pub latency: Latency,
    /// The same as a picture: how many took how long, without gaps.
    pub bands: Vec<Band>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Since the first request was due.
    pub elapsed: Duration,
    /// What became of the requests so far.
    pub counts: &'a Counts,
    /// Requests that are out.
    pub out: usize,
}

/// Right replies that took about the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    /// They took no longer than this, in microseconds, and longer than the band before says.
    /// A band's limit is twice that of the one before.
    pub limit: f64,
    /// How many they are.
    pub count: u64,
}

/// What became of the requests.
///
/// `sent = ok + wrong + lost + errors`. The others count besides: messages
/// that ended no request, and requests that never went out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that went out.
    pub sent: u64,
    /// Replies equal to what was asked, byte for byte.
    pub ok: u64,
    /// Replies that were not.
    pub wrong: u64,
    /// Requests without a reply in time.
    pub lost: u64,
    /// Requests that ended in an error, by its status.
    pub errors: BTreeMap<Status, u64>,
    /// Replies to requests that were lost before.
    pub late: u64,
    /// Replies to requests that had theirs.
    pub doubled: u64,
    /// Messages that answer no request of their client: unreadable, or meant for another.
    pub stray: u64,
    /// Open load: requests that were due and never found a free client.
    pub unsent: u64,
}

impl Counts {
    /// Requests that ended in an error, whatever its status.
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Whether every request had its right reply, once.
    pub fn is_flawless(&self) -> bool {
        let Self { sent, ok, wrong: _, lost: _, errors: _, late, doubled, stray, unsent } = self;
        sent == ok && [late, doubled, stray, unsent].iter().all(|count| **count == 0)
    }
}

/// How long right replies took, in microseconds. All zero if there was none.
///
/// Closed load counts from the sending, open load from when it was due. Lost
/// requests are not in here: their number belongs beside these.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Latency {
    /// The shortest.
    pub min: f64,
    /// Half took no longer.
    pub p50: f64,
    /// Nine in ten took no longer.
    pub p90: f64,
    /// All but one in a hundred took no longer.
    pub p99: f64,
    /// All but one in a thousand took no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
}

impl Latency {
    /// Of a histogram in nanoseconds.
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| microseconds(histogram.value_at_quantile(quantile));
        Self {
            min: microseconds(histogram.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: microseconds(histogram.max()),
            mean: histogram.mean() / 1e3,
        }
    }
}

impl Band {
    /// Of a histogram in nanoseconds, from the first with something in it to the last.
    pub(super) fn all_of(histogram: &Histogram<u64>) -> Vec<Self> {
        let mut bands: Vec<Self> = Vec::new();
        for step in histogram.iter_log(FIRST_BAND, 2.0) {
            let count = step.count_since_last_iteration();
            if count > 0 || !bands.is_empty() {
                // The last value of a step is one below the next one's first.
                bands.push(Self { limit: microseconds(step.value_iterated_to() + 1), count });
            }
        }
        bands
    }
}

/// The limit of the first band in nanoseconds: no reply is faster than a microsecond.
const FIRST_BAND: u64 = 1000;

fn microseconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6
}
