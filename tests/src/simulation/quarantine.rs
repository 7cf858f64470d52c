//! What becomes of a request whose worker let go of it; and the model's own quarantine:
//! what goes into it, what has to go, what is tried again.

use hornpipe::core::{ClientId, Request, RequestId, Timestamp, WorkerId};
use hornpipe_proto::{Status, Token};

use super::books::{Asked, Due, Kept, State};
use super::model::Model;
use super::{Body, Core};

impl Model {
    pub(super) fn let_go(&mut self, worker: WorkerId, token: Token, by_itself: bool, now: Timestamp) {
        let Some(request) = self.take(worker, token).filter(|request| self.holds(*request, token)) else {
            return;
        };
        let Some(asked) = self.requests.get_mut(&request) else { return };
        asked.deaths.push(by_itself);
        if asked.attempts < asked.attempts_limit && asked.partly.gone == 0 {
            self.measures.returned += 1;
            self.put_back(request, now);
        } else if asked.attempts >= 2 && asked.deaths.iter().all(|death| *death) {
            self.due(request, Due::Refuse(Status::Poison));
            self.keep(request);
        } else {
            self.due(request, Due::Refuse(Status::Lost));
        }
    }

    /// The worker never had it.
    pub(super) fn untouched(&mut self, worker: WorkerId, token: Token, now: Timestamp) {
        let sheet = self.desks.get(&worker).and_then(|desk| desk.held.get(&token));
        if sheet.and_then(|sheet| sheet.flow.as_ref()).is_some_and(|flow| flow.begun) {
            return self.let_go(worker, token, false, now);
        }
        // It was never begun, and counts as no attempt.
        let sheet = self.desks.get_mut(&worker).and_then(|desk| desk.held.remove(&token));
        let counted = u32::from(sheet.as_ref().is_some_and(|sheet| !sheet.ahead));
        let Some(request) = sheet.map(|sheet| sheet.request).filter(|request| self.holds(*request, token))
        else {
            return;
        };
        if let Some(asked) = self.requests.get_mut(&request) {
            asked.attempts -= counted;
            let since = asked.since;
            self.put_back(request, since);
        }
    }

    /// The request goes into quarantine, unless it came from there.
    pub(super) fn keep(&mut self, request: RequestId) {
        let Some(asked) = self.requests.get(&request).filter(|asked| asked.quarantined_as.is_none()) else {
            return;
        };
        let (limit, room) = (self.settings.quarantine_limit, self.settings.quarantine_bytes_limit);
        let bytes = if asked.size <= room { asked.size } else { 0 };
        self.poisoned += 1;
        let kept = Kept { about: asked.about, bytes, size: asked.size, retry: None };
        self.quarantine.insert(self.poisoned, kept);
        while self.quarantine.len() > limit || self.quarantine_bytes() > room {
            self.quarantine.pop_first();
            self.evicted += 1;
        }
    }

    pub(super) fn judge_poison(&self, request: RequestId, attempt: u32) {
        let deaths = self.requests.get(&request).map_or(0, |asked| asked.deaths.len());
        law!(self, deaths == attempt as usize, "{request} is poison after {deaths} deaths, not {attempt}");
    }

    pub(super) fn quarantine_bytes(&self) -> u64 {
        self.quarantine.values().map(|kept| kept.bytes).sum()
    }

    /// An operator has a request in quarantine tried once more.
    pub(super) fn asked_again(&mut self, number: u64, request: RequestId, now: Timestamp) {
        let kept = self.quarantine.get_mut(&number).filter(|kept| kept.retry.is_none());
        let refused = match &kept {
            None => Some(Status::Malformed),
            Some(kept) => (kept.bytes < kept.size).then_some(Status::TooLarge),
        };
        let (Some(kept), None) = (kept, refused) else {
            self.received += 1;
            let state = State::Due(Due::Refuse(refused.unwrap_or(Status::Malformed)));
            self.requests.insert(request, Asked::new(ClientId::OPERATOR, 0, state));
            return;
        };
        kept.retry = Some(request);
        let (about, size) = (kept.about, kept.size);
        let body = Body { request, number: 0 };
        let client = ClientId::OPERATOR;
        let (name, service, timeout, attempts) = (None, None, None, None);
        let wants = hornpipe::core::Wants::default();
        self.asked(&Request { request, client, name, service, timeout, attempts, size, wants, body }, now);
        if let Some(asked) = self.requests.get_mut(&request) {
            (asked.about, asked.quarantined_as, asked.returned) = (about, Some(number), true);
        }
        // The operator waits: it is the next.
        self.line.rotate_right(1);
    }

    pub(super) fn check_quarantine(&self, core: &Core) {
        let quarantine = core.quarantine();
        law!(self, quarantine.len() == self.quarantine.len(), "{} are in quarantine", quarantine.len());
        for ((number, entry), (own, kept)) in quarantine.iter().zip(&self.quarantine) {
            let bytes = if entry.body.is_some() { entry.size } else { 0 };
            let about = entry.body.map_or(entry.request, |body| body.request);
            law!(self, about == entry.request, "{number} in quarantine has the body of {about}");
            let entry = Kept { about, bytes, size: entry.size, retry: entry.retry };
            law!(
                self,
                (number, &entry) == (*own, kept),
                "in quarantine is {number}: {entry:?}, not {own}: {kept:?}"
            );
        }
        law!(self, quarantine.bytes() == self.quarantine_bytes(), "{} bytes kept", quarantine.bytes());
        law!(self, quarantine.len() <= self.settings.quarantine_limit, "{} are kept", quarantine.len());
        law!(self, quarantine.bytes() <= self.settings.quarantine_bytes_limit, "too much poison is kept");
        law!(self, quarantine.evicted() == self.evicted, "{} had to go", quarantine.evicted());
    }
}
