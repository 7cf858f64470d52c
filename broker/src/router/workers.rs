//! Workers: their messages become events, and jobs and orders become frames.
//! The crew's socket and the backend differ only in who may speak there.

use std::time::Duration;

use hornpipe_proto::dialect::Dialect;
use hornpipe_proto::dialect::majordomo::Edition;
use hornpipe_proto::dialect::{majordomo as majordomo_words, paranoid as paranoid_words};
use hornpipe_proto::worker::{Announcement, Control, JobMeta, WorkerMessage};
use hornpipe_proto::{JobMap, Token};
use rustc_hash::FxHashMap;

use super::Sockets;
use super::claims::Claims;
use super::connections::{Connections, Sender};
use super::crew::{CrewList, Peer};
use super::frame::{Body, Frame};
use super::heartbeats::Heartbeats;
use super::majordomo::{self, Greeting, Heard, Standing};
use super::members::Bands;
use super::sockets::{Door, Received, RoutingId, Sent, What};
use super::wire::Origin;
use super::words::{claims_of, event};
use super::{clock, paranoid};
use crate::config::External;
use crate::core::{Assignment, Event, Home, Place, Probe, Timestamp, WorkerId};

#[derive(Debug)]
pub(super) struct Workers {
    crew: Connections<WorkerId>,
    backend: Connections<WorkerId>,
    /// How to reach each.
    table: FxHashMap<WorkerId, Address>,
    external: External,
    pub(super) next_worker: u64,
    /// Connections that are several workers.
    pub(super) bands: Bands,
    heartbeats: Heartbeats,
    /// Whom to tell to begin anew.
    partings: Vec<(Door, RoutingId, Edition)>,
    /// A job's map, and then the next one's.
    map: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Address {
    door: Door,
    routing_id: RoutingId,
    /// Its process, if that is ours.
    place: Option<Place>,
    /// What it speaks, once it has spoken.
    dialect: Option<Dialect>,
    /// Which worker of which connection it is, if that is several.
    member: Option<(WorkerId, u32)>,
    /// Its process, as the kernel names the peer.
    pid: Option<i32>,
    claims: Claims,
}

impl Workers {
    pub(super) fn new(external: External) -> Self {
        Self {
            crew: Connections::default(),
            backend: Connections::default(),
            table: FxHashMap::default(),
            external,
            next_worker: 0,
            bands: Bands::default(),
            heartbeats: Heartbeats::default(),
            partings: Vec::new(),
            map: Vec::new(),
        }
    }

    /// Whether the sender has not been heard before, so that the crew list must be fresh.
    pub(super) fn is_new(&mut self, door: Door, id: &RoutingId) -> bool {
        !self.connections(door).is_known(id)
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
            if let Some(worker) = self.connections(door).remove(id) {
                self.lose(worker, events);
            }
            return;
        }
        let known = match self.connections(door).sender(received) {
            Sender::Known(worker) => Some(worker),
            Sender::New => None,
            Sender::Replaced(earlier) => {
                self.lose(earlier, events);
                None
            }
        };
        // A connecting DEALER with PROBE_ROUTER says nothing, in one empty frame.
        let says_nothing = frames.len() == 1 && frames.iter().all(|frame| frame.as_ref().is_empty());
        let dialect = Dialect::of_worker(frames);
        let worker = if let Some(worker) = known {
            worker
        } else {
            let Some(home) = self.identify((door, received.origin), crew_list, events) else { return };
            match majordomo::greeting(dialect, frames) {
                Greeting::Welcome if Self::begins_band(door, frames) => {
                    let connection = self.admit(door, received, home);
                    self.bands.begin(connection);
                    connection
                }
                Greeting::Welcome => self.greet(door, received, home, events),
                Greeting::BeginAnew(edition) => {
                    return self.partings.push((door, id.clone(), edition));
                }
                Greeting::Farewell => return,
            }
        };
        if !says_nothing {
            self.hear((worker, dialect, received.what), frames, events);
        }
    }

