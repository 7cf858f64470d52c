//! The books of the services' world: who belongs where, what waits and who has it. It hears
//! the same events and judges every decision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hornpipe::core::{
    Action, ClientId, Details, Event, Finish, Home, MAX_SERVICES, Place, RequestId, ServiceId, Services,
    Settings, Slot, Speech, Timestamp, WorkerId,
};
use hornpipe_proto::{Status, Token};

/// What OPERATIONS says: so long a service waits for a worker.
const LINGER: Duration = Duration::from_secs(5);

/// And a request for a service whose first worker has not come yet.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// For so many such services at once.
const AWAITED_LIMIT: usize = 64;

/// A worker that beats may be silent for so many of its intervals, unless it is at work.
const LIVENESS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    seed: u64,
    pub(super) step: u64,
    now: Timestamp,
    requests: BTreeMap<RequestId, Asked>,
    desks: BTreeMap<WorkerId, Desk>,
    services: BTreeMap<String, Presence>,
    /// Processes that live, and whose they are.
    places: BTreeMap<Place, String>,
    /// Whose slots they have ever been.
    slots: BTreeMap<Slot, String>,
    tokens: BTreeSet<Token>,
    received: u64,
    answered: u64,
    refused: u64,
    dropped: u64,
    closing: bool,
    /// A request was refused that a worker has: nothing less than the end is a reason.
    cut_short: bool,
    /// Who has just left.
    gone: Option<ClientId>,
    pub(super) finished: Option<Finish>,
}

#[derive(Debug)]
struct Asked {
    client: ClientId,
    since: Timestamp,
    service: String,
    /// The worker that has it, as far as anybody knows.
    with: Option<WorkerId>,
    /// Its worker has replied.
    replied: bool,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what is known of one, each by itself")]
struct Desk {
    place: Option<Place>,
    service: Option<String>,
    native: bool,
    /// Between two of its heartbeats, if it has any.
    beat: Option<Duration>,
    heard: Timestamp,
    ready: bool,
    /// It is given nothing any more.
    barred: bool,
    /// It names a service that is not that of its slot.
    astray: bool,
    /// It has said that it goes, and moves no more.
    bound: bool,
    /// Its connection is gone.
    cut: bool,
    has: Option<(Token, RequestId)>,
}

/// Nobody opens a service to close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    Comes,
    Goes,
}

#[derive(Debug, Default)]
struct Presence {
    configured: bool,
    attempts: u32,
    deserted: Option<Timestamp>,
    /// No worker has ever come.
    awaited: bool,
}

macro_rules! law {
    ($ledger:expr, $holds:expr, $($what:tt)+) => {
        assert!($holds, "{}: {}", $ledger.here(), format_args!($($what)+))
    };
}

impl Ledger {
    pub(super) fn new(seed: u64, configured: &[Settings]) -> Self {
        let mut ledger = Self { seed, ..Self::default() };
        ledger.configure(configured);
        ledger
    }

    /// Another life of the router, which knows nothing of requests and connections.
    pub(super) fn restart(&mut self, configured: &[Settings]) {
        let (places, slots) = (std::mem::take(&mut self.places), std::mem::take(&mut self.slots));
        *self = Self { seed: self.seed, step: self.step, places, slots, ..Self::default() };
        self.configure(configured);
    }

    fn configure(&mut self, configured: &[Settings]) {
        for settings in configured {
            let presence = Presence { configured: true, attempts: settings.attempts, ..Presence::default() };
            self.services.insert(settings.service.to_string(), presence);
        }
    }

    pub(super) fn here(&self) -> String {
        format!("seed {} step {}", self.seed, self.step)
    }

    /// The service whose process it is.
    pub(super) fn owner(&self, place: Place) -> String {
        self.places.get(&place).cloned().unwrap_or_default()
    }
}

