//! The loop: send what is due, read what came, wait.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::outcome::{Band, Latency, Outcome, Progress};
use super::peer::{Framing, Peer, sweep_interval};
use super::schedule::{Due, Schedule, Timer};
use super::slots::Slots;
use super::{LoadError, Plan, Until};
use crate::clock;
use crate::connection::poll;
use crate::endpoint::{Address, Endpoint};

/// Messages read from one client before the others have their turn.
const BUDGET: usize = 256;

/// A wait with nothing out ends by the timer; this is for when it does not.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long to listen for doubled replies when everything is answered.
const LISTEN_AFTER: Duration = Duration::from_millis(50);

/// Nanoseconds; latencies above are counted as this.
const LATENCY_LIMIT: u64 = 3_600_000_000_000;

const LATENCY_DIGITS: u8 = 3;

pub(super) struct Generator<'a> {
    plan: &'a Plan,
    framing: Framing,
    slots: Slots,
    peers: Vec<Peer>,
    schedule: Schedule,
    timer: Timer,
    start: Instant,
    next_sweep: Instant,
    /// Slots without a request.
    free: VecDeque<usize>,
    /// Peers to be read before any wait: a send may have swallowed the sign
    /// that something is there.
    hot: Vec<usize>,
    watched: Vec<usize>,
    frames: Vec<zmq::Message>,
}

impl<'a> Generator<'a> {
    pub(super) fn connect(plan: &'a Plan) -> Result<Self, LoadError> {
        let resolve = |endpoint: &Endpoint| endpoint.resolve().map_err(LoadError::Endpoint);
        let addresses: Vec<Address> = plan.endpoints.iter().map(resolve).collect::<Result<_, _>>()?;
        let context = zmq::Context::new();
        let open = |address: &Address| Peer::open(&context, address, plan.depth);
        let peers: Vec<Peer> =
            addresses.iter().cycle().take(plan.clients).map(open).collect::<zmq::Result<_>>()?;
        let deadline = clock::deadline(plan.timeout);
        let endpoints = plan.endpoints.iter().cycle();
        for (connected, (peer, endpoint)) in peers.iter().zip(endpoints).enumerate() {
            if !peer.wait_until_connected(deadline)? {
                return Err(LoadError::Unreachable { endpoint: endpoint.clone(), connected });
            }
        }
        let latencies = Histogram::new_with_bounds(1, LATENCY_LIMIT, LATENCY_DIGITS);
        let slots = Slots::new(plan.clients, plan.depth, latencies.map_err(LoadError::Histogram)?);
        let nonce = getrandom::u64().map_err(|_error| LoadError::Entropy)?;
        let timer = Timer::new().map_err(LoadError::Timer)?;
        let start = clock::now();
        Ok(Self {
            plan,
            framing: Framing::new(plan, nonce),
            peers,
            schedule: Schedule::new(plan, start),
            timer,
            start,
            next_sweep: start,
            free: spread(plan.clients, plan.depth).collect(),
            hot: Vec::new(),
            watched: Vec::new(),
            frames: Vec::new(),
            slots,
        })
    }

