//! Load with keys, by our own client, while the router is killed under it: a tally says how often
//! each piece of work was done.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hornpipe_client::{Client, Request};
use nix::sys::signal::Signal::SIGKILL;

use super::broker::Broker;
use super::processes::send;
use super::wait::{Deadline, let_pass};

/// One piece of work in so many is asked for once more when it is done.
const AGAIN: u64 = 10;

/// What load to make, and how cruel to be.
#[derive(Debug, Clone, Copy)]
pub struct KeyedLoad {
    /// Clients, each with a thread and one request out.
    pub clients: usize,
    pub time: Duration,
    /// Between two kills.
    pub kill_every: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFigures {
    /// Pieces of work that were asked for.
    pub asked: u64,
    /// Those whose reply came, and says that they were done as often as they should be.
    pub right: u64,
    /// Those that ended in an error.
    pub lost: u64,
    /// Done more than once.
    pub doubled: u64,
    pub kills: u64,
    /// One of the errors, for whoever looks for the cause.
    pub sample: Option<String>,
}

impl KeyedLoad {
    /// Runs the load against the demo workers of this broker.
    pub fn run(&self, broker: &Broker) -> KeyFigures {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients)
                .map(|number| {
                    let (tally, over) = (broker.folder().path().join(format!("tally{number}")), &over);
                    scope.spawn(move || work(broker.frontend(), number, &tally, over))
                })
                .collect();
            let mut figures = KeyFigures::default();
            let end = Deadline::after(self.time);
            while !end.is_over() {
                let_pass(self.kill_every.min(end.left()));
                send(broker.router_pid(), SIGKILL);
                figures.kills += 1;
            }
            over.store(true, Ordering::Relaxed);
            for client in clients {
                let one = client.join().unwrap();
                figures.asked += one.asked;
                figures.right += one.right;
                figures.lost += one.lost;
                figures.doubled += one.doubled;
                figures.sample = figures.sample.or(one.sample);
            }
            figures
        })
    }
}

/// One after the other, each adds a line to the tally and is told how many it has.
fn work(frontend: &str, client: usize, tally: &Path, over: &AtomicBool) -> KeyFigures {
    let asker = Client::builder().endpoint(frontend).build().unwrap();
    let mut figures = KeyFigures::default();
    let mut expected = 0;
    while !over.load(Ordering::Relaxed) {
        figures.asked += 1;
        let piece = figures.asked;
        let ask = || {
            let request = Request::new(format!("count {}", tally.display())).key(format!("{client} {piece}"));
            let reply = asker.request(request).map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&reply.bytes()).into_owned();
            text.parse::<u64>().map_err(|_number| text)
        };
        let mut reply = ask();
        if piece.is_multiple_of(AGAIN) && reply.is_ok() {
            reply = reply.and_then(|first| {
                let second = ask()?;
                if second == first { Ok(first) } else { Err(format!("{first}, and then {second}")) }
            });
        }
        match reply {
            Ok(count) => {
                expected += 1;
                figures.right += 1;
                figures.doubled += count.saturating_sub(expected);
                expected = count;
            }
            Err(why) => {
                figures.lost += 1;
                figures.sample = Some(why);
            }
        }
    }
    let done = std::fs::read_to_string(tally).unwrap_or_default().lines().count() as u64;
    figures.doubled += done.saturating_sub(expected + figures.lost);
    figures
}

impl KeyFigures {
    /// That nothing was lost or done twice.
    pub fn check(&self) {
        let spotless = self.lost == 0 && self.doubled == 0;
        assert!(spotless && self.right == self.asked && self.asked > 0, "{self:#?}");
    }
}