/// What is heard.
impl Ledger {
    pub(super) fn hear(&mut self, event: &Event<RequestId>, now: Timestamp) {
        self.now = now;
        if let Some(desk) = speaker(event).and_then(|worker| self.desks.get_mut(&worker)) {
            desk.heard = now;
        }
        match event {
            Event::Sought { service } => self.sought(service),
            Event::Request(request) => {
                self.received += 1;
                let service = request.service.clone().unwrap_or_else(|| "default".into());
                let asked = Asked { client: request.client, since: now, service, with: None, replied: false };
                self.requests.insert(request.request, asked);
            }
            Event::ClientLeft { client } => self.gone = Some(*client),
            Event::Joined { worker, home } => {
                let place = match home {
                    Home::Local(place) => Some(*place),
                    Home::External => None,
                };
                let service = place.map(|place| self.owner(place));
                self.desks.insert(*worker, Desk { place, service, heard: now, ..Desk::default() });
            }
            Event::Hello { worker, details } => {
                self.announced(*worker, &Speech::Native(details.clone()), Stay::Comes);
            }
            Event::Waiting { worker, speech } => {
                self.announced(*worker, speech, Stay::Comes);
                if let Some(desk) = self.desks.get_mut(worker) {
                    desk.ready = true;
                }
            }
            Event::Processing { worker, speech } => self.announced(*worker, speech, Stay::Comes),
            Event::Exiting { worker, speech, .. } => {
                self.announced(*worker, speech, Stay::Goes);
                self.let_go(*worker);
                if let Some(desk) = self.desks.get_mut(worker) {
                    (desk.barred, desk.bound) = (true, true);
                }
            }
            Event::Reply { worker, token, body, .. } => self.replied(*worker, (*token, *body)),
            Event::WorkerLeft { worker } | Event::OutOfTurn { worker } => self.left(*worker),
            Event::WorkersLeft { workers } => workers.iter().for_each(|worker| self.left(*worker)),
            Event::Exited { place, .. } => {
                self.places.remove(place);
                self.bar(|desk| desk.place == Some(*place));
                let cut = |desk: &Desk| desk.place == Some(*place) && desk.cut;
                let cut = self.desks.iter().find(|(_, desk)| cut(desk)).map(|(worker, _)| *worker);
                if let Some(worker) = cut {
                    self.left(worker);
                }
            }
            Event::Adopted { place, .. } => {
                let owner = self.owner(*place);
                self.services.entry(owner).or_default();
            }
            Event::Stop(_) | Event::HandOver => self.closing = true,
            _ => (),
        }
        self.note_deserted(now);
    }

    /// A worker from elsewhere may have named another service than before.
    fn announced(&mut self, worker: WorkerId, speech: &Speech, stay: Stay) {
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        desk.native = matches!(speech, Speech::Native(_));
        let named = match speech {
            Speech::Native(Details { service, .. }) | Speech::Beating { service, .. } => service.clone(),
            Speech::Plain | Speech::PlainReadyByReply => desk.service.clone(),
        };
        desk.beat = match speech {
            Speech::Beating { interval, .. } => Some(*interval),
            _ => None,
        };
        let named = named.unwrap_or_else(|| "default".into());
        if desk.place.is_some() {
            let says_nothing = matches!(speech, Speech::Native(Details { service: None, .. }));
            desk.astray = !says_nothing && desk.service.as_deref() != Some(&named);
            return;
        }
        if desk.bound || desk.service.as_deref() == Some(&named) {
            return;
        }
        self.let_go(worker);
        let fit = stay == Stay::Comes
            && !self.closing
            && self.services.len() < MAX_SERVICES
            && !named.contains(' ');
        let known = self.services.contains_key(&named);
        if fit && !known {
            self.services.insert(named.clone(), Presence::default());
        }
        if let Some(desk) = self.desks.get_mut(&worker) {
            desk.service = (known || fit).then_some(named);
            desk.ready = false;
        }
    }

    /// Somebody would wait for a service.
    fn sought(&mut self, name: &str) {
        let now = self.now;
        let awaited = self.services.values().filter(|presence| presence.awaited).count();
        if let Some(presence) = self.services.get_mut(name) {
            if presence.awaited {
                presence.deserted = Some(now);
            }
        } else if !self.closing && self.services.len() < MAX_SERVICES && awaited < AWAITED_LIMIT {
            let presence = Presence { deserted: Some(now), awaited: true, ..Presence::default() };
            self.services.insert(name.to_owned(), presence);
        }
    }

    /// What one of ours has is judged when its process has ended too.
    fn left(&mut self, worker: WorkerId) {
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        if desk.has.is_some() && desk.place.is_some_and(|place| self.places.contains_key(&place)) {
            (desk.cut, desk.barred) = (true, true);
            return;
        }
        self.let_go(worker);
        self.desks.remove(&worker);
    }

    fn let_go(&mut self, worker: WorkerId) {
        let has = self.desks.get_mut(&worker).and_then(|desk| desk.has.take());
        if let Some(asked) = has.and_then(|(_token, request)| self.requests.get_mut(&request)) {
            asked.with = None;
        }
    }

    fn replied(&mut self, worker: WorkerId, (token, request): (Token, RequestId)) {
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        desk.service.get_or_insert_with(|| "default".into());
        if desk.has == Some((token, request)) {
            desk.has = None;
            desk.ready = desk.native || desk.beat.is_some();
            if let Some(asked) = self.requests.get_mut(&request).filter(|asked| asked.with == Some(worker)) {
                (asked.with, asked.replied) = (None, true);
            }
        }
    }

