//! Virtual workers that reply in parts, well or badly, and clients that read them, or do not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hornpipe::core::{Action, Event, RequestId, WorkerId};
use hornpipe_proto::Token;

use super::Body;
use super::calendar::Happening;
use super::peer::PeerId;
use super::world::World;

/// A worker that may send nothing looks again after this time.
const LATER: Duration = Duration::from_millis(50);

/// What everybody outside knows of replies in parts.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// By the worker's own count.
    sent: BTreeMap<Token, Stream>,
    /// What a client has: of which attempt, and the number of the last part.
    read: BTreeMap<RequestId, (u32, u64)>,
    over: BTreeSet<RequestId>,
}

#[derive(Debug)]
struct Stream {
    /// The connection that its job came by.
    worker: WorkerId,
    left: u32,
    begun: bool,
    /// So many parts are still to be sent. It may be more than anybody waits for.
    to_send: u64,
}

/// Workers.
impl World {
    /// Whether the worker replies to this job in parts.
    pub(super) fn begins_parts(
        &mut self,
        peer: PeerId,
        worker: WorkerId,
        token: Token,
        window: Option<u32>,
    ) -> bool {
        let Some(left) = window else {
            if self.random.percent(self.faults.unasked_part) {
                self.send_part(worker, token, RequestId(0));
            }
            return false;
        };
        if !self.random.percent(self.faults.parts) {
            return false;
        }
        let endless = self.random.percent(self.faults.endless);
        let to_send = if endless { u64::MAX } else { self.random.below(50) };
        self.streams.sent.insert(token, Stream { worker, left, begun: false, to_send });
        self.go_on_sending(peer, token);
        true
    }

    fn go_on_sending(&mut self, peer: PeerId, token: Token) {
        let pause = match self.random.below(20) {
            0 if !self.calm => self.random.millis(0, 1500),
            1..10 => self.random.millis(0, 1),
            _ => self.random.millis(0, 20),
        };
        self.enter(pause, Happening::Part { peer, token });
    }

    /// It is time for the next part, or for the end.
    pub(super) fn part(&mut self, peer: PeerId, token: Token) {
        let Some(process) = self.peers.get(&peer).filter(|process| process.jobs.contains_key(&token)) else {
            self.streams.sent.remove(&token);
            return;
        };
        if process.halted {
            return self.enter(LATER, Happening::Part { peer, token });
        }
        let (connection, body) = (process.connection, process.jobs.get(&token).copied());
        let Some(stream) = self.streams.sent.get_mut(&token) else { return };
        let forgotten = connection != Some(stream.worker);
        let ends = stream.to_send == 0 || self.random.percent(3);
        if forgotten || ends || self.calm {
            self.done(peer, token);
            self.streams.sent.remove(&token);
            return;
        }
        let too_many = stream.left == 0 && self.random.percent(self.faults.too_many_parts);
        if stream.left == 0 && !too_many {
            return self.enter(LATER, Happening::Part { peer, token });
        }
        stream.left = stream.left.saturating_sub(1);
        stream.begun = true;
        stream.to_send = stream.to_send.saturating_sub(1);
        let worker = stream.worker;
        if let Some(body) = body {
            self.send_part(worker, token, body.request);
        }
        self.go_on_sending(peer, token);
    }

    fn send_part(&mut self, worker: WorkerId, token: Token, request: RequestId) {
        let number = self.name();
        let size = self.random.below(300);
        self.send_up(worker, Event::Part { worker, token, size, body: Body { request, number } });
    }

    /// One more part, behind the end.
    pub(super) fn late_part(&mut self, worker: WorkerId, token: Token) {
        if self.random.percent(self.faults.late_part) {
            self.send_part(worker, token, RequestId(0));
        }
    }

    /// Whether the worker says as it goes that it has seen nothing of this, and has sent parts of
    /// all that it has in hand.
    pub(super) fn denies_all(&mut self, peer: PeerId) -> bool {
        let denies = self.random.percent(self.faults.denial);
        let Some(process) = self.peers.get(&peer).filter(|process| denies && process.is_native()) else {
            return false;
        };
        let begun = |token| self.streams.sent.get(token).is_some_and(|stream| stream.begun);
        // One with nothing in hand may have lost what it had, which the router cannot know.
        !process.jobs.is_empty() && process.jobs.keys().all(begun)
    }

    pub(super) fn allow_parts(&mut self, token: Token, parts: u32) {
        if let Some(stream) = self.streams.sent.get_mut(&token) {
            stream.left += parts;
        }
    }
}

/// Clients.
impl World {
    /// The router hands a part to a client's connection, now or when there is room.
    pub(super) fn read_part(&mut self, request: RequestId, attempt: u32, body: Body) {
        let (seed, step) = (self.seed, self.model.step);
        let honest = body.request == self.again.get(&request).copied().unwrap_or(request);
        assert!(honest, "seed {seed} step {step}: {request} gets a part of {body:?}");
        assert!(!self.streams.over.contains(&request), "seed {seed} step {step}: {request} is over");
        let before = self.streams.read.insert(request, (attempt, body.number));
        let follows = before.is_none_or(|(same, earlier)| same == attempt && earlier < body.number);
        assert!(follows, "seed {seed} step {step}: {request} gets {body:?} after {before:?}");
        if self.random.percent(self.faults.no_reader) {
            return self.at_once.push_back(Event::PartUndelivered { request });
        }
        if self.random.percent(self.faults.slow_reader) {
            let longest = if self.random.percent(50) { 3000 } else { 100 };
            let pause = self.random.millis(0, longest);
            return self.enter(pause, Happening::Read { life: self.life, request });
        }
        self.at_once.push_back(Event::Delivered { request, parts: 1 });
    }

    pub(super) fn has_read(&mut self, life: u32, request: RequestId) {
        if life == self.life {
            // A router that cannot count is believed only as far as it can be right.
            let parts = if self.random.percent(2) { u32::MAX } else { 1 };
            self.tell(Event::Delivered { request, parts });
        }
    }

    /// A client's request may have come to its end.
    pub(super) fn note_end(&mut self, action: &Action<Body>) {
        let (Action::Answer { request, .. } | Action::Refuse { request, .. } | Action::Forget { request }) =
            action
        else {
            return;
        };
        self.streams.read.remove(request);
        self.streams.over.insert(*request);
    }
}