    /// The events that a worker's words stand for, in its dialect.
    fn hear(
        &mut self,
        (worker, dialect, what): (WorkerId, Dialect, What),
        frames: &mut Vec<Frame>,
        events: &mut Vec<Event<Body>>,
    ) {
        if self.bands.is_one(worker) {
            return match what {
                What::Message => self.hear_band(worker, frames, events),
                What::Overlong | What::Farewell => self.misunderstand_band(worker, events),
            };
        }
        let Some(address) = self.table.get_mut(&worker) else { return };
        let standing = if address.dialect.is_some() { Standing::Introduced } else { Standing::Newcomer };
        let spoken = *address.dialect.get_or_insert(dialect);
        let unreadable = what == What::Overlong || !spoken.goes_with(dialect);
        match spoken {
            _ if unreadable => self.misunderstand((worker, spoken), events),
            Dialect::Hornpipe | Dialect::SimplePirate => events.push(match WorkerMessage::decode(frames) {
                // A connection that has begun as one worker stays one.
                Ok(WorkerMessage::State {
                    announcement: Some(Announcement { member: Some(_), .. }), ..
                }) => Event::Malformed { worker },
                Ok(message) => {
                    address.claims.learn(claims_of(&message), address.pid);
                    event(worker, message, frames, &address.claims)
                }
                Err(_unreadable) => Event::Malformed { worker },
            }),
            Dialect::ParanoidPirate => {
                self.heartbeats.hear(worker, paranoid_words::INTERVAL, clock::now());
                events.push(paranoid::event(worker, frames));
            }
            Dialect::Majordomo(edition) => {
                self.heartbeats.hear(worker, majordomo_words::INTERVAL, clock::now());
                match majordomo::read((worker, edition, standing), frames) {
                    Heard::Word(event) => events.push(event),
                    Heard::Leaving(event) => {
                        events.push(event);
                        self.leave(worker, events);
                    }
                    Heard::OutOfTurn => {
                        events.push(Event::OutOfTurn { worker });
                        self.part(worker);
                    }
                    Heard::Unreadable => self.misunderstand((worker, spoken), events),
                }
            }
        }
    }

    /// A worker of Majordomo is told so. One of ours is replaced in any case; another begins anew.
    fn misunderstand(&mut self, (worker, spoken): (WorkerId, Dialect), events: &mut Vec<Event<Body>>) {
        events.push(Event::Malformed { worker });
        if matches!(spoken, Dialect::Majordomo(_)) {
            let ours = self.table.get(&worker).is_some_and(|address| address.place.is_some());
            self.part(worker);
            if !ours {
                events.push(Event::WorkerLeft { worker });
            }
        }
    }

    /// It has said that it goes: one from elsewhere has gone.
    fn leave(&mut self, worker: WorkerId, events: &mut Vec<Event<Body>>) {
        if self.table.get(&worker).is_some_and(|address| address.place.is_none()) {
            self.disown(worker);
            events.push(Event::WorkerLeft { worker });
        }
    }

    /// Its connection is of no more use, and it is told so if its protocol has a word for it.
    /// What it says next over this one is a newcomer's.
    pub(super) fn part(&mut self, worker: WorkerId) {
        let Some(address) = self.disown(worker) else { return };
        if let Some(Dialect::Majordomo(edition)) = address.dialect {
            self.partings.push((address.door, address.routing_id, edition));
        }
    }

    fn disown(&mut self, worker: WorkerId) -> Option<Address> {
        let address = self.forget(worker)?;
        self.connections(address.door).remove(&address.routing_id);
        Some(address)
    }

    /// The connection is gone, and with it the worker, or all of them.
    fn lose(&mut self, connection: WorkerId, events: &mut Vec<Event<Body>>) {
        let Some(workers) = self.bands.end(connection) else { return self.gone(connection, events) };
        self.forget(connection);
        for worker in &workers {
            self.forget(*worker);
        }
        events.push(Event::WorkersLeft { workers });
    }

    /// A member of a connection that is several workers can be reached like that.
    pub(super) fn enlist(&mut self, connection: WorkerId, worker: WorkerId, number: u32) -> Option<()> {
        let Address { door, routing_id, .. } = self.table.get(&connection)?;
        let (door, routing_id, dialect) = (*door, routing_id.clone(), Some(Dialect::Hornpipe));
        let member = Some((connection, number));
        let (pid, claims) = (None, Claims::default());
        let address = Address { door, routing_id, place: None, dialect, member, pid, claims };
        self.table.insert(worker, address);
        Some(())
    }