    fn note_deserted(&mut self, now: Timestamp) {
        for (name, presence) in self.services.iter_mut().filter(|(_, presence)| !presence.configured) {
            let staffed = self.desks.values().any(|desk| desk.service.as_deref() == Some(name));
            let housed = self.places.values().any(|owner| owner == name);
            presence.deserted = (!staffed && !housed).then(|| presence.deserted.unwrap_or(now));
            presence.awaited &= presence.deserted.is_some();
        }
    }

    /// The services go that have waited for a worker for long enough.
    pub(super) fn close_deserted(&mut self, now: Timestamp) {
        let stays = |presence: &Presence| {
            let patience = if presence.awaited { PATIENCE } else { LINGER };
            presence.deserted.is_none_or(|since| now < since.after(patience))
        };
        self.services.retain(|_name, presence| stays(presence));
    }
}

/// What is decided.
impl Ledger {
    pub(super) fn judge(
        &mut self,
        service: ServiceId,
        action: &Action<RequestId>,
        services: &Services<RequestId>,
    ) {
        match action {
            Action::Assign(job) => {
                law!(self, self.tokens.insert(job.token), "a token is used twice");
                self.judge_assignment((job.worker, job.token), job.request, job.attempt);
            }
            Action::Answer { request, body, .. } => {
                law!(self, request == body, "{request} gets the answer of {body}");
                let asked = self.requests.remove(request);
                law!(self, asked.is_some_and(|asked| asked.replied), "{request} is answered by nobody");
                self.answered += 1;
            }
            Action::Refuse { request, status, .. } => self.judge_refusal(*request, *status),
            Action::Forget { request } => {
                law!(self, self.requests.remove(request).is_some(), "{request} ends twice");
                self.dropped += 1;
            }
            Action::Spawn { place, .. } => {
                let name = services.name(service).to_owned();
                law!(self, self.services.get(&name).is_some_and(|one| one.configured), "{name} is not ours");
                let owner = self.slots.entry(place.slot).or_insert_with(|| name.clone());
                let own = *owner == name;
                law!(self, own, "{place} of {name} was another's");
                self.places.insert(*place, name);
            }
            Action::Terminate { place } | Action::Kill { place } => {
                self.bar(|desk| desk.place == Some(*place));
            }
            Action::Dismiss { worker } => {
                let place = self.desks.get(worker).and_then(|desk| desk.place);
                law!(self, place.is_some() || !self.desks.contains_key(worker), "a stranger is dismissed");
                self.bar(|desk| place.is_some() && desk.place == place);
            }
            Action::Finished(finish) => {
                law!(self, self.finished.is_none(), "it ends twice");
                let open = self.requests.keys().next();
                law!(self, open.is_none(), "over, and {open:?} is not");
                self.finished = Some(finish.clone());
            }
            Action::Allow { worker, token, .. } => {
                let holds =
                    self.desks.get(worker).and_then(|desk| desk.has).is_some_and(|(has, _)| has == *token);
                law!(self, holds, "{worker} is allowed parts of what it does not hold");
            }
            Action::Part { request, .. } => {
                law!(self, false, "{request} gets a part, and has asked for none");
            }
            Action::Disown { worker } => {
                let desk = self.desks.remove(worker);
                let limit = |desk: &Desk| desk.beat.map(|beat| desk.heard.after(beat * LIVENESS));
                let fair = desk.as_ref().is_some_and(|desk| {
                    desk.place.is_none() && desk.has.is_none() && limit(desk).is_some_and(|at| at <= self.now)
                });
                law!(self, fair || self.closing, "{worker} is given up at {:?}: {desk:?}", self.now);
            }
            Action::Withdraw { .. }
            | Action::Probe(_)
            | Action::Cancel { .. }
            | Action::Measure { .. }
            | Action::Journal { .. }
            | Action::Capacity { .. }
            | Action::Remember(_)
            | Action::Note(_)
            | Action::Stopping { .. } => (),
        }
    }

    fn bar(&mut self, which: impl Fn(&Desk) -> bool) {
        self.desks.values_mut().filter(|desk| which(desk)).for_each(|desk| desk.barred = true);
    }

