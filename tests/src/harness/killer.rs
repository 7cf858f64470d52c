//! Kills workers, one after the other, and measures how soon the broker has made it good.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use hornpipe_proto::control::StatusReport;
use nix::sys::signal::Signal::SIGKILL;

use super::broker::Broker;
use super::control::{has_begun, status_of};
use super::processes::send;
use super::wait::{Deadline, let_pass};

/// After a kill, how long its consequences are watched at most.
const WATCH: Duration = Duration::from_secs(5);

/// Between two looks at them, which is what the figures may be too large by.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Between two workers that are killed in the middle of a request.
const BETWEEN_KILLS: Duration = Duration::from_secs(1);

/// What killing has led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kills {
    /// Workers killed.
    pub count: u64,
    /// From each kill of a worker with a request until another worker had that request.
    pub redispatched: Vec<Duration>,
    /// From each kill until the pool had all its workers again.
    pub whole: Vec<Duration>,
    /// Kills after which the pool stayed too small as long as it was watched.
    pub unrepaired: u64,
}

impl Kills {
    /// Kills a worker after each such time, until the other end of the channel is dropped.
    pub(super) fn until_told(broker: &Broker, every: Duration, told: &Receiver<()>) -> Self {
        let mut kills = Self::default();
        let mut next = Deadline::after(every);
        while told.recv_timeout(next.left()) == Err(RecvTimeoutError::Timeout) {
            // What this one was late by, the next one is early by: so many seconds, so many kills.
            next = Deadline::after(every.saturating_sub(next.overdue()));
            kills.kill_one(broker, next);
        }
        kills
    }

    /// Kills a worker in the middle of its request, while others are idle: so many times. From each kill
    /// until another worker has the request.
    ///
    /// # Panics
    /// If a request has another answer than the right one.
    pub fn beside_idle_workers(broker: &Broker, rounds: u32) -> Vec<Duration> {
        let client = broker.client();
        let kill = |_round| {
            // One that dies young is not replaced at once.
            let_pass(BETWEEN_KILLS);
            let before = broker.wait_until("all are there", |report| report.pool.target <= report.pool.ready);
            client.send(&[b"sleep 200"]);
            let holder = |report: &StatusReport| {
                report.workers.iter().find(|worker| has_begun(worker)).and_then(|worker| worker.pid)
            };
            let report = broker.wait_until("one has it", |report| holder(report).is_some());
            let since = Deadline::after(WATCH);
            let is_killed = holder(&report).is_some_and(|pid| send(pid, SIGKILL));
            let is_elsewhere = |report: StatusReport| {
                let waits = report.requests.waiting + report.requests.in_flight;
                // It may have been answered in the moment of the kill.
                waits == 0 || (report.requests.retried > before.requests.retried && holder(&report).is_some())
            };
            while is_killed && !since.is_over() && !status_of(broker.control()).is_some_and(is_elsewhere) {
                let_pass(BETWEEN_LOOKS);
            }
            let elapsed = since.elapsed();
            assert_eq!(client.receive(), [b"slept 200"]);
            elapsed
        };
        (0..rounds).map(kill).collect()
    }

    /// Kills one of the workers, each in its turn, and watches until the next is due.
    fn kill_one(&mut self, broker: &Broker, next: Deadline) {
        let workers = broker.workers();
        let place = self.count.checked_rem(workers.len() as u64).and_then(|place| place.try_into().ok());
        let victim = place.and_then(|place| workers.iter().nth(place));
        let Some((slot, pid)) = victim else { return };
        let before = broker.status();
        let since = Deadline::after(WATCH.min(next.left()));
        if !send(*pid, SIGKILL) {
            return;
        }
        self.count += 1;
        let mut is_redispatched = false;
        loop {
            let report = status_of(broker.control());
            let elapsed = since.elapsed();
            if let Some(report) = report {
                if !is_redispatched && report.requests.retried > before.requests.retried {
                    is_redispatched = true;
                    self.redispatched.push(elapsed);
                }
                if is_whole(&report, *slot, *pid) {
                    self.whole.push(elapsed);
                    return;
                }
            }
            if since.is_over() {
                self.unrepaired += 1;
                return;
            }
            let_pass(BETWEEN_LOOKS);
        }
    }
}

fn is_whole(report: &StatusReport, slot: u32, victim: i32) -> bool {
    let is_replaced = report
        .workers
        .iter()
        .any(|worker| worker.slot == slot && worker.pid.is_some_and(|pid| pid != victim));
    is_replaced && report.pool.target <= report.pool.ready
}
