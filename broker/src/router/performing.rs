//! What the core orders, done: bytes to clients and workers, orders to the parent, log lines.

use super::agent::Failure;
use super::clients::Refusal;
use super::frame::Body;
use super::inquiries::{self, Subject};
use super::{Router, access, clock, hooks, memory, notes, recycles, report};
use crate::core::{Action, Assignment, Note, Place, RequestId, ServiceId};
use crate::link::{ToParent, WorkerSignal};

impl Router {
    pub(super) fn perform(&mut self, service: ServiceId, action: Action<Body>) {
        match action {
            Action::Part { request, attempt, body } => self.pass_part((request, attempt), &body),
            Action::Answer { request, attempt, spent, parts, body } => {
                self.give_answer(request, (attempt, spent), &Body::joined(&parts, body));
            }
            Action::Refuse { request, status, attempt, spent, retry_after, message } => {
                if let Some(agent) = &mut self.agent {
                    agent.fail(request, Failure { status, message: message.clone() }, &self.core);
                }
                if !self.refuse_operator(request, status, &message) {
                    let refusal = Refusal { status, attempt, spent, retry_after, message };
                    self.clients.refuse(&mut self.sockets.frontend, request, refusal);
                }
            }
            Action::Forget { request } => {
                self.clients.forget(request);
                if let Some(agent) = &mut self.agent {
                    agent.forget(request);
                }
            }
            Action::Assign(assignment) => self.assign(service, &assignment),
            Action::Probe(probe) => {
                let body = self.setup.service(service).and_then(|service| service.probe.clone());
                let body = body.unwrap_or_default();
                let undelivered = self.workers.probe(&mut self.sockets, &probe, body);
                self.pending.extend(undelivered);
            }
            Action::Withdraw { worker } => {
                // Before all else: until it is heard, the core does not know what it has.
                if let Some(event) = self.workers.withdraw(worker) {
                    self.pending.push_front(event);
                }
            }
            Action::Cancel { worker, token } => self.workers.cancel(&mut self.sockets, worker, token),
            Action::Allow { worker, token, parts } => {
                self.workers.allow(&mut self.sockets, (worker, token), parts);
            }
            Action::Dismiss { worker } => self.workers.dismiss(&mut self.sockets, worker),
            Action::Disown { worker } => self.workers.part(worker),
            Action::Capacity { worker, requests } => {
                let slot = self.workers.slot_of(worker);
                if let Some(agent) = &mut self.agent {
                    agent.set_capacity(worker, (service, slot), requests);
                }
            }
            Action::Spawn { place, generation } => self.parent.spawn(place, generation, service),
            Action::Terminate { place } => self.parent.signal(place, WorkerSignal::Term),
            Action::Kill { place } => self.parent.signal(place, WorkerSignal::Kill),
            Action::Measure { place } => {
                if let Some(pid) = self.core.pid_of(place) {
                    self.memory_watch.measure(place, pid);
                }
            }
            Action::Remember(memory) => {
                let name = self.label(service).map(ToOwned::to_owned);
                self.parent.send(ToParent::Remember { name, blob: memory::encode(&memory) });
            }
            Action::Journal { key, entry } => self.journal.write(self.core.name(service), &key, &entry),
            Action::Note(note) => self.take_note(service, &note),
            Action::Stopping { within } => {
                let within_ms = within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
                self.parent.send(ToParent::Stopping { within_ms });
                if let Some(agent) = &mut self.agent {
                    agent.close();
                }
            }
            Action::Finished(finish) => self.finish(service, &finish),
        }
    }

    fn assign(&mut self, service: ServiceId, assignment: &Assignment<Body>) {
        let (request, token) = (assignment.request, assignment.token);
        let of_a_broker = self.agent.as_mut().and_then(|agent| agent.assigned(request, token, clock::now()));
        let own = self.clients.name_of(request);
        let id = own.unwrap_or_else(|| report::number_of((self.life, request), &mut self.name));
        let service = (service != ServiceId::DEFAULT).then(|| self.core.name(service));
        let talk = (&mut self.sockets, &self.crew);
        let undelivered = self.workers.assign(talk, assignment, (id, service), of_a_broker.as_ref());
        self.pending.extend(undelivered);
    }

    fn take_note(&mut self, service: ServiceId, note: &Note) {
        self.pulse.note(service, note);
        let mourned = notes::mourns(note);
        let last_words = mourned.map(|place| self.parent.take_last_words(place.slot)).unwrap_or_default();
        match note {
            Note::RequestTimedOut { request, place, attempt, after, size } => {
                let name = self.name(*request);
                let subject = Subject::Request { name, attempt: *attempt, after: *after, size: *size };
                match place {
                    Some(place) => self.inquire(*place, subject),
                    None => inquiries::tell_briefly(None, &subject),
                }
            }
            Note::WorkerStuck { place, why } => self.inquire(*place, Subject::Worker { why }),
            // One for each request: nothing else is to be done about it.
            Note::RequestEnded(ended) => return access::log(ended, self.core.name(service), self.life),
            other => notes::log(other, self.label(service), (&self.core, self.life), &last_words),
        }
        if let Some(order) = hooks::order(note, self.core.name(service), &self.core) {
            self.parent.send(order);
        }
        if let Some(agent) = &mut self.agent {
            agent.hear(note);
        }
        if *note == Note::Ready {
            self.parent.send(ToParent::Ready);
        }
        self.tell_watchers_of(service, note);
        if let Some((place, reason)) = recycles::end(note) {
            self.tell_of_recycled(place, reason);
        }
        self.follow_reload(service, note, last_words);
    }

    fn inquire(&mut self, place: Place, subject: Subject) {
        let pid = self.core.pid_of(place);
        self.parent.inquire((place, pid), subject, clock::now());
    }

    /// The request's name in logs and in the worker's hands.
    pub(super) fn name(&self, request: RequestId) -> String {
        report::name_of(self.life, request, self.clients.name_of(request))
    }
}
