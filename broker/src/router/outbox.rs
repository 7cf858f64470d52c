//! What a slow client has no room for yet. It is tried again on a timer, in the order in which
//! it was to be sent, and dropped, counted, when it becomes too much.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::clock;
use super::frame::{Body, Frame, total_size};
use super::sockets::{RouterSocket, Sent};
use crate::core::{Event, RequestId, Timestamp};

/// Between two tries.
const RETRY: Duration = Duration::from_millis(10);

/// So many messages, and so many bytes of them, are kept for slow clients.
const COUNT_LIMIT: usize = 10_000;
const BYTES_LIMIT: u64 = 64 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// What waits for each client that has no room. None of them is empty.
    lines: HashMap<Rc<[u8]>, VecDeque<Message>>,
    /// The same clients, in the order in which they are tried.
    turns: VecDeque<Rc<[u8]>>,
    count: usize,
    bytes: u64,
    retry_at: Option<Timestamp>,
    dropped: u64,
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
    /// What became of it, if that is known and the core is to hear of it.
    pub(super) fn send(
        &mut self,
        socket: &mut RouterSocket,
        routing_id: &Rc<[u8]>,
        frames: Vec<Frame>,
        matter: Matter,
    ) -> Option<Event<Body>> {
        // Behind what waits already: a part that overtakes another would be a wrong reply.
        let sent = if self.lines.contains_key(routing_id) {
            Sent::Full
        } else {
            socket.send(routing_id, &[], frames.iter())
        };
        match sent {
            Sent::Yes => matter.delivered(),
            Sent::Gone => self.drop_it(matter),
            Sent::Full => {
                let size = total_size(&frames);
                self.keep(routing_id, Message { frames, size, matter })
            }
        }
    }

    fn drop_it(&mut self, matter: Matter) -> Option<Event<Body>> {
        self.dropped += 1;
        matter.undelivered()
    }

    fn keep(&mut self, routing_id: &Rc<[u8]>, message: Message) -> Option<Event<Body>> {
        if self.count >= COUNT_LIMIT || self.bytes + message.size > BYTES_LIMIT {
            return self.drop_it(message.matter);
        }
        self.count += 1;
        self.bytes += message.size;
        if !self.lines.contains_key(routing_id) {
            self.turns.push_back(Rc::clone(routing_id));
        }
        self.lines.entry(Rc::clone(routing_id)).or_default().push_back(message);
        self.retry_at.get_or_insert_with(|| clock::now().after(RETRY));
        None
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Tries each client once more, if it is time, and tells what became of its messages.
    pub(super) fn retry(
        &mut self,
        socket: &mut RouterSocket,
        now: Timestamp,
        events: &mut impl Extend<Event<Body>>,
    ) {
        if self.retry_at.is_none_or(|at| now < at) {
            return;
        }
        for _once in 0..self.turns.len() {
            let Some(routing_id) = self.turns.pop_front() else { break };
            let Some(mut line) = self.lines.remove(&routing_id) else { continue };
            while let Some(message) = line.pop_front() {
                match socket.send(&routing_id, &[], message.frames.iter()) {
                    Sent::Full => {
                        line.push_front(message);
                        break;
                    }
                    Sent::Yes => {
                        self.forget(&message);
                        events.extend(message.matter.delivered());
                    }
                    Sent::Gone => {
                        self.forget(&message);
                        events.extend(self.drop_it(message.matter));
                    }
                }
            }
            if !line.is_empty() {
                self.lines.insert(Rc::clone(&routing_id), line);
                self.turns.push_back(routing_id);
            }
        }
        self.retry_at = (!self.turns.is_empty()).then(|| now.after(RETRY));
    }

    fn forget(&mut self, message: &Message) {
        self.count -= 1;
        self.bytes -= message.size;
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
