//! Whether a request is taken in: by what is open, by what there is room for, and by whether
//! it could be served in its own time.

use std::time::Duration;

use hornpipe_proto::Status;

use super::action::{Action, Spent};
use super::backlog::End;
use super::dispatch::GONE;
use super::event::Request;
use super::ids::RequestId;
use super::{Core, Turn};

/// So many requests must have been served before anything is foretold.
const SAMPLES: u32 = 16;

/// The shortest and the longest time after which another try is proposed.
const HINTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_mins(1));

/// How long requests have run, the last ones counting most.
#[derive(Debug, Default)]
pub(super) struct Pace {
    mean: Duration,
    samples: u32,
}

impl Pace {
    /// A worker has replied, after so long.
    pub(super) fn observe(&mut self, run: Duration) {
        self.samples = self.samples.saturating_add(1);
        let weight = self.samples.min(SAMPLES);
        self.mean = (self.mean * (weight - 1) + run) / weight;
    }

    /// How long so many requests take so many workers.
    fn time_for(&self, requests: usize, workers: usize) -> Option<Duration> {
        let (requests, workers) = (u32::try_from(requests).ok()?, u32::try_from(workers).ok()?);
        (self.samples >= SAMPLES && workers > 0).then(|| self.mean.saturating_mul(requests) / workers)
    }
}

/// Why a request is not taken in.
#[derive(Debug)]
pub(super) struct Objection {
    pub(super) status: Status,
    pub(super) why: String,
    retry_after: Option<Duration>,
}

impl Objection {
    pub(super) fn new(status: Status, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), retry_after: None }
    }

    pub(super) fn busy(why: String, retry_after: Option<Duration>) -> Self {
        let retry_after = retry_after.map(|hint| hint.clamp(HINTS.0, HINTS.1));
        Self { status: Status::Busy, why, retry_after }
    }
}

impl<B: Clone> Core<B> {
    pub(super) fn admit(&mut self, request: Request<B>, turn: &mut Turn<'_, B>) {
        self.counters.received += 1;
        let Some(request) = self.join(request, turn) else { return };
        match self.objection(&request) {
            Some(objection) => self.turn_away(&request, objection, turn),
            None => self.enqueue(request, End::Back, None, turn),
        }
    }

    /// It is not taken in.
    pub(super) fn turn_away(&mut self, request: &Request<B>, objection: Objection, turn: &mut Turn<'_, B>) {
        let Objection { status, why: message, retry_after } = objection;
        self.counters.turn_away(status);
        self.tell_refusal(request, status, turn);
        let (request, attempt, spent) = (request.request, 0, Spent::default());
        turn.act(Action::Refuse { request, status, attempt, spent, retry_after, message });
    }

    pub(super) fn refuse_unreadable(&mut self, request: RequestId, why: String, turn: &mut Turn<'_, B>) {
        self.counters.received += 1;
        self.refuse_unknown(request, Status::Malformed, why, turn);
    }

    /// Nothing is known of it but its number.
    pub(super) fn refuse_unknown(
        &mut self,
        request: RequestId,
        status: Status,
        message: String,
        turn: &mut Turn<'_, B>,
    ) {
        self.counters.turn_away(status);
        self.tell_unknown(request, status, turn);
        let (attempt, spent, retry_after) = (0, Spent::default(), None);
        turn.act(Action::Refuse { request, status, attempt, spent, retry_after, message });
    }

    pub(super) fn objection(&self, request: &Request<B>) -> Option<Objection> {
        self.unfit(request).or_else(|| self.objection_to_key(request)).or_else(|| self.crowding(request))
    }

    /// Why nothing like it is taken in at present, however little there is to do.
    pub(super) fn unfit(&self, request: &Request<B>) -> Option<Objection> {
        let limits = &self.settings;
        if let Some((status, why)) = self.closed_because() {
            return Some(Objection::new(status, why));
        }
        if let Some(service) = request.service.as_ref().filter(|service| ***service != *limits.service) {
            let service: String = service.chars().take(64).collect();
            let why = format!("no service {} here", service.escape_debug());
            return Some(Objection::new(Status::NoService, why));
        }
        if request.wants.worker.is_some_and(|worker| !self.serves(worker)) {
            return Some(Objection::new(Status::Lost, GONE));
        }
        if request.size > limits.body_limit {
            let why = format!("the body has {} bytes, at most {} are taken", request.size, limits.body_limit);
            return Some(Objection::new(Status::TooLarge, why));
        }
        None
    }

    /// Whether there is no room for its body.
    pub(super) fn weight(&self, request: &Request<B>) -> Option<Objection> {
        let bytes = self.requests.held_bytes();
        let heavy = bytes + request.size > self.settings.held_bytes_limit;
        heavy.then(|| Objection::busy(format!("{bytes} bytes are waiting"), None))
    }

    /// Whether there is no room for it, or no time.
    fn crowding(&self, request: &Request<B>) -> Option<Objection> {
        let limits = &self.settings;
        let (waiting, bytes) = (self.requests.backlog.len(), self.requests.held_bytes());
        // A queue of this length is not empty in a moment: who comes again finds some room.
        let some_room = || self.pace.time_for(waiting / 4, self.crew.capacity());
        let idle = self.goes_at_once(&request.wants);
        if waiting >= limits.backlog_limit && !idle {
            return Some(Objection::busy(format!("{waiting} requests are waiting"), some_room()));
        }
        if bytes + request.size > limits.held_bytes_limit {
            return Some(Objection::busy(format!("{bytes} bytes are waiting"), some_room()));
        }
        let (own, own_bytes) = self.requests.askers.load(request.client);
        if limits.client_backlog_limit.is_some_and(|limit| own >= limit) && !idle {
            let why = format!("{own} requests of this client are waiting");
            return Some(Objection::busy(why, self.pace.time_for(own / 4, self.crew.capacity())));
        }
        if limits.client_bytes_limit.is_some_and(|limit| own_bytes + request.size > limit) {
            let why = format!("{own_bytes} bytes of this client are held");
            return Some(Objection::busy(why, self.pace.time_for(own / 4, self.crew.capacity())));
        }
        let timeout = request.timeout.filter(|_| !idle)?;
        // At the least: whoever is ahead may have more than one request, and others may come.
        let ahead = self.requests.backlog.ahead_of(request.wants.priority, request.client);
        let wait = self.pace.time_for(ahead, self.crew.capacity())?;
        (wait > timeout).then(|| {
            let why = format!("it would wait for {wait:.1?}, and has {timeout:.1?}");
            Objection::busy(why, Some(wait.saturating_sub(timeout)))
        })
    }
}
