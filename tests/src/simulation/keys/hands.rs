//! Workers of the world of keys, as they are: what they have in hand, what they keep, and how
//! they find the next router.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hornpipe::core::{Details, Event, Place, RequestId, Speech, WorkerId};
use hornpipe_proto::Token;
use hornpipe_proto::worker::ReplyStatus;

use super::Body;

/// A worker.
#[derive(Debug)]
pub(super) struct Hand {
    /// Its process, if it is one of the broker's.
    pub(super) place: Option<Place>,
    /// Whether it speaks with details, and keeps replies that a router may not have read.
    pub(super) keeps: bool,
    /// Whether it claims its jobs, so that others than the first can be taken back.
    pub(super) claims: bool,
    name: u64,
    credits: usize,
    pub(super) seen: u64,
    pub(super) held: BTreeMap<Token, (RequestId, Option<Arc<str>>)>,
    /// Of these, what came over an earlier connection.
    pub(super) stale: BTreeSet<Token>,
    pub(super) kept: VecDeque<Kept>,
    /// What it has of its present connection, by number, in the order in which it came.
    order: VecDeque<(u64, Token)>,
    /// It has been told to go.
    pub(super) leaving: bool,
}

/// A reply that a router may not have read.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) token: Token,
    pub(super) key: Arc<str>,
    pub(super) status: ReplyStatus,
    pub(super) body: Body,
    /// One has.
    pub(super) read: bool,
}

impl Hand {
    pub(super) fn new(name: u64, place: Option<Place>, keeps: bool, credits: u32) -> Self {
        Self {
            place,
            keeps,
            claims: false,
            name,
            credits: credits as usize,
            seen: 0,
            held: BTreeMap::new(),
            stale: BTreeSet::new(),
            kept: VecDeque::new(),
            order: VecDeque::new(),
            leaving: false,
        }
    }

    pub(super) fn details(&self) -> Details {
        let instance = self.keeps.then(|| format!("instance {}", self.name).into());
        let credits = u32::try_from(self.credits).unwrap_or(1);
        Details { name: None, service: None, credits, seen: self.seen, claims: self.claims, instance }
    }

    pub(super) fn speech(&self) -> Speech {
        Speech::Native(self.details())
    }

    /// A job has come: so far the broker has read what was replied.
    pub(super) fn take(&mut self, token: Token, job: (RequestId, Option<Arc<str>>)) {
        self.seen += 1;
        self.held.insert(token, job);
        self.order.push_back((self.seen, token));
        let room = self.credits.saturating_sub(self.held.len() - self.stale.len());
        self.kept.drain(..self.kept.len().saturating_sub(room));
    }

    /// It has done one of its jobs.
    pub(super) fn finish(&mut self, token: Token, status: ReplyStatus, body: Body) {
        let Some((_request, key)) = self.held.remove(&token) else { return };
        self.order.retain(|(_number, held)| *held != token);
        if let Some(key) = key.filter(|_key| self.keeps) {
            self.kept.push_back(Kept { token, key, status, body, read: false });
            self.kept.drain(..self.kept.len().saturating_sub(self.credits));
        }
    }

    /// Its connection is gone, and with it every job that had not come yet.
    pub(super) fn cut_off(&mut self, lost: &[Token]) {
        self.held.retain(|token, _job| !lost.contains(token));
        self.stale = self.held.keys().copied().collect();
        self.seen = 0;
        self.order.clear();
    }

    /// Whether it runs one at a time.
    pub(super) fn is_single(&self) -> bool {
        self.credits == 1
    }

    pub(super) fn holds_keyed(&self) -> bool {
        self.held.values().any(|(_request, key)| key.is_some())
    }

    /// What it is at.
    pub(super) fn current(&self) -> Option<Token> {
        let first = self.order.front().filter(|_| self.claims).map(|(_number, token)| *token);
        self.stale
            .iter()
            .find(|token| self.held.contains_key(token))
            .copied()
            .or(first)
            .or_else(|| self.held.keys().next().copied())
    }

    /// The router takes back what it has not begun: all but the first.
    pub(super) fn withdraw(&mut self, worker: WorkerId) -> Option<Event<Body>> {
        if !self.claims {
            return None;
        }
        let busy = self.stale.iter().any(|token| self.held.contains_key(token));
        let begun = match self.order.front() {
            // It is still at one of before.
            Some((number, _token)) if busy => number - 1,
            Some((number, _token)) => *number,
            None => self.seen,
        };
        for (_number, token) in self.order.iter().filter(|(number, _token)| begun < *number) {
            self.held.remove(token);
        }
        self.order.retain(|(number, _token)| *number <= begun);
        Some(Event::Withdrawn { worker, begun })
    }

    /// Whether it works at this, or has done so and nobody knows. A worker that keeps nothing
    /// can only be known by what it has over its present connection.
    pub(super) fn is_at(&self, key: &str) -> bool {
        let own = |token: &Token| self.keeps || !self.stale.contains(token);
        let works = self.held.iter().any(|(token, (_, held))| held.as_deref() == Some(key) && own(token));
        let waits = |kept: &Kept| &*kept.key == key && kept.status == ReplyStatus::Ok && !kept.read;
        works || self.kept.iter().any(waits)
    }
}
