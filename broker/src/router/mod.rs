//! HOW TO TALK. One thread, one poll loop around the core: bytes become events,
//! actions become bytes. Whatever is decided, is decided elsewhere.

mod sockets;
mod connections;
mod clients;
mod workers;
mod crew;
mod parent;
mod control;
mod report;
mod notes;
mod outbox;
mod memory;
mod room;
mod capabilities;
mod memory_limit;
mod frame;
mod clock;
mod ffi;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use hornpipe_proto::control::{ControlRequest, ControlResponse, Scale};
use nix::errno::Errno;
use tracing::{error, info, warn};

use crate::config::{External, PlainErrors};
use crate::core::{Action, Core, Event, Finish, Generation, Generator, RequestId, Settings, Stop, Timestamp};
use crate::link::{self, Link, Signal, ToParent, WorkerSignal};
use clients::Clients;
use control::ControlSocket;
use crew::CrewList;
use frame::{Body, Frame};
use parent::{Orphaned, Parent};
use room::Room;
pub(crate) use sockets::Door;
use sockets::RouterSocket;
use workers::Workers;

/// What the operator asked for, as far as it concerns talking.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) external: External,
    pub(crate) plain_errors: PlainErrors,
    /// For `status`: where clients and workers connect.
    pub(crate) frontend: String,
    pub(crate) backend: String,
    /// Said when workers cannot start and none of them has sent a message.
    pub(crate) silent_workers_hint: &'static str,
}

/// What one life of the router begins with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) link: Link,
    /// 1 for the first router of a parent.
    pub(crate) life: u32,
    pub(crate) frontend: OwnedFd,
    pub(crate) backend: Option<OwnedFd>,
    pub(crate) crew: Option<OwnedFd>,
    pub(crate) control: Option<OwnedFd>,
    /// Workers that an earlier router started.
    pub(crate) workers: Vec<LiveWorker>,
    /// The last filling of each slot so far, which may be beyond what `memory` says.
    pub(crate) used: Vec<link::Place>,
    /// What an earlier router left behind.
    pub(crate) memory: Option<Vec<u8>>,
    pub(crate) parent_pid: i32,
    /// When the parent started, on the monotonic clock.
    pub(crate) parent_started: Duration,
}

/// A worker that an earlier router started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveWorker {
    pub(crate) place: link::Place,
    pub(crate) generation: u32,
    pub(crate) pid: i32,
    /// On the monotonic clock.
    pub(crate) started: Duration,
}

/// Why there is no router.
#[derive(Debug)]
pub(crate) enum RouterError {
    /// libzmq was built without what failure detection needs.
    NoDrafts,
    /// A descriptor the parent handed over is not what it should be.
    Listener { door: Door, why: &'static str },
    /// A call of libzmq failed.
    Socket { door: Door, error: Errno },
    /// The kernel gave no random bytes.
    NoRandomness(getrandom::Error),
}

impl std::fmt::Display for RouterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoDrafts => f.write_str(
                "this libzmq has no draft interface, so departed peers go unnoticed: build with the zmq-sys of this project",
            ),
            Self::Listener { door, why } => write!(f, "the {door} listener cannot be used: {why}"),
            Self::Socket { door, error } => write!(f, "the {door} socket failed: {error}"),
            Self::NoRandomness(error) => write!(f, "no random bytes from the kernel: {error}"),
        }
    }
}

impl std::error::Error for RouterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket { error, .. } => Some(error),
            Self::NoDrafts | Self::Listener { .. } | Self::NoRandomness(_) => None,
        }
    }
}

/// Messages taken off one socket before the others have their turn.
const BATCH: usize = 256;

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
struct Sockets {
    frontend: RouterSocket,
    backend: RouterSocket,
    crew: RouterSocket,
    control: ControlSocket,
}

impl Sockets {
    fn any_descriptor(&self) -> &impl AsFd {
        self.control.descriptor()
    }

    fn of(&mut self, door: Door) -> &mut RouterSocket {
        match door {
            Door::Frontend => &mut self.frontend,
            Door::Backend => &mut self.backend,
            Door::Crew => &mut self.crew,
        }
    }
}

#[derive(Debug)]
struct Router {
    setup: Setup,
    life: u32,
    parent_pid: i32,
    parent_started: Duration,
    core: Core<Body>,
    sockets: Sockets,
    clients: Clients,
    workers: Workers,
    crew: CrewList,
    parent: Parent,
    room: Room,
    /// Events that performing actions has brought about.
    pending: VecDeque<Event<Body>>,
    actions: Vec<Action<Body>>,
    frames: Vec<Frame>,
    exit_code: Option<u8>,
}

