//! One worker as a connection: what it says, holds and understands, and whether it takes more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::Token;

use super::event::Home;
use super::ids::Timestamp;
use super::loss::Fate;
use super::prefetch::{Ahead, Tempo};
use super::withheld::Withheld;
use super::worker_state::WorkerState;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts about a worker that come and go by themselves")]
pub(super) struct Worker {
    pub(super) home: Home,
    pub(super) name: Option<String>,
    /// What tells it from all others, if it has said that.
    pub(super) instance: Option<Arc<str>>,
    pub(super) tongue: Tongue,
    pub(super) credits: u32,
    pub(super) state: WorkerState,
    /// In the order in which it was given them, which is about that in which it lets go.
    pub(super) held: VecDeque<Token>,
    /// Of these, what it has not begun, in the order in which it will.
    pub(super) ahead: VecDeque<Ahead>,
    /// Of these, the one that has a key, if it is one at a time: until its reply is read, nothing
    /// else may come, because the worker keeps that reply so long.
    pub(super) keyed: Option<Token>,
    pub(super) tempo: Tempo,
    /// Whether what it has not begun can be taken back, whatever it does.
    pub(super) claims: bool,
    /// Whether that is being done at this moment.
    pub(super) withdrawing: bool,
    /// Whether it has been done since its last reply: what was sent in vain may still be before it.
    pub(super) withdrawn: bool,
    /// Since when it has held anything, while it does.
    pub(super) busy_since: Option<Timestamp>,
    /// Why it is given nothing at present, whatever it says.
    pub(super) withheld: Withheld,
    pub(super) joined: Timestamp,
    /// Between two of its heartbeats, if it sends any.
    pub(super) beat: Option<Duration>,
    /// When it last said anything.
    pub(super) heard: Timestamp,
    /// Jobs sent on this connection.
    pub(super) sent: u64,
    pub(super) served: u64,
    /// Whether its connection is gone. What it holds is judged when it is known how
    /// its process fares.
    pub(super) cut: bool,
    /// How its process ended, once that is known.
    pub(super) fate: Option<Fate>,
    /// When it was last given something: the idle are used in turn.
    pub(super) last_turn: u64,
}

/// What a worker understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tongue {
    Plain,
    PlainReadyByReply,
    Native,
}

impl Worker {
    pub(super) fn new(home: Home, joined: Timestamp) -> Self {
        Self {
            home,
            name: None,
            instance: None,
            tongue: Tongue::Plain,
            credits: 1,
            state: WorkerState::Starting,
            held: VecDeque::new(),
            ahead: VecDeque::new(),
            keyed: None,
            tempo: Tempo::default(),
            claims: false,
            withdrawing: false,
            withdrawn: false,
            busy_since: None,
            withheld: Withheld::default(),
            joined,
            beat: None,
            heard: joined,
            sent: 0,
            served: 0,
            cut: false,
            fate: None,
            last_turn: 0,
        }
    }

    pub(super) fn state(&self) -> WorkerState {
        self.state
    }

