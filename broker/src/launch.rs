//! From a configuration to running processes: binds, writes the pid file, and
//! joins what parent, router and workers do not know of each other.

mod adapters;
mod recipes;
pub(crate) mod rehearsal;
mod reread;
mod saved;
mod takeover;

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tracing::{error, info, warn};

use crate::allocator;
use crate::callbacks::{self, Callbacks, EndedWorker, NewWorker};
use crate::config::{
    Activation, Config, ConfigError, Configured, ControlPlace, CrewPlan, Environment, InForce, PlaceError,
    Privilege, ProgramKind, ReadSocket, ServiceConfig,
};
use crate::core::Settings;
use crate::http;
use crate::link::{ConfigRead, ExitStatus};
use crate::logging::{self, LogError};
use crate::parent::errand::Errand;
use crate::parent::listeners::{Access, ListenError, Listeners, PRIVATE, Port, UnixSocket};
use crate::parent::successor::{self, Successor};
use crate::parent::{self, ParentError, RouterProcess, WorkerProcess, signals, title};
use crate::pid_file::{PidFile, PidFileError};
use crate::router;
pub(crate) use adapters::framing;
pub(crate) use recipes::handled;
use recipes::{program, recipes};
use reread::Rereader;

/// A directory that others may pass through, for workers of another user.
const PASSABLE: u32 = 0o711;

/// Said on the start-up screen of a crew whose broker may be another machine.
const NOT_SECRET: &str =
    "\n  --insecure: what goes to and fro is neither encrypted nor authenticated: trust the network";

/// The exit code of a worker that could not prepare itself: a Rust program that panicked has it too.
const PANICKED: u8 = 101;

/// Why nothing was started, or why it ended.
#[derive(Debug)]
pub enum LaunchError {
    /// What a service manager says cannot be understood.
    Environment(ConfigError),
    /// The log cannot be written.
    Log(LogError),
    /// A port or a socket cannot be had.
    Listen(ListenError),
    /// There is no safe place for the control socket.
    Place(PlaceError),
    /// The pid file cannot be had.
    PidFile(PidFileError),
    /// The parent cannot do its work.
    Parent(ParentError),
}

impl LaunchError {
    /// What the process exits with, as DESIGN's table of exit codes has it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Environment(_) | Self::Listen(ListenError::HandedOver { .. }) => 2,
            Self::Listen(ListenError::PortTaken { .. } | ListenError::SocketInUse { .. }) => 4,
            Self::Listen(_) | Self::Log(_) | Self::Place(_) | Self::PidFile(_) | Self::Parent(_) => 1,
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Place(error) => error.fmt(f),
            Self::PidFile(error) => error.fmt(f),
            Self::Parent(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LaunchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Environment(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::Listen(error) => Some(error),
            Self::Place(error) => Some(error),
            Self::PidFile(error) => Some(error),
            Self::Parent(error) => Some(error),
        }
    }
}

/// What a forked worker does, given where to connect.
pub(crate) type Work = Box<dyn FnMut(&hornpipe_worker::Settings, &str) -> u8>;

/// What a program of its own brings.
pub(crate) struct Own {
    pub(crate) work: Work,
    pub(crate) callbacks: Callbacks,
}

/// Runs the broker until it is stopped; returns the process's exit code.
pub(crate) fn launch(configured: Configured, own: Option<Own>) -> Result<u8, LaunchError> {
    signals::hold();
    let ended = run(configured, own);
    if ended.is_err() {
        signals::let_go();
    }
    ended
}

