//! The entries of the model's books: requests, connections, processes.

use std::collections::BTreeMap;
use std::sync::Arc;

use hornpipe::core::{ClientId, Details, Generation, Home, RequestId, Speech, Timestamp, Wants, WorkerId};
use hornpipe_proto::{Status, Token};

use super::ahead::Tempo;
use super::parts::{Flow, Partly};

/// A request whose client has heard nothing yet.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) client: ClientId,
    pub(super) size: u64,
    pub(super) service: Option<String>,
    /// `None` if it was never to be admitted.
    pub(super) arrived: Option<Timestamp>,
    pub(super) deadline: Option<Timestamp>,
    /// Since when it waits, if it does.
    pub(super) waiting_since: Timestamp,
    pub(super) attempts: u32,
    /// It has been on its way to a worker.
    pub(super) tried: bool,
    pub(super) attempts_limit: u32,
    /// When its latest attempt has had its time.
    pub(super) until: Option<Timestamp>,
    /// For each attempt that brought no reply, whether its worker ended by itself.
    pub(super) deaths: Vec<bool>,
    /// Since when it waits, while it does.
    pub(super) since: Timestamp,
    /// Its number in quarantine, if an operator has it tried once more.
    pub(super) quarantined_as: Option<u64>,
    pub(super) wants: Wants,
    pub(super) partly: Partly,
    /// It was with a worker, and waits before all who never were.
    pub(super) returned: bool,
    /// The request that its body belongs to.
    pub(super) about: RequestId,
    pub(super) state: State,
}

/// A request in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) about: RequestId,
    /// Bytes that are kept of it.
    pub(super) bytes: u64,
    pub(super) size: u64,
    pub(super) retry: Option<RequestId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Held {
        worker: WorkerId,
        token: Token,
        until: Option<Timestamp>,
    },
    /// Its last action is due in this step.
    Due(Due),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    Answer(u64),
    Refuse(Status),
    Forget,
}

/// A worker's connection as the router sees it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is what one word or notice has said")]
pub(super) struct Desk {
    pub(super) home: Home,
    pub(super) speech: Option<Speech>,
    pub(super) credits: usize,
    /// It has said that it is ready for more.
    pub(super) ready: bool,
    /// It has said any state.
    pub(super) spoke: bool,
    /// It is given nothing more: leaving, superseded, unreachable, ended.
    pub(super) barred: bool,
    pub(super) exiting: bool,
    /// It has sent rubbish, and not said `waiting` since.
    pub(super) distrusted: bool,
    pub(super) halted: bool,
    pub(super) elsewhere: bool,
    /// Its process has still to answer its probe.
    pub(super) unproven: bool,
    /// What it holds: which job of the connection, and for which request if it still counts.
    pub(super) held: BTreeMap<Token, Sheet>,
    pub(super) sent: u64,
    pub(super) last_turn: u64,
    pub(super) free_since: Timestamp,
    /// When the router stops waiting for the end of the pipe.
    pub(super) gone_at: Option<Timestamp>,
    /// The end of its pipe has been seen.
    pub(super) cut: bool,
    /// Its process has ended: whether by itself.
    pub(super) death: Option<bool>,
    /// What it has not begun is being taken back.
    pub(super) withdrawing: bool,
    /// It was, and nothing has been replied since: what was sent in vain may still lie before it.
    pub(super) withdrawn: bool,
    /// What its last replies tell of its speed.
    pub(super) tempo: Tempo,
}

#[derive(Debug, Clone)]
pub(super) struct Sheet {
    pub(super) request: RequestId,
    pub(super) ordinal: u64,
    /// The same as it was sent.
    pub(super) number: u64,
    pub(super) begun: bool,
    /// It was handed over while its worker was at another, and is not known to have begun.
    pub(super) ahead: bool,
    /// It is lost, if it has begun.
    pub(super) forgotten: bool,
    pub(super) since: Timestamp,
    /// What nobody else may run under meanwhile.
    pub(super) exclusive: Option<Arc<str>>,
    /// `None` if its reply must not come in parts.
    pub(super) flow: Option<Flow>,
}

