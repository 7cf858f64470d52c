//! The shadow model: what the router's side of the core must know, kept by a
//! second hand from the events alone. `laws` compares the core's orders with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hornpipe::core::{
    ClientId, Details, Ending, Event, Generation, Home, Memory, PauseMode, Phase, Place, RequestId, Settings,
    Speech, Timestamp, WorkerId,
};
use hornpipe_proto::worker::ReplyStatus;
use hornpipe_proto::{Status, Token};

use super::books::{Arrival, Asked, Desk, Due, Kept, Parting, Post, Sheet, State, Stopped};
use super::early::Early;
use super::ends::is_own_doing;
use super::eras::{Limits, Room};
use super::load::Load;
use super::measures::Measures;
use super::order::Turns;
use super::parts::{Flows, Partly};
use super::wishes::STOP_SLACK;
use super::{Body, Core};

/// How long the end of a pipe is awaited after its process has ended.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Model {
    pub(super) seed: u64,
    pub(super) step: u64,
    pub(super) settings: Settings,
    /// All that have held in this life, the last included.
    pub(super) eras: Vec<Settings>,
    pub(super) limits: Limits,
    pub(super) room: Room,
    pub(super) requests: BTreeMap<RequestId, Asked>,
    /// The waiting, in the order in which they are due.
    pub(super) line: VecDeque<RequestId>,
    pub(super) desks: BTreeMap<WorkerId, Desk>,
    pub(super) posts: BTreeMap<Place, Post>,
    pub(super) received: u64,
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) dropped: u64,
    pub(super) target: u32,
    pub(super) stopped: Option<Stopped>,
    pub(super) finished: bool,
    /// The operator wants no request handed out.
    pub(super) paused: Option<PauseMode>,
    /// What the next router would find of that.
    pub(super) paused_in_memory: Option<PauseMode>,
    pub(super) parting: Option<Parting>,
    pub(super) turns: u64,
    pub(super) turns_taken: Turns,
    pub(super) quarantine: BTreeMap<u64, Kept>,
    /// How many requests have ever been in quarantine, and how many had to go.
    pub(super) poisoned: u64,
    pub(super) evicted: u64,
    pub(super) phase_before: Phase,
    /// No connection is given up before.
    pub(super) none_gone_before: Option<Timestamp>,
    /// Connections given up in this step.
    pub(super) gone_now: BTreeSet<WorkerId>,
    /// Processes that had something in hand on one of them until then.
    pub(super) freed_now: BTreeSet<Place>,
    /// The reload that is under way as this step begins.
    pub(super) reloading: Option<Generation>,
    /// How many slots it may renew at once.
    pub(super) surge: u32,
    /// Those that became ready, and when: whoever lives on works.
    pub(super) young: VecDeque<(Timestamp, Place)>,
    /// Generations of which a process has shown that it works.
    pub(super) worked: BTreeSet<Generation>,
    /// Generations whose reload has failed.
    pub(super) failed: BTreeSet<Generation>,
    pub(super) probed: u64,
    /// Requests whose end was noted.
    pub(super) ends_told: u64,
    /// The process that has ended in this step, and how.
    pub(super) ended_now: Option<(Place, Ending)>,
    /// What was known of it.
    pub(super) buried_now: Option<(Place, Post)>,
    /// The process that has replied in this step.
    pub(super) replied_now: Option<Place>,
    /// What the request that arrives in this step has met.
    pub(super) arrival: Option<Arrival>,
    pub(super) now: Timestamp,
    pub(super) load: Load,
    pub(super) early: Early,
    pub(super) measures: Measures,
    pub(super) flows: Flows,
}

