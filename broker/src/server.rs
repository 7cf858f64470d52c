//! Hornpipe inside a program of your own: the handler is a closure, the workers
//! are forks, and what the program has loaded before is shared copy-on-write.

use std::fmt;
use std::time::Duration;

use hornpipe_worker::Handler;

use crate::callbacks::{Callbacks, EndedWorker, NewWorker};
use crate::config::{Address, AddressError, CommandLine, ConfigError, Configured, RawConfig, Surroundings};
use crate::launch::{self, LaunchError, Own};

/// A broker with a handler of yours. Begin with [`Server::builder`].
///
/// What must not be shared between processes, a connection to a database or a generator of
/// random numbers, is made anew in each worker:
///
/// ```no_run
/// use std::cell::OnceCell;
/// use std::rc::Rc;
///
/// use hornpipe::{Context, Failure, Job, Server};
///
/// let dictionary = std::fs::read_to_string("/usr/share/dict/words")?; // Shared by all.
/// let own = Rc::new(OnceCell::new());
/// let made = Rc::clone(&own);
/// let code = Server::builder()
///     .workers(4)
///     .after_fork(move |worker| {
///         // In the new worker, before its first request.
///         made.set(format!("connection {}.{}", worker.slot, worker.incarnation)).ok();
///     })
///     .on_worker_exit(|worker| eprintln!("worker {} left: {}", worker.slot, worker.reason))
///     .run(move |job: &Job, _context: &mut Context<'_>| {
///         let word = String::from_utf8_lossy(&job.body()).into_owned();
///         let connection = own.get().ok_or_else(|| Failure::new("not connected"))?;
///         Ok::<_, Failure>(format!("{connection}: {}", dictionary.contains(&word)))
///     })?;
/// std::process::exit(code.into());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    raw: RawConfig,
    frontend: Option<String>,
    backend: Option<String>,
    callbacks: Callbacks,
}

/// Why a server cannot run.
#[derive(Debug)]
pub enum ServerError {
    /// What was asked for cannot be.
    Config(ConfigError),
    /// An address is not one.
    Address(AddressError),
    /// It could not be started, or ended badly.
    Launch(LaunchError),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Address(error) => error.fmt(f),
            Self::Launch(error) => write!(f, "cannot serve: {error}"),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Address(error) => Some(error),
            Self::Launch(error) => Some(error),
        }
    }
}

/// Where clients connect unless somebody says otherwise.
const FRONTEND: &str = "6660";

/// And workers.
const BACKEND: &str = "6661";

impl Server {
    /// A server on ports 6660 and 6661 of loopback, with as many workers as CPUs.
    pub fn builder() -> Self {
        Self { raw: RawConfig::default(), frontend: None, backend: None, callbacks: Callbacks::default() }
    }

    /// Where clients connect, as on the command line: `6660`, `0`, `HOST:PORT`.
    #[must_use]
    pub fn frontend(mut self, address: impl Into<String>) -> Self {
        self.frontend = Some(address.into());
        self
    }

    /// Where workers may connect that this server does not start.
    #[must_use]
    pub fn backend(mut self, address: impl Into<String>) -> Self {
        self.backend = Some(address.into());
        self
    }

    /// How many workers.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.raw.workers = Some(workers);
        self
    }

    /// How long one attempt at a request may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw.timeout = Some(timeout);
        self
    }

    /// How many workers may try a request if they die.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.raw.attempts = Some(attempts);
        self
    }

    /// Is called in the parent before each worker is forked, to let go of what a worker
    /// should not inherit. The parent has one thread, which forks, reaps and takes signals:
    /// whatever is called there must be quick. A panic is logged, and the worker is forked.
    #[must_use]
    pub fn before_fork(mut self, callback: impl FnMut(&NewWorker) + 'static) -> Self {
        self.callbacks.before_fork = Some(Box::new(callback));
        self
    }

    /// Is called in each new worker before its first request: the place for connections and
    /// whatever else each worker needs of its own. A panic ends the worker, which is then
    /// replaced as one that could not start.
    #[must_use]
    pub fn after_fork(mut self, callback: impl FnMut(&NewWorker) + 'static) -> Self {
        self.callbacks.after_fork = Some(Box::new(callback));
        self
    }

    /// Is called in the parent when a worker's process has ended, whatever the reason. It
    /// must be quick, as for [`Server::before_fork`]; a panic is logged.
    #[must_use]
    pub fn on_worker_exit(mut self, callback: impl FnMut(&EndedWorker) + 'static) -> Self {
        self.callbacks.on_worker_exit = Some(Box::new(callback));
        self
    }

    /// Any other option, as the command line's `serve` has it.
    #[must_use]
    pub fn options(mut self, options: RawConfig) -> Self {
        self.raw = self.raw.overridden_by(options);
        self
    }

    /// Serves until it is stopped, and returns the code the process should exit with.
    ///
    /// The handler runs in forked workers; what it changes, it changes there. Call
    /// this before anything starts a thread: a fork copies only one.
    ///
    /// # Errors
    /// If something is misconfigured, a port is taken, or the process has threads.
    pub fn run(self, handler: impl Handler + 'static) -> Result<u8, ServerError> {
        let (configured, callbacks) = self.resolve()?;
        let own = Own { work: launch::handled(handler), callbacks };
        launch::launch(configured, Some(own)).map_err(ServerError::Launch)
    }

    fn resolve(self) -> Result<(Configured, Callbacks), ServerError> {
        let Self { raw, frontend, backend, callbacks } = self;
        let address = |text: Option<String>| text.map(|text| text.parse::<Address>()).transpose();
        let command_line = CommandLine {
            default_ports: FRONTEND.parse().ok().zip(BACKEND.parse().ok()),
            frontend: address(frontend).map_err(ServerError::Address)?,
            backend: address(backend).map_err(ServerError::Address)?,
            options: raw,
            ..CommandLine::default()
        };
        let configured = Configured::read(command_line, Surroundings::read()).map_err(ServerError::Config)?;
        Ok((configured, callbacks))
    }
}
