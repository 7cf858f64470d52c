//! Workers: their messages become events, and jobs and orders become frames.
//! The crew's socket and the backend differ only in who may speak there.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use hornpipe_proto::Token;
use hornpipe_proto::dialect::Dialect;
use hornpipe_proto::worker::{Announcement, Control, HEAD_LEN, JobMeta, State, WorkerMessage};

use super::Sockets;
use super::connections::{Connections, Sender};
use super::crew::{CrewList, Peer};
use super::ffi::SharedFrame;
use super::frame::{Body, Frame, total_size};
use super::sockets::{Door, Received, RouterSocket, Sent, What};
use crate::config::External;
use crate::core::{Assignment, Details, Event, Home, Place, Probe, Speech, WorkerId};

#[derive(Debug)]
pub(super) struct Workers {
    crew: Connections<WorkerId>,
    backend: Connections<WorkerId>,
    /// How to reach each.
    table: HashMap<WorkerId, Address>,
    external: External,
    next_worker: u64,
}

#[derive(Debug)]
struct Address {
    door: Door,
    routing_id: Rc<[u8]>,
    /// Its process, if that is ours.
    place: Option<Place>,
}

impl Workers {
    pub(super) fn new(external: External) -> Self {
        Self {
            crew: Connections::default(),
            backend: Connections::default(),
            table: HashMap::new(),
            external,
            next_worker: 0,
        }
    }

    /// Whether the sender has not been heard before, so that the crew list must be fresh.
    pub(super) fn is_new(&mut self, door: Door, id: &SharedFrame) -> bool {
        self.connections(door).key(id).is_none()
    }

    fn connections(&mut self, door: Door) -> &mut Connections<WorkerId> {
        match door {
            Door::Crew => &mut self.crew,
            Door::Backend | Door::Frontend => &mut self.backend,
        }
    }

    /// The events that a worker's message stands for.
    pub(super) fn read(
        &mut self,
        (door, received): (Door, &Received),
        frames: &mut Vec<Frame>,
        crew_list: &CrewList,
        events: &mut Vec<Event<Body>>,
    ) {
        let id = &received.routing_id;
        if received.what == What::Farewell {
            if let Some(worker) = self.connections(door).remove(id.as_ref()) {
                self.table.remove(&worker);
                events.push(Event::WorkerLeft { worker });
            }
            return;
        }
        let known = match self.connections(door).sender(id) {
            Sender::Known(worker) => Some(worker),
            Sender::New => None,
            Sender::Replaced(earlier) => {
                self.table.remove(&earlier);
                events.push(Event::WorkerLeft { worker: earlier });
                None
            }
        };
        let Some(worker) = known.or_else(|| self.greet(door, id, crew_list, events)) else { return };
        // A connecting DEALER with PROBE_ROUTER says nothing, in one empty frame.
        if frames.len() == 1 && frames.iter().all(|frame| frame.as_ref().is_empty()) {
            return;
        }
        events.push(match (received.what, WorkerMessage::decode(frames)) {
            (What::Overlong, _) | (_, Err(_)) => Event::Malformed { worker },
            (_, Ok(message)) => event(worker, message, frames),
        });
    }

    /// Finds out who a new peer is; `None` if it may not be a worker here.
    fn greet(
        &mut self,
        door: Door,
        id: &SharedFrame,
        crew_list: &CrewList,
        events: &mut Vec<Event<Body>>,
    ) -> Option<WorkerId> {
        let address = id.property(c"Peer-Address").unwrap_or_default();
        let peer = match door {
            Door::Crew => crew_list.peer(&address),
            Door::Backend | Door::Frontend => Peer::Stranger,
        };
        let home = match peer {
            Peer::Ours(place) => Home::Local(place),
            Peer::Stranger if door == Door::Backend && self.admits(&address) => Home::External,
            Peer::Stranger => {
                events.push(Event::Stranger);
                return None;
            }
            Peer::Departed => return None,
        };
        self.next_worker += 1;
        let worker = WorkerId(self.next_worker);
        let routing_id = self.connections(door).insert(id, worker);
        let place = match home {
            Home::Local(place) => Some(place),
            Home::External => None,
        };
        self.table.insert(worker, Address { door, routing_id, place });
        events.push(Event::Joined { worker, home });
        Some(worker)
    }

    fn admits(&self, address: &str) -> bool {
        match self.external {
            External::Anybody => true,
            External::Loopback => address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
            External::Nobody => false,
        }
    }