impl Model {
    pub(super) fn new(seed: u64, settings: Settings, memory: Option<&Memory>) -> Self {
        Self {
            seed,
            step: 0,
            target: Self::first_target(&settings, memory),
            eras: vec![settings.clone()],
            limits: Limits::of(std::slice::from_ref(&settings)),
            room: Room::of(&settings),
            surge: settings.surge,
            reloading: None,
            young: VecDeque::new(),
            worked: BTreeSet::new(),
            failed: BTreeSet::new(),
            probed: 0,
            ends_told: 0,
            settings,
            requests: BTreeMap::new(),
            line: VecDeque::new(),
            desks: BTreeMap::new(),
            posts: BTreeMap::new(),
            received: 0,
            answered: 0,
            refused: 0,
            dropped: 0,
            stopped: None,
            finished: false,
            paused: memory.and_then(|memory| memory.pause).map(|pause| pause.mode),
            paused_in_memory: memory.and_then(|memory| memory.pause).map(|pause| pause.mode),
            parting: None,
            turns: 0,
            turns_taken: Turns::default(),
            quarantine: BTreeMap::new(),
            poisoned: 0,
            evicted: 0,
            phase_before: Phase::Starting,
            none_gone_before: None,
            gone_now: BTreeSet::new(),
            freed_now: BTreeSet::new(),
            ended_now: None,
            buried_now: None,
            replied_now: None,
            arrival: None,
            now: Timestamp::default(),
            load: Load::default(),
            early: Early::default(),
            measures: Measures::default(),
            flows: Flows::default(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.requests.values().map(|asked| asked.size + asked.partly.kept_bytes()).sum()
    }

    /// Takes in what the core is about to hear.
    pub(super) fn hear(&mut self, event: &Event<Body>, now: Timestamp, core: &Core) {
        self.count_busy(now);
        self.arrival = None;
        self.replied_now = None;
        self.now = now;
        self.ended_now = None;
        self.buried_now = None;
        self.gone_now.clear();
        self.freed_now.clear();
        self.phase_before = core.phase();
        self.reloading = core.reload_under_way().map(|reload| reload.to);
        self.load.reload_in_step = self.reloading.is_some();
        self.note_survivors(now);
        match event {
            Event::Request(request) => self.asked(request, now),
            Event::UnreadableRequest { request, .. } => {
                self.received += 1;
                let state = State::Due(Due::Refuse(Status::Malformed));
                self.requests.insert(*request, Asked::new(ClientId(0), 0, state));
            }
            Event::ClientLeft { client } => self.client_left(*client),
            Event::Cancel { client, name } => self.cancelled(*client, name),
            Event::Delivered { request, parts } => self.delivered(*request, *parts),
            Event::PartUndelivered { request } => self.part_undelivered(*request),
            Event::Joined { worker, home } => self.joined(*worker, *home, now),
            Event::Hello { worker, details } => self.hello(*worker, details),
            Event::RetryPoison { number, request } => self.asked_again(*number, *request, now),
            Event::DropPoison { number } => drop(self.quarantine.remove(number)),
            Event::DropAllPoison => self.quarantine.clear(),
            Event::Waiting { worker, speech } => self.waiting(*worker, speech, now),
            Event::Processing { worker, speech } => self.processing(*worker, speech),
            Event::Exiting { worker, speech, ending, .. } => {
                self.exiting(*worker, (speech, ending.as_ref()), now);
            }
            Event::Reply { worker, token, status, size, body, .. } => {
                self.replied((*worker, *token), *status, (*size, body), now);
            }
            Event::Part { worker, token, size, body } => {
                self.part_came((*worker, *token), (*size, body), now);
            }
            Event::Malformed { worker } => self.malformed(*worker),
            Event::WorkerLeft { worker } | Event::OutOfTurn { worker } => self.left(*worker, now),
            Event::WorkersLeft { workers } => workers.iter().for_each(|worker| self.left(*worker, now)),
            Event::Undelivered { worker, token } => self.undelivered(*worker, *token, now),
            Event::Withdrawn { worker, begun } => self.withdrawn(*worker, *begun, now),
            Event::Adopted { place, generation, .. } => self.adopted(*place, *generation, now),
            Event::NotStarted { place, .. } => self.ended(*place, &Ending::Signal(9), now),
            Event::Exited { place, ending } => {
                self.ended_now = Some((*place, ending.clone()));
                self.ended(*place, ending, now);
            }
            Event::Measured { place, footprint } => {
                let most = self.settings.max_memory_hard.unwrap_or(u64::MAX);
                if let Some(post) = self.posts.get_mut(place) {
                    post.overrun |= most < footprint.private_bytes;
                }
            }
            Event::Halted { place } => self.set_halted(*place, Some(now)),
            Event::Continued { place } => self.set_halted(*place, None),
            Event::Grow => self.scale(self.target.saturating_add(1)),
            Event::Shrink => self.scale(self.target.saturating_sub(1)),
            Event::ScaleTo { target } => self.scale(*target),
            Event::ScaleBy { change } => self.scale(self.target.saturating_add_signed(*change)),
            Event::Configure { settings } => {
                self.note_idle_before(settings, core);
                self.configured(settings, now);
            }
            Event::Reload { surge } => {
                self.surge = surge.unwrap_or(self.settings.surge);
                self.load.reload_in_step = true;
                self.early.reload(now);
            }
            Event::Stop(stop) => self.stop(*stop, now, core),
            Event::Pause { mode } => self.pause(*mode),
            Event::Resume => self.resume(),
            Event::HandOver => self.part(now),
            Event::Sought { .. }
            | Event::Heartbeat { .. }
            | Event::CancelKey { .. }
            | Event::Recalled { .. }
            | Event::IgnoredClientMessage
            | Event::StrayReply { .. }
            | Event::Stranger
            | Event::Started { .. }
            | Event::Recycle { .. }
            | Event::Tick => (),
        }
        if self.stopped.is_some_and(|stopped| stopped.over_by.is_some_and(|end| end <= now.after(STOP_SLACK)))
        {
            self.stopped = self.stopped.map(|stopped| Stopped { now: true, ..stopped });
        }
        self.expire(now);
    }
}

/// Workers.
impl Model {
    fn joined(&mut self, worker: WorkerId, home: Home, now: Timestamp) {
        let mut desk = Desk::new(home, now);
        if let Home::Local(place) = home {
            if let Some(post) = self.posts.get_mut(&place) {
                post.bereft = false;
                desk.barred = post.is_leaving();
                desk.halted = post.halted.is_some();
                if let Some(earlier) =
                    post.desk.replace(worker).and_then(|earlier| self.desks.get_mut(&earlier))
                {
                    earlier.barred = true;
                }
            } else {
                desk.barred = true;
                desk.gone_at = Some(now.after(LAST_WORDS));
                self.await_end(now);
            }
        }
        self.desks.insert(worker, desk);
    }

    pub(super) fn post_of(&mut self, worker: WorkerId) -> Option<&mut Post> {
        match self.desks.get(&worker)?.home {
            Home::Local(place) => self.posts.get_mut(&place),
            Home::External => None,
        }
    }

    fn hello(&mut self, worker: WorkerId, details: &Details) {
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        desk.learn(&Speech::Native(details.clone()));
        if let Some(post) = self.post_of(worker)
            && post.adopted
            && !post.ready
            && !post.is_leaving()
        {
            post.ready = true;
            if let Some(desk) = self.desks.get_mut(&worker) {
                desk.spoke = true;
            }
        }
    }

    fn waiting(&mut self, worker: WorkerId, speech: &Speech, now: Timestamp) {
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        desk.learn(speech);
        let lost = |sheet: &Sheet| match speech {
            Speech::Native(details) => sheet.ordinal <= details.seen,
            Speech::Plain | Speech::PlainReadyByReply | Speech::Beating { .. } => sheet.begun,
        };
        for token in in_order(desk) {
            if self.desks.get(&worker).and_then(|desk| desk.held.get(&token)).is_some_and(lost) {
                if self.is_ahead(worker, token) {
                    self.is_lost_if_begun(worker, token);
                    continue;
                }
                self.let_go(worker, token, false, now);
            }
        }
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        if desk.exiting {
            return;
        }
        desk.spoke = true;
        desk.distrusted = false;
        if desk.held.is_empty() {
            desk.ready = true;
            desk.free_since = now;
        }
        if self.is_to_prove_itself(worker) {
            if let Some(desk) = self.desks.get_mut(&worker) {
                desk.unproven = true;
            }
        } else if let Some(post) = self.post_of(worker)
            && !post.is_leaving()
        {
            post.ready = true;
            if let Some(Home::Local(place)) = self.desks.get(&worker).map(|desk| desk.home) {
                self.became_ready(place, now);
            }
        }
    }

    fn processing(&mut self, worker: WorkerId, speech: &Speech) {
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        desk.learn(speech);
        for sheet in desk.held.values_mut() {
            sheet.begun = true;
        }
        let first = !desk.spoke && !desk.exiting;
        desk.spoke |= first;
        let proves = self.is_to_prove_itself(worker);
        if let Some(post) = self.post_of(worker)
            && first
            && !proves
            && !post.is_leaving()
        {
            post.ready = true;
        }
    }

    fn exiting(&mut self, worker: WorkerId, (speech, ending): (&Speech, Option<&Ending>), now: Timestamp) {
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        desk.learn(speech);
        // Of one of ours the parent knows it, and nobody else is asked.
        let by_itself = desk.home == Home::External && ending.is_some_and(is_own_doing);
        desk.exiting = true;
        desk.free_since = now;
        for token in in_order(desk) {
            if self.is_ahead(worker, token) {
                self.is_lost_if_begun(worker, token);
                continue;
            }
            let sheet = self.desks.get(&worker).and_then(|desk| desk.held.get(&token));
            let unseen = matches!((speech, sheet), (Speech::Native(details), Some(sheet)) if sheet.ordinal > details.seen);
            if unseen {
                self.untouched(worker, token, now);
            } else {
                self.let_go(worker, token, by_itself, now);
            }
        }
        if let Some(post) = self.post_of(worker) {
            post.announced = true;
            post.dismissed.get_or_insert(now);
        }
    }

    fn replied(
        &mut self,
        (worker, token): (WorkerId, Token),
        status: ReplyStatus,
        (size, body): (u64, &Body),
        now: Timestamp,
    ) {
        let Some(request) = self.finish(worker, token, now) else { return };
        if let Some(post) = self.post_of(worker) {
            // A probe is none of the requests that wear a process out.
            post.served += u64::from(post.probe.is_none_or(|(probe, _since)| probe != token));
        }
        if let Some(desk) = self.desks.get_mut(&worker) {
            desk.withdrawn = false;
            if let Home::Local(place) = desk.home {
                self.replied_now = Some(place);
            }
            desk.ready |= !matches!(desk.speech, Some(Speech::Plain)) && !desk.exiting;
            desk.free_since = now;
        }
        self.note_success(worker, token, status, now);
        let too_large = self.end_is_too_large(request, size);
        let Some(asked) = self.requests.get_mut(&request) else { return };
        match asked.state {
            State::Held { token: current, .. } if current == token => (),
            State::Held { .. } | State::Waiting | State::Due(_) => return,
        }
        match status {
            ReplyStatus::Ok if too_large => self.due(request, Due::Refuse(Status::TooLarge)),
            ReplyStatus::Ok => self.due(request, Due::Answer(body.number)),
            ReplyStatus::Retry if asked.attempts < asked.attempts_limit && asked.partly.gone == 0 => {
                asked.deaths.push(false);
                self.measures.returned += 1;
                self.put_back(request, now);
            }
            ReplyStatus::Retry | ReplyStatus::Error => self.due(request, Due::Refuse(Status::Error)),
        }
    }

    pub(super) fn malformed(&mut self, worker: WorkerId) {
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        desk.distrusted = true;
        let keeps = desk.home == Home::External && desk.is_native();
        for token in in_order(desk)
            .into_iter()
            .filter(|token| !desk.held.get(token).is_some_and(|one| one.ahead))
            .collect::<Vec<_>>()
        {
            let request =
                self.desks.get(&worker).and_then(|desk| desk.held.get(&token)).map(|sheet| sheet.request);
            if let Some(request) = request.filter(|request| self.holds(*request, token)) {
                self.due(request, Due::Refuse(Status::Error));
            }
            if !keeps {
                self.take(worker, token);
            }
        }
    }

    fn undelivered(&mut self, worker: WorkerId, token: Token, now: Timestamp) {
        let sheet = self.desks.get(&worker).and_then(|desk| desk.held.get(&token));
        let Some(ordinal) = sheet.map(|sheet| sheet.ordinal) else { return };
        self.untouched(worker, token, now);
        let desk = self.desks.get_mut(&worker);
        for later in desk.into_iter().flat_map(|desk| desk.held.values_mut()) {
            later.ordinal -= u64::from(later.ordinal > ordinal);
        }
        if let Some(post) = self.post_of(worker)
            && post.desk == Some(worker)
        {
            post.desk = None;
        }
        if let Some(desk) = self.desks.get_mut(&worker) {
            desk.barred = true;
        }
    }

    pub(super) fn take(&mut self, worker: WorkerId, token: Token) -> Option<RequestId> {
        let sheet = self.desks.get_mut(&worker)?.held.remove(&token)?;
        self.count_attempt(&sheet);
        Some(sheet.request)
    }

    /// Whether the request's present attempt is this one.
    pub(super) fn holds(&self, request: RequestId, token: Token) -> bool {
        let state = self.requests.get(&request).map(|asked| &asked.state);
        matches!(state, Some(State::Held { token: current, .. }) if *current == token)
    }

    pub(super) fn put_back(&mut self, request: RequestId, since: Timestamp) {
        if let Some(asked) = self.requests.get_mut(&request) {
            asked.state = State::Waiting;
            asked.since = since;
            asked.waiting_since = since;
            asked.returned = true;
            asked.partly = Partly::default();
            self.line.push_front(request);
        }
    }
}

/// From the last to the first: put back in this order, the first is at the head again.
pub(super) fn in_order(desk: &Desk) -> Vec<Token> {
    let mut held: Vec<_> = desk.held.iter().map(|(token, sheet)| (sheet.ordinal, *token)).collect();
    held.sort_unstable_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
    held.into_iter().map(|(_, token)| token).collect()
}
