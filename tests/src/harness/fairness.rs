//! Looks at a broker without pause: a request waits while a worker is idle?

use std::time::Duration;

use super::broker::Broker;
use super::control::status_of;
use super::wait::{Deadline, let_pass};

/// Between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// What was seen. A report shows one moment of the router, between two of its steps.
#[derive(Debug, Clone, Default)]
pub struct Fairness {
    /// How often it was looked.
    pub looks: u64,
    /// How often a request waited.
    pub waiting: u64,
    /// How often a worker was idle.
    pub idle: u64,
    /// How often both, which must never be.
    pub both: u64,
    /// The longest time from the first to the last of looks in a row that saw both.
    pub longest: Duration,
}

impl Fairness {
    /// Looks until this says that it is enough.
    pub fn watch(broker: &Broker, mut is_over: impl FnMut() -> bool) -> Self {
        let mut fairness = Self::default();
        let mut since: Option<Deadline> = None;
        while !is_over() {
            if let Some(report) = status_of(broker.control()) {
                let waits = report.requests.waiting > 0;
                let is_idle = report.workers.iter().any(|worker| worker.state == "waiting");
                fairness.looks += 1;
                fairness.waiting += u64::from(waits);
                fairness.idle += u64::from(is_idle);
                fairness.both += u64::from(waits && is_idle);
                since = (waits && is_idle).then(|| since.unwrap_or_else(|| Deadline::after(Duration::ZERO)));
                let lasted = since.map_or(Duration::ZERO, |since| since.elapsed());
                fairness.longest = fairness.longest.max(lasted);
            }
            let_pass(BETWEEN_LOOKS);
        }
        fairness
    }
}
