//! Clients: their messages become events, and answers find their way back.

use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::client::{
    ClientMessage, ClientMessageError, ReplyMeta, RequestMeta, Speech, plain_error,
};
use hornpipe_proto::dialect::majordomo::{Edition, MMI_PREFIX, Part};
use hornpipe_proto::{MAGIC, Status};
use rustc_hash::FxHashMap;

use super::connections::{Connections, Sender};
use super::frame::{Body, Frame, Passing, total_size};
use super::outbox::{Matter, Outbox};
use super::router_socket::RouterSocket;
use super::sockets::{Received, RoutingId, What};
use crate::config::{External, PlainErrors};
use crate::core::{ClientId, Event, Request, RequestId, Spent, Timestamp, Wants, give_back};

#[derive(Debug)]
pub(super) struct Clients {
    connections: Connections<Client>,
    /// Where the answer of each open request goes.
    origins: FxHashMap<RequestId, Origin>,
    plain_errors: PlainErrors,
    external: External,
    next_client: u64,
    next_request: u64,
    outbox: Outbox,
    /// Questions to the broker itself.
    questions: Vec<Question>,
}

/// A client of Majordomo asks what the broker knows.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: RequestId,
    pub(super) service: String,
    pub(super) about: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Client {
    id: ClientId,
    /// A REQ socket has one request open: a second one gives up the first.
    only_one: bool,
    last_request: Option<RequestId>,
}

/// Kept for each request that waits: what a plain request has not, is elsewhere.
#[derive(Debug)]
struct Origin {
    routing_id: RoutingId,
    /// `None` if it is a plain request that came straight from its client.
    manner: Option<Box<Manner>>,
}

/// How a request was put.
#[derive(Debug)]
struct Manner {
    /// The envelope before its empty frame.
    envelope: Box<[Frame]>,
    speech: OriginSpeech,
}

impl Origin {
    fn new(routing_id: RoutingId, envelope: Box<[Frame]>, speech: OriginSpeech) -> Self {
        let plain = envelope.is_empty() && matches!(speech, OriginSpeech::Plain);
        Self { routing_id, manner: (!plain).then(|| Box::new(Manner { envelope, speech })) }
    }

    fn speech(&self) -> &OriginSpeech {
        self.manner.as_ref().map_or(&OriginSpeech::Plain, |manner| &manner.speech)
    }

    /// All that stands before the body of a message to it.
    fn head<'a>(&'a self, meta: Option<&'a [u8]>) -> Vec<&'a [u8]> {
        let envelope = self.manner.iter().flat_map(|manner| &manner.envelope).map(Frame::as_ref);
        let mut head: Vec<&[u8]> = envelope.collect();
        let speech = self.speech();
        if !matches!(speech, OriginSpeech::Bare | OriginSpeech::Majordomo { edition: Edition::V2, .. }) {
            head.push(&[]);
        }
        if let OriginSpeech::Majordomo { edition, service } = speech {
            head.extend(edition.reply_head(service, Part::Final));
        }
        if let Some(meta) = meta {
            head.extend([MAGIC, meta]);
        }
        head
    }
}

#[derive(Debug)]
enum OriginSpeech {
    Plain,
    Native {
        id: Arc<str>,
    },
    /// It sent no empty frame and gets none.
    Bare,
    Majordomo {
        edition: Edition,
        service: Arc<str>,
    },
}

