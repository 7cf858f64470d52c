//! HOW TO TALK. One thread, one poll loop around the core: bytes become events,
//! actions become bytes. Whatever is decided, is decided elsewhere.

mod setup;
mod sockets;
mod router_socket;
mod entrance;
mod wire;
mod waiting;
mod connections;
mod clients;
mod workers;
mod words;
mod paranoid;
mod majordomo;
mod heartbeats;
mod members;
mod uplink;
mod agent;
mod claims;
mod mmi;
mod crew;
mod parent;
mod inquiries;
mod process_state;
mod hooks;
mod events;
mod control;
mod operators;
mod poison;
mod recycles;
mod reloads;
mod services;
mod report;
mod metrics;
mod notes;
mod pulse;
mod performing;
mod access;
mod outbox;
mod replies;
mod configuration;
mod memory;
mod journal;
mod ending;
mod room;
mod handover;
mod memory_limit;
mod watch;
mod memory_watch;
mod frame;
mod clock;
mod ffi;

use std::collections::VecDeque;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::core::{Decision, Event, Generation, Generator, Services, Timestamp};
use crate::link::Signal;
use agent::Agent;
use clients::Clients;
pub(crate) use configuration::encode_all as encode_configurations;
use control::ControlSocket;
use crew::CrewList;
use events::Events;
use frame::{Body, Frame};
use handover::Handover;
use journal::Journal;
use memory_watch::MemoryWatch;
use parent::{Orphaned, Parent};
use poison::Retries;
use pulse::Pulse;
use recycles::Recycles;
use reloads::Reloads;
use room::Room;
use router_socket::RouterSocket;
use setup::RouterError;
pub(crate) use setup::{CrewSetup, LiveWorker, ServiceSetup, Setup, Start};
use sockets::{Door, Sockets};
use watch::Watches;
use workers::Workers;

/// Messages taken off one socket before the others have their turn.
const BATCH: usize = 256;

/// After so many what they lead to is written, so that those whom it concerns work meanwhile.
const TOGETHER: usize = 64;

/// So often what comes meanwhile is read before anything else is looked at.
const PASSES: usize = 4;

/// Serves until the pool is over; returns the process's exit code.
pub(crate) fn run(setup: &Setup, start: Start) -> u8 {
    match Router::new(setup, start) {
        Ok(mut router) => router.serve(),
        Err(error) => {
            error!(%error, "cannot route");
            1
        }
    }
}

#[derive(Debug)]
struct Router {
    setup: Setup,
    life: u32,
    parent_pid: i32,
    parent_started: Duration,
    core: Services<Body>,
    sockets: Sockets,
    clients: Clients,
    workers: Workers,
    crew: CrewList,
    /// If this is the router of a crew.
    agent: Option<Agent>,
    parent: Parent,
    retries: Retries,
    room: Room,
    watches: Watches,
    /// Who waits for the end of a reload.
    reloads: Reloads,
    /// Who waits for the end of a process.
    recycles: Recycles,
    events: Events,
    handover: Handover,
    pulse: Pulse,
    memory_watch: MemoryWatch,
    journal: Journal,
    /// Events that performing actions has brought about.
    pending: VecDeque<Event<Body>>,
    decisions: Vec<Decision<Body>>,
    frames: Vec<Frame>,
    /// The name of the request that is handed over, if its client has none for it.
    name: String,
    exit_code: Option<u8>,
}

