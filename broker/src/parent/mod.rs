//! HOW TO BREED: fork, exec, reap, signals, the output of workers, the listeners.
//!
//! The parent is one thread and never blocks, opens no ZeroMQ context and reads no byte
//! of a peer. It decides nothing about the pool: the router orders, and is told what
//! happened. What the router is, the parent does not know either; it is handed a closure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::link::{ConfigRead, ExitStatus, Link, Place};

pub mod apart;
mod child;
mod children;
pub mod clock;
mod conditions;
pub mod errand;
mod error;
mod exit_status;
mod gate;
mod hooks;
mod http;
mod identity;
pub mod inheritance;
mod journal;
pub mod listeners;
mod listen_error;
mod mold;
mod notify_socket;
mod out_of_memory;
mod output;
mod port_holder;
mod process;
mod recipes;
mod router_life;
mod service_manager;
pub mod signals;
mod stop;
pub mod successor;
mod threads;
pub mod title;
mod turn;

pub use self::conditions::{Conditions, Limit, RESOURCES, Resource, UNLIMITED, Unit};
pub use self::error::ParentError;
pub use self::hooks::Hook;
pub use self::identity::Identity;
use self::inheritance::InheritedPool;
pub use self::listeners::Listeners;
pub use self::recipes::Recipe;
pub use self::service_manager::Supervision;
use self::successor::Successor;
pub use self::turn::run;
pub use crate::link::HookEvent;

/// Takes a line that the worker in that place wrote, and its pid.
pub type LineTaker = Box<dyn FnMut(Place, i32, &str)>;

/// Takes a worker that has ended: which, its pid, and how.
pub type ExitTaker = Box<dyn FnMut(&WorkerProcess, i32, &ExitStatus)>;

/// Answers over HTTP until the router is gone; a reason if it cannot.
pub type HttpBody = Box<dyn FnMut(HttpProcess) -> Result<(), String>>;

/// What the parent needs to know.
pub struct Setup {
    /// What is listened on, already bound.
    pub listeners: Listeners,
    /// What a worker may be: orders name them by their place here.
    pub recipes: Vec<Recipe>,
    /// Who router and workers are.
    pub identity: Identity,
    /// What is run when something happens, as router and workers are, in the environment of
    /// the first recipe's workers.
    pub hooks: Vec<Hook>,
    /// Where workers connect, as `HORNPIPE_BACKEND` says it.
    pub worker_backend: String,
    /// How long running requests may take after TERM. The parent waits 5 s longer for the
    /// router before it ends everything.
    pub drain: Duration,
    /// Is handed what workers write: lines that are cut, cleaned and bounded.
    pub output: LineTaker,
    /// Called before each fork of a worker.
    pub before_fork: Box<dyn FnMut(&WorkerProcess)>,
    /// Called when a worker has ended, with its pid, which names nobody any more.
    pub on_worker_exit: ExitTaker,
    /// Called when the log files are to be reopened. The router has its own copy of every
    /// descriptor and hears of it by [`Signal::Usr1`](crate::link::Signal::Usr1).
    pub on_reopen: Box<dyn FnMut()>,
    /// Called at HUP: the settings are to be read again, in no time that anybody would notice.
    pub on_hup: Box<dyn FnMut() -> Reread>,
    /// How the configuration file was read last, if there is one.
    pub config_read: Option<ConfigRead>,
    /// What the settings in force were read from, for the program that takes this one's place.
    pub settings_text: Option<String>,
    /// Called once, when the router says that the first worker is ready.
    pub on_ready: Box<dyn FnMut()>,
    /// Called once, when it is known what the first mold saves.
    pub on_saved: Box<dyn FnMut(&Saved)>,
    /// What is run in a process of its own if [`Listeners::http`] is there.
    pub http: HttpBody,
    /// What an upgrade executes, if this program can be executed again.
    pub successor: Option<Successor>,
    /// Whoever has started this process and wants to hear of it.
    pub supervision: Option<Supervision>,
    /// The locked pid file, which goes with the process through an upgrade.
    pub pid_file: Option<OwnedFd>,
    /// What a parent of before has left, if there was one.
    pub inherited: Option<InheritedPool>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the environment: secrets live there.
        out.debug_struct("Setup")
            .field("listeners", &self.listeners)
            .field("recipes", &self.recipes)
            .field("identity", &self.identity)
            .field("worker_backend", &self.worker_backend)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}