/// An error as the core words it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: Status,
    pub(super) attempt: u32,
    pub(super) spent: Spent,
    pub(super) retry_after: Option<Duration>,
    pub(super) message: String,
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Clients {
    pub(super) fn set_plain_errors(&mut self, plain_errors: PlainErrors) {
        self.plain_errors = plain_errors;
    }

    pub(super) fn new(plain_errors: PlainErrors, external: External) -> Self {
        Self {
            connections: Connections::default(),
            origins: FxHashMap::default(),
            plain_errors,
            external,
            next_client: 0,
            next_request: 0,
            outbox: Outbox::default(),
            questions: Vec::new(),
        }
    }

    /// The events that a client's message stands for.
    pub(super) fn read(
        &mut self,
        received: &Received,
        frames: &mut Vec<Frame>,
        events: &mut Vec<Event<Body>>,
    ) {
        if received.what == What::Farewell {
            self.outbox.forget(&received.routing_id);
            if let Some(client) = self.connections.remove(&received.routing_id) {
                events.push(Event::ClientLeft { client: client.id });
            }
            return;
        }
        let message = match ClientMessage::decode(frames) {
            Ok(message) => message,
            Err(ClientMessageError::NoDelimiter) if !frames.is_empty() => {
                let request = self.open(received, (Box::default(), OriginSpeech::Bare), events).0;
                let why = "no empty frame before the body: use a REQ socket, or send one".into();
                events.push(Event::UnreadableRequest { request, why });
                return;
            }
            Err(
                ClientMessageError::NoBody
                | ClientMessageError::DeepEnvelope
                | ClientMessageError::NoDelimiter,
            ) => {
                events.push(Event::IgnoredClientMessage);
                return;
            }
        };
        let head_len = message.head_len().min(frames.len());
        let size = total_size(frames.get(head_len..).unwrap_or_default());
        let body = Body::to_keep(frames.drain(head_len..));
        frames.truncate(message.envelope_len.saturating_sub(1));
        let envelope = frames.drain(..).collect();
        let (speech, meta) = match message.speech {
            Speech::Plain => (OriginSpeech::Plain, Ok(RequestMeta::default())),
            Speech::Native(Ok(meta)) => (OriginSpeech::Native { id: meta.id.as_str().into() }, Ok(meta)),
            Speech::Native(Err(error)) => (OriginSpeech::Native { id: "".into() }, Err(error.to_string())),
            Speech::Majordomo(request) => {
                let service = request.service.as_deref().unwrap_or_default().into();
                let speech = OriginSpeech::Majordomo { edition: request.edition, service };
                let named = |service| RequestMeta { service: Some(service), ..RequestMeta::default() };
                (speech, request.service.map(named).map_err(|error| error.to_string()))
            }
        };
        if let Ok(meta) = &meta
            && meta.cancel
        {
            self.take_back(received, meta, events);
            return;
        }
        let name = match &speech {
            OriginSpeech::Native { id } if !id.is_empty() => Some(Arc::clone(id)),
            OriginSpeech::Native { .. }
            | OriginSpeech::Plain
            | OriginSpeech::Bare
            | OriginSpeech::Majordomo { .. } => None,
        };
        let sought = match (&speech, &meta) {
            (OriginSpeech::Majordomo { service, .. }, Ok(_)) => Some(service.to_string()),
            _ => None,
        };
        let (request, client) = self.open(received, (envelope, speech), events);
        if let Some(service) = sought {
            if service.starts_with(MMI_PREFIX) {
                let about = body.frames().first().map(|frame| frame.as_ref().to_vec()).unwrap_or_default();
                self.questions.push(Question { request, service, about });
                return;
            }
            // Where nobody may bring a service, nobody waits for one.
            if self.external != External::Nobody {
                events.push(Event::Sought { service });
            }
        }
        events.push(match meta {
            Err(why) => Event::UnreadableRequest { request, why },
            Ok(_meta) if received.what == What::Overlong => {
                Event::UnreadableRequest { request, why: "too many frames".into() }
            }
            Ok(meta) => Event::Request(Request {
                request,
                client,
                name,
                service: meta.service,
                timeout: meta.timeout_ms.map(Duration::from_millis),
                attempts: meta.attempts,
                wants: Wants {
                    key: meta.key.as_deref().map(Into::into),
                    priority: meta.priority,
                    exclusive: meta.exclusive.map(Into::into),
                    affinity: meta.affinity.map(Into::into),
                    strict: meta.strict,
                    parts: meta.more,
                    worker: None,
                },
                size,
                body: body.with(Passing { key: meta.key, trace: meta.trace, headers: meta.headers }),
            }),
        });
    }

    /// A client does not want what it has asked before. That is no request, and has no answer.
    fn take_back(&mut self, received: &Received, meta: &RequestMeta, events: &mut Vec<Event<Body>>) {
        if let Some(key) = &meta.key {
            let (service, key) = (meta.service.clone(), key.as_str().into());
            events.push(Event::CancelKey { service, key });
            return;
        }
        events.push(match self.connections.sender(received) {
            Sender::Known(client) if !meta.id.is_empty() => {
                Event::Cancel { client: client.id, name: meta.id.as_str().into() }
            }
            Sender::Known(_) | Sender::New | Sender::Replaced(_) => Event::IgnoredClientMessage,
        });
    }

    /// Notes where the answer goes, and what this request puts an end to.
    fn open(
        &mut self,
        received: &Received,
        (envelope, speech): (Box<[Frame]>, OriginSpeech),
        events: &mut Vec<Event<Body>>,
    ) -> (RequestId, ClientId) {
        let request = self.number_request();
        let id = &received.routing_id;
        let client = match self.connections.sender(received) {
            Sender::Known(client) => {
                let open = client.last_request.is_some_and(|last| self.origins.contains_key(&last));
                if client.only_one && open {
                    events.push(Event::ClientLeft { client: client.id });
                }
                client
            }
            Sender::New => self.greet(received),
            Sender::Replaced(earlier) => {
                self.outbox.forget(id);
                events.push(Event::ClientLeft { client: earlier.id });
                self.greet(received)
            }
        };
        if let Some(client) = self.connections.value_mut(id) {
            client.last_request = Some(request);
        }
        self.origins.insert(request, Origin::new(id.clone(), envelope, speech));
        (request, client.id)
    }

    /// The number of a request that no request of a client has.
    pub(super) fn number_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// The number of a client that has no connection here: a broker, to the agent of a crew.
    pub(super) fn number_client(&mut self) -> ClientId {
        self.next_client += 1;
        ClientId(self.next_client)
    }

    fn greet(&mut self, received: &Received) -> Client {
        self.next_client += 1;
        let client = Client { id: ClientId(self.next_client), only_one: received.is_req, last_request: None };
        self.connections.insert(received, client);
        client
    }

    /// The client's own name for a request, if it gave one.
    pub(super) fn name_of(&self, request: RequestId) -> Option<&str> {
        match self.origins.get(&request)?.speech() {
            OriginSpeech::Native { id } if !id.is_empty() => Some(id),
            OriginSpeech::Native { .. }
            | OriginSpeech::Plain
            | OriginSpeech::Bare
            | OriginSpeech::Majordomo { .. } => None,
        }
    }

    /// What has been asked of the broker itself, to be answered at once.
    pub(super) fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// What has become of parts.
    pub(super) fn take_news(&mut self) -> Vec<Event<Body>> {
        self.outbox.take_news()
    }

    /// A part of a reply.
    pub(super) fn part(
        &mut self,
        socket: &mut RouterSocket,
        (request, attempt): (RequestId, u32),
        body: &Body,
    ) {
        let Some(origin) = self.origins.get(&request) else { return };
        let OriginSpeech::Native { id } = origin.speech() else { return };
        let meta = ReplyMeta { id: id.as_ref().to_owned(), attempt, more: true, ..ReplyMeta::default() };
        let meta = meta.encode();
        let head = origin.head(Some(&meta));
        self.outbox.send(socket, &origin.routing_id, (&head, body.frames()), Matter::PartOf(request));
    }

    pub(super) fn answer(
        &mut self,
        socket: &mut RouterSocket,
        request: RequestId,
        (attempt, spent): (u32, Spent),
        body: &Body,
    ) {
        let Some(origin) = self.close(request) else { return };
        let meta = match origin.speech() {
            OriginSpeech::Plain | OriginSpeech::Bare | OriginSpeech::Majordomo { .. } => None,
            OriginSpeech::Native { id } => {
                let id = id.as_ref().to_owned();
                let (wait_us, run_us) = (Some(microseconds(spent.wait)), Some(microseconds(spent.run)));
                Some(ReplyMeta { id, attempt, wait_us, run_us, ..ReplyMeta::default() }.encode())
            }
        };
        self.send(socket, &origin, meta.as_deref(), body.frames());
    }

    pub(super) fn refuse(&mut self, socket: &mut RouterSocket, request: RequestId, refusal: Refusal) {
        let Some(origin) = self.close(request) else { return };
        let Refusal { status, attempt, spent, retry_after, message } = refusal;
        if let OriginSpeech::Native { id } = origin.speech() {
            let (wait_us, run_us) = if attempt == 0 && spent.wait.is_zero() {
                // Told at once: nothing has been spent.
                (None, None)
            } else {
                (Some(microseconds(spent.wait)), Some(microseconds(spent.run)))
            };
            let retry_after_ms = retry_after.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            let (id, message) = (id.as_ref().to_owned(), Some(message));
            let meta =
                ReplyMeta { id, status, message, attempt, more: false, wait_us, run_us, retry_after_ms };
            self.send(socket, &origin, Some(&meta.encode()), &[]);
        } else if self.plain_errors == PlainErrors::Text {
            let text = Frame::Own(plain_error(status, &message).into_bytes().into());
            self.send(socket, &origin, None, &[text]);
        }
    }

    pub(super) fn forget(&mut self, request: RequestId) {
        self.close(request);
    }

    fn close(&mut self, request: RequestId) -> Option<Origin> {
        let origin = self.origins.remove(&request)?;
        give_back(&mut self.origins);
        Some(origin)
    }

    fn send(&mut self, socket: &mut RouterSocket, origin: &Origin, meta: Option<&[u8]>, body: &[Frame]) {
        self.outbox.send(socket, &origin.routing_id, (&origin.head(meta), body), Matter::Answer);
    }

    /// When an answer that had no room is tried again.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.outbox.next_deadline()
    }

    pub(super) fn retry(&mut self, socket: &mut RouterSocket, now: Timestamp) {
        self.outbox.retry(socket, now);
    }

    pub(super) fn undelivered(&self) -> u64 {
        self.outbox.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_answer_goes_takes_no_more_room_than_it_must() {
        assert_eq!(size_of::<Origin>(), 24);
    }
}
