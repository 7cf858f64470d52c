//! A virtual worker: what it truly is and holds, whatever the core believes.

use std::collections::{BTreeMap, VecDeque};

use hornpipe::core::{Details, Generation, Home, Place, Speech, Timestamp, WorkerId};
use hornpipe_proto::Token;

use super::Body;
use super::calendar::Order;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerId(pub(super) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Net::Server::ZMQ's: `waiting` after each reply.
    Plain,
    /// Simple Pirate's: every reply means that it is ready.
    Pirate,
    /// With details.
    Native { credits: u32 },
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts about a virtual worker, one each")]
pub(super) struct Peer {
    pub(super) kind: Kind,
    /// Its process, if the parent made it.
    pub(super) place: Option<Place>,
    pub(super) generation: Generation,
    pub(super) started: Timestamp,
    pub(super) alive: bool,
    pub(super) booted: bool,
    pub(super) halted: bool,
    /// What has arrived while it was stopped.
    pub(super) unread: Vec<(WorkerId, Order)>,
    /// It has said `exiting`.
    pub(super) leaving: bool,
    /// It has been told to leave, and does so when it is free.
    pub(super) dismissed: bool,
    /// It obeys nothing but KILL.
    pub(super) deaf: bool,
    /// It serves something that this broker does not.
    pub(super) elsewhere: bool,
    pub(super) connection: Option<WorkerId>,
    /// It has come back with its jobs of an earlier connection in hand.
    pub(super) reconnected: bool,
    /// The most that it has said to take at once.
    pub(super) promised: usize,
    /// Jobs received on this connection.
    pub(super) seen: u64,
    /// What it holds in private, in bytes that nobody has.
    pub(super) memory: u64,
    /// What it has in hand.
    pub(super) jobs: BTreeMap<Token, Body>,
    /// It claims each job as it begins it, one at a time.
    pub(super) claims: bool,
    /// What it has received and not begun.
    pub(super) queue: VecDeque<Queued>,
}

/// A job that has come before its worker was done with another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    pub(super) token: Token,
    pub(super) number: u64,
    pub(super) attempt: u32,
    pub(super) window: Option<u32>,
    pub(super) body: Body,
}

/// The word that a worker shares with the router, as far as one connection is concerned.
#[derive(Debug, Default)]
pub(super) struct Word {
    pub(super) begun: u64,
    pub(super) withdrawn: u64,
    /// The last job that was sent.
    pub(super) last: u64,
}

/// One connection between a worker and one life of the router.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) home: Home,
    /// The router has heard of it.
    pub(super) joined: bool,
    /// The worker's end is open.
    pub(super) open: bool,
    /// When the last message will have arrived, in each direction: pipes keep the order.
    pub(super) up: Timestamp,
    pub(super) down: Timestamp,
}

impl Peer {
    pub(super) fn new(kind: Kind, place: Option<Place>) -> Self {
        Self {
            kind,
            place,
            generation: Generation(0),
            started: Timestamp::default(),
            alive: true,
            booted: false,
            halted: false,
            unread: Vec::new(),
            leaving: false,
            dismissed: false,
            deaf: false,
            elsewhere: false,
            connection: None,
            reconnected: false,
            promised: 0,
            seen: 0,
            memory: 0,
            jobs: BTreeMap::new(),
            claims: false,
            queue: VecDeque::new(),
        }
    }

    pub(super) fn credits(&self) -> usize {
        match self.kind {
            Kind::Plain | Kind::Pirate => 1,
            Kind::Native { credits } => credits as usize,
        }
    }

    pub(super) fn is_native(&self) -> bool {
        matches!(self.kind, Kind::Native { .. })
    }

    pub(super) fn details(&self) -> Details {
        Details {
            name: None,
            service: self.elsewhere.then(|| "elsewhere".into()),
            credits: u32::try_from(self.credits()).unwrap_or(1),
            seen: self.seen,
            claims: self.claims,
            instance: None,
        }
    }

    pub(super) fn speech(&self) -> Speech {
        match self.kind {
            Kind::Plain => Speech::Plain,
            Kind::Pirate => Speech::PlainReadyByReply,
            Kind::Native { .. } => Speech::Native(self.details()),
        }
    }
}
