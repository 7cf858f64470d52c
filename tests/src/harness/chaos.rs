//! Load that counts every answer while workers are killed under it.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use super::broker::Broker;
use super::client::Client;
use super::killer::Kills;
use super::wait::Deadline;

/// Requests that one client has out at once.
const DEPTH: usize = 4;

/// One request in so many takes up to 90 ms.
const LONG_ONES: u64 = 50;

/// After the last request, how long is waited for what may still come.
const LAST_ANSWERS: Duration = Duration::from_secs(15);

/// How long is waited for answers before a look at whether it is enough.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// How long is listened for answers that come twice.
const ECHOES: Duration = Duration::from_millis(500);

/// What load to make, and how cruel to be.
#[derive(Debug, Clone, Copy)]
pub struct Chaos {
    /// DEALER connections, each with a few requests out.
    pub clients: usize,
    /// How long requests are sent.
    pub time: Duration,
    /// At least so many requests are sent, however long it takes.
    pub requests: u64,
    /// Between two kills of one worker.
    pub kill_every: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests sent.
    pub sent: u64,
    /// Requests with exactly the right answer.
    pub right: u64,
    /// Requests that were answered with an error.
    pub errors: u64,
    /// Requests that were never answered.
    pub lost: u64,
    /// Answers that are not what was asked for.
    pub wrong: u64,
    /// Answers to what had been answered before.
    pub doubled: u64,
    /// Workers killed, and how that was made good.
    pub kills: Kills,
    /// One of the errors, for whoever looks for the cause.
    pub sample: Option<String>,
}

struct Peer {
    client: Client,
    /// What is out, by its correlation frame, with the expected answer.
    open: HashMap<Vec<u8>, Vec<u8>>,
}

impl Chaos {
    /// Runs the load against the demo workers of this broker.
    pub fn run(&self, broker: &Broker) -> Figures {
        std::thread::scope(|scope| {
            let (load, told) = mpsc::channel();
            let killer = scope.spawn(move || Kills::until_told(broker, self.kill_every, &told));
            let mut figures = self.load(broker, load);
            figures.kills = killer.join().unwrap();
            figures
        })
    }

    /// The load itself. There is killing for as long as there are new requests.
    fn load(&self, broker: &Broker, killing: mpsc::Sender<()>) -> Figures {
        let peer = |_number| Peer { client: Client::dealer(broker.frontend()), open: HashMap::new() };
        let mut peers: Vec<Peer> = (0..self.clients).map(peer).collect();
        let mut figures = Figures::default();
        let end = Deadline::after(self.time);
        while !end.is_over() || figures.sent < self.requests {
            for peer in &mut peers {
                while peer.open.len() < DEPTH {
                    peer.send(figures.sent);
                    figures.sent += 1;
                }
            }
            receive(&mut peers, BETWEEN_LOOKS, &mut figures);
        }
        drop(killing);
        let last = Deadline::after(LAST_ANSWERS);
        while peers.iter().any(|peer| !peer.open.is_empty()) && !last.is_over() {
            receive(&mut peers, last.left(), &mut figures);
        }
        figures.lost = peers.iter().map(|peer| peer.open.len() as u64).sum();
        let listening = Deadline::after(ECHOES);
        while !listening.is_over() {
            receive(&mut peers, listening.left(), &mut figures);
        }
        figures
    }
}

impl Figures {
    /// That nothing was lost, wrong, doubled or refused.
    pub fn check(&self) {
        let spotless = self.lost == 0 && self.wrong == 0 && self.doubled == 0 && self.errors == 0;
        assert!(spotless && self.right == self.sent, "{self:#?}");
    }
}

impl Peer {
    /// Some requests take a while, so that kills find workers at work.
    fn send(&mut self, number: u64) {
        let (body, answer) = if number.is_multiple_of(LONG_ONES) {
            let milliseconds = number / LONG_ONES % 90;
            (format!("sleep {milliseconds}"), format!("slept {milliseconds}"))
        } else {
            (format!("echo {number} of many"), format!("{number} of many"))
        };
        let name = number.to_be_bytes();
        self.client.send(&[&name, b"", body.as_bytes()]);
        self.open.insert(name.to_vec(), answer.into_bytes());
    }

    fn take(&mut self, frames: &[Vec<u8>], figures: &mut Figures) {
        let [name, empty, answer] = frames else {
            figures.wrong += 1;
            return;
        };
        match self.open.remove(name) {
            None => figures.doubled += 1,
            Some(expected) if empty.is_empty() && *answer == expected => figures.right += 1,
            Some(_) if answer.starts_with(b"ERR ") => {
                figures.errors += 1;
                figures.sample = Some(String::from_utf8_lossy(answer).into_owned());
            }
            Some(_) => figures.wrong += 1,
        }
    }
}

fn receive(peers: &mut [Peer], within: Duration, figures: &mut Figures) {
    let mut items: Vec<_> = peers.iter().map(|peer| peer.client.socket().as_poll_item(zmq::POLLIN)).collect();
    // Rounded up, or the last millisecond would be a busy loop.
    let milliseconds = i64::try_from(within.as_millis()).unwrap() + 1;
    zmq::poll(&mut items, milliseconds).unwrap();
    let ready: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
    for (peer, _) in peers.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
        while let Ok(frames) = peer.client.socket().recv_multipart(zmq::DONTWAIT) {
            peer.take(&frames, figures);
        }
    }
}