    pub(super) fn run(mut self, watch: &mut dyn FnMut(&Progress<'_>)) -> Result<Outcome, LoadError> {
        loop {
            self.read_hot()?;
            self.issue()?;
            self.read_hot()?;
            let now = clock::now();
            if self.next_sweep <= now {
                self.give_up(now);
                let elapsed = now.saturating_duration_since(self.start);
                watch(&Progress { elapsed, counts: &self.slots.counts, out: self.slots.out() });
            }
            let due = self.schedule.next_due(now);
            if self.slots.out() == 0 && due == Due::Never {
                break;
            }
            self.wait(due, now)?;
        }
        let ended = clock::now();
        self.listen(clock::deadline(LISTEN_AFTER.min(self.plan.timeout)))?;
        Ok(self.into_outcome(ended))
    }

    /// Sends what is due while there is a slot for it.
    fn issue(&mut self) -> Result<(), LoadError> {
        while let Some(slot) = self.free.front().copied() {
            let now = clock::now();
            let Due::Since(since) = self.schedule.next_due(now) else { break };
            self.free.pop_front();
            self.schedule.count_issued();
            let name = self.slots.begin(slot, since, now);
            let client = self.slots.client_of(slot);
            if let Some(peer) = self.peers.get_mut(client) {
                peer.send(name, &mut self.framing)?;
                peer.out += 1;
                self.hot.push(client);
            }
        }
        Ok(())
    }

    fn read_hot(&mut self) -> Result<(), LoadError> {
        let mut hot = std::mem::take(&mut self.hot);
        hot.sort_unstable();
        hot.dedup();
        for client in hot.drain(..) {
            self.read(client)?;
        }
        // What was not read to its end is hot again; keep the larger buffer.
        hot.append(&mut self.hot);
        self.hot = hot;
        Ok(())
    }

    fn read(&mut self, client: usize) -> Result<(), LoadError> {
        let Some(peer) = self.peers.get_mut(client) else { return Ok(()) };
        peer.send_held(&mut self.framing)?;
        for _ in 0..BUDGET {
            if !peer.receive(&mut self.frames)? {
                return Ok(());
            }
            let (name, verdict) = self.framing.read(&self.frames, |said| self.slots.identify(client, said));
            if let Some(slot) = self.slots.settle(client, name, verdict, clock::now()) {
                peer.out -= 1;
                self.free.push_back(slot);
            }
        }
        self.hot.push(client);
        Ok(())
    }

    fn give_up(&mut self, now: Instant) {
        self.next_sweep = now + sweep_interval(self.plan.timeout);
        let answered = self.free.len();
        self.slots.sweep(self.plan.timeout, now, &mut self.free);
        for slot in self.free.range(answered..) {
            if let Some(peer) = self.peers.get_mut(self.slots.client_of(*slot)) {
                peer.out -= 1;
                peer.held.retain(|name| self.slots.is_out(*name));
            }
        }
    }

    /// Waits for a reply, the next due request, or the next look for lost ones.
    fn wait(&mut self, due: Due, now: Instant) -> Result<(), LoadError> {
        let can_send = !self.free.is_empty();
        let until_sweep =
            if self.slots.out() > 0 { self.next_sweep.saturating_duration_since(now) } else { LONGEST_WAIT };
        let mut items = Vec::with_capacity(self.peers.len() + 1);
        let wait = match due {
            _ if !self.hot.is_empty() => Duration::ZERO,
            Due::Since(_) if can_send => Duration::ZERO,
            Due::At(at) if can_send => {
                self.timer.arm(at.saturating_duration_since(now)).map_err(LoadError::Timer)?;
                items.push(zmq::PollItem::from_fd(self.timer.fd(), zmq::POLLIN));
                until_sweep
            }
            Due::Since(_) | Due::At(_) | Due::Never => until_sweep,
        };
        let timers = items.len();
        self.watched.clear();
        // A client with nothing out can only hear what nobody asked for.
        self.watched
            .extend(self.peers.iter().enumerate().filter(|(_, peer)| peer.out > 0).map(|(client, _)| client));
        items.extend(self.watched.iter().filter_map(|client| self.peers.get(*client)).map(Peer::poll_item));
        poll(&mut items, clock::poll_timeout(wait))?;
        let readable = items.iter().skip(timers).zip(&self.watched).filter(|(item, _)| item.is_readable());
        self.hot.extend(readable.map(|(_, client)| *client));
        Ok(())
    }

    /// Reads whatever comes to anybody until `deadline`.
    fn listen(&mut self, deadline: Instant) -> Result<(), LoadError> {
        loop {
            self.hot.clear();
            self.hot.extend(0..self.peers.len());
            self.read_hot()?;
            let left = clock::left(deadline);
            if left.is_zero() {
                return Ok(());
            }
            let wait = if self.hot.is_empty() { left } else { Duration::ZERO };
            let mut items: Vec<_> = self.peers.iter().map(Peer::poll_item).collect();
            poll(&mut items, clock::poll_timeout(wait))?;
        }
    }

    fn into_outcome(self, ended: Instant) -> Outcome {
        let Slots { mut counts, latencies, last_reply, .. } = self.slots;
        counts.unsent = self.schedule.unsent();
        let planned = match self.plan.until {
            Until::Elapsed(span) => span,
            Until::Count(_) => Duration::ZERO,
        };
        let until = last_reply.unwrap_or(ended);
        let elapsed = until.saturating_duration_since(self.start).max(planned);
        let rate = rate(counts.ok, elapsed);
        let bands = Band::all_of(&latencies);
        Outcome { counts, elapsed, rate, latency: Latency::of(&latencies), bands }
    }
}

/// Every client's first slot, then every client's second, and so on.
fn spread(clients: usize, depth: usize) -> impl Iterator<Item = usize> {
    (0..depth).flat_map(move |place| (0..clients).map(move |client| client * depth + place))
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
fn rate(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}
