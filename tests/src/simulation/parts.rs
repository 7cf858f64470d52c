//! The model's books of replies in parts, and their laws: in order, never after the end, never
//! more than a window ahead, and never a second attempt once a client has one.

use hornpipe::core::{KEPT_PARTS, RequestId, Tables, Timestamp, WINDOW, WorkerId};
use hornpipe_proto::{Status, Token};

use super::books::{Desk, Due, Sheet, State};
use super::checks::Open;
use super::model::Model;
use super::{Body, Core};

/// What a worker may send of one reply.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    left: u32,
    /// With the client's connection, which has not taken them.
    under_way: u32,
    live: bool,
    pub(super) begun: bool,
    /// It knows that nobody waits.
    told: bool,
}

/// What there is of a reply.
#[derive(Debug, Default)]
pub(super) struct Partly {
    /// How many parts its client has.
    pub(super) gone: u64,
    kept: Vec<u64>,
    bytes: u64,
    /// The part that its client is to get in this step.
    due: Option<u64>,
    /// When the next one must have come.
    pub(super) silent_until: Option<Timestamp>,
}

impl Partly {
    pub(super) fn kept_bytes(&self) -> u64 {
        if self.gone > 0 { 0 } else { self.bytes }
    }

    /// Whether its client is to get one in this step.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_some()
    }

    pub(super) fn kept(&self) -> &[u64] {
        &self.kept
    }
}

#[derive(Debug, Default)]
pub(super) struct Flows {
    /// Parts taken in.
    taken: u64,
    /// Who must have heard by the end of the step that nobody waits.
    to_be_told: Vec<(WorkerId, Token)>,
}

impl Flow {
    pub(super) fn new(live: bool) -> Self {
        Self { left: WINDOW, under_way: 0, live, begun: false, told: false }
    }
}

/// What the core hears.
impl Model {
    pub(super) fn part_came(
        &mut self,
        (worker, token): (WorkerId, Token),
        (size, body): (u64, &Body),
        now: Timestamp,
    ) {
        self.begins(worker, token, now);
        let sheet = self.desks.get_mut(&worker).and_then(|desk| desk.held.get_mut(&token));
        let Some(sheet) = sheet else { return };
        let request = sheet.request;
        let Some(flow) = sheet.flow.as_mut().filter(|flow| flow.left > 0) else {
            return self.malformed(worker);
        };
        flow.left -= 1;
        flow.begun = true;
        self.flows.taken += 1;
        let (left, live, told) = (flow.left, flow.live, flow.told);
        if !self.holds(request, token) {
            if live && !told {
                self.flows.to_be_told.push((worker, token));
            }
            return;
        }
        let silent_until = self.settings.part_timeout.map(|time| now.after(time)).filter(|_at| left > 0);
        let too_large = !live && self.is_too_large(request, size);
        let Some(asked) = self.requests.get_mut(&request) else { return };
        asked.partly.silent_until = silent_until;
        if too_large {
            self.flows.to_be_told.push((worker, token));
            return self.due(request, Due::Refuse(Status::TooLarge));
        }
        asked.partly.bytes += size;
        if live {
            asked.partly.gone += 1;
            asked.partly.due = Some(body.number);
            self.flow(worker, token, |flow| flow.under_way += 1);
        } else {
            asked.partly.kept.push(body.number);
        }
    }

    fn flow(&mut self, worker: WorkerId, token: Token, change: impl FnOnce(&mut Flow)) {
        let sheet = self.desks.get_mut(&worker).and_then(|desk| desk.held.get_mut(&token));
        if let Some(flow) = sheet.and_then(|sheet| sheet.flow.as_mut()) {
            change(flow);
        }
    }

    fn is_too_large(&self, request: RequestId, size: u64) -> bool {
        self.requests.get(&request).is_some_and(|asked| {
            asked.partly.bytes + size > self.settings.body_limit
                || asked.partly.kept.len() >= KEPT_PARTS
                || self.bytes() + size > self.settings.held_bytes_limit
        })
    }

    /// Whether a reply that ends so is too much in one.
    pub(super) fn end_is_too_large(&self, request: RequestId, size: u64) -> bool {
        self.requests.get(&request).is_some_and(|asked| {
            !asked.partly.kept.is_empty() && asked.partly.bytes + size > self.settings.body_limit
        })
    }

    fn holder(&self, request: RequestId) -> Option<(WorkerId, Token)> {
        match self.requests.get(&request)?.state {
            State::Held { worker, token, .. } => Some((worker, token)),
            State::Waiting | State::Due(_) => None,
        }
    }

    pub(super) fn delivered(&mut self, request: RequestId, parts: u32) {
        if let Some((worker, token)) = self.holder(request) {
            self.flow(worker, token, |flow| flow.under_way -= parts.min(flow.under_way));
        }
    }

    pub(super) fn part_undelivered(&mut self, request: RequestId) {
        if let Some((worker, token)) = self.holder(request) {
            self.flows.to_be_told.push((worker, token));
            self.due(request, Due::Refuse(Status::Lost));
        }
    }

