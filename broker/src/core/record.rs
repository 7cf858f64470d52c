//! What is kept of a request from its arrival to its end. Tens of thousands may wait at
//! once: what few of them have is elsewhere, behind one reference.

use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::{Priority, Token};

use super::action::Spent;
use super::backlog::Spot;
use super::event::{Request, Wants};
use super::ids::{ClientId, Place, Timestamp, WorkerId};
use super::lines::Stand;
use super::loss::Attempt;
use super::parts::Partial;

#[derive(Debug)]
pub(super) struct Record<B> {
    pub(super) client: ClientId,
    pub(super) name: Option<Arc<str>>,
    pub(super) body: B,
    pub(super) size: u64,
    /// Since when it has waited for a worker, the last time it did.
    pub(super) waiting_since: Timestamp,
    /// When a worker began it, if one has it.
    handed: Timestamp,
    own_deadline: Deadline,
    /// How many workers have had it.
    pub(super) attempt: u32,
    /// How many may.
    pub(super) attempts: u32,
    /// The last worker that had it, if that was one of ours.
    pub(super) place: Option<Place>,
    /// Its client has heard its last, and the work goes on for its key.
    pub(super) orphan: bool,
    priority: Priority,
    /// Whether it waits for one worker, however long that one is busy.
    strict: bool,
    /// Whether its client reads a reply in parts.
    pub(super) parts: bool,
    pub(super) whereabouts: Whereabouts,
    wishes: Option<Box<Wishes>>,
    past: Option<Box<Past<B>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    Backlog(Spot),
    /// A busy worker has it, and begins it in a moment: it still waits.
    Ahead {
        token: Token,
    },
    Worker {
        token: Token,
    },
}

/// What makes a request another thing than the next one: most have none of this.
#[derive(Debug)]
struct Wishes {
    key: Option<Arc<str>>,
    exclusive: Option<Arc<str>>,
    affinity: Option<Arc<str>>,
    worker: Option<WorkerId>,
    /// When nobody waits for the work any more: later than its own client, if others have joined.
    deadline: Option<Timestamp>,
}

/// What has come of a request so far: of most, nothing.
#[derive(Debug)]
pub(super) struct Past<B> {
    /// If it has waited more than once.
    arrived: Option<Timestamp>,
    /// Over earlier attempts.
    waited: Duration,
    ran: Duration,
    /// How they ended.
    pub(super) losses: Vec<Attempt>,
    /// Its number in quarantine, if it comes from there.
    pub(super) quarantined_as: Option<u64>,
    /// What there is of its reply.
    pub(super) partial: Partial<B>,
}

impl<B> Default for Past<B> {
    fn default() -> Self {
        Self {
            arrived: None,
            waited: Duration::ZERO,
            ran: Duration::ZERO,
            losses: Vec::new(),
            quarantined_as: None,
            partial: Partial::default(),
        }
    }
}

/// When something ends, if ever: an end that is centuries away is none.
#[derive(Debug, Clone, Copy)]
struct Deadline(Timestamp);

impl Deadline {
    fn new(at: Option<Timestamp>) -> Self {
        Self(at.unwrap_or(Timestamp::NEVER))
    }

    fn get(self) -> Option<Timestamp> {
        (self.0 != Timestamp::NEVER).then_some(self.0)
    }
}

/// Of a request that comes in.
impl<B> Record<B> {
    /// `timeout` and `attempts` are the request's as the broker allows them.
    pub(super) fn new(request: Request<B>, attempts: u32, now: Timestamp) -> Self {
        let own_deadline = Deadline::new(request.timeout.map(|timeout| now.after(timeout)));
        let Wants { priority, key, exclusive, affinity, strict, parts, worker } = request.wants;
        let any = key.is_some() || exclusive.is_some() || affinity.is_some() || worker.is_some();
        let deadline = own_deadline.get();
        let wishes = any.then(|| Box::new(Wishes { key, exclusive, affinity, worker, deadline }));
        Self {
            client: request.client,
            name: request.name,
            body: request.body,
            size: request.size,
            waiting_since: now,
            handed: now,
            own_deadline,
            attempt: 0,
            attempts,
            place: None,
            orphan: false,
            priority,
            strict,
            parts,
            whereabouts: Whereabouts::Backlog(Spot::NOWHERE),
            wishes,
            past: None,
        }
    }
}

/// What it wants.
impl<B> Record<B> {
    pub(super) fn key(&self) -> Option<&Arc<str>> {
        self.wishes.as_ref()?.key.as_ref()
    }

    pub(super) fn exclusive(&self) -> Option<&Arc<str>> {
        self.wishes.as_ref()?.exclusive.as_ref()
    }

    pub(super) fn affinity(&self) -> Option<&Arc<str>> {
        self.wishes.as_ref()?.affinity.as_ref()
    }

    /// The one worker that may have it.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        self.wishes.as_ref()?.worker
    }

    /// Whether it wants nothing but any worker.
    pub(super) fn wants_any_worker(&self) -> bool {
        self.wishes.is_none()
    }

    /// Whether it waits for one worker for as long as that takes.
    pub(super) fn waits_for_one(&self) -> bool {
        self.strict || self.worker().is_some()
    }
}

