//! Replies in parts. What a worker may send ahead; what has gone out to a client that reads
//! parts, and is never tried again; what is kept for a client that does not, and goes out with
//! the end of the reply.

use hornpipe_proto::{Status, Token};

use super::action::Action;
use super::crew::Tongue;
use super::held::Held;
use super::ids::{RequestId, WorkerId};
use super::record::Record;
use super::timers::Timer;
use super::{Core, Turn};

/// How many parts a worker may send ahead of its client.
pub const WINDOW: u32 = 8;

/// So many are allowed at a time, so that not every part costs an order.
const ALLOWANCE: u32 = WINDOW / 2;

/// So many parts of one reply are kept at most: each costs something, also an empty one.
pub const KEPT_PARTS: usize = 4096;

/// What the worker of one attempt may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    left: u32,
    pace: Pace,
    /// What is done with, and its worker has not been told of.
    owed: u32,
    /// Its client reads parts, and so slows it down.
    live: bool,
    /// It has sent one.
    begun: bool,
    /// It has been told that nobody waits.
    told: bool,
}

/// Who says how many parts may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// The broker: its worker has been told, and is held to it.
    AsAllowed,
    /// The worker.
    Free,
}

impl Window {
    fn new(live: bool) -> Self {
        Self { left: WINDOW, pace: Pace::AsAllowed, owed: 0, live, begun: false, told: false }
    }

    /// Of a worker whose protocol has parts and no word for how many may come. A client that does
    /// not read has its budget, and no more parts beyond that.
    fn free(live: bool) -> Self {
        Self { pace: Pace::Free, ..Self::new(live) }
    }

    fn has_room(&self) -> bool {
        self.left > 0 || self.pace == Pace::Free
    }

    /// Parts that are on their way to the client.
    fn under_way(&self) -> u32 {
        WINDOW.saturating_sub(self.left + self.owed)
    }
}

impl Held {
    /// So its worker has had it, whatever it says.
    pub(super) fn has_sent_parts(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.begun)
    }
}

/// What there is of a reply that has not come to its end.
#[derive(Debug, Clone)]
pub(super) struct Partial<B> {
    /// How many parts have gone out.
    gone: u64,
    kept: Vec<B>,
    /// Bytes of all parts, wherever they are.
    bytes: u64,
}

impl<B> Default for Partial<B> {
    fn default() -> Self {
        Self { gone: 0, kept: Vec::new(), bytes: 0 }
    }
}

impl<B> Partial<B> {
    /// The client has some of it: another attempt would begin in the middle of this one.
    pub(super) fn has_gone_out(&self) -> bool {
        self.gone > 0
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        if self.gone > 0 { 0 } else { self.bytes }
    }

    /// What a client is told whose reply has no end.
    pub(super) fn lost_message(&self) -> Option<String> {
        match self.gone {
            0 => None,
            1 => Some("its worker ended after one part of the reply".into()),
            parts => Some(format!("its worker ended after {parts} parts of the reply")),
        }
    }

    /// What is kept and the bytes of the whole reply, its last part being so large.
    pub(super) fn finish(self, size: u64) -> (Vec<B>, u64) {
        (self.kept, self.bytes + size)
    }
}

impl<B: Clone> Core<B> {
    /// What a worker may send in parts, if it understands such words.
    pub(super) fn window_for(&self, worker: WorkerId, request: &Record<B>) -> Option<Window> {
        let record = self.crew.worker(worker)?;
        // Others may ask for the work of a key, and are to hear the same.
        let keyed = request.key().is_some();
        let live = request.parts && !keyed;
        match record.tongue {
            // Parts of it would end with this router, while the reply may come to the next.
            Tongue::Native if keyed => None,
            Tongue::Native => Some(Window::new(live)),
            // Of those who beat Majordomo's have parts, and nobody else says such a word.
            Tongue::Plain | Tongue::PlainReadyByReply => record.beat.map(|_beat| Window::free(live)),
        }
    }

    pub(super) fn worker_sent_part(
        &mut self,
        (worker, token): (WorkerId, Token),
        (size, body): (u64, B),
        turn: &mut Turn<'_, B>,
    ) {
        if self.requests.held(token).is_some_and(|held| held.worker == worker) {
            self.begin_ahead(token, turn);
        }
        let Some(held) = self.requests.held_mut(token).filter(|held| held.worker == worker) else {
            self.counters.stale_replies += 1;
            return;
        };
        let request = held.request;
        let Some(window) = held.window.as_mut().filter(|window| window.has_room()) else {
            return self.worker_malformed(worker, turn);
        };
        window.left = window.left.saturating_sub(1);
        window.begun = true;
        self.counters.parts += 1;
        match (request, window.live) {
            (None, live) => self.part_for_nobody(token, live, turn),
            (Some(request), true) => self.pass_on(request, (size, body), turn),
            (Some(request), false) => self.keep((request, token), (size, body), turn),
        }
        self.limit_silence(token, turn);
    }

    /// A reply that runs to a client ends with it; one that was to be kept runs to its end.
    fn part_for_nobody(&mut self, token: Token, live: bool, turn: &mut Turn<'_, B>) {
        let Some(window) = self.requests.held(token).and_then(|held| held.window.as_ref()) else { return };
        if window.told {
            return;
        }
        if live { self.break_off(token, turn) } else { self.allow(token, 1, turn) }
    }