impl Router {
    fn new(setup: &Setup, start: Start) -> Result<Self, RouterError> {
        memory_limit::apply(setup);
        ffi::seed_rand(u32::from_ne_bytes(random()?));
        let room = Room::new(clock::now());
        let body_limit = setup.services().map(|(_, service)| service.settings.body_limit).max();
        let body_limit = body_limit.unwrap_or_default();
        let memories = memory::read(start.memory.as_deref(), &start.named_memories, &start.used);
        let settings = (
            setup.default.settings.clone(),
            setup.further.iter().map(|service| service.settings.clone()).collect(),
        );
        let generator = Generator::new(start.life, random()?);
        let mut crew = CrewList::default();
        let (journal, recalled) = Journal::open(start.journal);
        let recall = |(service, key, entry)| Event::Recalled { service, key, entry };
        let mut pending: VecDeque<Event<Body>> = recalled.into_iter().map(recall).collect();
        for worker in start.workers {
            let place = parent::from_link(worker.place);
            crew.started(place, worker.pid);
            let generation = Generation(worker.generation);
            let started = Timestamp::new(worker.started);
            pending.push_back(Event::Adopted { place, generation, pid: worker.pid, started });
        }
        let mut clients = Clients::new(setup.plain_errors, setup.external);
        let open = |crew| Agent::new(crew, (body_limit, clock::now()), &mut clients);
        let agent = setup.crew.as_ref().map(open).transpose()?;
        // The first event makes the core ask for workers.
        pending.push_back(Event::Tick);
        Ok(Self {
            setup: setup.clone(),
            life: start.life,
            parent_pid: start.parent_pid,
            parent_started: start.parent_started,
            core: Services::new(settings, generator, &memories),
            sockets: Sockets {
                frontend: RouterSocket::open(Door::Frontend, start.frontend, body_limit)?,
                backend: RouterSocket::open(Door::Backend, start.backend, body_limit)?,
                crew: RouterSocket::open(Door::Crew, Some(start.crew), body_limit)?,
                control: ControlSocket::new(start.control, start.control_read, setup.operators.clone()),
            },
            clients,
            agent,
            workers: Workers::new(setup.external),
            crew,
            parent: Parent::new(start.link),
            retries: Retries::default(),
            room,
            watches: Watches::new(setup.services().map(|(id, service)| (id, service.reload_on.as_slice()))),
            reloads: Reloads::default(),
            recycles: Recycles::default(),
            events: Events::default(),
            handover: Handover::default(),
            pulse: Pulse::default(),
            memory_watch: MemoryWatch::new()?,
            journal,
            pending,
            decisions: Vec::new(),
            frames: Vec::new(),
            name: String::new(),
            exit_code: None,
        })
    }

    fn serve(&mut self) -> u8 {
        self.settle();
        loop {
            if let Some(code) = self.exit_code {
                if self.is_handing_over() {
                    self.part();
                }
                self.sockets.linger();
                self.parent.say_the_last_word();
                return code;
            }
            if self.turn().is_err() {
                self.crew.kill_all();
                return 1;
            }
        }
    }