    /// Hands a job over; if that is not possible, the core must know.
    pub(super) fn assign(
        &mut self,
        (sockets, crew_list): (&mut Sockets, &CrewList),
        assignment: &Assignment<Body>,
        (name, service): (String, Option<String>),
    ) -> Option<Event<Body>> {
        let (worker, token) = (assignment.worker, assignment.token);
        let place = self.table.get(&worker).and_then(|address| address.place);
        if place.is_some_and(|place| crew_list.has_ended(place)) {
            return Some(Event::Undelivered { worker, token });
        }
        let meta = if assignment.detailed {
            let timeout_ms = assignment.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            let passing = assignment.body.passing();
            JobMeta {
                id: name,
                attempt: assignment.attempt,
                timeout_ms,
                service,
                key: passing.and_then(|passing| passing.key.clone()),
                trace: passing.and_then(|passing| passing.trace.clone()),
                headers: passing.map(|passing| passing.headers.clone()).unwrap_or_default(),
                window: None,
            }
            .encode()
        } else {
            Vec::new()
        };
        self.hand_over(sockets, (worker, token), &meta, assignment.body.frames())
    }

    /// The same for a job of the broker's own.
    pub(super) fn probe(
        &mut self,
        sockets: &mut Sockets,
        probe: &Probe,
        body: Vec<u8>,
    ) -> Option<Event<Body>> {
        let meta = if probe.detailed {
            let timeout_ms = Some(u64::try_from(probe.left.as_millis()).unwrap_or(u64::MAX));
            JobMeta { id: "probe".into(), attempt: 1, timeout_ms, ..JobMeta::default() }.encode()
        } else {
            Vec::new()
        };
        self.hand_over(sockets, (probe.worker, probe.token), &meta, &[Frame::Own(body.into())])
    }

    fn hand_over(
        &mut self,
        sockets: &mut Sockets,
        (worker, token): (WorkerId, Token),
        meta: &[u8],
        body: &[Frame],
    ) -> Option<Event<Body>> {
        match self.send(sockets, worker, &[b"", token.as_bytes(), meta], body) {
            Sent::Yes => None,
            Sent::Full | Sent::Gone => Some(Event::Undelivered { worker, token }),
        }
    }

    pub(super) fn cancel(&mut self, sockets: &mut Sockets, worker: WorkerId, token: Token) {
        self.order(sockets, worker, &Control::Cancel { token: token.as_str().into() });
    }

    pub(super) fn dismiss(&mut self, sockets: &mut Sockets, worker: WorkerId) {
        self.order(sockets, worker, &Control::Stop);
    }

    /// An order that does not arrive is followed by a deadline of the core.
    fn order(&mut self, sockets: &mut Sockets, worker: WorkerId, control: &Control) {
        if self.send(sockets, worker, &[b"", b"", &control.encode()], &[]) != Sent::Yes {
            tracing::debug!(worker = worker.0, ?control, "order not delivered");
        }
    }

    fn send(&mut self, sockets: &mut Sockets, worker: WorkerId, head: &[&[u8]], body: &[Frame]) -> Sent {
        let Some(address) = self.table.get(&worker) else { return Sent::Gone };
        let socket: &mut RouterSocket = match address.door {
            Door::Crew => &mut sockets.crew,
            Door::Backend | Door::Frontend => &mut sockets.backend,
        };
        socket.send(&address.routing_id, head, body.iter())
    }
}

fn event(worker: WorkerId, message: WorkerMessage, frames: &mut Vec<Frame>) -> Event<Body> {
    match message {
        WorkerMessage::Hello(announcement) => Event::Hello { worker, details: details(announcement).0 },
        WorkerMessage::StrayReply => Event::StrayReply { worker },
        WorkerMessage::Reply { token, meta } => {
            let head_len = HEAD_LEN.min(frames.len());
            let size = total_size(frames.get(head_len..).unwrap_or_default());
            let body = Body::to_pass(frames.drain(head_len..));
            Event::Reply { worker, token, status: meta.status, message: meta.message, size, body }
        }
        WorkerMessage::State { state, announcement, dialect } => {
            let (speech, reason) = match (announcement, dialect) {
                (Some(announcement), _) => {
                    let (details, reason) = details(announcement);
                    (Speech::Native(details), reason)
                }
                (None, Dialect::Hornpipe) => (Speech::Plain, None),
                (None, Dialect::SimplePirate) => (Speech::PlainReadyByReply, None),
            };
            match state {
                State::Waiting => Event::Waiting { worker, speech },
                State::Processing => Event::Processing { worker, speech },
                State::Exiting => Event::Exiting { worker, speech, reason },
            }
        }
    }
}

fn details(announcement: Announcement) -> (Details, Option<String>) {
    let Announcement { service, name, credits, seen, reason, version: _, sdk: _ } = announcement;
    (Details { name, service, credits, seen }, reason)
}