    fn judge_assignment(&mut self, (worker, token): (WorkerId, Token), request: RequestId, attempt: u32) {
        let here = self.here();
        let (Some(asked), Some(desk)) = (self.requests.get_mut(&request), self.desks.get_mut(&worker)) else {
            law!(self, false, "{request} or {worker} is not there");
            return;
        };
        let theirs = desk.service.as_ref() == Some(&asked.service) && !desk.astray;
        assert!(theirs, "{here}: {request} for {} goes to {desk:?}", asked.service);
        assert!(!desk.barred && desk.has.is_none(), "{here}: {request} goes to {desk:?}");
        assert!(asked.with.is_none(), "{here}: {request} has a worker, {:?}", asked.with);
        let attempts = self.services.get(&asked.service).map_or(0, |service| service.attempts);
        assert!(attempts == 0 || attempt <= attempts, "{here}: {request} is tried {attempt} times");
        (asked.with, asked.replied) = (Some(worker), false);
        (desk.has, desk.ready) = (Some((token, request)), false);
    }

    fn judge_refusal(&mut self, request: RequestId, status: Status) {
        let Some(asked) = self.requests.remove(&request) else {
            law!(self, false, "{request} ends twice");
            return;
        };
        self.refused += 1;
        let present = self.services.get(&asked.service);
        if let Some(worker) = asked.with
            && let Some(desk) = self.desks.get_mut(&worker)
        {
            // It is not heard of any more, and its worker is not free.
            desk.has = None;
            self.cut_short |= !self.closing;
        }
        law!(
            self,
            (status == Status::NoService) <= present.is_none(),
            "{request} for {}: no service, and there is one",
            asked.service
        );
        let passes = present.is_none_or(|presence| !presence.configured);
        let fits = match status {
            Status::NoService => true,
            // At that moment the service may go too.
            Status::Expired => self.now >= asked.since.after(PATIENCE),
            Status::Unavailable => present.is_none() || !passes || self.closing,
            // One of the services cannot start, so nothing does.
            Status::Draining => {
                self.cut_short |= !self.closing;
                true
            }
            _ => present.is_some() || self.closing,
        };
        law!(self, fits, "{request} for {} is refused {status}: {present:?}", asked.service);
    }
}

/// What is true after each event.
impl Ledger {
    pub(super) fn check(&mut self, services: &Services<RequestId>, now: Timestamp) {
        self.note_deserted(now);
        law!(self, !self.cut_short || self.finished.is_some(), "refused, and a worker has it");
        let counters = services.counters();
        let counted = (counters.received, counters.answered, counters.refused_total(), counters.dropped);
        let expected = (self.received, self.answered, self.refused, self.dropped);
        law!(self, counted == expected, "counted {counted:?}, not {expected:?}");
        let running = self.requests.values().filter(|asked| asked.with.is_some()).count();
        let waiting = self.requests.len() - running;
        let open = (services.backlog_len(), services.in_flight_len());
        law!(self, open == (waiting, running), "{open:?} are open, not {:?}", (waiting, running));
        let names: BTreeSet<&str> = services.names().collect();
        let known: BTreeSet<&str> = self.services.keys().map(String::as_str).collect();
        law!(self, names == known, "there is {names:?}, not {known:?}");
        law!(self, names.len() <= MAX_SERVICES, "there are {} services", names.len());
        let wanted: BTreeSet<&String> =
            self.requests.values().filter(|asked| asked.with.is_none()).map(|asked| &asked.service).collect();
        let idle = |desk: &Desk| desk.ready && !desk.barred && !desk.astray && desk.has.is_none();
        for (worker, desk) in &self.desks {
            let missed = desk.service.as_ref().is_some_and(|name| wanted.contains(name)) && idle(desk);
            law!(self, !missed, "{worker} is idle while a request of its service waits");
        }
        for (worker, desk) in self.desks.iter().filter(|(_, desk)| idle(desk) && desk.place.is_none()) {
            let dead = desk.beat.is_some_and(|beat| desk.heard.after(beat * LIVENESS) < now);
            law!(self, !dead || self.closing, "{worker} is silent and idle, and counts as living: {desk:?}");
        }
        let gone = self.gone.take();
        for asked in self.requests.values() {
            law!(self, Some(asked.client) != gone, "a request waits for somebody who has left");
            law!(
                self,
                names.contains(&*asked.service),
                "a request waits for {}, which is gone",
                asked.service
            );
        }
    }

    pub(super) fn check_end(&self) {
        law!(self, self.finished.is_some(), "it never ends");
        law!(self, self.requests.is_empty(), "over, and some are open");
    }
}

/// Whose word it is, if it is a worker's.
fn speaker(event: &Event<RequestId>) -> Option<WorkerId> {
    match event {
        Event::Hello { worker, .. }
        | Event::Waiting { worker, .. }
        | Event::Processing { worker, .. }
        | Event::Exiting { worker, .. }
        | Event::Reply { worker, .. }
        | Event::Heartbeat { worker } => Some(*worker),
        _ => None,
    }
}