    /// A reply that runs to a client ends with it.
    pub(super) fn reader_left(&mut self, request: RequestId) {
        if self.requests.get(&request).is_some_and(|asked| asked.partly.gone > 0) {
            self.flows.to_be_told.extend(self.holder(request));
        }
    }
}

/// What the core orders.
impl Model {
    pub(super) fn judge_part(&mut self, request: RequestId, attempt: u32, body: &Body) {
        let Some(asked) = self.requests.get_mut(&request) else {
            law!(self, false, "a part for {request}, which is over");
            return;
        };
        let (due, attempts) = (asked.partly.due.take(), asked.attempts);
        let (held, reads) = (matches!(asked.state, State::Held { .. }), asked.wants.parts);
        law!(self, held, "a part for {request}, which no worker has");
        law!(self, reads, "a part for {request}, whose client reads none");
        law!(self, due == Some(body.number), "{request} gets part {body:?}, not {due:?}");
        law!(self, attempt == attempts, "{request}: a part of attempt {attempt}, not {attempts}");
    }

    pub(super) fn judge_allowance(&mut self, (worker, token): (WorkerId, Token), parts: u32, now: Timestamp) {
        let desk = self.desks.get(&worker);
        let fit = desk.is_some_and(|desk| desk.is_native() && desk.held.contains_key(&token));
        law!(self, fit, "{worker} is allowed parts of what it does not hold, or knows no such word");
        let (mut stood_still, mut ahead) = (false, 0);
        self.flow(worker, token, |flow| {
            stood_still = flow.left == 0;
            flow.left += parts;
            ahead = flow.left + flow.under_way;
        });
        law!(self, parts > 0 && 0 < ahead && ahead <= WINDOW, "{worker} may send {ahead} parts ahead");
        let request = desk_request(self, worker, token).filter(|request| self.holds(*request, token));
        let until = self.settings.part_timeout.map(|time| now.after(time));
        if stood_still && let Some(asked) = request.and_then(|request| self.requests.get_mut(&request)) {
            asked.partly.silent_until = until;
        }
    }

    pub(super) fn judge_cancel(&mut self, worker: WorkerId, token: Token) {
        let fit =
            self.desks.get(&worker).is_some_and(|desk| desk.is_native() && desk.held.contains_key(&token));
        let fit = fit || self.gone_now.contains(&worker);
        self.told_to_cancel(worker, token);
        law!(self, fit, "{worker} is told to cancel what it does not hold, or does not understand");
    }

    /// What the worker that is given this request may send. No client has any of it.
    pub(super) fn flow_of(&self, request: RequestId, window: Option<u32>) -> Option<Flow> {
        let asked = self.requests.get(&request);
        let gone = asked.map_or(0, |asked| asked.partly.gone);
        law!(self, gone == 0, "{request} is tried again, and its client has {gone} parts");
        let reads = asked.is_some_and(|asked| asked.wants.parts);
        window.map(|_parts| Flow::new(reads))
    }

    pub(super) fn judge_kept(&self, request: RequestId, parts: &[Body], kept: &[u64]) {
        let numbers: Vec<u64> = parts.iter().map(|part| part.number).collect();
        law!(self, numbers == kept, "{request} is answered with parts {numbers:?}, not {kept:?}");
    }

    pub(super) fn told_to_cancel(&mut self, worker: WorkerId, token: Token) {
        self.flow(worker, token, |flow| flow.told = true);
    }
}

fn desk_request(model: &Model, worker: WorkerId, token: Token) -> Option<RequestId> {
    Some(model.desks.get(&worker)?.held.get(&token)?.request)
}

/// What must hold after each step.
impl Model {
    pub(super) fn check_parts(&mut self, open: &Open, tables: &Tables, core: &Core) {
        law!(self, core.counters().parts == self.flows.taken, "{} parts are counted", core.counters().parts);
        law!(self, open.bytes == tables.bytes, "{} bytes are held, not {}", tables.bytes, open.bytes);
        while let Some((worker, token)) = self.flows.to_be_told.pop() {
            let desk = self.desks.get(&worker).filter(|desk| desk.is_native() && !desk.cut);
            let flow = desk.and_then(|desk| desk.held.get(&token)).and_then(|sheet| sheet.flow.as_ref());
            law!(self, flow.is_none_or(|flow| flow.told), "{worker} sends parts to nobody, and is not told");
        }
    }

    pub(super) fn check_flow(&self, (worker, desk): (WorkerId, &Desk), (token, sheet): (Token, &Sheet)) {
        let Some(flow) = &sheet.flow else { return };
        let stuck = flow.left == 0 && flow.under_way == 0 && !flow.told && !desk.cut && desk.is_native();
        let waited = stuck && self.holds(sheet.request, token);
        law!(self, !waited, "{worker} may send nothing, and everything was taken");
    }
}
