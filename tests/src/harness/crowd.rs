//! Clients in numbers: those who stay, and those who are gone before they can be answered.

use std::time::Duration;

use hornpipe_proto::control::StatusReport;

use super::broker::{Broker, Serve};
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
    /// What the router has grown by in each round, in bytes; below zero if it has given some back.
    pub grown: Vec<i64>,
    /// Descriptors of the router before, and after.
    pub descriptors: (usize, usize),
}

impl Vanished {
    /// So many clients of a broker of its own in each of so many rounds. Every second one hangs up, the others just
    /// break off.
    ///
    /// They come in waves, each when the last is gone. Else it were the router's speed that says how many are there
    /// at once, and memory that they took together would look like something that is kept of each.
    ///
    /// # Panics
    /// If the broker does not come to rest, or keeps their connections.
    pub fn play(rounds: u32, count: u32) -> Self {
        let broker = &frugal_broker();
        let router = broker.router_pid();
        let open = descriptors(router);
        let gone = || {
            // Connections are taken in the order in which they come: all before this one have been.
            drop(Zmtp::connect(broker.frontend_port(), "REQ"));
            let within = |left: &usize| *left <= open + LEFTOVERS;
            until("their connections are gone", PATIENCE, || Some(descriptors(router)).filter(within))
        };
        let all_seen_to = || {
            broker.look(PATIENCE, "all is seen to", |report| {
                report.requests.waiting == 0 && report.requests.in_flight == 0
            })
        };
        let play = || {
            for _wave in 0..count / WAVE {
                vanish(broker, WAVE);
                gone();
            }
            all_seen_to();
            resident(router).cast_signed()
        };
        // Tables and pools reach their sizes first.
        let mut before = play();
        let mut grown = Vec::new();
        for _round in 0..rounds {
            let after = play();
            grown.push(after - before);
            before = after;
        }
        let (report, left) = (all_seen_to(), gone());
        broker.check_counters();
        assert_eq!(broker.ask("echo still there"), "still there");
        Self { report, grown, descriptors: (open, left) }
    }

    /// What the router has grown by at the least: what is kept of each client is so in every round, while more
    /// memory than ever before was needed at once in one or another.
    pub fn left_behind(&self) -> i64 {
        self.grown.iter().copied().min().unwrap_or_default()
    }
}

/// One that gives back at once what it frees, so that what it has is what it uses.
fn frugal_broker() -> Broker {
    let settings =
        [("MALLOC_MMAP_THRESHOLD_", "4096"), ("MALLOC_TRIM_THRESHOLD_", "0"), ("MALLOC_TOP_PAD_", "0")];
    let serve = Serve::demo(2).variable("MALLOC_ARENA_MAX", "1");
    settings.into_iter().fold(serve, |serve, (name, value)| serve.variable(name, value)).start()
}

/// Clients of one wave.
const WAVE: u32 = 40;

const THREADS: u32 = 4;

/// One request in so many takes a while, so that others wait behind it: two of a wave.
const LONG_ONES: u32 = 20;

/// One after the other in each of four threads.
fn vanish(broker: &Broker, count: u32) {
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