fn run(configured: Configured, own: Option<Own>) -> Result<u8, LaunchError> {
    let config = configured.config.clone();
    let environment = Environment::read();
    let errand = environment.errand();
    if let Errand::Try { inheritance, verdict } = errand {
        // The answer is all that is wanted: the pool is another process's.
        return successor::be_tried(inheritance, verdict).map(|()| 0).map_err(LaunchError::Parent);
    }
    let supervision = environment.supervision().map_err(LaunchError::Environment)?;
    let activation = environment.activation().map_err(LaunchError::Environment)?;
    let logs = match errand {
        Errand::Take { .. } => takeover::start_log(&config.log),
        Errand::None | Errand::Try { .. } => logging::start(&config.log),
    };
    match logs {
        // A program of its own that logs already: its log is ours.
        Ok(()) | Err(LogError::Twice) => (),
        Err(error) => return Err(LaunchError::Log(error)),
    }
    if let Some(error) = &configured.passed_over {
        error!(%error, "the configuration cannot be used: that of before the upgrade stays");
    }
    let (listeners, inherited, inherited_file) = match errand {
        Errand::Take { inheritance } => {
            let inheritance = takeover::take(inheritance, &config)
                .map_err(|error| LaunchError::Parent(ParentError::Inheritance(error)))?;
            info!(version = env!("CARGO_PKG_VERSION"), "upgraded: this program has taken over");
            (inheritance.listeners, Some(inheritance.pool), inheritance.pid_file)
        }
        Errand::None | Errand::Try { .. } => (bind(&config, activation)?, None, None),
    };
    let pid_file = match (config.pid_file.as_deref(), inherited_file) {
        (Some(path), Some(descriptor)) => takeover::hold_pid_file(path, descriptor).map(Ok),
        (Some(path), None) => Some(PidFile::write(path)),
        (None, _) => None,
    };
    let pid_file = pid_file.transpose().map_err(LaunchError::PidFile)?;
    // Before the title, which is written over the arguments.
    let successor = Successor::of_this_process(environment.for_successor(), &environment.search_path());
    let endpoints = Endpoints::of(&listeners, &config);
    title::set(&format!("hornpipe: {} {}", endpoints.parent_title(), endpoints.ports));
    if config.privilege == Privilege::Root {
        warn!("router and workers run as root: --user NAME drops it");
    }
    if let Some(broker) = config.crew.as_ref().and_then(|crew| crew.exposed.as_deref()) {
        warn!(broker, "what goes to and fro over the network is neither encrypted nor authenticated");
    }
    let standing = router_setup(&config, &endpoints.frontend, &endpoints.backend);
    let standing = Rc::new(RefCell::new(standing));
    let born_with = Rc::clone(&standing);
    let router_title = format!("hornpipe: {} {}", endpoints.router_title(), endpoints.ports);
    let mut route = |process: RouterProcess| {
        title::set(&router_title);
        allocator::keep_for_next_bodies();
        let setup = born_with.borrow().clone();
        router::run(&setup, start(process))
    };
    let http_title = endpoints.http.map(|address| format!("hornpipe: http {}", address.port()));
    let (work, callbacks) = own.map(|own| (own.work, own.callbacks)).unzip();
    let Callbacks { mut before_fork, after_fork, mut on_worker_exit } = callbacks.unwrap_or_default();
    // A handler of its own is what it is; what stands in the settings can become another.
    let default_maker: Option<reread::Maker> =
        work.is_none().then_some(|service| program(service, None, None));
    let recipes = recipes(&config, work, after_fork);
    let settings_text = configured.text();
    let in_force = InForce::new(configured);
    let mut rereader = Rereader { in_force, standing, recipes: recipes.clone(), default_maker };
    let setup = parent::Setup {
        listeners,
        worker_backend: endpoints.crew.clone(),
        identity: config.identity.clone(),
        recipes,
        settings_text,
        hooks: config.hooks.clone(),
        drain: config.default.core.drain,
        before_fork: Box::new(move |worker| {
            callbacks::call("before_fork", &mut before_fork, &new_worker(worker));
        }),
        on_worker_exit: Box::new(move |worker, pid, status| {
            callbacks::call("on_worker_exit", &mut on_worker_exit, &ended_worker(worker, pid, status));
        }),
        output: Box::new(
            |place, pid, line| info!(target: logging::EACH, slot = place.slot, pid, line, "worker output"),
        ),
        on_reopen: Box::new(reopen_log),
        on_ready: Box::new(move || endpoints.print()),
        on_saved: Box::new(saved::print),
        http: Box::new(move |process| {
            title::set(http_title.as_deref().unwrap_or_default());
            http::run(http::Start { listener: process.listener, line: process.line })
        }),
        config_read: rereader
            .in_force
            .has_file()
            .then(|| ConfigRead { succeeded: true, at: parent::clock::now() }),
        on_hup: Box::new(move || rereader.read()),
        successor,
        supervision,
        pid_file: pid_file.as_ref().map(PidFile::descriptor).transpose().map_err(LaunchError::PidFile)?,
        inherited,
    };
    let ended = parent::run(setup, &mut route).map_err(LaunchError::Parent);
    drop(pid_file);
    ended
}

/// Each process opens the file for itself.
pub(crate) fn reopen_log() {
    if let Err(error) = logging::reopen() {
        warn!(%error, "cannot reopen the log file: the old one is used on");
    }
}

