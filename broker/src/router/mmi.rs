//! RFC 8, Majordomo's management interface: what a client may ask the broker itself, under
//! services whose names begin with `mmi.`. Nothing can be changed by it.

use hornpipe_proto::dialect::majordomo::MMI_PREFIX;
use serde::Serialize;

use super::Router;
use super::clients::Question;
use super::frame::{Body, Frame};
use crate::core::{DEFAULT_SERVICE, Services, Spent};

/// What `mmi.status` tells of a service.
#[derive(Debug, Serialize)]
struct ServiceStatus<'a> {
    service: &'a str,
    idle: usize,
    busy: usize,
    waiting: usize,
}

impl Router {
    pub(super) fn answer_mmi(&mut self) {
        for question in self.clients.take_questions() {
            let at_once = (0, Spent::default());
            let text = answer(&self.core, &question);
            let body = Body::to_pass([Frame::Own(text.into_bytes().into())].into_iter());
            self.clients.answer(&mut self.sockets.frontend, question.request, at_once, &body);
        }
    }
}

fn answer(services: &Services<Body>, question: &Question) -> String {
    let about = std::str::from_utf8(&question.about).unwrap_or_default();
    match question.service.strip_prefix(MMI_PREFIX).unwrap_or_default() {
        "service" => code(services.has_workers(about)).into(),
        "services" => {
            let named = services.names().filter(|name| services.has_workers(name));
            json(&named.collect::<Vec<_>>())
        }
        "status" => {
            let service = if about.is_empty() { DEFAULT_SERVICE } else { about };
            let Some(core) = services.find(service).and_then(|id| services.core(id)) else {
                return code(false).into();
            };
            let (idle, busy) = core.occupations();
            json(&ServiceStatus { service, idle, busy, waiting: core.backlog_len() })
        }
        _ => "501".into(),
    }
}

fn code(there_is: bool) -> &'static str {
    if there_is { "200" } else { "404" }
}

fn json(what: &impl Serialize) -> String {
    serde_json::to_string(what).unwrap_or_else(|_cannot_be_written| "500".into())
}