/// What a mold saves, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// So many workers share it.
    pub workers: usize,
    /// What mold and workers have in common.
    pub shared_kib: u64,
    /// What is the workers' own.
    pub private_kib: u64,
    /// What one process holds that has loaded the program for itself.
    pub alone_kib: u64,
}

/// What came of reading the settings again.
#[derive(Debug)]
pub enum Reread {
    /// They are what they were.
    Same,
    /// They are others.
    Changed(Box<Changed>),
    /// They cannot be, so those of before stay.
    Refused,
}

/// Settings that are in force from here on.
#[derive(Debug)]
pub struct Changed {
    /// How workers of newer generations are made, by their place in [`Setup`], where that has
    /// changed.
    pub recipes: Vec<(usize, Recipe)>,
    /// As in [`Setup`].
    pub hooks: Vec<Hook>,
    /// As in [`Setup`].
    pub drain: Duration,
    /// As in [`Setup`].
    pub settings_text: Option<String>,
    /// For the router that runs; the next one knows it by its birth.
    pub for_router: Vec<Vec<u8>>,
}

/// What a worker is.
pub enum Program {
    /// A program that is executed, looked for in the PATH of its environment.
    Exec {
        /// The program and its arguments.
        argv: Vec<OsString>,
    },
    /// A closure that runs in the forked child, copy-on-write, and gives its exit code.
    /// It has descriptors 0, 1 and 2 and nothing else.
    Fork(Box<dyn FnMut(WorkerProcess) -> u8>),
    /// This pool starts no workers.
    None,
}

impl fmt::Debug for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec { argv } => out.debug_struct("Exec").field("argv", argv).finish(),
            Self::Fork(_) => out.write_str("Fork"),
            Self::None => out.write_str("None"),
        }
    }
}

/// What a forked worker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProcess {
    /// Its name.
    pub place: Place,
    /// The service it works for.
    pub service: String,
    /// The generation it belongs to.
    pub generation: u32,
    /// Where to connect.
    pub backend: String,
}

/// What a router is told and owns. It also has stdout and stderr of the parent, and no
/// other descriptor; log files are best put there (`dup2`), before `run` and at a reopen.
///
/// It must end when the link is closed, and kill the workers' process groups before.
#[derive(Debug)]
pub struct RouterProcess {
    /// To the parent.
    pub link: Link,
    /// Which router of this parent it is, counted from 1.
    pub life: u32,
    /// Its own descriptors for what is listened on: to keep, to close or to give away.
    pub listeners: Listeners,
    /// Two files in memory for what only routers understand: the same ones in every life.
    /// `None` if there is no memory for them.
    pub journal: Option<[OwnedFd; 2]>,
    /// The workers that live.
    pub workers: Vec<LiveWorker>,
    /// The last incarnation there was in each slot, dead or alive. It can be beyond what
    /// `blob` says: a place is used once.
    pub used: Vec<Place>,
    /// What the previous router asked to remember.
    pub blob: Option<Vec<u8>>,
    /// The same, by the name it gave.
    pub named_blobs: BTreeMap<String, Vec<u8>>,
    /// The parent.
    pub parent_pid: i32,
    /// When `run` began, by [`clock::now`].
    pub parent_started_at: Duration,
}

/// What the process owns that is asked over HTTP. It has no other descriptor but stdout and
/// stderr, where it writes nothing unless it fails.
#[derive(Debug)]
pub struct HttpProcess {
    /// The port: listening, non-blocking.
    pub listener: OwnedFd,
    /// A connection to the control socket, non-blocking. It ends with the router.
    pub line: OwnedFd,
}

/// A worker that lived before the router did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveWorker {
    /// Its name.
    pub place: Place,
    /// The generation it belongs to.
    pub generation: u32,
    /// Its process, and its process group.
    pub pid: i32,
    /// When it was forked, by [`clock::now`].
    pub started_at: Duration,
}
