//! What operators ask over the control socket: their requests become events, and
//! the core's snapshot becomes their report.

use hornpipe_proto::control::{
    ControlRequest, ControlResponse, ReloadOutcome, ReloadReport, Scale, ServiceRequest,
};

use super::control::Operator;
use super::frame::Body;
use super::{Router, clock, report};
use crate::core::{Core, DEFAULT_SERVICE, Event, ServiceId, Slot, Stop};

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
                let around = report::Surroundings {
                    frontend: self.setup.frontend.clone(),
                    backend: self.setup.backend.clone(),
                    parent_pid: self.parent_pid,
                    life: self.life,
                    uptime: now.0.saturating_sub(self.parent_started),
                    undelivered: self.clients.undelivered(),
                    services_refused: self.core.services_refused(),
                };
                let services: Vec<_> = self.core.snapshots(now).collect();
                let report = report::report(self.core.snapshot(now), &services, around);
                ControlResponse::Status(Box::new(report))
            }
            ControlRequest::Slot { slot } => match self.core.slot_snapshot(Slot(*slot), now) {
                Some(snapshot) => {
                    ControlResponse::Slot(Box::new(report::slot(*slot, snapshot, self.life, now)))
                }
                None => ControlResponse::Refused { message: format!("there is no slot {slot}") },
            },
            ControlRequest::Poison(request) => return self.obey_about_poison(operator, *request, None),
            ControlRequest::Check => self.check(),
            ControlRequest::Scale(scale) => self.scale(ServiceId::DEFAULT, *scale),
            ControlRequest::Reload { surge, wait } => {
                let all = self.setup.services().map(|(service, _setup)| service).collect();
                return self.obey_reload(operator, all, (*surge, *wait));
            }
            ControlRequest::Service { name, request } => return self.obey_in(operator, name, request),
            ControlRequest::Upgrade => return self.ask_for_upgrade(operator),
            ControlRequest::Stop { now } => {
                self.pending.push_back(Event::Stop(if *now { Stop::Now } else { Stop::Drain }));
                self.settle();
                ControlResponse::Stopping
            }
        })
    }

    /// The same about one service.
    fn obey_in(
        &mut self,
        operator: Operator,
        name: &str,
        request: &ServiceRequest,
    ) -> Option<ControlResponse> {
        let Some(service) = self.core.find(name) else { return Some(self.no_service(name)) };
        Some(match request {
            ServiceRequest::Check => match self.core.core(service) {
                Some(core) => readiness(core),
                None => self.no_service(name),
            },
            ServiceRequest::Scale(_) | ServiceRequest::Reload { .. } if self.core.is_passing(service) => {
                let message = format!(
                    "service {name} has no workers here: those it has were started elsewhere, and opened it"
                );
                ControlResponse::Refused { message }
            }
            ServiceRequest::Scale(scale) => self.scale(service, *scale),
            ServiceRequest::Reload { surge, wait } => {
                return self.obey_reload(operator, vec![service], (*surge, *wait));
            }
            ServiceRequest::Poison(request) => {
                return self.obey_about_poison(operator, *request, Some(service));
            }
        })
    }

    fn no_service(&self, name: &str) -> ControlResponse {
        let name: String = name.chars().take(NAME_SHOWN).collect();
        let mut names: Vec<&str> = self.core.names().take(NAMES_SHOWN + 1).collect();
        if names.len() > NAMES_SHOWN {
            names.truncate(NAMES_SHOWN);
            names.push("...");
        }
        let message = format!("there is no service {name:?}; there are {}", names.join(", "));
        ControlResponse::Refused { message }
    }

    /// Whether all that were configured would serve.
    fn check(&self) -> ControlResponse {
        match self.core.first_unready() {
            Some((DEFAULT_SERVICE, core)) => readiness(core),
            Some((name, core)) => {
                ControlResponse::Check { ready: false, reason: format!("{name}: {}", core.phase().as_str()) }
            }
            None => ControlResponse::Check { ready: true, reason: "ready".into() },
        }
    }

    fn target(&self, service: ServiceId) -> u32 {
        self.core.core(service).map_or(0, Core::target)
    }

    fn scale(&mut self, service: ServiceId, scale: Scale) -> ControlResponse {
        let from = self.target(service);
        let event = match scale {
            Scale::To(target) => Event::ScaleTo { target },
            Scale::By(change) => Event::ScaleBy { change },
        };
        self.settle_in(service, event);
        ControlResponse::Scaled { from, to: self.target(service) }
    }

    /// The first of the services is the one that is told of.
    fn obey_reload(
        &mut self,
        operator: Operator,
        services: Vec<ServiceId>,
        (surge, wait): (Option<u32>, bool),
    ) -> Option<ControlResponse> {
        let last =
            |router: &Self, service| router.core.core(service).map_or(0, |core| core.last_generation().0);
        let first = services.first().copied().unwrap_or_default();
        let before = last(self, first);
        if wait {
            // Before it begins: that of an empty pool ends at once.
            let generations = services.iter().map(|service| (*service, last(self, *service) + 1));
            self.reloads.wait(operator, generations.collect());
        }
        let surge = surge.map(|surge| surge.max(1));
        for service in services {
            self.settle_in(service, Event::Reload { surge });
        }
        if last(self, first) == before {
            self.reloads.forget(operator);
            return Some(ControlResponse::Refused { message: "the broker is stopping".into() });
        }
        let (outcome, service) = (ReloadOutcome::Started, self.label(first).map(ToOwned::to_owned));
        (!wait).then_some(ControlResponse::Reload(ReloadReport { generation: before + 1, outcome, service }))
    }
}

/// Letters of a name, and names, that an answer has room for.
const NAME_SHOWN: usize = 64;
const NAMES_SHOWN: usize = 20;

fn readiness(core: &Core<Body>) -> ControlResponse {
    let ready = core.is_ready();
    let reason = if ready { "ready" } else { core.phase().as_str() };
    ControlResponse::Check { ready, reason: reason.into() }
}