fn bind(config: &Config, activation: Activation) -> Result<Listeners, LaunchError> {
    let handed_over = |name, number: Option<RawFd>, address: SocketAddr| {
        let port = number.map(|number| Port::handed_over(name, number, address)).transpose();
        port.map_err(LaunchError::Listen)
    };
    let is_crew = config.crew.is_some();
    // Before anything is opened here that could have the number of one that is missing.
    let frontend = handed_over("frontend", activation.frontend, config.frontend)?;
    let backend = handed_over("backend", activation.backend, config.backend)?;
    let or_bound = |port: Option<Port>, address: SocketAddr| {
        let bind = || Port::bind(&address.ip().to_string(), address.port()).map_err(LaunchError::Listen);
        port.map_or_else(bind, Ok)
    };
    let or_none = |port: Option<Port>, address: SocketAddr| {
        if is_crew { Ok(port) } else { or_bound(port, address).map(Some) }
    };
    let frontend = or_none(frontend, config.frontend)?;
    let backend = or_none(backend, config.backend)?;
    let http = config.http.map(|address| or_bound(None, address)).transpose()?;
    config.control.prepare().map_err(LaunchError::Place)?;
    let name = config.name(frontend.as_ref().map(|port| port.address));
    let control_path = config.control.socket(&name);
    let control = UnixSocket::bind(&control_path, Access::default()).map_err(LaunchError::Listen)?;
    let owner = config.identity.user.map(|user| (user, config.identity.group.unwrap_or(user)));
    let directory_mode = if owner.is_some() { PASSABLE } else { PRIVATE };
    let crew_path = config.control.crew_for(&name, &config.identity);
    let access = Access { directory_mode, owner, group: None };
    let crew = UnixSocket::bind(&crew_path, access).map_err(LaunchError::Listen)?;
    let for_readers = |socket: &ReadSocket| {
        let access = Access { group: socket.group, ..Access::default() };
        UnixSocket::bind(&socket.path, access).map_err(LaunchError::Listen)
    };
    let control_read = config.control_read.as_ref().map(for_readers).transpose()?;
    Ok(Listeners { frontend, backend, crew, control, control_read, http })
}

/// What is said of the listeners, in titles, in `status` and on the screen.
#[derive(Debug)]
struct Endpoints {
    /// For titles: a broker's ports, or a crew's name.
    ports: String,
    crew_plan: Option<CrewPlan>,
    frontend: String,
    backend: String,
    /// As workers see it.
    crew: String,
    /// Where metrics and health are asked for.
    http: Option<SocketAddr>,
    /// What operators say to the verbs.
    name: String,
    workers: u32,
    services: usize,
    /// Where the control socket is, if operators must be told.
    control: Option<PathBuf>,
}

impl Endpoints {
    fn of(listeners: &Listeners, config: &Config) -> Self {
        let address = |port: &Option<Port>| port.as_ref().map(|port| port.address);
        let (frontend, backend) = (address(&listeners.frontend), address(&listeners.backend));
        let shown = |address: Option<SocketAddr>| {
            address.map(|address| format!("tcp://{address}")).unwrap_or_default()
        };
        let name = config.name(frontend);
        let services = || std::iter::once(&config.default).chain(&config.further);
        let crew = seen_inside(&listeners.crew.path, config.identity.chroot.as_deref());
        let control = match &config.control {
            ControlPlace::File(path) => Some(path.clone()),
            ControlPlace::Directory(_) | ControlPlace::Shared(_) => None,
        };
        Self {
            ports: match (frontend, backend) {
                (Some(frontend), Some(backend)) => format!("{} {}", frontend.port(), backend.port()),
                _ => name.clone(),
            },
            crew_plan: config.crew.clone(),
            frontend: shown(frontend),
            backend: shown(backend),
            crew: format!("ipc://{}", crew.display()),
            http: listeners.http.as_ref().map(|port| port.address),
            name,
            workers: services().map(|service| service.core.workers).sum(),
            services: services().count(),
            control,
        }
    }

