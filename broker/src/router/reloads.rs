//! Operators who wait for the end of reloads, and what they are told then.

use std::collections::BTreeMap;
use std::time::Duration;

use hornpipe_proto::control::{LastReload, ReloadOutcome, ReloadReport};

use super::Body;
use super::control::Operator;
use super::report::milliseconds;
use crate::core::{Core, Note, ServiceId};

/// Each waits for one generation of each service it has reloaded, and every generation ends:
/// there are never more than wait for the present reloads, and for those whose newcomer is
/// still being ended.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    waiting: BTreeMap<Operator, Awaited>,
    /// The last one of each service that finished or failed.
    last: BTreeMap<ServiceId, LastReload>,
}

#[derive(Debug, Default)]
struct Awaited {
    generations: BTreeMap<ServiceId, u32>,
    /// What has been told, the gravest of it.
    told: Option<ReloadReport>,
}

impl Reloads {
    pub(super) fn wait(&mut self, operator: Operator, generations: BTreeMap<ServiceId, u32>) {
        self.waiting.insert(operator, Awaited { generations, told: None });
    }

    /// Remembers how one has ended, and when.
    pub(super) fn record(&mut self, service: ServiceId, report: &ReloadReport, wall: Duration) {
        let succeeded = match report.outcome {
            ReloadOutcome::Finished { .. } => true,
            ReloadOutcome::Failed { .. } => false,
            ReloadOutcome::Started | ReloadOutcome::Superseded { .. } | ReloadOutcome::Abandoned => return,
        };
        self.last.insert(service, LastReload { succeeded, at_ms: milliseconds(wall) });
    }

    pub(super) fn last(&self, service: ServiceId) -> Option<LastReload> {
        self.last.get(&service).copied()
    }

    pub(super) fn forget(&mut self, operator: Operator) {
        self.waiting.remove(&operator);
    }

    /// Who has now heard the end of all that they waited for, and what there is to say.
    pub(super) fn ended(
        &mut self,
        service: ServiceId,
        report: &ReloadReport,
    ) -> Vec<(Operator, ReloadReport)> {
        let mut told = Vec::new();
        for (operator, awaited) in &mut self.waiting {
            if awaited.generations.get(&service) != Some(&report.generation) {
                continue;
            }
            awaited.generations.remove(&service);
            let gravest = match awaited.told.take() {
                Some(other) => graver(other, report.clone()),
                None => report.clone(),
            };
            awaited.told = Some(gravest);
            if awaited.generations.is_empty() {
                told.extend(awaited.told.take().map(|report| (*operator, report)));
            }
        }
        for (operator, _report) in &told {
            self.waiting.remove(operator);
        }
        told
    }
}

/// Of two ends the one that an operator must hear of. If both are well, it is that of the
/// default service, with the workers of both.
fn graver(one: ReloadReport, other: ReloadReport) -> ReloadReport {
    match (&one.outcome, &other.outcome) {
        (ReloadOutcome::Finished { workers }, ReloadOutcome::Finished { workers: others }) => {
            let outcome = ReloadOutcome::Finished { workers: workers + others };
            let first = if other.service.is_none() { other } else { one };
            ReloadReport { outcome, ..first }
        }
        (ReloadOutcome::Failed { .. }, _) | (_, ReloadOutcome::Finished { .. }) => one,
        _ => other,
    }
}

/// How a reload has ended, if this is the news of it.
pub(super) fn end(note: &Note, core: &Core<Body>, last_words: Vec<String>) -> Option<ReloadReport> {
    let (generation, outcome) = match note {
        Note::ReloadFinished { generation } => {
            (generation, ReloadOutcome::Finished { workers: core.target() })
        }
        Note::ReloadFailed { generation, place, reason } => {
            let serving = core.generation().0;
            let reason = reason.clone();
            (generation, ReloadOutcome::Failed { slot: place.slot.0, reason, last_words, serving })
        }
        Note::ReloadSuperseded { generation, by } => (generation, ReloadOutcome::Superseded { by: by.0 }),
        Note::ReloadAbandoned { generation } => (generation, ReloadOutcome::Abandoned),
        _ => return None,
    };
    Some(ReloadReport { generation: generation.0, outcome, service: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(service: Option<&str>, generation: u32, outcome: ReloadOutcome) -> ReloadReport {
        ReloadReport { generation, outcome, service: service.map(ToOwned::to_owned) }
    }

    #[test]
    fn who_waits_for_several_hears_of_the_gravest_when_all_have_ended() {
        let mut reloads = Reloads::default();
        let (both, one) = (Operator::of_test(1), Operator::of_test(2));
        reloads.wait(both, BTreeMap::from([(ServiceId(0), 3), (ServiceId(1), 7)]));
        reloads.wait(one, BTreeMap::from([(ServiceId(1), 7)]));
        let failed = ReloadOutcome::Failed {
            slot: 10_000,
            reason: "exit code 1".into(),
            last_words: Vec::new(),
            serving: 6,
        };
        let failed = report(Some("images"), 7, failed);
        assert_eq!(reloads.ended(ServiceId(1), &failed), [(one, failed.clone())]);
        // Another generation is not what they wait for.
        let finished = |generation| report(None, generation, ReloadOutcome::Finished { workers: 2 });
        assert_eq!(reloads.ended(ServiceId(0), &finished(2)), []);
        assert_eq!(reloads.ended(ServiceId(0), &finished(3)), [(both, failed)]);
        assert!(reloads.waiting.is_empty());
    }

    #[test]
    fn if_all_are_well_their_workers_are_counted_together() {
        let mut reloads = Reloads::default();
        let operator = Operator::of_test(1);
        reloads.wait(operator, BTreeMap::from([(ServiceId(0), 1), (ServiceId(1), 4)]));
        let images = report(Some("images"), 4, ReloadOutcome::Finished { workers: 3 });
        assert_eq!(reloads.ended(ServiceId(1), &images), []);
        let own = report(None, 1, ReloadOutcome::Finished { workers: 2 });
        let all = report(None, 1, ReloadOutcome::Finished { workers: 5 });
        assert_eq!(reloads.ended(ServiceId(0), &own), [(operator, all)]);
    }
}