impl Router {
    fn new(setup: &Setup, start: Start) -> Result<Self, RouterError> {
        capabilities::check()?;
        memory_limit::apply(&setup.settings);
        ffi::seed_rand(u32::from_ne_bytes(random()?));
        let room = Room::new(clock::now());
        let context = zmq::Context::new();
        let limits = (random()?, setup.settings.body_limit);
        let memory = start.memory.as_deref().and_then(memory::decode);
        let memory = memory::complete(memory, &start.used);
        let generator = Generator::new(start.life, random()?);
        let missing = |door| RouterError::Listener { door, why: "it was not handed over" };
        let mut crew = CrewList::default();
        let mut pending = VecDeque::new();
        for worker in start.workers {
            let place = parent::from_link(worker.place);
            crew.started(place, worker.pid);
            let generation = Generation(worker.generation);
            let started = Timestamp(worker.started);
            pending.push_back(Event::Adopted { place, generation, pid: worker.pid, started });
        }
        // The first event makes the core ask for workers.
        pending.push_back(Event::Tick);
        Ok(Self {
            setup: setup.clone(),
            life: start.life,
            parent_pid: start.parent_pid,
            parent_started: start.parent_started,
            core: Core::new(setup.settings.clone(), generator, memory.as_ref()),
            sockets: Sockets {
                frontend: RouterSocket::open(&context, Door::Frontend, start.frontend, limits)?,
                backend: RouterSocket::open(
                    &context,
                    Door::Backend,
                    start.backend.ok_or(missing(Door::Backend))?,
                    limits,
                )?,
                crew: RouterSocket::open(
                    &context,
                    Door::Crew,
                    start.crew.ok_or(missing(Door::Crew))?,
                    limits,
                )?,
                control: ControlSocket::new(start.control.ok_or(missing(Door::Crew))?),
            },
            clients: Clients::new(setup.plain_errors),
            workers: Workers::new(setup.external),
            crew,
            parent: Parent::new(start.link),
            room,
            pending,
            actions: Vec::new(),
            frames: Vec::new(),
            exit_code: None,
        })
    }