    /// Waits for something to happen, and sees to it.
    fn turn(&mut self) -> Result<(), Orphaned> {
        let ready = self.wait();
        if ready.parent {
            self.read_parent()?;
        }
        let mut messages = 0;
        if ready.crew {
            messages += self.read_workers(Door::Crew)?;
        }
        if ready.backend {
            messages += self.read_workers(Door::Backend)?;
        }
        if ready.frontend {
            messages += self.read_clients();
        }
        self.read_on(messages)?;
        if ready.uplinks {
            self.read_uplinks(clock::now());
        }
        if ready.control {
            self.serve_operators();
        }
        if ready.memory_watch {
            self.pending.extend(self.memory_watch.findings());
            self.settle();
        }
        let now = clock::now();
        if ready.watches {
            self.watches.read(now);
        }
        self.follow_files(now);
        if self.core.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.pending.push_back(Event::Tick);
            self.settle();
        }
        self.retry_clients(now);
        self.workers.beat(&mut self.sockets, now);
        self.workers.say_partings(&mut self.sockets);
        self.sockets.keep_time(now);
        self.sockets.flush();
        self.answer_asker();
        self.room.look(&mut self.sockets, now);
        self.tell_watchers(now);
        crate::logging::tell_left_out();
        self.tell_pulse(now);
        self.parent.flush();
        Ok(())
    }

    fn read_parent(&mut self) -> Result<(), Orphaned> {
        let mut events = Vec::new();
        let heard = self.parent.read(&mut self.crew, &mut events)?;
        // A reload that follows them is one under these settings.
        for settings in std::mem::take(&mut self.parent.settings) {
            self.configure(&settings);
        }
        self.pending.extend(events);
        self.settle();
        if let Some(number) = heard.question {
            self.pulse.ask(number);
        }
        for signal in heard.signals {
            match signal {
                Signal::Usr1 | Signal::Hup => {
                    if let Err(error) = crate::logging::reopen() {
                        warn!(%error, "cannot reopen the log file: the old one is used on");
                    }
                }
                Signal::Term | Signal::Int | Signal::Quit | Signal::Ttin | Signal::Ttou | Signal::Usr2 => (),
            }
        }
        Ok(())
    }

    /// A change of the files that somebody named is a reload.
    fn follow_files(&mut self, now: Timestamp) {
        while let Some((service, path)) = self.watches.take_change(now) {
            let label = self.label(service);
            info!(path = %path.display(), service = label, "changed on the disk: reloading");
            self.settle_in(service, Event::Reload { surge: None });
        }
    }

    /// While much comes, asking what has come costs more than looking.
    fn read_on(&mut self, mut messages: usize) -> Result<(), Orphaned> {
        for _pass in 0..PASSES {
            let much = 1 < messages;
            messages = 0;
            if much {
                messages += self.read_workers(Door::Crew)?;
            }
            if self.sockets.backend.is_stirred() {
                messages += self.read_workers(Door::Backend)?;
            }
            if (much || self.sockets.frontend.is_stirred()) && !self.is_handing_over() {
                messages += self.read_clients();
            }
            if messages == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Returns how many messages there were.
    fn read_clients(&mut self) -> usize {
        let mut events = Vec::new();
        for message in 0..BATCH {
            let Some(received) = self.sockets.frontend.receive(&mut self.frames) else {
                return message;
            };
            self.clients.read(&received, &mut self.frames, &mut events);
            self.pending.extend(events.drain(..));
            self.settle();
            self.answer_mmi();
            self.write_after(message);
        }
        BATCH
    }

    /// Returns how many messages there were.
    fn read_workers(&mut self, door: Door) -> Result<usize, Orphaned> {
        let mut events = Vec::new();
        for message in 0..BATCH {
            let Some(received) = self.sockets.at(door).receive(&mut self.frames) else {
                return Ok(message);
            };
            if door == Door::Crew && self.workers.is_new(door, &received.routing_id) {
                // The parent has told of a process before it runs its first step.
                self.read_parent()?;
            }
            self.workers.read((door, &received), &mut self.frames, &self.crew, &mut events);
            self.pending.extend(events.drain(..));
            self.settle();
            self.workers.say_partings(&mut self.sockets);
            self.write_after(message);
        }
        Ok(BATCH)
    }

    fn write_after(&mut self, message: usize) {
        if message % TOGETHER == TOGETHER - 1 {
            self.sockets.flush();
        }
    }

    /// Hands every pending event to the core and performs what follows. What is said to peers thereby is written later,
    /// together.
    fn settle(&mut self) {
        self.perform_all();
        while let Some(event) = self.pending.pop_front() {
            self.pulse.stir();
            self.core.handle(event, clock::now(), &mut self.decisions);
            // What is performed may have consequences.
            self.perform_all();
        }
        self.conclude_agent();
    }

    fn perform_all(&mut self) {
        let mut decisions = std::mem::take(&mut self.decisions);
        for Decision { service, action } in decisions.drain(..) {
            self.perform(service, action);
        }
        self.decisions = decisions;
    }
}

fn random<const N: usize>() -> Result<[u8; N], RouterError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RouterError::NoRandomness)?;
    Ok(bytes)
}