/// A process as the router knows it: asked for, and not known to have ended.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is what one word or notice has said")]
pub(super) struct Post {
    pub(super) generation: Generation,
    pub(super) adopted: bool,
    /// Which of the settings of this life it was made under.
    pub(super) era: usize,
    pub(super) since: Timestamp,
    pub(super) ready: bool,
    pub(super) ready_since: Option<Timestamp>,
    /// Its probe, and since when it has had it.
    pub(super) probe: Option<(Token, Timestamp)>,
    /// Requests that it was given, and that it has replied to.
    pub(super) given: u64,
    /// The step in which it was asked for, and that in which it was last given a request.
    pub(super) born_at: u64,
    pub(super) given_at: u64,
    pub(super) served: u64,
    /// When its memory was last asked for.
    pub(super) weighed: Option<Timestamp>,
    /// It was found to hold more than any may.
    pub(super) overrun: bool,
    pub(super) desk: Option<WorkerId>,
    /// Its last connection has ended, and took a request with it.
    pub(super) bereft: bool,
    pub(super) halted: Option<Timestamp>,
    /// It said so itself.
    pub(super) announced: bool,
    pub(super) dismissed: Option<Timestamp>,
    pub(super) terminated: Option<Timestamp>,
    pub(super) killed: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Stopped {
    /// Everything must be over by then, if workers obey KILL.
    pub(super) over_by: Option<Timestamp>,
    /// KILL needs no TERM any more.
    pub(super) now: bool,
}

/// The router hands over to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// What was accepted must be answered by then.
    Until(Timestamp),
    /// It has said that it is done.
    Done,
}

#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) request: RequestId,
    pub(super) waiting: usize,
    pub(super) idle: bool,
    pub(super) bytes: u64,
    pub(super) refused: bool,
}

impl Desk {
    pub(super) fn new(home: Home, now: Timestamp) -> Self {
        Self {
            home,
            speech: None,
            credits: 1,
            ready: false,
            spoke: false,
            barred: false,
            exiting: false,
            distrusted: false,
            halted: false,
            elsewhere: false,
            unproven: false,
            held: BTreeMap::new(),
            sent: 0,
            last_turn: 0,
            free_since: now,
            gone_at: None,
            cut: false,
            death: None,
            withdrawing: false,
            withdrawn: false,
            tempo: Tempo::default(),
        }
    }

    pub(super) fn is_native(&self) -> bool {
        matches!(self.speech, Some(Speech::Native(_)))
    }

    pub(super) fn is_eligible(&self) -> bool {
        let room = if self.is_native() { self.held.len() < self.credits } else { self.held.is_empty() };
        self.ready
            && !self.distrusted
            && !self.barred
            && !self.exiting
            && !self.halted
            && !self.elsewhere
            && !self.unproven
            && room
    }

    pub(super) fn learn(&mut self, speech: &Speech) {
        self.credits = match speech {
            Speech::Plain | Speech::PlainReadyByReply | Speech::Beating { .. } => 1,
            Speech::Native(details) => details.credits as usize,
        };
        self.elsewhere = matches!(speech, Speech::Native(Details { service: Some(_), .. }));
        self.speech = Some(speech.clone());
    }
}

impl Post {
    pub(super) fn new(generation: Generation, adopted: bool, since: Timestamp) -> Self {
        Self {
            generation,
            adopted,
            era: 0,
            since,
            ready: false,
            ready_since: None,
            probe: None,
            given: 0,
            born_at: 0,
            given_at: 0,
            served: 0,
            weighed: None,
            overrun: false,
            desk: None,
            bereft: false,
            halted: None,
            announced: false,
            dismissed: None,
            terminated: None,
            killed: None,
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.announced || self.dismissed.is_some() || self.terminated.is_some() || self.killed.is_some()
    }
}

impl Asked {
    pub(super) fn new(client: ClientId, size: u64, state: State) -> Self {
        Self {
            client,
            size,
            service: None,
            arrived: None,
            deadline: None,
            waiting_since: Timestamp::default(),
            attempts: 0,
            tried: false,
            attempts_limit: 1,
            until: None,
            deaths: Vec::new(),
            since: Timestamp::default(),
            quarantined_as: None,
            wants: Wants::default(),
            partly: Partly::default(),
            returned: false,
            about: RequestId(0),
            state,
        }
    }
}
