//! What the operator asked for, and where each value came from.
//!
//! [`RawConfig`] is what was written, in one layer each for the command line and
//! the environment. [`Config`] is what it means: complete, checked, and silent
//! about its origin. Defaults are applied in `resolve.rs` and nowhere else.

mod account;
mod activation;
mod address;
mod conditions;
mod control_place;
mod crew;
pub mod env;
mod error;
mod hooks;
mod operators;
mod raw;
mod keys;
mod reading;
mod file;
mod document;
mod layers;
mod values;
mod changes;
mod rehearsal;
mod schema;
mod resolve;
mod service;
mod pool_size;
mod wear;
mod units;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use activation::Activation;
pub use address::{Address, AddressError};
pub use changes::{Difference, Effect, InForce};
pub use conditions::ConditionError;
pub use control_place::{ControlPlace, PlaceError};
pub use crew::{CrewError, CrewOptions, CrewPlan, is_name as is_crew_name};
pub use env::Environment;
pub use error::ConfigError;
pub use file::{FileError, FileProblem};
pub use hooks::HookError;
pub use keys::Change;
pub use layers::{CommandLine, Configured, Origin};
pub use operators::ReadSocket;
pub use raw::RawConfig;
pub use resolve::Surroundings;
pub use schema::schema;
pub use service::{ProgramKind, ServiceConfig};
pub use units::{UnitError, duration, duration_or_seconds, show_duration, show_size, size};
pub use values::{Setting, Value};

use crate::logging::LogChoices;
use crate::parent::{Hook, Identity};

/// Everything `serve` needs to know, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect; port 0 asks for a free one. A crew listens on no port.
    pub frontend: SocketAddr,
    /// Where workers connect that this broker does not start; port 0 asks for a free one.
    pub backend: SocketAddr,
    /// Whose requests its workers are for, if it is a crew and no broker.
    pub crew: Option<CrewPlan>,
    /// Where metrics and health are asked for; port 0 asks for a free one.
    pub http: Option<SocketAddr>,
    /// What is asked without a name. Ports, parent and router are one for all services.
    pub default: ServiceConfig,
    /// What is asked by name.
    pub further: Vec<ServiceConfig>,
    /// Who else may be a worker.
    pub external: External,
    /// How a plain client hears of an error.
    pub plain_errors: PlainErrors,
    /// Who router and workers are.
    pub identity: Identity,
    /// What is run when something happens.
    pub hooks: Vec<Hook>,
    /// The process runs as root, and so would its router and workers.
    pub privilege: Privilege,
    /// Where the control socket will be.
    pub control: ControlPlace,
    /// Where others may ask, and change nothing.
    pub control_read: Option<ReadSocket>,
    /// The users who may order something over the control socket.
    pub operators: Vec<u32>,
    /// Where the process id is kept.
    pub pid_file: Option<PathBuf>,
    /// Where the log goes, and how.
    pub log: LogChoices,
    /// Within which time a dead worker must be noticed. The kernel tells the
    /// parent at once, so this is always met; it is here to be shown.
    pub check_for_dead: Option<Duration>,
}

/// Whom the backend port accepts as a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum External {
    /// Who connects from this machine.
    Loopback,
    /// Whoever connects.
    Anybody,
    /// Nobody.
    Nobody,
}

/// How a program of `--lines` tells messages apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Framing {
    /// By a line break at the end of each.
    #[default]
    Line,
    /// By its length in front, four bytes.
    Length,
    /// As netstrings.
    Netstring,
}

/// How a plain client hears of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PlainErrors {
    /// One frame: `ERR <status> <sentence>`.
    Text,
    /// Not at all.
    Silent,
}

/// With which rights router and workers will run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// Those of an ordinary user.
    User,
    /// Those of root, because no `--user` was named.
    Root,
}
