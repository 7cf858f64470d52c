//! Replies, whole or in parts: to the client as far as it has room, and word of that to the core.

use super::Router;
use super::frame::Body;
use crate::core::{RequestId, Spent, Timestamp};

impl Router {
    pub(super) fn pass_part(&mut self, part: (RequestId, u32), body: &Body) {
        if let Some(agent) = &mut self.agent {
            return agent.pass_part(part.0, body);
        }
        self.clients.part(&mut self.sockets.frontend, part, body);
        self.pending.extend(self.clients.take_news());
    }

    /// The end of a reply, to whoever has asked.
    pub(super) fn give_answer(&mut self, request: RequestId, told: (u32, Spent), body: &Body) {
        if let Some(agent) = &mut self.agent {
            agent.answer(request, body);
        }
        if !self.answer_operator(request, body) {
            self.clients.answer(&mut self.sockets.frontend, request, told, body);
        }
    }

    /// Clients that had no room may have some.
    pub(super) fn retry_clients(&mut self, now: Timestamp) {
        self.clients.retry(&mut self.sockets.frontend, now);
        self.pending.extend(self.clients.take_news());
        self.settle();
    }
}
