//! What operators ask over the control socket: their requests become events, and
//! the core's snapshot becomes their report.

use hornpipe_proto::control::{
    ControlRequest, ControlResponse, LastReload, MetricsReport, PoisonRequest, ReloadOutcome, ReloadReport,
    Scale, ServiceRequest,
};

use super::control::{Operator, Rights, Wish};
use super::frame::Body;
use super::{Router, clock, metrics, report};
use crate::core::{
    Core, DEFAULT_SERVICE, Event, PauseMode, ServiceId, Slot, Stop, Timestamp, Unready, WorkerSnapshot,
};

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
                let services: Vec<_> = self.core.snapshots(now).collect();
                let mut total = self.core.snapshot(now);
                self.stop_clocks(&mut total.workers);
                let report = report::report(total, &services, around);
                ControlResponse::Status(Box::new(report))
            }
            ControlRequest::Metrics => ControlResponse::Metrics(Box::new(self.metrics(now))),
            ControlRequest::Slot { slot } => match self.core.slot_snapshot(Slot(*slot), now) {
                Some(mut snapshot) => {
                    self.stop_clocks(&mut snapshot.workers);
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
            ControlRequest::Recycle { slot, wait } => return self.obey_recycle(operator, Slot(*slot), *wait),
            ControlRequest::Pause { refuse } => {
                self.obey_pause(if *refuse { PauseMode::Refuse } else { PauseMode::Hold })
            }
            ControlRequest::Resume => self.obey_resume(),
            ControlRequest::Events => return self.subscribe(operator),
            ControlRequest::Service { name, request } => return self.obey_in(operator, name, request),
            ControlRequest::Upgrade => return self.ask_for_upgrade(operator),
            ControlRequest::Stop { now } => {
                self.pending.push_back(Event::Stop(if *now { Stop::Now } else { Stop::Drain }));
                self.settle();
                ControlResponse::Stopping
            }
        })
    }

    /// Who has not yet begun the request that it was sent is in it for no time.
    fn stop_clocks(&self, workers: &mut [WorkerSnapshot]) {
        for worker in workers {
            let has_begun = |(id, ordinal)| self.workers.has_begun(id, ordinal);
            if worker.present.and_then(has_begun) == Some(false) {
                worker.processing = None;
            }
        }
    }

    fn surroundings(&self, now: Timestamp) -> report::Surroundings {
        report::Surroundings {
            frontend: self.setup.frontend.clone(),
            backend: self.setup.backend.clone(),
            parent_pid: self.parent_pid,
            life: self.life,
            uptime: now.since_start().saturating_sub(self.parent_started),
            undelivered: self.clients.undelivered(),
            services_refused: self.core.services_refused(),
            brokers: self.agent.as_ref().map(|agent| agent.report(now)).unwrap_or_default(),
        }
    }

    fn metrics(&self, now: Timestamp) -> MetricsReport {
        let of_one = |(id, service, snapshot)| metrics::OfService {
            service,
            snapshot,
            // One that workers have brought has the limits of the default one.
            settings: &self.setup.service(id).unwrap_or(&self.setup.default).settings,
            last_reload: self.reloads.last(id),
        };
        // Names that clients ask for in vain are no labels.
        let snapshots = self.core.numbered_snapshots(now).filter(|(id, ..)| !self.core.is_awaited(*id));
        let services = snapshots.map(of_one).collect();
        let unready = self.unready();
        let config_read = self.parent.config_read.map(|read| LastReload {
            succeeded: read.succeeded,
            at_ms: report::milliseconds(
                clock::wall().saturating_sub(now.since_start().saturating_sub(read.at)),
            ),
        });
        let surroundings = self.surroundings(now);
        metrics::metrics(self.core.snapshot(now), services, surroundings, (unready, config_read))
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
        let unready = self.unready();
        let ready = unready.is_none();
        ControlResponse::Check { ready, reason: unready.unwrap_or_else(|| "ready".into()) }
    }

    /// Why a request would not be served at this moment, if it would not.
    fn unready(&self) -> Option<String> {
        let of_pools = self.core.first_unready().map(|(name, why)| unready_in_words(name, why));
        let alone = self.agent.as_ref().is_some_and(|agent| !agent.is_connected());
        of_pools.or_else(|| alone.then(|| "no broker can be reached".to_owned()))
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
        | ControlRequest::Metrics => None,
        ControlRequest::Poison(request) => order_about_poison(request),
        ControlRequest::Service { request, .. } => order_in_service(request),
        ControlRequest::Scale(_) => Some("`scale`"),
        ControlRequest::Reload { .. } => Some("`reload`"),
        ControlRequest::Recycle { .. } => Some("`recycle`"),
        ControlRequest::Pause { .. } => Some("`pause`"),
        ControlRequest::Resume => Some("`resume`"),
        ControlRequest::Stop { .. } => Some("`stop`"),
        ControlRequest::Upgrade => Some("`upgrade`"),
    }
}

fn order_in_service(request: &ServiceRequest) -> Option<&'static str> {
    match request {
        ServiceRequest::Check => None,
        ServiceRequest::Scale(_) => Some("`scale`"),
        ServiceRequest::Reload { .. } => Some("`reload`"),
        ServiceRequest::Poison(request) => order_about_poison(request),
    }
}

fn order_about_poison(request: &PoisonRequest) -> Option<&'static str> {
    match request {
        PoisonRequest::List | PoisonRequest::Show { .. } => None,
        PoisonRequest::Body { .. } => Some("the body of a request"),
        PoisonRequest::Retry { .. } => Some("`poison retry`"),
        PoisonRequest::Drop { .. } | PoisonRequest::DropAll => Some("`poison drop`"),
    }
}

fn in_words(operators: &[u32]) -> String {
    let users: Vec<String> = operators.iter().map(|user| format!("user {user}")).collect();
    users.join(" or ")
}

/// Letters of a name, and names, that an answer has room for.
const NAME_SHOWN: usize = 64;
const NAMES_SHOWN: usize = 20;

fn readiness(core: &Core<Body>) -> ControlResponse {
    let unready = core.unready();
    let reason = unready.map_or_else(|| "ready".into(), |why| why.to_string());
    ControlResponse::Check { ready: unready.is_none(), reason }
}

fn unready_in_words(name: &str, why: Unready) -> String {
    match name {
        DEFAULT_SERVICE => why.to_string(),
        name => format!("{name}: {why}"),
    }
}