    fn pass_on(&mut self, request: RequestId, (size, body): (u64, B), turn: &mut Turn<'_, B>) {
        let Some(record) = self.requests.record_mut(request) else { return };
        let partial = &mut record.past_mut().partial;
        partial.gone += 1;
        partial.bytes += size;
        turn.act(Action::Part { request, attempt: record.attempt, body });
    }

    fn keep(&mut self, (request, token): (RequestId, Token), (size, body): (u64, B), turn: &mut Turn<'_, B>) {
        if let Some(why) = self.too_large(request, size) {
            self.refuse(request, Status::TooLarge, why, turn);
            return self.break_off(token, turn);
        }
        let Some(record) = self.requests.record_mut(request) else { return };
        let partial = &mut record.past_mut().partial;
        partial.kept.push(body);
        partial.bytes += size;
        self.requests.held_bytes += size;
        self.allow(token, 1, turn);
    }

    /// Why a kept reply cannot have so many bytes more, if it cannot.
    fn too_large(&self, request: RequestId, size: u64) -> Option<String> {
        let (most, room) = (self.settings.body_limit, self.settings.held_bytes_limit);
        let held = self.requests.held_bytes();
        let partial = self.requests.record(request)?.partial();
        let (bytes, kept) = partial.map_or((0, 0), |partial| (partial.bytes, partial.kept.len()));
        let whole = bytes + size;
        if whole > most {
            return Some(format!("the parts of its reply have {whole} bytes, at most {most} are joined"));
        }
        if kept >= KEPT_PARTS {
            return Some(format!(
                "its reply has more than {KEPT_PARTS} parts, and its client reads one message"
            ));
        }
        (held + size > room).then(|| format!("no room for the parts of its reply: {held} bytes are held"))
    }

    /// The same of the last part. Nothing was promised to be joined if nothing is kept.
    pub(super) fn end_is_too_large(&self, request: RequestId, size: u64) -> Option<String> {
        let partial = self.requests.record(request)?.partial()?;
        let (most, whole) = (self.settings.body_limit, partial.bytes + size);
        (!partial.kept.is_empty() && whole > most)
            .then(|| format!("the parts of its reply have {whole} bytes, at most {most} are joined"))
    }

    /// So many parts are in the hands of the client's connection.
    pub(super) fn parts_delivered(&mut self, request: RequestId, parts: u32, turn: &mut Turn<'_, B>) {
        if let Some(token) = self.requests.record_mut(request).and_then(|record| record.token()) {
            self.allow(token, parts, turn);
        }
    }

    /// A part will never reach its client, so no other may.
    pub(super) fn part_undelivered(&mut self, request: RequestId, turn: &mut Turn<'_, B>) {
        let Some(token) = self.requests.record_mut(request).and_then(|record| record.token()) else { return };
        let why = "a part of its reply could not be sent: its client is gone, or does not read";
        self.refuse(request, Status::Lost, why.into(), turn);
        self.break_off(token, turn);
    }

    fn allow(&mut self, token: Token, parts: u32, turn: &mut Turn<'_, B>) {
        let Some(held) = self.requests.held_mut(token) else { return };
        let worker = held.worker;
        let Some(window) = held.window.as_mut() else { return };
        window.owed += parts.min(window.under_way());
        let (stood_still, allowed) = (!window.has_room(), window.owed);
        if allowed < ALLOWANCE {
            return;
        }
        (window.left, window.owed) = (window.left + allowed, 0);
        // It may have forgotten such words meanwhile, or be gone, and is silent because of that.
        if self.crew.worker(worker).is_some_and(|record| record.tongue == Tongue::Native && !record.cut) {
            turn.act(Action::Allow { worker, token, parts: allowed });
            if stood_still {
                self.limit_silence(token, turn);
            }
        }
    }

    /// From here on until the next part, if it may send one: where a client does not read, its
    /// worker is silent, and not to blame.
    fn limit_silence(&mut self, token: Token, turn: &Turn<'_, B>) {
        let Some(held) = self.requests.held(token) else { return };
        let may = held.request.is_some() && held.window.as_ref().is_some_and(Window::has_room);
        match self.settings.part_timeout.filter(|_time| may) {
            Some(timeout) => self.timers.arm(turn.now.after(timeout), Timer::Part(token)),
            None => self.timers.disarm(Timer::Part(token)),
        }
    }

    /// The next part has not come in time.
    pub(super) fn part_deadline(&mut self, token: Token, turn: &mut Turn<'_, B>) {
        if self.requests.held(token).is_some_and(|held| held.request.is_some()) {
            let silence = self.settings.part_timeout.unwrap_or_default();
            self.time_out(token, Some(format!("no part of the reply within {silence:?}")), turn);
        }
    }

    /// The worker has been told that nobody waits, or is made to leave.
    pub(super) fn close_window(&mut self, token: Token) {
        if let Some(window) = self.requests.held_mut(token).and_then(|held| held.window.as_mut()) {
            window.told = true;
        }
    }
}
