//! The requests that are out, and what became of each.
//!
//! A client of depth n has n slots; a slot has one request out at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hornpipe_proto::Status;

use super::outcome::Counts;
use super::payload::Name;

/// A slot remembers this many of its lost requests, to know a late reply from a doubled one.
const LOST_LIMIT: usize = 256;

#[derive(Debug)]
pub(super) struct Slots {
    /// Those of one client stand together.
    table: Vec<Slot>,
    depth: usize,
    out: usize,
    pub(super) counts: Counts,
    /// In nanoseconds.
    pub(super) latencies: Histogram<u64>,
    pub(super) last_reply: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Slot {
    turn: u64,
    waiting: Option<Waiting>,
    lost: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// The latency counts from here.
    since: Instant,
    sent: Instant,
}

/// What a message says of the request it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    Failed(Status),
}

impl Slots {
    pub(super) fn new(clients: usize, depth: usize, latencies: Histogram<u64>) -> Self {
        let empty = Slot { turn: 0, waiting: None, lost: VecDeque::new() };
        let table = vec![empty; clients * depth];
        Self { table, depth, out: 0, counts: Counts::default(), latencies, last_reply: None }
    }

    /// Which client a slot belongs to.
    pub(super) fn client_of(&self, slot: usize) -> usize {
        slot / self.depth
    }

    /// How many requests are out.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Begins a slot's next request.
    pub(super) fn begin(&mut self, slot: usize, since: Instant, sent: Instant) -> Name {
        let mut turn = 0;
        if let Some(slot) = self.table.get_mut(slot) {
            slot.turn += 1;
            slot.waiting = Some(Waiting { since, sent });
            turn = slot.turn;
            self.out += 1;
            self.counts.sent += 1;
        }
        Name { slot, turn }
    }

    /// Whether a request is still out.
    pub(super) fn is_out(&self, name: Name) -> bool {
        self.table.get(name.slot).is_some_and(|slot| slot.turn == name.turn && slot.waiting.is_some())
    }

    /// The request that a message to `client` is about: `name`, if that request
    /// ever was, else the only one that can be meant.
    pub(super) fn identify(&self, client: usize, name: Option<Name>) -> Option<Name> {
        let was =
            |name: &Name| self.table.get(name.slot).is_some_and(|slot| (1..=slot.turn).contains(&name.turn));
        name.filter(was).or_else(|| self.only_name(client))
    }

    fn only_name(&self, client: usize) -> Option<Name> {
        let slot = self.table.get(client).filter(|_| self.depth == 1)?;
        // With none out, an error without a name answers the last one given up.
        let turn = if slot.waiting.is_some() { slot.turn } else { *slot.lost.back()? };
        Some(Name { slot: client, turn })
    }

    /// Counts a message that came to `client`; the slot it sets free, if it does.
    pub(super) fn settle(
        &mut self,
        client: usize,
        name: Option<Name>,
        verdict: Verdict,
        now: Instant,
    ) -> Option<usize> {
        let name = name.filter(|name| self.client_of(name.slot) == client);
        let Some((name, slot)) = name.and_then(|name| Some((name, self.table.get_mut(name.slot)?))) else {
            self.counts.stray += 1;
            return None;
        };
        let waiting = if slot.turn == name.turn { slot.waiting.take() } else { None };
        let Some(waiting) = waiting else {
            match slot.lost.iter().position(|turn| *turn == name.turn) {
                Some(place) => {
                    slot.lost.remove(place);
                    self.counts.late += 1;
                }
                None => self.counts.doubled += 1,
            }
            return None;
        };
        self.out -= 1;
        self.last_reply = Some(now);
        match verdict {
            Verdict::Right => {
                self.counts.ok += 1;
                let took = now.saturating_duration_since(waiting.since);
                self.latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
            Verdict::Wrong => self.counts.wrong += 1,
            Verdict::Failed(status) => *self.counts.errors.entry(status).or_default() += 1,
        }
        Some(name.slot)
    }

    /// Gives up what has been out for `timeout`, and appends the slots set free to `free`.
    pub(super) fn sweep(&mut self, timeout: Duration, now: Instant, free: &mut VecDeque<usize>) {
        for (number, slot) in self.table.iter_mut().enumerate() {
            let overdue = |waiting: &Waiting| now.saturating_duration_since(waiting.sent) >= timeout;
            if !slot.waiting.as_ref().is_some_and(overdue) {
                continue;
            }
            slot.waiting = None;
            if slot.lost.len() == LOST_LIMIT {
                slot.lost.pop_front();
            }
            slot.lost.push_back(slot.turn);
            self.out -= 1;
            self.counts.lost += 1;
            free.push_back(number);
        }
    }
}
