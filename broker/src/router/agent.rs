//! What makes a router the agent of a crew: its workers are announced to brokers elsewhere, each
//! to one, over one connection to each broker. Who serves whom: `core/placement.rs`; what
//! becomes of the jobs that come: `agent/relay.rs`.
//!
//! To the core a broker is a client like any other, whose requests name their worker. To a
//! broker each of our workers is a worker from elsewhere, as if it had connected by itself.

mod relay;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::BorrowedFd;

use hornpipe_proto::Ended;
use hornpipe_proto::control::LinkReport;
use hornpipe_proto::worker::{Announcement, State};
use tracing::{error, info, warn};

use super::clients::Clients;
use super::frame::{Body, Frame};
use super::setup::{CrewSetup, RouterError};
use super::uplink::{News, Uplink};
use super::{BATCH, Router, report, words};
use crate::core::{
    ClientId, Event, Loss, Note, Placement, RequestId, ServiceId, Services, Timestamp, WorkerId,
};
pub(super) use relay::Failure;
use relay::{Bereft, Job, Remnant};

#[derive(Debug)]
pub(super) struct Agent {
    links: Vec<Link>,
    placement: Placement,
    /// Workers of ours, while they can serve or hold something.
    hands: BTreeMap<WorkerId, Hand>,
    jobs: HashMap<RequestId, Job>,
    /// Jobs that are over for their broker while a worker has still to let go of them.
    remnants: Vec<Remnant>,
    /// Jobs that ended without a reply, until it is known what has become of their workers.
    losses: Vec<Bereft>,
    standing: Standing,
    host: String,
    /// What the default service is called there.
    service: Option<String>,
    last_member: u32,
    socket_numbers: u64,
    /// Something has changed that may let a worker come or go.
    stirred: bool,
}

/// Whether workers are offered at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    /// Until the operator says otherwise.
    Paused,
    /// For good.
    Closed,
}

/// A broker.
#[derive(Debug)]
struct Link {
    uplink: Uplink,
    /// Since when somebody is at its other end, or nobody.
    is_up: bool,
    since: Timestamp,
    /// That it cannot be reached is told once.
    told: bool,
    /// What its requests are asked by: another one for each connection.
    client: ClientId,
    members: HashMap<u32, WorkerId>,
    tokens: HashMap<Box<[u8]>, RequestId>,
}

/// A worker of ours.
#[derive(Debug)]
struct Hand {
    service: ServiceId,
    /// As brokers show it.
    name: String,
    /// How many requests it runs at once; 0 if it takes no more.
    capacity: u32,
    berth: Option<Berth>,
}

/// That a worker is announced to a broker.
#[derive(Debug)]
struct Berth {
    link: usize,
    member: u32,
    /// How many requests at once the broker was told.
    credits: u32,
    received: u64,
    /// Of those, how many no worker has ever had.
    untouched: u64,
    in_hand: u32,
    /// It ends as soon as nothing is in hand.
    closing: bool,
    /// The worker's process has ended so with a job in hand, without being told to.
    ended: Option<Ended>,
}

impl Agent {
    pub(super) fn new(
        setup: &CrewSetup,
        (body_limit, now): (u64, Timestamp),
        clients: &mut Clients,
    ) -> Result<Self, RouterError> {
        let context = zmq::Context::new();
        let frame_limit = i64::try_from(body_limit.saturating_mul(2)).unwrap_or(i64::MAX);
        let mut socket_numbers = 0;
        let mut open = |endpoint: &String| {
            Ok(Link {
                uplink: Uplink::open(&context, endpoint, frame_limit, &mut socket_numbers)?,
                is_up: false,
                since: now,
                told: false,
                client: clients.number_client(),
                members: HashMap::new(),
                tokens: HashMap::new(),
            })
        };
        let links: Vec<Link> = setup.brokers.iter().map(&mut open).collect::<Result<_, RouterError>>()?;
        Ok(Self {
            placement: Placement::new(links.len()),
            links,
            hands: BTreeMap::new(),
            jobs: HashMap::new(),
            remnants: Vec::new(),
            losses: Vec::new(),
            standing: Standing::Open,
            host: setup.host.clone(),
            service: setup.service.clone(),
            last_member: 0,
            socket_numbers,
            stirred: false,
        })
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.links.iter().flat_map(|link| link.uplink.descriptors())
    }

    /// Whether there may be something to read that no descriptor tells of.
    pub(super) fn is_stirred(&self) -> bool {
        self.links.iter().any(|link| link.uplink.is_stirred())
    }

