//! What a router writes down of keys while it lives, for the one that follows if it dies: who
//! has the work of a key, and what came of it. Where it is written is not decided here.

use std::sync::Arc;

use hornpipe_proto::Token;

use super::Core;
use super::action::Action;
use super::held::Held;
use super::ids::{Place, Timestamp, WorkerId};
use super::record::Record;
use super::{Turn, crew};

/// How it stands with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<B> {
    /// A worker has been given its work.
    Begun(Begun),
    /// It was done.
    Done {
        /// The parts of the reply and its end; `None` if it was too large to be kept.
        reply: Option<(Vec<B>, B)>,
        /// Bytes of the reply, if it was kept.
        size: u64,
        attempt: u32,
        /// When it may be forgotten.
        until: Timestamp,
    },
    /// So many workers have had it, and none has it any more.
    Tried { attempt: u32, until: Timestamp },
    /// There is nothing to be known of it.
    Free,
}

/// Work of a key in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    pub token: Token,
    pub holder: Holder,
    pub attempt: u32,
    /// When the worker was given it.
    pub since: Timestamp,
    /// When nobody waits for it any more, as far as was known then.
    pub deadline: Option<Timestamp>,
    /// Its clients have heard their last: the reply is of no use.
    pub over: bool,
}

/// By what the worker is known that has it, after its connection is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// It is a process of ours.
    Local(Place),
    /// It is from elsewhere, and has a name of its own.
    Named(Arc<str>),
    /// By nothing but its reply.
    Unknown,
}

impl<B: Clone> Core<B> {
    /// A worker has the work of a key, or what is to be known of that is another thing now.
    pub(super) fn journal_run(&self, token: Token, over: bool, turn: &mut Turn<'_, B>) {
        let Some(held) = self.requests.held(token) else { return };
        let Some(key) = held.key.clone() else { return };
        let deadline = held.request.and_then(|run| self.requests.record(run)).and_then(Record::deadline);
        let entry = Entry::Begun(Begun {
            token,
            holder: self.holder(token, held),
            attempt: held.attempt,
            since: held.since,
            deadline,
            over,
        });
        turn.act(Action::Journal { key, entry });
    }

    fn holder(&self, token: Token, held: &Held) -> Holder {
        if held.worker == WorkerId::NOBODY {
            return self.keys.missed(token).cloned().unwrap_or(Holder::Unknown);
        }
        let named = || self.crew.worker(held.worker).and_then(crew::Worker::instance).cloned();
        match self.crew.place_of(held.worker) {
            Some(place) => Holder::Local(place),
            None => named().map_or(Holder::Unknown, Holder::Named),
        }
    }

    /// Says of all keys that have become free that they are.
    pub(super) fn journal_freed(&mut self, turn: &mut Turn<'_, B>) {
        if self.keys.none_freed() {
            return;
        }
        for key in self.keys.take_freed() {
            turn.act(Action::Journal { key, entry: Entry::Free });
        }
    }
}
