//! The model's books of clients: what they ask, take back, and leave behind.

use hornpipe::core::{ClientId, Request, RequestId, Timestamp};
use hornpipe_proto::Status;

use super::Body;
use super::books::{Arrival, Asked, Desk, Due, State};
use super::model::Model;

impl Model {
    pub(super) fn asked(&mut self, request: &Request<Body>, now: Timestamp) {
        self.received += 1;
        self.note_keys(&request.wants);
        self.arrival = Some(Arrival {
            request: request.request,
            waiting: self.line.len(),
            idle: self.paused.is_none() && self.desks.values().any(Desk::is_eligible),
            bytes: self.bytes(),
            refused: false,
        });
        let most = self.settings.attempts.max(1);
        let asked = Asked {
            service: request.service.clone(),
            arrived: Some(now),
            waiting_since: now,
            deadline: request.timeout.map(|timeout| now.after(timeout)),
            attempts_limit: request.attempts.map_or(most, |attempts| attempts.clamp(1, most)),
            since: now,
            about: request.request,
            wants: request.wants.clone(),
            ..Asked::new(request.client, request.size, State::Waiting)
        };
        self.requests.insert(request.request, asked);
        self.line.push_back(request.request);
    }

    /// The world names each request by its number.
    pub(super) fn cancelled(&mut self, client: ClientId, name: &str) {
        let theirs = |(request, asked): &(&RequestId, &Asked)| {
            asked.client == client && asked.arrived.is_some() && request.to_string() == name
        };
        let named = self.requests.iter().find(theirs).map(|(request, _)| *request);
        if let Some(request) = named {
            self.due(request, Due::Refuse(Status::Cancelled));
        }
    }

    pub(super) fn client_left(&mut self, client: ClientId) {
        let theirs = |asked: &Asked| asked.client == client;
        let requests: Vec<_> =
            self.requests.iter().filter(|(_, one)| theirs(one)).map(|(id, _)| *id).collect();
        for request in requests {
            self.reader_left(request);
            self.due(request, Due::Forget);
        }
    }

    pub(super) fn due(&mut self, request: RequestId, due: Due) {
        self.line.retain(|waiting| *waiting != request);
        let waits = self.requests.get(&request).is_some_and(|asked| self.waits(asked));
        if let Some(asked) = self.requests.get_mut(&request) {
            asked.state = State::Due(due);
            if waits {
                self.measures.ended_waiting += 1;
                self.measures.waits += self.now.since(asked.since);
            }
        }
    }
}
