//! Operators and the quarantine: what they see of it, and requests that they have tried
//! once more, whose answers come to them and not to a client.

use std::collections::HashMap;

use hornpipe_proto::Status;
use hornpipe_proto::control::{
    AttemptReport, BODY_PIECE, ControlResponse, PoisonReport, PoisonRequest, PoisonResponse,
    QuarantineReport, REPLY_LIMIT, RetryReport,
};

use super::control::Operator;
use super::frame::{Body, total_size};
use super::report::{milliseconds, name_of};
use super::{Router, clock};
use crate::core::{Attempt, Event, Poisoned, RequestId, ServiceId, Timestamp};

/// Who waits for which request.
#[derive(Debug, Default)]
pub(super) struct Retries {
    waiting: HashMap<RequestId, Operator>,
}

impl Router {
    /// `None` if the response is known only later.
    pub(super) fn obey_about_poison(
        &mut self,
        operator: Operator,
        request: PoisonRequest,
        of: Option<ServiceId>,
    ) -> Option<ControlResponse> {
        let response = match request {
            PoisonRequest::List => PoisonResponse::List(self.quarantine_report(of)),
            PoisonRequest::DropAll => {
                let count = self.quarantined(of).count() as u64;
                if let Some(service) = of {
                    self.settle_in(service, Event::DropAllPoison);
                } else {
                    self.pending.push_back(Event::DropAllPoison);
                    self.settle();
                }
                PoisonResponse::Dropped { count }
            }
            PoisonRequest::Show { number }
            | PoisonRequest::Body { number, .. }
            | PoisonRequest::Retry { number }
            | PoisonRequest::Drop { number } => {
                let found = self.quarantined(of).find(|(_service, other, _entry)| *other == number);
                let Some((service, _number, entry)) = found else {
                    return Some(refused(&format!("no request {number} is in quarantine")));
                };
                match request {
                    PoisonRequest::Body { offset, .. } => match &entry.body {
                        Some(body) => piece(body, offset),
                        None => return Some(refused("its body was too large to be kept")),
                    },
                    PoisonRequest::Retry { .. } => {
                        if entry.retry.is_some() {
                            return Some(refused("it is being tried already"));
                        }
                        self.retry_poison(operator, number);
                        return None;
                    }
                    PoisonRequest::Drop { .. } => {
                        self.pending.push_back(Event::DropPoison { number });
                        self.settle();
                        PoisonResponse::Dropped { count: 1 }
                    }
                    PoisonRequest::Show { .. } | PoisonRequest::List | PoisonRequest::DropAll => {
                        PoisonResponse::Shown(self.entry_report((service, number, entry), clock::now()))
                    }
                }
            }
        };
        Some(ControlResponse::Poison(response))
    }

    fn retry_poison(&mut self, operator: Operator, number: u64) {
        let request = self.clients.number_request();
        self.retries.waiting.insert(request, operator);
        self.pending.push_back(Event::RetryPoison { number, request });
        self.settle();
    }

    /// What is in quarantine, of one service or of all.
    fn quarantined(&self, of: Option<ServiceId>) -> impl Iterator<Item = (ServiceId, u64, &Poisoned<Body>)> {
        let quarantined = self.core.quarantined().into_iter();
        quarantined.filter(move |(service, _number, _entry)| of.is_none_or(|of| of == *service))
    }

    fn quarantine_report(&self, of: Option<ServiceId>) -> QuarantineReport {
        let now = clock::now();
        let entries: Vec<_> = self.quarantined(of).map(|entry| self.entry_report(entry, now)).collect();
        let (bytes, evicted) = self.core.quarantine_size(of);
        QuarantineReport { bytes, evicted, entries }
    }

    fn entry_report(
        &self,
        (service, number, entry): (ServiceId, u64, &Poisoned<Body>),
        now: Timestamp,
    ) -> PoisonReport {
        PoisonReport {
            number,
            name: name_of(self.life, entry.request, entry.name.as_deref()),
            client: entry.client.0,
            size: entry.size,
            frames: entry.body.as_ref().map(|body| body.frames().len() as u64),
            ago_ms: milliseconds(now.since(entry.at)),
            retrying: entry.retry.is_some(),
            attempts: entry.attempts.iter().map(attempt_report).collect(),
            service: Some(self.core.name(service).to_owned()),
        }
    }

    /// Whether the request is one that an operator waits for, who has then been answered.
    pub(super) fn answer_operator(&mut self, request: RequestId, body: &Body) -> bool {
        let size = total_size(body.frames());
        let fits = size <= REPLY_LIMIT as u64;
        let frames = if fits { body.frames() } else { &[] };
        let reply = frames.iter().flat_map(AsRef::as_ref).copied();
        self.tell_operator(request, || RetryReport {
            status: Status::Ok,
            message: None,
            size,
            reply: reply.collect(),
        })
    }

    pub(super) fn refuse_operator(&mut self, request: RequestId, status: Status, message: &str) -> bool {
        self.tell_operator(request, || RetryReport {
            status,
            message: Some(message.to_owned()),
            size: 0,
            reply: Vec::new(),
        })
    }

    fn tell_operator(&mut self, request: RequestId, report: impl FnOnce() -> RetryReport) -> bool {
        if self.retries.waiting.is_empty() {
            return false;
        }
        let Some(operator) = self.retries.waiting.remove(&request) else { return false };
        let response = ControlResponse::Poison(PoisonResponse::Retried(report()));
        self.sockets.control.respond(operator, &response);
        true
    }
}

fn refused(why: &str) -> ControlResponse {
    ControlResponse::Refused { message: why.to_owned() }
}

fn piece(body: &Body, offset: u64) -> PoisonResponse {
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    let mut passed = 0;
    for frame in body.frames() {
        let frame = frame.as_ref();
        let from = skipped.saturating_sub(passed).min(frame.len());
        let room = BODY_PIECE - bytes.len();
        bytes.extend(frame.iter().skip(from).take(room));
        passed += frame.len();
    }
    let more = passed > skipped.saturating_add(bytes.len());
    PoisonResponse::Body { bytes, more }
}

fn attempt_report(attempt: &Attempt) -> AttemptReport {
    AttemptReport {
        slot: attempt.place.map(|place| place.slot.0),
        incarnation: attempt.place.map(|place| place.incarnation.0),
        pid: super::report::pid_of(&attempt.loss),
        ending: super::report::loss_in_words(&attempt.loss),
    }
}
