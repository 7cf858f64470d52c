//! Clients in numbers: those who stay, and those who are gone before they can be answered.

use std::time::Duration;

use hornpipe_proto::control::StatusReport;

use super::broker::Broker;
use super::process::Process;
use super::processes::{descriptors, resident};
use super::programs::beside;
use super::raw::Zmtp;
use super::wait::{Deadline, until};

/// Programs that share the clients: one may have 20,000 descriptors on many machines, and
/// libzmq takes two for a client.
const PROGRAMS: usize = 2;

/// How long so many may take to be served.
const PATIENCE: Duration = Duration::from_mins(2);

/// Descriptors of the broker, more than before: of connections that are just ending.
const LEFTOVERS: usize = 8;

/// Connected clients of libzmq, each of which had its one request answered.
#[derive(Debug)]
pub struct Crowd {
    /// Those whose reply was right.
    pub right: usize,
    /// From the first connection until the last reply.
    pub took: Duration,
    /// What the router has grown by for each of them, in bytes.
    pub bytes_each: u64,
    // Who holds the connections.
    programs: Vec<Process>,
}

impl Crowd {
    /// So many REQ sockets, all of which stay connected until this is dropped.
    pub fn gather(broker: &Broker, count: usize) -> Self {
        let router = broker.router_pid();
        let before = resident(router);
        let since = Deadline::after(PATIENCE);
        let each = count.div_ceil(PROGRAMS).to_string();
        let start = |_number| Process::start(beside("crowd"), &[broker.frontend(), &each]);
        let mut programs: Vec<Process> = (0..PROGRAMS).map(start).collect();
        let mut right = 0;
        for program in &mut programs {
            right += until("a part of the crowd is served", since.left(), || {
                assert!(program.is_running(), "{}", program.stderr());
                program.stdout().strip_suffix(" right\n")?.parse::<usize>().ok()
            });
        }
        let took = since.elapsed();
        let bytes_each = resident(router).saturating_sub(before) / count as u64;
        Self { right, took, bytes_each, programs }
    }

    /// They all leave at once, which costs none of them a word.
    pub fn leave(self) {
        drop(self.programs);
    }
}

/// What clients left behind who sent a request and vanished.
#[derive(Debug)]
pub struct Vanished {
    /// What became of their requests.
    pub report: StatusReport,
    /// What the router has grown by, in bytes.
    pub grown: u64,
    /// Descriptors of the router before, and after.
    pub descriptors: (usize, usize),
}

impl Vanished {
    /// So many clients, one after the other in each of four threads. Every second one hangs up, the others just
    /// break off.
    ///
    /// # Panics
    /// If the broker does not come to rest, or keeps their connections.
    pub fn play(broker: &Broker, count: u64) -> Self {
        // Tables and pools reach their sizes first.
        vanish(broker, count / 10);
        let router = broker.router_pid();
        let before = (descriptors(router), resident(router));
        vanish(broker, count);
        let within = |open: &usize| *open <= before.0 + LEFTOVERS;
        let after =
            until("their connections are gone", PATIENCE, || Some(descriptors(router)).filter(within));
        let report = broker.look(PATIENCE, "all is seen to", |report| {
            report.requests.waiting == 0 && report.requests.in_flight == 0
        });
        broker.check_counters();
        Self { report, grown: resident(router).saturating_sub(before.1), descriptors: (before.0, after) }
    }
}

const THREADS: u64 = 4;

/// One request in so many takes a while, so that others wait behind it.
const LONG_ONES: u64 = 100;

fn vanish(broker: &Broker, count: u64) {
    let port = broker.frontend_port();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for turn in 0..count / THREADS {
                    let number = turn * THREADS + thread;
                    let mut client = Zmtp::connect(port, "REQ");
                    let body: &[u8] = if number.is_multiple_of(LONG_ONES) { b"sleep 5" } else { b"echo x" };
                    client.send(&[b"", body]);
                    if turn.is_multiple_of(2) {
                        client.break_off();
                    }
                }
            });
        }
    });
}
