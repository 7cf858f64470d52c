//! What will happen, in order. The same moment keeps the order of entry.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hornpipe::core::{ClientId, Event, Generation, Place, RequestId, Timestamp, WorkerId};
use hornpipe_proto::Token;

use super::Body;
use super::peer::{PeerId, Queued};

#[derive(Debug)]
pub(super) enum Happening {
    /// A client sends a request, and plans its next one.
    Ask {
        client: ClientId,
    },
    /// A worker's message reaches the router of that life.
    Arrive {
        worker: WorkerId,
        life: u32,
        event: Event<Body>,
    },
    /// The parent's notice reaches the router of that life.
    Notice {
        life: u32,
        event: Event<Body>,
    },
    /// Something reaches a worker.
    Deliver {
        worker: WorkerId,
        order: Order,
    },
    /// The parent makes a process.
    Fork {
        place: Place,
        generation: Generation,
    },
    Signal {
        place: Place,
        signal: Signal,
    },
    Booted {
        peer: PeerId,
    },
    /// A worker has run a job.
    Done {
        peer: PeerId,
        token: Token,
    },
    /// It sends the next part of a reply.
    Part {
        peer: PeerId,
        token: Token,
    },
    /// A client has room for a part.
    Read {
        life: u32,
        request: RequestId,
    },
    /// An idle worker says so again.
    Repeat {
        peer: PeerId,
    },
    Connect {
        peer: PeerId,
    },
    /// A connection that its worker has left behind ends.
    Close {
        worker: WorkerId,
    },
    /// A process ends by its own decision.
    Quit {
        peer: PeerId,
    },
    /// Somebody meddles: an operator, a stop, the end of the router, a stranger.
    Meddle,
    Continue {
        peer: PeerId,
    },
}

/// What a router sends to a worker.
#[derive(Debug, Clone)]
pub(super) enum Order {
    Job(Queued),
    More { token: Token, parts: u32 },
    Cancel { token: Token },
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Terminate,
    Kill,
}

#[derive(Debug, Default)]
pub(super) struct Calendar {
    /// When each happens, the how many-th it was to be entered, and where it is kept.
    order: BinaryHeap<Reverse<(Timestamp, u64, usize)>>,
    /// They are large, and stay where they are while others come between them.
    kept: Vec<Option<Happening>>,
    free: Vec<usize>,
    entered: u64,
}

impl Calendar {
    pub(super) fn enter(&mut self, at: Timestamp, happening: Happening) {
        self.entered += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.kept.push(None);
            self.kept.len() - 1
        });
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = Some(happening);
        }
        self.order.push(Reverse((at, self.entered, place)));
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.order.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop(&mut self) -> Option<(Timestamp, Happening)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        Some((at, self.kept.get_mut(place)?.take()?))
    }
}
