//! Which of several brokers each worker of a crew serves: one at a time, and of those that
//! can be reached none has two workers more than another.
//!
//! This is a wish. Whoever carries it out lets a busy worker finish first.

use std::collections::BTreeMap;

use super::ids::{ServiceId, WorkerId};

/// Brokers by their place in the list, and the workers that are to serve them.
#[derive(Debug)]
pub struct Placement {
    /// Whether each can be reached.
    brokers: Vec<bool>,
    workers: BTreeMap<WorkerId, Seat>,
}

#[derive(Debug, Clone, Copy)]
struct Seat {
    service: ServiceId,
    broker: Option<usize>,
}

impl Placement {
    /// So many brokers, none of which can be reached yet.
    pub fn new(brokers: usize) -> Self {
        Self { brokers: vec![false; brokers], workers: BTreeMap::new() }
    }

    /// The broker can be reached from here on.
    pub fn found(&mut self, broker: usize) {
        if let Some(reached) = self.brokers.get_mut(broker) {
            *reached = true;
        }
        self.balance();
    }

    /// The broker is gone: its workers go to the others.
    pub fn lost(&mut self, broker: usize) {
        if let Some(reached) = self.brokers.get_mut(broker) {
            *reached = false;
        }
        for seat in self.workers.values_mut().filter(|seat| seat.broker == Some(broker)) {
            seat.broker = None;
        }
        self.balance();
    }

    /// The worker can serve. Nothing changes if it could before.
    pub fn join(&mut self, worker: WorkerId, service: ServiceId) {
        self.workers.entry(worker).or_insert(Seat { service, broker: None });
        self.balance();
    }

    /// The worker serves nobody any more.
    pub fn leave(&mut self, worker: WorkerId) {
        if self.workers.remove(&worker).is_some() {
            self.balance();
        }
    }

    /// Whom the worker is to serve; `None` if nobody can be reached.
    pub fn broker_of(&self, worker: WorkerId) -> Option<usize> {
        self.workers.get(&worker)?.broker
    }

    fn balance(&mut self) {
        let homeless = self.workers.iter().filter(|(_, seat)| seat.broker.is_none());
        let homeless: Vec<(WorkerId, ServiceId)> =
            homeless.map(|(worker, seat)| (*worker, seat.service)).collect();
        for (worker, service) in homeless {
            let broker = self.least_served(service);
            if let Some(seat) = self.workers.get_mut(&worker) {
                seat.broker = broker;
            }
        }
        let mut services: Vec<ServiceId> = self.workers.values().map(|seat| seat.service).collect();
        services.sort_unstable();
        services.dedup();
        for service in services {
            while let Some((worker, broker)) = self.next_move(service) {
                if let Some(seat) = self.workers.get_mut(&worker) {
                    seat.broker = Some(broker);
                }
            }
        }
    }

    /// Who is to go where, so that two brokers differ less.
    fn next_move(&self, service: ServiceId) -> Option<(WorkerId, usize)> {
        let to = self.least_served(service)?;
        let from = self.reached().max_by_key(|broker| self.count(*broker, service))?;
        if self.count(from, service) < self.count(to, service) + 2 {
            return None;
        }
        let here = |seat: &Seat| seat.service == service && seat.broker == Some(from);
        let newest = self.workers.iter().rev().find(|(_, seat)| here(seat));
        newest.map(|(worker, _)| (*worker, to))
    }

    /// The one with the fewest workers of this service, and of those the one with the fewest of all.
    fn least_served(&self, service: ServiceId) -> Option<usize> {
        let load = |broker: &usize| {
            let all = self.workers.values().filter(|seat| seat.broker == Some(*broker)).count();
            (self.count(*broker, service), all)
        };
        self.reached().min_by_key(load)
    }

    fn reached(&self) -> impl Iterator<Item = usize> + '_ {
        self.brokers.iter().enumerate().filter(|(_, reached)| **reached).map(|(broker, _)| broker)
    }

    fn count(&self, broker: usize, service: ServiceId) -> usize {
        let here = |seat: &&Seat| seat.service == service && seat.broker == Some(broker);
        self.workers.values().filter(here).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ServiceId = ServiceId::DEFAULT;
    const SECOND: ServiceId = ServiceId(1);

    fn crew(brokers: usize, workers: u64) -> Placement {
        let mut placement = Placement::new(brokers);
        for worker in 1..=workers {
            placement.join(WorkerId(worker), FIRST);
        }
        placement
    }

    fn counts(placement: &Placement) -> Vec<usize> {
        (0..placement.brokers.len()).map(|broker| placement.count(broker, FIRST)).collect()
    }

    #[test]
    fn workers_are_spread_over_the_brokers_that_can_be_reached() {
        let mut placement = crew(3, 5);
        assert_eq!(placement.broker_of(WorkerId(1)), None);
        placement.found(1);
        assert_eq!(counts(&placement), [0, 5, 0]);
        placement.found(0);
        assert_eq!(counts(&placement), [2, 3, 0]);
        placement.found(2);
        assert_eq!(counts(&placement), [2, 2, 1]);
    }

    #[test]
    fn those_of_a_lost_broker_move_and_nobody_else_does() {
        let mut placement = crew(2, 4);
        placement.found(0);
        placement.found(1);
        let stay: Vec<WorkerId> =
            (1..=4).map(WorkerId).filter(|worker| placement.broker_of(*worker) == Some(1)).collect();
        assert_eq!(stay.len(), 2);
        placement.lost(0);
        assert_eq!(counts(&placement), [0, 4]);
        assert!(stay.iter().all(|worker| placement.broker_of(*worker) == Some(1)));
        placement.lost(1);
        assert_eq!(counts(&placement), [0, 0]);
        placement.found(0);
        assert_eq!(counts(&placement), [4, 0]);
    }

    #[test]
    fn a_worker_that_leaves_makes_no_hole() {
        let mut placement = crew(2, 4);
        placement.found(0);
        placement.found(1);
        let gone = (1..=4).map(WorkerId).filter(|worker| placement.broker_of(*worker) == Some(1));
        for worker in gone.collect::<Vec<_>>() {
            placement.leave(worker);
        }
        assert_eq!(counts(&placement), [1, 1]);
    }

    #[test]
    fn each_service_is_spread_for_itself() {
        let mut placement = Placement::new(2);
        placement.found(0);
        placement.found(1);
        placement.join(WorkerId(1), FIRST);
        placement.join(WorkerId(2), SECOND);
        // One of each: both brokers have one worker, and neither has both.
        assert_ne!(placement.broker_of(WorkerId(1)), placement.broker_of(WorkerId(2)));
        placement.join(WorkerId(3), SECOND);
        placement.join(WorkerId(4), FIRST);
        for broker in [0, 1] {
            assert_eq!((placement.count(broker, FIRST), placement.count(broker, SECOND)), (1, 1));
        }
    }
}