    fn serve(&mut self) -> u8 {
        self.settle();
        loop {
            if let Some(code) = self.exit_code {
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
        self.read_parent()?;
        if ready.crew {
            self.read_workers(Door::Crew)?;
        }
        if ready.backend {
            self.read_workers(Door::Backend)?;
        }
        if ready.frontend {
            self.read_clients();
        }
        if ready.control {
            self.serve_operators();
        }
        let now = clock::now();
        if self.core.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.pending.push_back(Event::Tick);
            self.settle();
        }
        self.clients.retry(&mut self.sockets.frontend, now);
        self.room.look(&mut self.sockets, now);
        self.parent.flush();
        Ok(())
    }

    fn wait(&mut self) -> Ready {
        let parent_events =
            if self.parent.wants_to_write() { zmq::POLLIN | zmq::POLLOUT } else { zmq::POLLIN };
        let mut items = vec![
            self.sockets.crew.poll_item(),
            self.sockets.backend.poll_item(),
            self.sockets.frontend.poll_item(),
            zmq::PollItem::from_fd(self.parent.descriptor().as_raw_fd(), parent_events),
        ];
        items.extend(self.sockets.control.poll_items());
        let timeout = self.time_to_next_deadline();
        match zmq::poll(&mut items, timeout) {
            Ok(_count) => {
                let mut readable =
                    items.iter().map(|item| item.is_readable() || item.is_writable() || item.is_error());
                let mut next = || readable.next().unwrap_or_default();
                let (crew, backend, frontend, _parent) = (next(), next(), next(), next());
                Ready { crew, backend, frontend, control: readable.any(|ready| ready) }
            }
            Err(zmq::Error::EINTR) => Ready::default(),
            Err(error) => {
                error!(%error, "cannot poll");
                self.exit_code = Some(1);
                Ready::default()
            }
        }
    }

    /// In milliseconds, rounded up so that nothing is woken too early and spins.
    fn time_to_next_deadline(&self) -> i64 {
        let now = clock::now();
        let deadlines =
            [self.core.next_deadline(), self.clients.next_deadline(), Some(self.room.next_deadline())];
        let next =
            deadlines.into_iter().flatten().min().map_or(Duration::MAX, |deadline| now.until(deadline));
        i64::try_from(next.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
    }

    fn read_parent(&mut self) -> Result<(), Orphaned> {
        let mut events = Vec::new();
        let signals = self.parent.read(&mut self.crew, &mut events)?;
        self.pending.extend(events);
        self.settle();
        for signal in signals {
            match signal {
                Signal::Usr1 | Signal::Hup => {
                    if let Err(error) = crate::logging::reopen() {
                        warn!(%error, "cannot reopen the log file: the old one is used on");
                    }
                }
                Signal::Usr2 => info!("USR2: replacing the router is not possible yet"),
                Signal::Term | Signal::Int | Signal::Quit | Signal::Ttin | Signal::Ttou => (),
            }
        }
        Ok(())
    }

    fn read_clients(&mut self) {
        let mut events = Vec::new();
        for _message in 0..BATCH {
            let Some(received) = self.sockets.frontend.receive(&mut self.frames) else { return };
            self.clients.read(&received, &mut self.frames, &mut events);
            self.pending.extend(events.drain(..));
            self.settle();
        }
    }

    fn read_workers(&mut self, door: Door) -> Result<(), Orphaned> {
        let mut events = Vec::new();
        for _message in 0..BATCH {
            let Some(received) = self.sockets.of(door).receive(&mut self.frames) else { break };
            if door == Door::Crew && self.workers.is_new(door, &received.routing_id) {
                // The parent has told of a process before it runs its first step.
                self.read_parent()?;
            }
            self.workers.read((door, &received), &mut self.frames, &self.crew, &mut events);
            self.pending.extend(events.drain(..));
            self.settle();
        }
        Ok(())
    }

    /// Hands every pending event to the core and performs what follows.
    fn settle(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            let mut actions = std::mem::take(&mut self.actions);
            self.core.handle(event, clock::now(), &mut actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
            self.actions = actions;
        }
    }

    fn perform(&mut self, action: Action<Body>) {
        match action {
            Action::Answer { request, attempt, body } => {
                self.clients.answer(&mut self.sockets.frontend, request, attempt, &body);
            }
            Action::Refuse { request, status, attempt, message } => {
                self.clients.refuse(&mut self.sockets.frontend, request, (status, attempt, message));
            }
            Action::Forget { request } => self.clients.forget(request),
            Action::Assign(assignment) => {
                let name = if assignment.detailed { self.name(assignment.request) } else { String::new() };
                let undelivered = self.workers.assign(&mut self.sockets, &assignment, name);
                self.pending.extend(undelivered);
            }
            Action::Cancel { worker, token } => self.workers.cancel(&mut self.sockets, worker, token),
            Action::Dismiss { worker } => self.workers.dismiss(&mut self.sockets, worker),
            Action::Spawn { place, generation } => self.parent.spawn(place, generation),
            Action::Terminate { place } => self.parent.signal(place, WorkerSignal::Term),
            Action::Kill { place } => self.parent.signal(place, WorkerSignal::Kill),
            Action::Remember(memory) => {
                self.parent.send(ToParent::Remember { blob: memory::encode(&memory) });
            }
            Action::Note(note) => {
                notes::log(&note, &self.core, &self.parent);
                if note == crate::core::Note::Ready {
                    self.parent.send(ToParent::Ready);
                }
            }
            Action::Stopping { within } => {
                let within_ms = within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
                self.parent.send(ToParent::Stopping { within_ms });
            }
            Action::Finished(finish) => self.finish(&finish),
        }
    }

    /// The request's name in logs and in the worker's hands.
    fn name(&self, request: RequestId) -> String {
        match self.clients.name_of(request) {
            Some(name) => name.to_owned(),
            None => format!("{}-{request}", self.life),
        }
    }

    fn finish(&mut self, finish: &Finish) {
        let exit_code = match finish {
            Finish::Stopped => {
                info!("stopped");
                0
            }
            Finish::CannotExecute => {
                error!("workers cannot start: the program cannot be executed");
                3
            }
            Finish::CannotStart { spoke: true } => {
                error!("workers cannot start: see their last words above");
                3
            }
            Finish::CannotStart { spoke: false } => {
                let hint = self.setup.silent_workers_hint;
                error!(
                    "workers cannot start, and sent no message before they ended: see their last words above{hint}"
                );
                3
            }
        };
        self.exit_code = Some(exit_code);
        self.parent.send(ToParent::Finished { exit_code });
    }
}

/// Operators.
impl Router {
    fn serve_operators(&mut self) {
        self.sockets.control.turn();
        while let Some((operator, request)) = self.sockets.control.next_request() {
            let response = self.obey(&request);
            self.sockets.control.respond(operator, &response);
        }
    }

    fn obey(&mut self, request: &ControlRequest) -> ControlResponse {
        let now = clock::now();
        match request {
            ControlRequest::Status => {
                let around = report::Surroundings {
                    frontend: self.setup.frontend.clone(),
                    backend: self.setup.backend.clone(),
                    parent_pid: self.parent_pid,
                    life: self.life,
                    uptime: now.0.saturating_sub(self.parent_started),
                    undelivered: self.clients.undelivered(),
                };
                ControlResponse::Status(Box::new(report::report(self.core.snapshot(now), around)))
            }
            ControlRequest::Check => {
                let ready = self.core.is_ready();
                let reason = if ready { "ready" } else { self.core.phase().as_str() };
                ControlResponse::Check { ready, reason: reason.into() }
            }
            ControlRequest::Scale(scale) => {
                let from = self.core.target();
                self.pending.push_back(match scale {
                    Scale::To(target) => Event::ScaleTo { target: *target },
                    Scale::By(change) => Event::ScaleBy { change: *change },
                });
                self.settle();
                ControlResponse::Scaled { from, to: self.core.target() }
            }
            ControlRequest::Stop { now } => {
                self.pending.push_back(Event::Stop(if *now { Stop::Now } else { Stop::Drain }));
                self.settle();
                ControlResponse::Stopping
            }
        }
    }
}

/// What there is to read.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each source, and any of them may be set")]
struct Ready {
    crew: bool,
    backend: bool,
    frontend: bool,
    control: bool,
}

fn random<const N: usize>() -> Result<[u8; N], RouterError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RouterError::NoRandomness)?;
    Ok(bytes)
}
