//! Answers that a slow client has no room for yet, in a line for each client. They are tried
//! again, and dropped and counted when one client has too many: the others notice nothing.
//!
//! What is on its way to one client is little; what waits beyond that is here.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::clock;
use super::frame::{Body, Frame, total_size};
use super::router_socket::RouterSocket;
use super::sockets::{RoutingId, Sent};
use crate::core::{Event, RequestId, Timestamp};

/// Between two tries while somebody makes room, and at most. A router that has nothing else to
/// do waits a millisecond in any case, which is what `poll` can count.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LAST_PAUSE: Duration = Duration::from_millis(32);

/// So many lines are tried at once, the others after them.
const LINES_AT_ONCE: usize = 256;

/// So many answers are kept for one client, and so many bytes of them. The first one is kept
/// whatever its size.
const COUNT_LIMIT: usize = 10_000;
const BYTES_LIMIT: u64 = 64 * 1024 * 1024;

/// And so many bytes for all clients together: beyond them, who has most loses first.
const TOTAL_LIMIT: u64 = 4 * BYTES_LIMIT;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    lines: HashMap<RoutingId, Line>,
    /// Whose line is tried next.
    turns: VecDeque<RoutingId>,
    bytes: u64,
    retry_at: Option<Timestamp>,
    pause: Duration,
    dropped: u64,
    /// What became of parts, for the core.
    news: Vec<Event<Body>>,
}

/// What waits for one client, in its order.
#[derive(Debug, Default)]
struct Line {
    answers: VecDeque<Message>,
    bytes: u64,
}

#[derive(Debug)]
struct Message {
    frames: Vec<Frame>,
    size: u64,
    matter: Matter,
}

/// What a message is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Matter {
    /// The end of a request: nobody asks what became of it.
    Answer,
    /// A part of its reply: its worker is to know.
    PartOf(RequestId),
}

impl Matter {
    fn delivered(self) -> Option<Event<Body>> {
        match self {
            Self::Answer => None,
            Self::PartOf(request) => Some(Event::Delivered { request, parts: 1 }),
        }
    }

    fn undelivered(self) -> Option<Event<Body>> {
        match self {
            Self::Answer => None,
            Self::PartOf(request) => Some(Event::PartUndelivered { request }),
        }
    }
}

impl Outbox {
    /// Sends an answer behind those that this client has still to take.
    pub(super) fn send(
        &mut self,
        socket: &mut RouterSocket,
        routing_id: &RoutingId,
        (head, body): (&[&[u8]], &[Frame]),
        matter: Matter,
    ) {
        let others_wait = !self.lines.is_empty() && self.lines.contains_key(routing_id);
        let sent = if others_wait { Sent::Full } else { socket.send(routing_id, head, body.iter()) };
        match sent {
            Sent::Yes => self.news.extend(matter.delivered()),
            Sent::Gone => self.lose(matter),
            Sent::Full => {
                let head = head.iter().map(|bytes| Frame::copied(bytes));
                self.keep(routing_id, head.chain(body.iter().cloned()).collect(), matter);
            }
        }
    }

    /// What has become of parts since it was last asked.
    pub(super) fn take_news(&mut self) -> Vec<Event<Body>> {
        std::mem::take(&mut self.news)
    }

    fn lose(&mut self, matter: Matter) {
        self.dropped += 1;
        self.news.extend(matter.undelivered());
    }

    fn keep(&mut self, routing_id: &RoutingId, frames: Vec<Frame>, matter: Matter) {
        let size = total_size(&frames);
        if self.lines.get(routing_id).is_some_and(|line| line.is_full(size)) {
            return self.lose(matter);
        }
        if !self.lines.contains_key(routing_id) {
            self.turns.push_back(routing_id.clone());
        }
        let line = self.lines.entry(routing_id.clone()).or_default();
        line.bytes += size;
        line.answers.push_back(Message { frames, size, matter });
        self.bytes += size;
        if self.bytes > TOTAL_LIMIT {
            self.make_room();
        }
        if self.retry_at.is_none() {
            self.pause = FIRST_PAUSE;
            self.retry_at = Some(clock::now().after(self.pause));
        }
    }

    /// Whoever has most waiting loses what came last.
    fn make_room(&mut self) {
        while self.bytes > TOTAL_LIMIT
            && let Some(line) = self.lines.values_mut().max_by_key(|line| line.bytes)
            && let Some(message) = line.answers.pop_back()
        {
            line.bytes -= message.size;
            self.bytes -= message.size;
            self.lose(message.matter);
        }
    }

    /// The client has left: nobody takes what waits for it.
    pub(super) fn forget(&mut self, routing_id: &RoutingId) {
        if let Some(line) = self.lines.remove(routing_id) {
            self.bytes -= line.bytes;
            self.dropped += line.answers.len() as u64;
            self.turns.retain(|waiting| waiting != routing_id);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Tries each client once more, if somebody has made room, or it is time.
    pub(super) fn retry(&mut self, socket: &mut RouterSocket, now: Timestamp) {
        let has_room = socket.take_made_room();
        if self.retry_at.is_none_or(|at| now < at && !has_room) {
            return;
        }
        let mut moved = false;
        for _line in 0..self.turns.len().min(LINES_AT_ONCE) {
            let Some(routing_id) = self.turns.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&routing_id) else { continue };
            let before = line.bytes;
            let left = line.flush(socket, &routing_id, &mut self.news);
            self.bytes -= before - line.bytes;
            moved |= left.took > 0;
            self.dropped += left.lost;
            if line.answers.is_empty() {
                self.lines.remove(&routing_id);
            } else {
                self.turns.push_back(routing_id);
            }
        }
        self.pause = if moved { FIRST_PAUSE } else { (self.pause * 2).min(LAST_PAUSE) };
        self.retry_at = (!self.lines.is_empty()).then(|| now.after(self.pause));
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// What became of a line that was tried.
#[derive(Debug, Default)]
struct Flushed {
    took: u64,
    lost: u64,
}

impl Line {
    fn is_full(&self, more: u64) -> bool {
        self.answers.len() >= COUNT_LIMIT || self.bytes + more > BYTES_LIMIT
    }

    /// Sends on for as long as there is room.
    fn flush(
        &mut self,
        socket: &mut RouterSocket,
        routing_id: &RoutingId,
        news: &mut Vec<Event<Body>>,
    ) -> Flushed {
        let mut flushed = Flushed::default();
        while let Some(message) = self.answers.front() {
            match socket.send(routing_id, &[], message.frames.iter()) {
                Sent::Yes => {
                    flushed.took += 1;
                    news.extend(message.matter.delivered());
                }
                Sent::Full => break,
                Sent::Gone => {
                    flushed.lost += 1;
                    news.extend(message.matter.undelivered());
                }
            }
            self.bytes -= message.size;
            self.answers.pop_front();
        }
        flushed
    }
}
