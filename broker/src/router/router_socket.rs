//! A ROUTER on a listener that the parent has made: accepts, and carries messages from and to many peers, all on the router's
//! own thread: a message in is one read and a message out one write, with nobody to wake in between.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use hornpipe_proto::zmtp::{Event, Limits, Peer, SocketType};
use nix::errno::Errno;
use rustc_hash::FxHashMap;
use rustix::event::{Timespec, epoll};

use super::clock;
use super::entrance::{Entrance, LISTENER};
use super::frame::Frame;
use super::setup::RouterError;
use super::sockets::{Door, FRAME_LIMIT, HIGH_WATER_MARK, Received, RoutingId, Sent, What, prepare};
use super::wire::{Inlet, Outlet, Wire};
use crate::core::Timestamp;

/// Connections that one look tells of; the others are told of by the next.
const LOOK: usize = 64;

/// Newcomers that are let in before others have their turn.
const ACCEPTED_TOGETHER: usize = 64;

/// What is read from one peer before the others have their turn, in bytes. The rest of a large frame is read beyond it.
const BUFFER: usize = 64 * 1024;

/// And so many messages are taken from it.
const TURN: usize = 64;

/// Written at once when so many bytes are gathered for one peer, and else when there is nothing more to read.
const GATHERED: usize = 64 * 1024;

/// A connection that has not said what it is by then is closed.
const HANDSHAKE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct RouterSocket {
    door: Door,
    entrance: Entrance,
    epoll: OwnedFd,
    limits: Limits,
    wires: FxHashMap<u64, Box<Wire>>,
    /// Who has a routing id of its own choice.
    names: HashMap<Rc<[u8]>, u64>,
    last_number: u64,
    /// Lent to whoever is read.
    buffer: Vec<u8>,
    /// Those with something to read or to take, in turns.
    ready: VecDeque<u64>,
    /// Whether it was looked for them since the last time that there was nothing.
    has_looked: bool,
    /// Whose messages are taken, and how many more before it is another's turn.
    speaking: Option<(u64, usize)>,
    /// Those with something to write that was not tried yet.
    unwritten: Vec<u64>,
    /// Somebody who had no room has some.
    has_made_room: bool,
    /// Who has not said what it is, and until when it may; the oldest first.
    newcomers: VecDeque<(Timestamp, u64)>,
    /// When to look at those who have said how long they may be silent, each once.
    silences: BTreeSet<(Timestamp, u64)>,
    /// Nothing is read and nobody accepted: another router follows.
    is_paused: bool,
}

impl RouterSocket {
    pub(super) fn open(door: Door, listener: Option<OwnedFd>, body_limit: u64) -> Result<Self, RouterError> {
        let failed = |error: rustix::io::Errno| RouterError::Socket {
            door,
            error: Errno::from_raw(error.raw_os_error()),
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        if let Some(listener) = &listener {
            prepare(door, listener.as_fd())?;
        }
        let entrance = Entrance::open(door, listener, &epoll).map_err(failed)?;
        // A message above it costs its sender the connection; up to the half of it, an answer.
        let bytes = body_limit.saturating_mul(2);
        let limits =
            Limits { frame_bytes: bytes, message_bytes: bytes.saturating_mul(2), frames: FRAME_LIMIT };
        Ok(Self {
            door,
            entrance,
            epoll,
            limits,
            wires: FxHashMap::default(),
            names: HashMap::new(),
            last_number: LISTENER,
            buffer: Vec::with_capacity(BUFFER),
            ready: VecDeque::new(),
            has_looked: false,
            speaking: None,
            unwritten: Vec::new(),
            has_made_room: false,
            newcomers: VecDeque::new(),
            silences: BTreeSet::new(),
            is_paused: false,
        })
    }

    /// Readable when there is something to do.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Whether something was read and not taken yet, which the descriptor does not tell of.
    pub(super) fn is_stirred(&self) -> bool {
        !self.is_paused && (self.speaking.is_some() || !self.ready.is_empty())
    }

    /// Takes the next message that is there, of one peer after the other: who sent it and, in `frames`, what.
    pub(super) fn receive(&mut self, frames: &mut Vec<Frame>) -> Option<Received> {
        frames.clear();
        loop {
            if let Some(received) = self.take_message(frames) {
                return Some(received);
            }
            if let Some(number) = self.ready.pop_front() {
                self.turn_to(number);
            } else if std::mem::replace(&mut self.has_looked, true) {
                self.has_looked = false;
                return None;
            } else {
                self.look();
            }
        }
    }

    /// Takes a message in full, to be written with those that follow, or not at all.
    pub(super) fn send<'a>(
        &mut self,
        routing_id: &RoutingId,
        head: &[&[u8]],
        body: impl ExactSizeIterator<Item = &'a Frame>,
    ) -> Sent {
        let Some(number) = self.number_of(routing_id) else { return Sent::Gone };
        let Some(wire) = self.wires.get_mut(&number).filter(|wire| wire.outlet != Outlet::Broken) else {
            return Sent::Gone;
        };
        // What waits for a client is kept and counted elsewhere.
        let has_enough = match self.door {
            Door::Frontend => GATHERED <= wire.zmtp.unsent_bytes(),
            Door::Backend | Door::Crew => HIGH_WATER_MARK <= wire.queued,
        };
        let is_full = wire.outlet == Outlet::Full;
        if is_full && has_enough {
            return Sent::Full;
        }
        if !wire.zmtp.send_clones(head, body) {
            return Sent::Gone;
        }
        wire.queued += 1;
        if GATHERED <= wire.zmtp.unsent_bytes() && !is_full {
            self.write(number);
        } else if wire.queued == 1 {
            self.unwritten.push(number);
        }
        Sent::Yes
    }