    fn parent_title(&self) -> &'static str {
        if self.crew_plan.is_some() { "crew" } else { "parent" }
    }

    fn router_title(&self) -> &'static str {
        if self.crew_plan.is_some() { "agent" } else { "router" }
    }

    /// One screen: what runs, and how to go on from here.
    fn print(&self) {
        let pid = std::process::id();
        let port = &self.name;
        let verbs = match &self.control {
            None => port.clone(),
            Some(path) => format!("{port} --control {}", path.display()),
        };
        let workers = match self.workers {
            0 => "no workers of its own: start some against the backend".to_owned(),
            1 if self.services == 1 => "1 worker, ready".to_owned(),
            workers if self.services > 1 => {
                format!("{workers} workers of {} services, the first of each is ready", self.services)
            }
            workers => format!("{workers} workers, the first is ready"),
        };
        let http = self.http.map(|address| format!("  http   http://{address}/\n")).unwrap_or_default();
        let head = match &self.crew_plan {
            None => format!(
                "frontend {frontend}  backend {backend}  pid {pid}\n  {workers}\n  \
                 ask    hornpipe req {port} hello",
                frontend = self.frontend,
                backend = self.backend,
            ),
            Some(crew) => format!(
                "crew {port}  serves {brokers}  pid {pid}{warning}\n  {workers}",
                brokers = crew.brokers.join(" "),
                warning = crew.exposed.as_ref().map(|_broker| NOT_SECRET).unwrap_or_default(),
            ),
        };
        let screen = format!(
            "hornpipe {version}  {head}\n  \
             watch  hornpipe status {verbs}\n  \
             scale  hornpipe scale {verbs} +1        or  kill -TTIN {pid}\n  \
             stop   hornpipe stop {verbs}            or  Ctrl-C, kill {pid}\n{http}",
            version = env!("CARGO_PKG_VERSION"),
        );
        let mut stdout = std::io::stdout().lock();
        if stdout.write_all(screen.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            warn!("nobody reads the start-up screen");
        }
    }
}

/// The path as a process sees it whose root directory is `chroot`.
fn seen_inside(path: &Path, chroot: Option<&Path>) -> PathBuf {
    match chroot.and_then(|root| path.strip_prefix(root).ok()) {
        Some(inside) => Path::new("/").join(inside),
        None => path.to_owned(),
    }
}

fn router_setup(config: &Config, frontend: &str, backend: &str) -> router::Setup {
    router::Setup {
        default: routed(&config.default),
        further: config.further.iter().map(routed).collect(),
        external: config.external,
        plain_errors: config.plain_errors,
        operators: config.operators.clone(),
        frontend: frontend.to_owned(),
        backend: backend.to_owned(),
        crew: config.crew.as_ref().map(|crew| router::CrewSetup {
            brokers: crew.brokers.clone(),
            host: crew.host.clone(),
            service: crew.service.clone(),
        }),
    }
}

/// A service, as the router knows it.
fn routed(service: &ServiceConfig) -> router::ServiceSetup {
    router::ServiceSetup {
        settings: Settings { service: service.name.as_str().into(), ..service.core.clone() },
        probe: service.probe.clone(),
        reload_on: service.reload_on.clone(),
        silent_workers_hint: match service.program {
            // It speaks no less than its mold did.
            ProgramKind::Exec(_) if service.molded => "",
            ProgramKind::Exec(_) => {
                "; a program that knows no ZeroMQ needs --each or --lines: did you mean --each or --lines?"
            }
            ProgramKind::Each(_) | ProgramKind::Lines { .. } | ProgramKind::Echo | ProgramKind::None => "",
        },
    }
}

fn start(process: RouterProcess) -> router::Start {
    router::Start {
        link: process.link,
        life: process.life,
        frontend: process.listeners.frontend.map(|port| port.descriptor),
        backend: process.listeners.backend.map(|port| port.descriptor),
        crew: process.listeners.crew.descriptor,
        control: process.listeners.control.descriptor,
        control_read: process.listeners.control_read.map(|socket| socket.descriptor),
        journal: process.journal,
        workers: process
            .workers
            .into_iter()
            .map(|worker| router::LiveWorker {
                place: worker.place,
                generation: worker.generation,
                pid: worker.pid,
                started: worker.started_at,
            })
            .collect(),
        used: process.used,
        memory: process.blob,
        named_memories: process.named_blobs,
        parent_pid: process.parent_pid,
        parent_started: process.parent_started_at,
    }
}

fn new_worker(WorkerProcess { place, generation, .. }: &WorkerProcess) -> NewWorker {
    NewWorker { slot: place.slot, incarnation: place.incarnation, generation: *generation }
}

fn ended_worker(worker: &WorkerProcess, pid: i32, status: &ExitStatus) -> EndedWorker {
    let NewWorker { slot, incarnation, generation } = new_worker(worker);
    EndedWorker { slot, incarnation, generation, pid, reason: status.to_string() }
}