    /// The slot of a worker of ours.
    pub(super) fn slot_of(&self, worker: WorkerId) -> Option<u32> {
        self.table.get(&worker)?.place.map(|place| place.slot.0)
    }

    /// Whether it has begun that job of its connection. `None` if it does not tell.
    pub(super) fn has_begun(&self, worker: WorkerId, ordinal: u64) -> Option<bool> {
        self.table.get(&worker)?.claims.has_begun(ordinal)
    }

    /// Its connection is gone. What it has not begun by now it never will.
    fn gone(&mut self, worker: WorkerId, events: &mut Vec<Event<Body>>) {
        if let Some(address) = self.forget(worker)
            && let Some(begun) = address.claims.withdraw()
        {
            events.push(Event::Withdrawn { worker, begun });
        }
        events.push(Event::WorkerLeft { worker });
    }

    pub(super) fn forget(&mut self, worker: WorkerId) -> Option<Address> {
        self.heartbeats.forget(worker);
        self.table.remove(&worker)
    }

    /// Tells those to begin anew that must.
    pub(super) fn say_partings(&mut self, sockets: &mut Sockets) {
        for (door, routing_id, edition) in self.partings.drain(..) {
            // Who has no room for it will hear it in answer to its next word.
            let _sent = sockets.at(door).send(&routing_id, &edition.disconnect(), [].iter());
        }
    }

