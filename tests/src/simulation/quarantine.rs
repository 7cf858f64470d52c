//! What becomes of a request whose worker let go of it; and the model's own quarantine:
//! what goes into it, what has to go, what is tried again.

use hornpipe::core::{ClientId, Request, RequestId, Timestamp, WorkerId};
use hornpipe_proto::{Status, Token};

use super::Body;
use super::books::{Asked, Due, Kept, State};
use super::model::Model;

impl Model {
    pub(super) fn let_go(&mut self, worker: WorkerId, token: Token, by_itself: bool, now: Timestamp) {
        let Some(request) = self.take(worker, token).filter(|request| self.holds(*request, token)) else {
            return;
        };
        let Some(asked) = self.requests.get_mut(&request) else { return };
        asked.deaths.push(by_itself);
        if asked.attempts < asked.attempts_limit {
            self.put_back(request, now);
        } else if asked.attempts >= 2 && asked.deaths.iter().all(|death| *death) {
            self.due(request, Due::Refuse(Status::Poison));
            self.keep(request);
        } else {
            self.due(request, Due::Refuse(Status::Lost));
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
        self.asked(&Request { request, client, name, service, timeout, attempts, size, body }, now);
        if let Some(asked) = self.requests.get_mut(&request) {
            (asked.about, asked.quarantined_as) = (about, Some(number));
        }
        // The operator waits: it is the next.
        self.line.rotate_right(1);
    }
}