/// Its time.
impl<B> Record<B> {
    pub(super) fn arrived(&self) -> Timestamp {
        self.past.as_ref().and_then(|past| past.arrived).unwrap_or(self.waiting_since)
    }

    /// When its own client waits no more.
    pub(super) fn own_deadline(&self) -> Option<Timestamp> {
        self.own_deadline.get()
    }

    /// When nobody waits for the work any more.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.wishes.as_ref().map_or_else(|| self.own_deadline(), |wishes| wishes.deadline)
    }

    /// Others wait for the same: until then, or as long as it takes.
    pub(super) fn prolong(&mut self, until: Option<Timestamp>) {
        if let Some(wishes) = &mut self.wishes {
            wishes.deadline = wishes.deadline.zip(until).map(|(one, other)| one.max(other));
        }
    }

    /// A worker begins it.
    pub(super) fn hand_over(&mut self, token: Token, place: Option<Place>, now: Timestamp) {
        (self.handed, self.place) = (now, place);
        self.whereabouts = Whereabouts::Worker { token };
    }

    /// It waits since then. One that no worker has touched has waited all the time.
    pub(super) fn put_back(&mut self, since: Timestamp) {
        let (before, handed) = (self.waiting_since, self.handed);
        if since != before {
            let began = matches!(self.whereabouts, Whereabouts::Worker { .. });
            let past = self.past_mut();
            past.arrived.get_or_insert(before);
            if began {
                past.waited += handed.since(before).saturating_sub(handed.since(since));
                past.ran += since.since(handed);
            }
        }
        self.waiting_since = since;
        self.whereabouts = Whereabouts::Backlog(Spot::NOWHERE);
    }

    /// Where its time has gone, up to now.
    pub(super) fn spent(&self, now: Timestamp) -> Spent {
        let (waited, ran) = self.past.as_ref().map_or_else(Default::default, |past| (past.waited, past.ran));
        match self.waiting_since() {
            Some(since) => Spent { wait: waited + now.since(since), run: ran },
            None => Spent {
                wait: waited + self.handed.since(self.waiting_since),
                run: ran + now.since(self.handed),
            },
        }
    }

    /// Since when it waits for a worker, if it does.
    pub(super) fn waiting_since(&self) -> Option<Timestamp> {
        match self.whereabouts {
            Whereabouts::Backlog(_) | Whereabouts::Ahead { .. } => Some(self.waiting_since),
            Whereabouts::Worker { .. } => None,
        }
    }
}

/// Where it is.
impl<B> Record<B> {
    /// Where it stands, if it is in the backlog.
    pub(super) fn spot(&self) -> Option<Spot> {
        match self.whereabouts {
            Whereabouts::Backlog(spot) => Some(spot),
            Whereabouts::Ahead { .. } | Whereabouts::Worker { .. } => None,
        }
    }

    pub(super) fn set_spot(&mut self, spot: Spot) {
        self.whereabouts = Whereabouts::Backlog(spot);
    }

    pub(super) fn stand(&self, spot: Spot) -> Stand {
        Stand { priority: self.priority, client: self.client, order: spot.order }
    }

    /// Under which token a worker has it, if one has.
    pub(super) fn token(&self) -> Option<Token> {
        match self.whereabouts {
            Whereabouts::Backlog(_) => None,
            Whereabouts::Ahead { token } | Whereabouts::Worker { token } => Some(token),
        }
    }

    /// Under which token a busy worker has it that has not begun it.
    pub(super) fn ahead(&self) -> Option<Token> {
        match self.whereabouts {
            Whereabouts::Ahead { token } => Some(token),
            Whereabouts::Backlog(_) | Whereabouts::Worker { .. } => None,
        }
    }
}

/// What has come of it.
impl<B> Record<B> {
    pub(super) fn past_mut(&mut self) -> &mut Past<B> {
        self.past.get_or_insert_default()
    }

    pub(super) fn losses(&self) -> &[Attempt] {
        self.past.as_ref().map_or(&[], |past| &past.losses)
    }

    pub(super) fn take_losses(&mut self) -> Vec<Attempt> {
        self.past.as_mut().map(|past| std::mem::take(&mut past.losses)).unwrap_or_default()
    }

    pub(super) fn quarantined_as(&self) -> Option<u64> {
        self.past.as_ref()?.quarantined_as
    }

    pub(super) fn partial(&self) -> Option<&Partial<B>> {
        self.past.as_ref().map(|past| &past.partial)
    }

    pub(super) fn take_partial(&mut self) -> Partial<B> {
        self.past.as_mut().map(|past| std::mem::take(&mut past.partial)).unwrap_or_default()
    }

    /// The client has some of its reply: another attempt would begin in the middle of this one.
    pub(super) fn has_gone_out(&self) -> bool {
        self.partial().is_some_and(Partial::has_gone_out)
    }

    /// Bytes that it takes: of its body, and of what is kept of its reply.
    pub(super) fn held_bytes(&self) -> u64 {
        self.size + self.partial().map_or(0, Partial::kept_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body as the router has it takes 24 bytes.
    type Body = [u64; 3];

    #[test]
    fn a_request_that_waits_takes_no_more_room_than_it_must() {
        assert_eq!(size_of::<Whereabouts>(), 32);
        assert_eq!(size_of::<Record<Body>>(), 152, "with what malloc adds, 160 are one of its sizes");
    }
}
