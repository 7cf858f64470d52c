//! A worker is stopped in the middle of each request, and goes on when its client has
//! long been told: what it then says must reach nobody.

use std::time::Duration;

use hornpipe_proto::Status;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

use super::broker::Broker;
use super::client::Client;
use super::control::refused;
use super::processes::send;
use super::wait::{DEADLINE, Deadline, until};

/// What the broker must have been given as `--timeout`.
pub const HALT_TIMEOUT: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Halts {
    /// Requests that were sent.
    pub rounds: u64,
    /// Those whose worker was stopped with the request in its hands.
    pub stopped: u64,
    /// Answers that belong to no open request: a stale reply that got through.
    pub stale: u64,
    /// How long after [`HALT_TIMEOUT`] each client was told, the shortest first.
    pub late: Vec<Duration>,
}

impl Halts {
    /// Plays so many rounds against a broker with demo workers.
    ///
    /// # Panics
    /// If a client is told anything but that its time is over.
    pub fn play(broker: &Broker, rounds: u64) -> Self {
        let mut halts = Self::default();
        let client = Client::dealer(broker.frontend());
        for round in 0..rounds {
            halts.stop_one(broker, &client, round);
        }
        halts.late.sort_unstable();
        let report = broker.status();
        assert_eq!(refused(&report, Status::Timeout), rounds, "{report:#?}");
        halts
    }

    fn stop_one(&mut self, broker: &Broker, client: &Client, round: u64) {
        let number = round.to_be_bytes();
        let began = Deadline::after(HALT_TIMEOUT);
        client.send(&[&number, b"", b"sleep 60000"]);
        self.rounds += 1;
        let busy = until("a worker has the request", DEADLINE, || {
            let report = broker.status();
            let holder = report.workers.iter().find(|worker| worker.state == "processing")?;
            holder.pid
        });
        self.stopped += u64::from(!began.is_over());
        send(busy, SIGSTOP);
        let answer = self.answer(client, &number);
        self.late.push(began.elapsed().saturating_sub(HALT_TIMEOUT));
        assert!(answer.starts_with(b"ERR timeout "), "{}", String::from_utf8_lossy(&answer));
        send(busy, SIGCONT);
        // The worker has said what it had to say, and serves again.
        broker.wait_until("nobody is at work", |report| {
            report.workers.iter().all(|worker| worker.state == "waiting")
        });
    }

    fn answer(&mut self, client: &Client, number: &[u8]) -> Vec<u8> {
        loop {
            let mut frames = client.receive();
            if frames.first().is_some_and(|name| name == number) {
                return frames.pop().unwrap_or_default();
            }
            self.stale += 1;
        }
    }
}