    /// For `status`.
    pub(super) fn report(&self, now: Timestamp) -> Vec<LinkReport> {
        let report = |(number, link): (usize, &Link)| LinkReport {
            broker: link.uplink.endpoint().to_owned(),
            connected: link.is_up,
            for_ms: report::milliseconds(now.since(link.since)),
            workers: u32::try_from(self.berths_at(number)).unwrap_or(u32::MAX),
        };
        self.links.iter().enumerate().map(report).collect()
    }

    /// Whether any broker can be reached.
    pub(super) fn is_connected(&self) -> bool {
        self.links.iter().any(|link| link.is_up)
    }

    fn berths_at(&self, link: usize) -> usize {
        let here = |hand: &&Hand| hand.berth.as_ref().is_some_and(|berth| berth.link == link);
        self.hands.values().filter(here).count()
    }

    /// What became of a connection.
    fn hear_news(
        &mut self,
        number: usize,
        now: Timestamp,
        clients: &mut Clients,
        events: &mut Vec<Event<Body>>,
    ) {
        while let Some(link) = self.links.get_mut(number)
            && let Some(news) = link.uplink.news()
        {
            let broker = link.uplink.endpoint();
            match news {
                News::Up => {
                    info!(broker, "connected to broker");
                    (link.is_up, link.since, link.told) = (true, now, false);
                    self.placement.found(number);
                    self.stirred = true;
                }
                News::Failed => {
                    if !link.is_up && !std::mem::replace(&mut link.told, true) {
                        warn!(broker, "broker cannot be reached: trying on");
                    }
                }
                News::Lost if link.is_up => {
                    warn!(broker, "connection to broker lost: its jobs are given up");
                    link.told = true;
                    self.lose_link(number, now, clients, events);
                }
                // It was closed before it had said what it is.
                News::Lost => (),
            }
        }
    }

    fn lose_link(
        &mut self,
        number: usize,
        now: Timestamp,
        clients: &mut Clients,
        events: &mut Vec<Event<Body>>,
    ) {
        let Some(link) = self.links.get_mut(number) else { return };
        if let Err(error) = link.uplink.reopen(&mut self.socket_numbers) {
            // libzmq goes on with the old one.
            error!(%error, "no new socket for a lost connection");
        }
        (link.is_up, link.since) = (false, now);
        link.members.clear();
        link.tokens.clear();
        events.push(Event::ClientLeft { client: link.client });
        link.client = clients.number_client();
        for hand in self.hands.values_mut() {
            hand.berth.take_if(|berth| berth.link == number);
        }
        self.give_up_jobs(number);
        self.placement.lost(number);
        self.stirred = true;
    }

    /// So many requests a worker of ours runs at once from here on.
    pub(super) fn set_capacity(
        &mut self,
        worker: WorkerId,
        (service, slot): (ServiceId, Option<u32>),
        capacity: u32,
    ) {
        if let Some(hand) = self.hands.get_mut(&worker) {
            hand.capacity = capacity;
        } else if let Some(slot) = slot {
            let name = format!("{}:{slot}", self.host);
            self.hands.insert(worker, Hand { service, name, capacity, berth: None });
        }
        if capacity == 0 {
            self.placement.leave(worker);
        } else {
            self.placement.join(worker, service);
        }
        self.stirred = true;
    }

    /// Nothing new is wanted: the pool stops.
    pub(super) fn close(&mut self) {
        self.standing = Standing::Closed;
        self.stirred = true;
    }

    /// Whether anything new is wanted, and how workers end that had jobs in hand.
    pub(super) fn hear(&mut self, note: &Note) {
        let next = match (note, self.standing) {
            (Note::RequestLost { request, last: Some(Loss::Ended(fate)), .. }, _) => {
                let ended = fate.ending().as_ref().and_then(words::ended);
                return self.learn_end(*request, ended);
            }
            (Note::DrainStarted { .. } | Note::HandOverStarted { .. }, _) => Standing::Closed,
            (Note::Paused { .. }, Standing::Open) => Standing::Paused,
            (Note::Resumed { .. }, Standing::Paused) => Standing::Open,
            _ => return,
        };
        self.standing = next;
        self.stirred = true;
    }

    /// Follows what has happened: what workers have let go of is told, and each is announced
    /// where it is to serve.
    pub(super) fn conclude(&mut self, core: &Services<Body>) {
        self.settle_remnants(core);
        self.settle_losses();
        if !std::mem::take(&mut self.stirred) {
            return;
        }
        let workers: Vec<WorkerId> = self.hands.keys().copied().collect();
        for worker in workers {
            self.settle_worker(worker, core);
        }
    }