    pub(super) fn held(&self) -> impl ExactSizeIterator<Item = Token> + '_ {
        self.held.iter().copied()
    }

    /// It has this from here on.
    pub(super) fn hold(&mut self, token: Token) {
        if !self.held.contains(&token) {
            self.held.push_back(token);
        }
    }

    /// It is given this, and is at it as soon as it can be.
    pub(super) fn receive(&mut self, token: Token, turn: u64, now: Timestamp) {
        self.busy_since.get_or_insert(now);
        self.held.push_back(token);
        self.sent += 1;
        self.last_turn = turn;
        self.set_state(WorkerState::Processing);
    }

    /// It has this no more.
    pub(super) fn let_go(&mut self, token: Token) {
        if let Some(place) = self.held.iter().position(|held| *held == token) {
            self.held.remove(place);
        }
        self.keyed.take_if(|keyed| *keyed == token);
        self.begin(token);
    }

    /// It has begun this, or never will.
    pub(super) fn begin(&mut self, token: Token) {
        if let Some(place) = self.ahead.iter().position(|ahead| ahead.token == token) {
            self.ahead.remove(place);
        }
    }

    /// Which job of its connection it is at, or about to begin, if it has one at a time.
    pub(super) fn present(&self) -> Option<u64> {
        let is_busy = self.credits == 1 && self.ahead.len() < self.held.len();
        is_busy.then(|| self.sent - self.ahead.len() as u64)
    }

    /// Whether it has still to answer its probe.
    pub(super) fn is_unproven(&self) -> bool {
        self.withheld.unproven
    }

    /// Whether somebody stopped its process.
    pub(super) fn is_halted(&self) -> bool {
        self.withheld.halted
    }

    /// What tells it from all others. One that has said so keeps replies to jobs with a key.
    pub(super) fn instance(&self) -> Option<&Arc<str>> {
        self.instance.as_ref()
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether it has still to come back from what an earlier router gave it.
    pub(super) fn is_unreturned(&self) -> bool {
        self.state == WorkerState::Processing && self.sent == 0
    }

    pub(super) fn set_state(&mut self, next: WorkerState) {
        if self.state != next {
            debug_assert!(self.state.may_become(next), "{:?} to {next:?}", self.state);
            self.state = next;
        }
    }

    /// Whether it could take a request, now or after the present one.
    pub(super) fn serves(&self) -> bool {
        !self.withheld.lastingly() && matches!(self.state, WorkerState::Waiting | WorkerState::Processing)
    }

    /// How many requests it runs at once, if it serves.
    pub(super) fn capacity(&self) -> usize {
        if self.serves() { self.credits as usize } else { 0 }
    }

    /// How many requests it runs at once, if others may send it some: what it has from an
    /// earlier router comes first, and one that was stopped takes nothing.
    pub(super) fn lends(&self) -> u32 {
        let lends = self.serves() && !self.is_unreturned() && !self.withheld.halted;
        if lends { self.credits } else { 0 }
    }

    /// Whether it is one of ours and idle, and whether it is one of ours and busy.
    /// One that has not said what it does, or that somebody stopped, is neither, and so
    /// is a plain one from its reply until it says that it is ready.
    pub(super) fn local_occupation(&self) -> (bool, bool) {
        let counts = self.home != Home::External && !self.withheld.lastingly() && !self.withheld.halted;
        let works = self.state == WorkerState::Processing && (self.is_busy() || self.is_unreturned());
        (counts && self.state == WorkerState::Waiting, counts && works)
    }

    /// What it has not begun, in the order in which it will.
    pub(super) fn ahead(&self) -> impl ExactSizeIterator<Item = &Ahead> {
        self.ahead.iter()
    }

    /// Whether it would take another before it is done with what it is at.
    pub(super) fn takes_ahead(&self, prefetch: Option<Duration>) -> bool {
        let withheld = self.withheld.lastingly() || self.withheld.halted;
        let able = self.claims && self.tongue == Tongue::Native && self.credits == 1 && self.keyed.is_none();
        let able = able && prefetch.is_some() && !withheld && !self.withdrawing && !self.withdrawn;
        let busy = self.state == WorkerState::Processing && self.is_busy();
        able && busy && self.ahead.len() < self.tempo.room()
    }

    pub(super) fn takes_more(&self) -> bool {
        let withheld = self.withheld.lastingly() || self.withheld.halted;
        let room = self.held.len() < self.credits as usize;
        match self.state {
            WorkerState::Waiting => !withheld && room,
            // It runs several at once. One that came back from an earlier router
            // still busy holds nothing of ours, and has not said what it could take.
            WorkerState::Processing => {
                let works_here = self.is_busy() && !self.is_unreturned();
                !withheld && room && works_here && self.tongue == Tongue::Native
            }
            WorkerState::Starting | WorkerState::Exiting => false,
        }
    }
}