    /// Sends the heartbeats that are due.
    pub(super) fn beat(&mut self, sockets: &mut Sockets, now: Timestamp) {
        for worker in self.heartbeats.take_due(now) {
            let frames: Vec<&[u8]> = match self.table.get(&worker).and_then(|address| address.dialect) {
                Some(Dialect::ParanoidPirate) => paranoid_words::heartbeat().to_vec(),
                Some(Dialect::Majordomo(edition)) => edition.heartbeat(),
                Some(Dialect::Hornpipe | Dialect::SimplePirate) | None => continue,
            };
            if self.send(sockets, worker, &frames, &[]) != Sent::Yes {
                tracing::debug!(worker = worker.0, "heartbeat not delivered");
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.heartbeats.next_deadline()
    }

    /// Finds out who a new peer is; `None` if it may not be a worker here.
    fn identify(
        &mut self,
        (door, origin): (Door, Origin),
        crew_list: &CrewList,
        events: &mut Vec<Event<Body>>,
    ) -> Option<Home> {
        let peer = origin.pid().map_or(Peer::Stranger, |pid| crew_list.peer(pid));
        match peer {
            Peer::Ours(place) => Some(Home::Local(place)),
            Peer::Stranger if door == Door::Backend && self.admits(origin) => Some(Home::External),
            Peer::Stranger => {
                events.push(Event::Stranger);
                None
            }
            Peer::Departed => None,
        }
    }

    fn greet(
        &mut self,
        door: Door,
        received: &Received,
        home: Home,
        events: &mut Vec<Event<Body>>,
    ) -> WorkerId {
        let worker = self.admit(door, received, home);
        events.push(Event::Joined { worker, home });
        worker
    }

    /// Keeps how the peer can be reached.
    fn admit(&mut self, door: Door, received: &Received, home: Home) -> WorkerId {
        self.next_worker += 1;
        let worker = WorkerId(self.next_worker);
        self.connections(door).insert(received, worker);
        let routing_id = received.routing_id.clone();
        let place = match home {
            Home::Local(place) => Some(place),
            Home::External => None,
        };
        let pid = received.origin.pid();
        let (dialect, claims, member) = (None, Claims::default(), None);
        let address = Address { door, routing_id, place, dialect, member, pid, claims };
        self.table.insert(worker, address);
        worker
    }

    fn admits(&self, origin: Origin) -> bool {
        match self.external {
            External::Anybody => true,
            External::Loopback => origin.is_loopback(),
            External::Nobody => false,
        }
    }

    /// Hands a job over; if that is not possible, the core must know.
    pub(super) fn assign(
        &mut self,
        (sockets, crew_list): (&mut Sockets, &CrewList),
        assignment: &Assignment<Body>,
        (id, service): (&str, Option<&str>),
        of_a_broker: Option<&JobMeta>,
    ) -> Option<Event<Body>> {
        let (worker, token) = (assignment.worker, assignment.token);
        let undelivered = || Some(Event::Undelivered { worker, token });
        let Some(address) = self.table.get_mut(&worker) else { return undelivered() };
        // What a dead worker has not begun is taken back from its word: no need to ask the kernel.
        let may_be_lost = !address.claims.are_open();
        if address.place.is_some_and(|place| may_be_lost && crew_list.has_ended(place)) {
            return undelivered();
        }
        let claim = address.claims.number(assignment.ordinal);
        self.map.clear();
        if assignment.detailed {
            let passing = assignment.body.passing();
            let ours = JobMap {
                id,
                attempt: assignment.attempt,
                timeout_ms: assignment.left.map(milliseconds),
                service,
                key: passing.and_then(|passing| passing.key.as_deref()),
                trace: passing.and_then(|passing| passing.trace.as_deref()),
                headers: passing.map(|passing| &passing.headers),
                ..JobMap::default()
            };
            let member = address.member.map(|(_connection, number)| number);
            let map = of_a_broker.map_or(ours, JobMap::of);
            JobMap { window: assignment.window, member, claim, ..map }.write(&mut self.map);
        }
        if let Some((connection, _number)) = address.member {
            self.bands.assign(connection, worker, token);
        }
        match address.hand_over(sockets, token, (&self.map, assignment.body.frames())) {
            Sent::Yes => None,
            Sent::Full | Sent::Gone => undelivered(),
        }
    }

    /// The same for a job of the broker's own.
    pub(super) fn probe(
        &mut self,
        sockets: &mut Sockets,
        probe: &Probe,
        body: Vec<u8>,
    ) -> Option<Event<Body>> {
        let (worker, token) = (probe.worker, probe.token);
        let undelivered = || Some(Event::Undelivered { worker, token });
        let Some(address) = self.table.get_mut(&worker) else { return undelivered() };
        let claim = address.claims.number(probe.ordinal);
        self.map.clear();
        if probe.detailed {
            let timeout_ms = Some(milliseconds(probe.left));
            JobMap { id: "probe", attempt: 1, timeout_ms, claim, ..JobMap::default() }.write(&mut self.map);
        }
        match address.hand_over(sockets, token, (&self.map, &[Frame::Own(body.into())])) {
            Sent::Yes => None,
            Sent::Full | Sent::Gone => undelivered(),
        }
    }

    /// Has it begin nothing that it has not begun. `None` if its connection is gone: then it was
    /// said what it had begun.
    pub(super) fn withdraw(&self, worker: WorkerId) -> Option<Event<Body>> {
        let begun = self.table.get(&worker)?.claims.withdraw().unwrap_or(u64::MAX);
        Some(Event::Withdrawn { worker, begun })
    }

    pub(super) fn cancel(&mut self, sockets: &mut Sockets, worker: WorkerId, token: Token) {
        self.order(sockets, worker, &Control::Cancel { token: token.as_str().into() });
    }

    pub(super) fn allow(&mut self, sockets: &mut Sockets, (worker, token): (WorkerId, Token), parts: u32) {
        self.order(sockets, worker, &Control::More { token: token.as_str().into(), parts });
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
        self.table.get(&worker).map_or(Sent::Gone, |address| address.send(sockets, head, body))
    }
}

impl Address {
    /// Sends a job, in the worker's own dialect.
    fn hand_over(&self, sockets: &mut Sockets, token: Token, (map, body): (&[u8], &[Frame])) -> Sent {
        match self.dialect {
            Some(Dialect::ParanoidPirate) => self.send(sockets, &paranoid_words::job_head(&token), body),
            Some(Dialect::Majordomo(edition)) => self.send(sockets, &edition.job_head(&token), body),
            Some(Dialect::Hornpipe | Dialect::SimplePirate) | None => {
                self.send(sockets, &[b"", token.as_bytes(), map], body)
            }
        }
    }

    fn send(&self, sockets: &mut Sockets, head: &[&[u8]], body: &[Frame]) -> Sent {
        sockets.at(self.door).send(&self.routing_id, head, body.iter())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