    fn settle_worker(&mut self, worker: WorkerId, core: &Services<Body>) {
        let wish = (self.standing == Standing::Open).then(|| self.placement.broker_of(worker)).flatten();
        let is_busy = self.remnants.iter().any(|remnant| remnant.worker == worker);
        let Some(hand) = self.hands.get_mut(&worker) else { return };
        let wish = wish.filter(|_broker| hand.capacity > 0);
        if let Some(berth) = &mut hand.berth {
            berth.closing = wish != Some(berth.link);
            if berth.closing && berth.in_hand == 0 {
                self.end_berth(worker);
            } else {
                // One that is to leave takes nothing more: it has as many as it may.
                let credits = if berth.closing { 1 } else { hand.capacity };
                if credits != berth.credits {
                    berth.credits = credits;
                    let state = if berth.in_hand == 0 { State::Waiting } else { State::Processing };
                    self.announce(worker, state, core);
                }
                return;
            }
        }
        let Some(hand) = self.hands.get_mut(&worker) else { return };
        if let (Some(link), false) = (wish, is_busy) {
            self.last_member = self.last_member.wrapping_add(1);
            let (member, credits) = (self.last_member, hand.capacity);
            let berth = Berth {
                link,
                member,
                credits,
                received: 0,
                untouched: 0,
                in_hand: 0,
                closing: false,
                ended: None,
            };
            hand.berth = Some(berth);
            if let Some(link) = self.links.get_mut(link) {
                link.members.insert(member, worker);
            }
            self.announce(worker, State::Waiting, core);
        } else if hand.capacity == 0 && !is_busy {
            self.hands.remove(&worker);
        }
    }

    /// Tells the worker's broker of it.
    fn announce(&mut self, worker: WorkerId, state: State, core: &Services<Body>) {
        let Some(hand) = self.hands.get(&worker) else { return };
        let Some(berth) = &hand.berth else { return };
        let service = match hand.service {
            ServiceId::DEFAULT => self.service.clone(),
            further => Some(core.name(further).to_owned()),
        };
        let announcement = Announcement {
            service,
            name: Some(hand.name.clone()),
            credits: berth.credits,
            ..announcement(berth)
        };
        let words = [b"", state.as_str().as_bytes(), &announcement.encode()];
        if let Some(link) = self.links.get_mut(berth.link) {
            link.uplink.send(&words, [].iter());
        }
    }

    /// The worker is its broker's no more, and holds nothing of it.
    fn end_berth(&mut self, worker: WorkerId) {
        let Some(berth) = self.hands.get_mut(&worker).and_then(|hand| hand.berth.take()) else { return };
        let Some(link) = self.links.get_mut(berth.link) else { return };
        link.members.remove(&berth.member);
        let words = [b"", State::Exiting.as_str().as_bytes(), &announcement(&berth).encode()];
        link.uplink.send(&words, [].iter());
    }
}

fn announcement(berth: &Berth) -> Announcement {
    Announcement {
        sdk: Some(concat!("hornpipe-crew/", env!("CARGO_PKG_VERSION")).to_owned()),
        seen: berth.received.saturating_sub(berth.untouched),
        member: Some(berth.member),
        ended: berth.ended,
        ..Announcement::default()
    }
}

impl Router {
    /// What brokers say, and what has become of the connections to them.
    pub(super) fn read_uplinks(&mut self, now: Timestamp) {
        let links = self.agent.as_ref().map_or(0, |agent| agent.links.len());
        let mut events = Vec::new();
        for number in 0..links {
            if let Some(agent) = &mut self.agent {
                agent.hear_news(number, now, &mut self.clients, &mut events);
            }
            self.pending.extend(events.drain(..));
            self.settle();
            for _message in 0..BATCH {
                let Some(agent) = &mut self.agent else { break };
                let Some(link) = agent.links.get_mut(number) else { break };
                if !link.uplink.receive(&mut self.frames) {
                    break;
                }
                let mut frames: Vec<Frame> = std::mem::take(&mut self.frames);
                let request = self.clients.number_request();
                events.extend(agent.read(number, (request, now), &mut frames, &self.core));
                self.frames = frames;
                self.pending.extend(events.drain(..));
                self.settle();
            }
        }
    }

    pub(super) fn conclude_agent(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.conclude(&self.core);
        }
    }
}
