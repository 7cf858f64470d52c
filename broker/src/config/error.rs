//! What an operator asked for that cannot be, and what to write instead.

use std::fmt;
use std::path::PathBuf;

use super::address::{Address, AddressError};
use super::crew::CrewError;
use super::file::FileError;
use super::units::show_size;

/// Why there is no configuration. The messages fit after "cannot start: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// A variable that looks like ours and is none.
    UnknownVariable {
        /// As it is spelled in the environment.
        name: String,
        /// The nearest there is.
        suggestion: Option<String>,
    },
    /// A variable's value cannot be read.
    BadVariable {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Sockets that a service manager hands over, and nobody knows which is which.
    Activation {
        /// What is wrong with them.
        why: String,
    },
    /// The file of `--config`.
    File(Box<FileError>),
    /// There can be no crew like that.
    Crew(Box<CrewError>),
    /// No port for clients, or none for workers.
    NoAddress {
        /// As `--help` calls it.
        argument: &'static str,
    },
    /// An address that cannot be resolved.
    Address {
        /// `frontend` or `backend`.
        key: &'static str,
        /// As it was given.
        address: Address,
        /// What is wrong with it.
        source: Box<AddressError>,
    },
    /// A port that other machines reach, and no flag that says so.
    Exposed {
        /// `frontend` or `backend`.
        key: &'static str,
        /// As it was given.
        address: Address,
    },
    /// The same for metrics and health.
    HttpExposed {
        /// As it was given.
        address: Address,
    },
    /// Metrics and health are asked for where clients or workers connect.
    HttpPort {
        /// That port.
        port: u16,
    },
    /// Frontend and backend are one port.
    SamePort {
        /// That port.
        port: u16,
    },
    /// More workers than a pool can have.
    TooManyWorkers {
        /// The option.
        option: &'static str,
        /// The most there can be.
        limit: u32,
    },
    /// The floor lies above the ceiling.
    MinAboveMax {
        /// The floor.
        min: u32,
        /// The ceiling.
        max: u32,
    },
    /// Workers would be killed before they could be replaced.
    SoftAboveHard {
        /// Bytes.
        soft: u64,
        /// Bytes.
        hard: u64,
    },
    /// The pool would start outside its own limits.
    WorkersOutside {
        /// How many at the start.
        workers: u32,
        /// The floor.
        min: u32,
        /// The ceiling.
        max: u32,
    },
    /// Workers may be wanted later, but nothing says which.
    NoProgramToGrow,
    /// `--mold` without a program that speaks the worker protocol.
    NothingToMold,
    /// A group for a socket that nobody asked for.
    GroupWithoutSocket,
    /// A number that may not be zero.
    Zero {
        /// The option.
        option: &'static str,
    },
    /// A body could be allowed that the queue never has room for.
    BodyAboveQueue {
        /// The largest body.
        max_body: u64,
        /// What the queue holds.
        queue_bytes: u64,
    },
    /// A limit that libzmq cannot count to.
    BodyTooLarge,
    /// A probe that parent and router could not tell each other of.
    ProbeTooLarge {
        /// The most there can be, in bytes.
        limit: u64,
    },
    /// Spare workers, and no limit to how many there may be.
    SparesWithoutMax,
    /// Spare workers, and a process for each request.
    SparesWithFresh,
    /// Fewer spare workers allowed than wanted.
    SparesCrossed {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// An option of autoscaling, and none.
    NotAutoscaling {
        /// The option.
        option: &'static str,
    },
    /// Two ways of talking at once.
    EachAndLines,
    /// How messages are told apart, and nobody who is sent one after another.
    FramingWithoutLines,
    /// A way of talking, and nobody to talk to.
    NoProgram {
        /// `--each` or `--lines`.
        option: &'static str,
    },
    /// A program without a name.
    EmptyProgram,
    /// No such user or group.
    UnknownAccount {
        /// `user` or `group`.
        kind: &'static str,
        /// As it was given.
        name: String,
    },
    /// A number without an entry in the system's list of users.
    GroupNeeded {
        /// The user's number.
        user: u32,
    },
    /// Only root may become somebody else.
    NotRoot {
        /// The option.
        option: &'static str,
    },
    /// A directory that is none.
    NotADirectory {
        /// The option.
        option: &'static str,
        /// As it was given.
        path: PathBuf,
    },
    /// A path where nothing is.
    NothingThere {
        /// The option.
        option: &'static str,
        /// In full.
        path: PathBuf,
    },
    /// A variable for workers without a name, or without a value.
    NoVariable {
        /// As it was given.
        text: String,
    },
    /// A variable for workers that is the broker's own.
    OwnVariable {
        /// Its name.
        name: String,
    },
    /// A relative path, and no working directory.
    NoWorkingDirectory {
        /// The path.
        path: PathBuf,
    },
}

impl ConfigError {
    /// Whether the file is to be changed, and not the command line or the environment.
    pub fn is_of_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// The keys that it is about: to be looked for in the file.
    pub(super) fn keys(&self) -> Vec<&str> {
        let of = |option: &'static str| vec![option.trim_start_matches("--")];
        match self {
            Self::UnknownVariable { .. }
            | Self::BadVariable { .. }
            | Self::Activation { .. }
            | Self::File(_)
            | Self::Crew(_)
            | Self::NoAddress { .. }
            | Self::NoWorkingDirectory { .. } => Vec::new(),
            Self::Address { key, .. } | Self::Exposed { key, .. } => vec![key],
            Self::SamePort { .. } => vec!["backend", "frontend"],
            Self::HttpExposed { .. } | Self::HttpPort { .. } => vec!["http"],
            Self::GroupWithoutSocket => vec!["control-group"],
            Self::TooManyWorkers { option, .. }
            | Self::Zero { option }
            | Self::NotAutoscaling { option }
            | Self::NoProgram { option }
            | Self::NotRoot { option }
            | Self::NotADirectory { option, .. }
            | Self::NothingThere { option, .. } => of(option),
            Self::MinAboveMax { .. } => vec!["min", "max"],
            Self::SoftAboveHard { .. } => vec!["max-memory", "max-memory-hard"],
            Self::WorkersOutside { .. } | Self::NoProgramToGrow => vec!["workers", "min", "max"],
            Self::NothingToMold => vec!["mold"],
            Self::BodyAboveQueue { .. } => vec!["max-body", "queue-bytes"],
            Self::BodyTooLarge => vec!["max-body"],
            Self::ProbeTooLarge { .. } => vec!["probe"],
            Self::SparesWithoutMax => vec!["min-spare-servers"],
            Self::SparesWithFresh => vec!["fresh", "min-spare-servers", "max-spare-servers"],
            Self::SparesCrossed { .. } => vec!["min-spare-servers", "max-spare-servers"],
            Self::EachAndLines => vec!["each", "lines"],
            Self::FramingWithoutLines => vec!["framing"],
            Self::EmptyProgram => vec!["program"],
            Self::UnknownAccount { kind, .. } => vec![kind],
            Self::GroupNeeded { .. } => vec!["user"],
            Self::NoVariable { .. } | Self::OwnVariable { .. } => vec!["env"],
        }
    }
}

const NOTHING_TO_MOLD: &str = "--mold needs a program after -- that is a mold, as in `-- python3 -m hornpipe app.py`, and \
                               neither --each nor --lines";
const NEEDS_PROGRAM: &str = "needs a program after --, as in: hornpipe serve 6660 6661";
const GROUP_WITHOUT_SOCKET: &str =
    "--control-group is for the socket of --control-read PATH: say where that is to be";

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVariable { name, suggestion: None } => {
                write!(f, "the environment variable {name} is no setting: remove it")
            }
            Self::UnknownVariable { name, suggestion: Some(suggestion) } => {
                write!(f, "the environment variable {name} is no setting: did you mean {suggestion}?")
            }
            Self::BadVariable { name, value, why } => {
                write!(f, "the environment variable {name} is {value:?}: {why}")
            }
            Self::Activation { why } => write!(
                f,
                "the sockets that the service manager hands over cannot be told apart: {why}; name them frontend \
                 and backend (FileDescriptorName=), or name none and list the frontend first"
            ),
            Self::File(error) => error.fmt(f),
            Self::Crew(error) => error.fmt(f),
            Self::NoAddress { argument } => write!(
                f,
                "{argument} is missing: give it as in hornpipe serve 6660 6661, or as {} in the file of --config",
                argument.to_ascii_lowercase()
            ),
            Self::Address { address, source, .. } => write!(f, "cannot listen on {address}: {source}"),
            Self::Exposed { address, .. } => write!(
                f,
                "{address} is open to other machines, and whoever reaches it could ask and serve: listen on \
                 127.0.0.1, or add --insecure if that is meant"
            ),
            Self::HttpExposed { address } => write!(
                f,
                "--http {address} is open to other machines, and whoever reaches it could read the broker's \
                 state: listen on 127.0.0.1, or add --insecure if that is meant"
            ),
            Self::HttpPort { port } => {
                write!(f, "--http {port} is the port of clients or workers: it needs one of its own")
            }
            Self::SamePort { port } => {
                write!(f, "frontend and backend are both port {port}: clients and workers need a port each")
            }
            Self::TooManyWorkers { option, limit } => {
                write!(f, "{option} is more than a pool can have: at most {limit}")
            }
            Self::MinAboveMax { min, max } => write!(f, "--min {min} is more than --max {max}"),
            Self::SoftAboveHard { soft, hard } => write!(
                f,
                "--max-memory {} is more than --max-memory-hard {}",
                show_size(*soft),
                show_size(*hard)
            ),
            Self::WorkersOutside { workers, min, max } => {
                write!(f, "--workers {workers} is not between --min {min} and --max {max}")
            }
            Self::NothingToMold => f.write_str(NOTHING_TO_MOLD),
            Self::NoProgramToGrow => f.write_str(
                "with --workers 0 and no program there is nothing to start later: leave out --min and --max, or \
                 name a program after --",
            ),
            Self::GroupWithoutSocket => f.write_str(GROUP_WITHOUT_SOCKET),
            Self::Zero { option } => write!(f, "{option} must be more than 0"),
            Self::BodyAboveQueue { max_body, queue_bytes } => write!(
                f,
                "--max-body {} is more than --queue-bytes {}, so such a body would never be taken",
                show_size(*max_body),
                show_size(*queue_bytes)
            ),
            Self::BodyTooLarge => f.write_str("--max-body is more than a message can have"),
            Self::ProbeTooLarge { limit } => write!(f, "--probe is more than {}", show_size(*limit)),
            Self::SparesWithFresh => {
                f.write_str("--fresh keeps no idle workers: leave out --min-spare-servers and --max-spare-servers")
            }
            Self::SparesWithoutMax => f.write_str(
                "--min-spare-servers needs --max: under load every spare worker becomes a busy one, and the pool \
                 grows until something stops it",
            ),
            Self::SparesCrossed { min, max } => {
                write!(f, "--min-spare-servers {min} is more than --max-spare-servers {max}")
            }
            Self::NotAutoscaling { option } => {
                write!(f, "{option} needs autoscaling: give --min and --max, and leave out --no-autoscale")
            }
            Self::EachAndLines => f.write_str("--each and --lines exclude each other"),
            Self::FramingWithoutLines => f.write_str("--framing is for programs of --lines: add --lines"),
            Self::NoProgram { option } => write!(f, "{option} {NEEDS_PROGRAM} {option} -- tr a-z A-Z"),
            Self::EmptyProgram => f.write_str("the program after -- has no name"),
            Self::UnknownAccount { kind, name } => write!(f, "there is no {kind} {name:?} on this machine"),
            Self::GroupNeeded { user } => {
                write!(f, "user {user} is not in the system's list and so has no group: add --group")
            }
            Self::NotRoot { option } => write!(f, "{option} is for root: only root may change that"),
            Self::NotADirectory { option, path } => write!(f, "{option}: {} is not a directory", path.display()),
            Self::NothingThere { option, path } => write!(f, "{option}: there is no {}", path.display()),
            Self::NoVariable { text } => write!(f, "--env {text}: write NAME=VALUE"),
            Self::OwnVariable { name } => {
                write!(f, "--env {name}: names that begin with HORNPIPE_ are the broker's own")
            }
            Self::NoWorkingDirectory { path } => {
                write!(f, "{} is relative, and the working directory is gone: give a full path", path.display())
            }
        }
    }
}

impl From<CrewError> for ConfigError {
    fn from(error: CrewError) -> Self {
        Self::Crew(Box::new(error))
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address { source, .. } => Some(source.as_ref()),
            Self::File(error) => Some(error.as_ref()),
            Self::Crew(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}
