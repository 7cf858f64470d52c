//! Answers that a slow client has no room for yet. They are tried again on a
//! timer, and dropped, counted, when they become too many.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::clock;
use super::frame::{Frame, total_size};
use super::sockets::{RouterSocket, Sent};
use crate::core::Timestamp;

/// Between two tries.
const RETRY: Duration = Duration::from_millis(10);

/// So many answers, and so many bytes of them, are kept for slow clients.
const COUNT_LIMIT: usize = 10_000;
const BYTES_LIMIT: u64 = 64 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Answer>,
    bytes: u64,
    retry_at: Option<Timestamp>,
    dropped: u64,
}

#[derive(Debug)]
struct Answer {
    routing_id: Rc<[u8]>,
    frames: Vec<Frame>,
    size: u64,
}

impl Outbox {
    pub(super) fn send(&mut self, socket: &mut RouterSocket, routing_id: &Rc<[u8]>, frames: Vec<Frame>) {
        match socket.send(routing_id, &[], frames.iter()) {
            Sent::Yes => (),
            Sent::Gone => self.dropped += 1,
            Sent::Full => {
                self.keep(Answer { routing_id: Rc::clone(routing_id), size: total_size(&frames), frames });
            }
        }
    }

    fn keep(&mut self, answer: Answer) {
        if self.waiting.len() >= COUNT_LIMIT || self.bytes + answer.size > BYTES_LIMIT {
            self.dropped += 1;
            return;
        }
        self.bytes += answer.size;
        self.waiting.push_back(answer);
        self.retry_at.get_or_insert_with(|| clock::now().after(RETRY));
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Tries each answer once more, if it is time.
    pub(super) fn retry(&mut self, socket: &mut RouterSocket, now: Timestamp) {
        if self.retry_at.is_none_or(|at| now < at) {
            return;
        }
        for _once in 0..self.waiting.len() {
            let Some(answer) = self.waiting.pop_front() else { break };
            match socket.send(&answer.routing_id, &[], answer.frames.iter()) {
                Sent::Yes => self.bytes -= answer.size,
                Sent::Full => self.waiting.push_back(answer),
                Sent::Gone => {
                    self.bytes -= answer.size;
                    self.dropped += 1;
                }
            }
        }
        self.retry_at = (!self.waiting.is_empty()).then(|| now.after(RETRY));
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
