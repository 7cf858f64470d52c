//! What operators ask over the control socket: their requests become events, and
//! the core's snapshot becomes their report.

use hornpipe_proto::control::{ControlRequest, ControlResponse, ReloadOutcome, ReloadReport, Scale};

use super::control::Operator;
use super::{Router, clock, metrics, report};
use crate::core::{Event, Generation, Slot, Stop, Timestamp};

impl Router {
    pub(super) fn serve_operators(&mut self) {
        self.sockets.control.turn();
        while let Some((operator, request)) = self.sockets.control.next_request() {
            if let Some(response) = self.obey(operator, &request) {
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
}
