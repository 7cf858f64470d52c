//! What operators ask over the control socket: their requests become events, and
//! the core's snapshot becomes their report.

use hornpipe_proto::control::{
    ControlRequest, ControlResponse, PoisonRequest, ReloadOutcome, ReloadReport, Scale,
};

use super::control::{Operator, Rights, Wish};
use super::{Router, clock, metrics, report};
use crate::core::{Event, Generation, PauseMode, Slot, Stop, Timestamp};

impl Router {
    pub(super) fn serve_operators(&mut self) {
        self.sockets.control.turn();
        while let Some(Wish { operator, rights, request }) = self.sockets.control.next_request() {
            let response = match objection(rights, &request, &self.setup.operators) {
                Some(message) => Some(ControlResponse::Refused { message }),
                None => self.obey(operator, &request),
            };
            if let Some(response) = response {
                self.sockets.control.respond(operator, &response);
            }
        }
    }

    /// `None` if the response is known only later.
    fn obey(&mut self, operator: Operator, request: &ControlRequest) -> Option<ControlResponse> {
        let now = clock::now();
        Some(match request {
            ControlRequest::Status => {
                let around = self.surroundings(now);
                ControlResponse::Status(Box::new(report::report(self.core.snapshot(now), around)))
            }
            ControlRequest::Metrics => {
                let known = (self.core.unready(), self.reloads.last());
                let (snapshot, around) = (self.core.snapshot(now), self.surroundings(now));
                let metrics = metrics::metrics(snapshot, around, &self.setup.settings, known);
                ControlResponse::Metrics(Box::new(metrics))
            }
            ControlRequest::Slot { slot } => match self.core.slot_snapshot(Slot(*slot), now) {
                Some(snapshot) => {
                    ControlResponse::Slot(Box::new(report::slot(*slot, snapshot, self.life, now)))
                }
                None => ControlResponse::Refused { message: format!("there is no slot {slot}") },
            },
            ControlRequest::Poison(request) => return self.obey_about_poison(operator, *request),
            ControlRequest::Check => {
                let unready = self.core.unready();
                let reason = unready.map_or_else(|| "ready".into(), |why| why.to_string());
                ControlResponse::Check { ready: unready.is_none(), reason }
            }
            ControlRequest::Scale(scale) => {
                let from = self.core.target();
                self.pending.push_back(match scale {
                    Scale::To(target) => Event::ScaleTo { target: *target },
                    Scale::By(change) => Event::ScaleBy { change: *change },
                });
                self.settle();
                ControlResponse::Scaled { from, to: self.core.target() }
            }
            ControlRequest::Reload { surge, wait } => return self.obey_reload(operator, *surge, *wait),
            ControlRequest::Recycle { slot, wait } => return self.obey_recycle(operator, Slot(*slot), *wait),
            ControlRequest::Pause { refuse } => {
                self.obey_pause(if *refuse { PauseMode::Refuse } else { PauseMode::Hold })
            }
            ControlRequest::Resume => self.obey_resume(),
            ControlRequest::Events => return self.subscribe(operator),
            ControlRequest::Upgrade => return self.ask_for_upgrade(operator),
            ControlRequest::Stop { now } => {
                self.pending.push_back(Event::Stop(if *now { Stop::Now } else { Stop::Drain }));
                self.settle();
                ControlResponse::Stopping
            }
        })
    }

    fn surroundings(&self, now: Timestamp) -> report::Surroundings {
        report::Surroundings {
            frontend: self.setup.frontend.clone(),
            backend: self.setup.backend.clone(),
            parent_pid: self.parent_pid,
            life: self.life,
            uptime: now.0.saturating_sub(self.parent_started),
            undelivered: self.clients.undelivered(),
        }
    }

    fn obey_reload(&mut self, operator: Operator, surge: Option<u32>, wait: bool) -> Option<ControlResponse> {
        let Generation(before) = self.core.last_generation();
        let generation = before + 1;
        if wait {
            // Before it begins: that of an empty pool ends at once.
            self.reloads.wait(operator, generation);
        }
        self.pending.push_back(Event::Reload { surge: surge.map(|surge| surge.max(1)) });
        self.settle();
        if self.core.last_generation() == Generation(before) {
            self.reloads.forget(operator);
            return Some(ControlResponse::Refused { message: "the broker is stopping".into() });
        }
        let outcome = ReloadOutcome::Started;
        (!wait).then_some(ControlResponse::Reload(ReloadReport { generation, outcome }))
    }

    fn obey_pause(&mut self, mode: PauseMode) -> ControlResponse {
        if !self.core.may_be_paused() {
            return self.too_late();
        }
        self.pending.push_back(Event::Pause { mode });
        self.settle();
        let (waiting, in_flight) = (self.core.backlog_len() as u64, self.core.in_flight_len() as u64);
        ControlResponse::Paused { waiting, in_flight }
    }

    fn obey_resume(&mut self) -> ControlResponse {
        if !self.core.may_be_paused() {
            return self.too_late();
        }
        let waiting = self.core.backlog_len() as u64;
        let pause = self.core.pause();
        self.pending.push_back(Event::Resume);
        self.settle();
        let after_ms = pause.map(|pause| report::milliseconds(clock::now().since(pause.since)));
        ControlResponse::Resumed { waiting, after_ms }
    }

    fn too_late(&self) -> ControlResponse {
        ControlResponse::Refused { message: format!("the broker is {}", self.core.phase_word()) }
    }
}

/// Why whoever has these rights does not get this, if so.
fn objection(rights: Rights, request: &ControlRequest, operators: &[u32]) -> Option<String> {
    match (rights, order(request)) {
        (Rights::Order, _) | (Rights::Read, None) => None,
        (Rights::Read, Some(order)) => Some(format!(
            "this socket answers questions, and {order} is for operators: use the broker's control socket"
        )),
        (Rights::None { user }, _) => Some(format!(
            "user {user} is no operator of this broker: ask as {}, or on the socket of --control-read",
            in_words(operators)
        )),
    }
}

/// What is asked for, if it changes something or shows what only operators may see.
fn order(request: &ControlRequest) -> Option<&'static str> {
    match request {
        ControlRequest::Status
        | ControlRequest::Check
        | ControlRequest::Slot { .. }
        | ControlRequest::Events
        | ControlRequest::Metrics
        | ControlRequest::Poison(PoisonRequest::List | PoisonRequest::Show { .. }) => None,
        ControlRequest::Scale(_) => Some("`scale`"),
        ControlRequest::Reload { .. } => Some("`reload`"),
        ControlRequest::Recycle { .. } => Some("`recycle`"),
        ControlRequest::Pause { .. } => Some("`pause`"),
        ControlRequest::Resume => Some("`resume`"),
        ControlRequest::Stop { .. } => Some("`stop`"),
        ControlRequest::Upgrade => Some("`upgrade`"),
        ControlRequest::Poison(PoisonRequest::Body { .. }) => Some("the body of a request"),
        ControlRequest::Poison(PoisonRequest::Retry { .. }) => Some("`poison retry`"),
        ControlRequest::Poison(PoisonRequest::Drop { .. } | PoisonRequest::DropAll) => Some("`poison drop`"),
    }
}

fn in_words(operators: &[u32]) -> String {
    let users: Vec<String> = operators.iter().map(|user| format!("user {user}")).collect();
    users.join(" or ")
}
