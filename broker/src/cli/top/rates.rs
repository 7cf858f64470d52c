//! Rates, from what two reports have counted.

use std::collections::VecDeque;

use hornpipe_proto::control::StatusReport;

/// Columns of the graph, one for each look.
const HISTORY: usize = 60;

/// What has changed from one report to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates {
    last: Counts,
    /// Requests and errors in ten seconds; none before two reports of one router.
    pub(super) now: Option<(u64, u64)>,
    /// Requests a second, the latest last.
    pub(super) history: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    life: u32,
    at_ms: u64,
    requests: u64,
    errors: u64,
}

impl Counts {
    fn of(report: &StatusReport) -> Self {
        Self {
            life: report.router_life,
            at_ms: report.uptime_ms,
            requests: report.requests.received,
            errors: report.requests.refused.iter().map(|(_status, count)| count).sum(),
        }
    }
}

impl Rates {
    pub(super) fn new(report: &StatusReport) -> Self {
        Self { last: Counts::of(report), ..Self::default() }
    }

    /// Each router counts from nothing, and each parent has a time of its own.
    pub(super) fn take(&mut self, report: &StatusReport) {
        let next = Counts::of(report);
        let last = std::mem::replace(&mut self.last, next);
        let passed = next.at_ms.saturating_sub(last.at_ms);
        let comparable = next.life == last.life && last.requests <= next.requests;
        if !comparable {
            self.now = None;
            return;
        }
        if passed == 0 {
            return;
        }
        let in_ten_seconds = |count: u64| count.saturating_mul(10_000) / passed;
        let requests = in_ten_seconds(next.requests - last.requests);
        self.now = Some((requests, in_ten_seconds(next.errors.saturating_sub(last.errors))));
        self.history.push_back(requests.div_ceil(10));
        while HISTORY < self.history.len() {
            self.history.pop_front();
        }
    }
}