    /// Writes what was sent, as far as the kernel has room.
    pub(super) fn flush(&mut self) {
        while let Some(number) = self.unwritten.pop() {
            self.write(number);
        }
    }

    /// Whether somebody who had no room has made some since this was last asked.
    pub(super) fn take_made_room(&mut self) -> bool {
        std::mem::take(&mut self.has_made_room)
    }

    /// So many more may come in. With none, who asks waits; those connected are served.
    pub(super) fn admit(&mut self, vacancies: usize) {
        self.entrance.admit(vacancies);
        self.entrance.watch(&self.epoll, clock::now());
    }

    /// Whether newcomers are kept waiting for want of room.
    pub(super) fn is_crowded(&self) -> bool {
        self.entrance.is_crowded()
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let handshake = self.newcomers.front().map(|(until, _number)| *until);
        let silence = self.silences.first().map(|(until, _number)| *until);
        handshake.into_iter().chain(silence).chain(self.entrance.next_deadline()).min()
    }

    /// Closes connections of which nothing was heard, and accepts again.
    pub(super) fn keep_time(&mut self, now: Timestamp) {
        while let Some((_until, number)) = self.newcomers.pop_front_if(|(until, _number)| *until <= now) {
            if self.wires.get(&number).is_some_and(|wire| !wire.zmtp.is_open()) {
                self.remove(number);
            }
        }
        while let Some((until, number)) =
            self.silences.first().copied().filter(|(until, _number)| *until <= now)
        {
            self.silences.remove(&(until, number));
            self.listen_for((number, now));
        }
        self.entrance.watch(&self.epoll, now);
    }

