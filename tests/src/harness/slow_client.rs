//! What a client that does not read costs the others, beside one that reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::broker::Broker;
use super::client::Client;
use super::processes::resident;
use super::wait::{Deadline, let_pass};

/// What each of its requests and replies carries.
const BODY: usize = 1 << 20;

/// Between two of its requests.
const EVERY: Duration = Duration::from_millis(50);

/// Others beside it, and between two requests of each.
const OTHERS: usize = 4;
const OTHERS_EVERY: Duration = Duration::from_millis(4);

/// What came of it, reading and not reading.
#[derive(Debug, Clone, Default)]
pub struct SlowClient {
    /// How long the others waited while it read.
    pub reading: Vec<Duration>,
    /// How long they waited while it did not.
    pub silent: Vec<Duration>,
    /// What the router has grown by at most, in bytes.
    pub grown: u64,
    /// Replies to it that were dropped.
    pub dropped: u64,
}

impl SlowClient {
    /// So many rounds with, and as many without reading, in turns; each takes so long.
    pub fn play(broker: &Broker, rounds: u32, time: Duration) -> Self {
        let mut slow = Self::default();
        let before = resident(broker.router_pid());
        let most = AtomicU64::new(0);
        for _round in 0..rounds {
            slow.reading.extend(play(broker, time, &most, Habit::Reads));
            slow.silent.extend(play(broker, time, &most, Habit::NeverReads));
        }
        slow.grown = most.into_inner().saturating_sub(before);
        slow.dropped = broker.status().noise.undelivered;
        slow
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Reads,
    NeverReads,
}

/// How long the others waited.
fn play(broker: &Broker, time: Duration, most: &AtomicU64, habit: Habit) -> Vec<Duration> {
    let is_over = AtomicBool::new(false);
    let router = broker.router_pid();
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..OTHERS).map(|_| scope.spawn(|| waits(broker, &is_over))).collect();
        let client = Client::connect(zmq::DEALER, broker.frontend(), |socket| {
            socket.set_rcvhwm(1).unwrap();
            socket.set_rcvbuf(64 * 1024).unwrap();
        });
        let body = [b"echo ".to_vec(), vec![b'x'; BODY]].concat();
        let end = Deadline::after(time);
        while !end.is_over() {
            let next = Deadline::after(EVERY);
            client.send(&[b"", &body]);
            // As fast as they come, and no request waits for a reply: both kinds ask alike.
            while habit == Habit::Reads && client.receive_within(Duration::ZERO).is_some() {}
            most.fetch_max(resident(router), Ordering::Relaxed);
            let_pass(next.left());
        }
        is_over.store(true, Ordering::Relaxed);
        others.into_iter().flat_map(|other| other.join().unwrap()).collect()
    })
}

fn waits(broker: &Broker, is_over: &AtomicBool) -> Vec<Duration> {
    let client = broker.client();
    let mut waits = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let next = Deadline::after(OTHERS_EVERY);
        assert_eq!(client.ask_text("echo small"), "small");
        waits.push(next.elapsed());
        let_pass(next.left());
    }
    waits
}