    /// Gives up a peer that has been silent for as long as it said (RFC 37, PING), or looks again later.
    fn listen_for(&mut self, (number, now): (u64, Timestamp)) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        let Some((heard, ttl)) = wire.heard.zip(wire.zmtp.silence_allowed()) else {
            return wire.heard = None;
        };
        let until = heard.after(ttl);
        if self.is_paused {
            // Who is not read cannot be heard.
        } else if now < until {
            self.silences.insert((until, number));
        } else {
            tracing::debug!(peer = ?wire.origin, "a peer is silent for longer than it may be");
            wire.inlet = Inlet::Ended;
            self.ready.push_back(number);
        }
    }

    /// Reads nothing and accepts nobody from now on: who comes, comes to the next router. What is sent still leaves.
    pub(super) fn pause(&mut self) {
        if std::mem::replace(&mut self.is_paused, true) {
            return;
        }
        self.entrance.close();
        self.entrance.watch(&self.epoll, clock::now());
        self.wires.iter_mut().for_each(|(number, wire)| wire.watch((&self.epoll, *number), true));
    }

    /// After a pause: what has come meanwhile can be received.
    pub(super) fn read_the_rest(&mut self) {
        self.ready = self.wires.keys().copied().collect();
    }

    /// Makes the kernel keep what is sent to this peer until its connection ends, or for 200 ms.
    pub(super) fn hold_back(&self, connection: u64) {
        if let Some(wire) = self.wires.get(&connection) {
            rustix::net::sockopt::set_tcp_cork(&wire.socket, true).ok();
        }
    }

    /// Writes on as far as there is room now. False if somebody had too little.
    pub(super) fn write_out(&mut self) -> bool {
        self.pause();
        self.flush();
        self.look();
        !self.wires.values().any(|wire| wire.outlet == Outlet::Full)
    }

    fn number_of(&self, routing_id: &RoutingId) -> Option<u64> {
        match routing_id {
            RoutingId::Number(number) => Some(*number),
            RoutingId::Name(name) => self.names.get(name).copied(),
        }
    }

    fn take_message(&mut self, frames: &mut Vec<Frame>) -> Option<Received> {
        let (number, left) = self.speaking.take()?;
        loop {
            let wire = self.wires.get_mut(&number)?;
            if left == 0 {
                self.ready.push_back(number);
                return None;
            }
            let (parts, what) = match wire.zmtp.next_event() {
                Some(Event::Message(parts)) => (parts, What::Message),
                Some(Event::Overlong(parts)) => (parts, What::Overlong),
                Some(Event::Ready(peer)) => {
                    self.meet(number, &peer);
                    continue;
                }
                Some(Event::Pong { .. }) => continue,
                None if wire.inlet == Inlet::Ended => (Vec::new(), What::Farewell),
                None => {
                    if wire.inlet == Inlet::More {
                        self.ready.push_back(number);
                    }
                    return None;
                }
            };
            *frames = parts;
            let (origin, is_req) = (wire.origin, wire.is_req);
            let routing_id = wire.name.clone().map_or(RoutingId::Number(number), RoutingId::Name);
            if what == What::Farewell {
                self.remove(number);
            } else {
                self.speaking = Some((number, left - 1));
            }
            return Some(Received { routing_id, connection: number, origin, is_req, what });
        }
    }

    /// A peer has said what it is. Another one that had its name loses it, and its connection.
    fn meet(&mut self, number: u64, peer: &Peer) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        wire.is_req = peer.socket == SocketType::Req;
        // The crew is known by its processes.
        if peer.identity.is_empty() || self.door == Door::Crew {
            return;
        }
        let name: Rc<[u8]> = peer.identity.as_slice().into();
        wire.name = Some(Rc::clone(&name));
        if let Some(earlier) = self.names.insert(name, number) {
            self.wires.remove(&earlier);
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(wire) = self.wires.remove(&number) else { return };
        if let Some(name) = &wire.name {
            self.names.remove(name);
        }
    }

    fn turn_to(&mut self, number: u64) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        self.speaking = Some((number, TURN));
        if wire.zmtp.has_events() || wire.inlet == Inlet::Ended {
            return;
        }
        wire.read(&mut self.buffer);
        if let Some(ttl) = wire.zmtp.silence_allowed() {
            let now = clock::now();
            if wire.heard.replace(now).is_none() {
                self.silences.insert((now.after(ttl), number));
            }
        }
        // What belongs to the handshake, or an answer to a ping.
        if wire.queued == 0 && wire.zmtp.unsent_bytes() != 0 {
            self.write(number);
        }
    }

    /// Finds out who has something to say, and who has room again.
    fn look(&mut self) {
        let mut events = [MaybeUninit::uninit(); LOOK];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((events, _rest)) = epoll::wait(&self.epoll, &mut events, Some(&at_once)) else { return };
        for event in events {
            let (number, flags) = (event.data.u64(), event.flags);
            if number == LISTENER {
                self.accept();
                continue;
            }
            if flags.contains(epoll::EventFlags::OUT) {
                self.write(number);
            }
            // The end of a connection is something to read, too.
            if !flags.intersects(!epoll::EventFlags::OUT) {
                continue;
            }
            if !self.is_paused {
                self.ready.push_back(number);
            } else if let Some(wire) = self.wires.get_mut(&number) {
                // The kernel would tell of its end again and again.
                wire.outlet = Outlet::Broken;
                epoll::delete(&self.epoll, &wire.socket).ok();
            }
        }
    }

    fn accept(&mut self) {
        for _newcomer in 0..ACCEPTED_TOGETHER {
            let Some((socket, origin)) = self.entrance.accept() else { break };
            self.welcome(Wire::new(socket, origin, self.limits));
        }
        self.entrance.watch(&self.epoll, clock::now());
    }

    fn welcome(&mut self, wire: Wire) {
        let number = self.last_number + 1;
        let data = epoll::EventData::new_u64(number);
        if let Err(error) = epoll::add(&self.epoll, &wire.socket, data, epoll::EventFlags::IN) {
            tracing::warn!(door = %self.door, %error, "a connection cannot be watched, and is closed");
            return;
        }
        self.last_number = number;
        self.wires.insert(number, Box::new(wire));
        self.newcomers.push_back((clock::now().after(HANDSHAKE), number));
        self.write(number);
    }

    fn write(&mut self, number: u64) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        let before = wire.outlet;
        wire.write();
        if wire.outlet != before {
            self.has_made_room |= wire.outlet == Outlet::Free;
            wire.watch((&self.epoll, number), self.is_paused);
        }
    }
}

impl Wire {
    /// Has the kernel tell what there is to read, unless reading is over, and when there is room if there is none.
    fn watch(&mut self, (epoll, number): (&OwnedFd, u64), is_paused: bool) {
        let incoming = if is_paused { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
        let room =
            if self.outlet == Outlet::Full { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(number);
        if let Err(error) = epoll::modify(epoll, &self.socket, data, incoming | room) {
            tracing::warn!(peer = ?self.origin, %error, "a connection cannot be watched, and is given up");
            self.outlet = Outlet::Broken;
        }
    }
}
