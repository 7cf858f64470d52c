//! What workers alone run under: limits of the kernel, niceness, umask.

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource as Number, setrlimit};
use nix::sys::stat::{Mode, umask};
use rustix::process::setpriority_process;

/// What a worker is put under before it runs. What is not named stays as the parent has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// In the order in which they are set.
    pub limits: Vec<Limit>,
    /// From -20, first in line for the processor, to 19.
    pub niceness: Option<i8>,
    /// The permissions that files it makes do not have.
    pub umask: Option<u32>,
}

/// One limit: as setrlimit(2) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub resource: Resource,
    /// What the kernel enforces.
    pub soft: u64,
    /// How far the worker may raise that itself.
    pub hard: u64,
}

/// Something that the kernel limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// As prlimit(1) names it.
    pub name: &'static str,
    /// In what it is counted.
    pub unit: Unit,
    number: Number,
}

/// In what a resource is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Whole seconds.
    Seconds,
    /// Things.
    Pieces,
}

/// The value of a limit that is none.
pub const UNLIMITED: u64 = RLIM_INFINITY;

const fn resource(name: &'static str, unit: Unit, number: Number) -> Resource {
    Resource { name, unit, number }
}

/// All that can be limited here. `rss` and `locks` are missing: Linux does nothing with them.
pub const RESOURCES: &[Resource] = &[
    resource("as", Unit::Bytes, Number::RLIMIT_AS),
    resource("core", Unit::Bytes, Number::RLIMIT_CORE),
    resource("cpu", Unit::Seconds, Number::RLIMIT_CPU),
    resource("data", Unit::Bytes, Number::RLIMIT_DATA),
    resource("fsize", Unit::Bytes, Number::RLIMIT_FSIZE),
    resource("memlock", Unit::Bytes, Number::RLIMIT_MEMLOCK),
    resource("msgqueue", Unit::Bytes, Number::RLIMIT_MSGQUEUE),
    resource("nofile", Unit::Pieces, Number::RLIMIT_NOFILE),
    resource("nproc", Unit::Pieces, Number::RLIMIT_NPROC),
    resource("rtprio", Unit::Pieces, Number::RLIMIT_RTPRIO),
    resource("sigpending", Unit::Pieces, Number::RLIMIT_SIGPENDING),
    resource("stack", Unit::Bytes, Number::RLIMIT_STACK),
];

impl Conditions {
    /// Puts this process under them. It must still have the rights of the parent: an
    /// ordinary user raises no hard limit and lowers no niceness.
    ///
    /// # Errors
    /// What was refused and why, as a sentence.
    pub(super) fn assume(&self) -> Result<(), String> {
        for Limit { resource, soft, hard } in &self.limits {
            setrlimit(resource.number, *soft, *hard).map_err(|errno| {
                let values = format!("{}:{}", shown(*soft), shown(*hard));
                refused(&format!("set its limit {} to {values}", resource.name), errno)
            })?;
        }
        if let Some(niceness) = self.niceness {
            setpriority_process(None, i32::from(niceness)).map_err(|error| {
                refused(&format!("set its niceness to {niceness}"), Errno::from_raw(error.raw_os_error()))
            })?;
        }
        if let Some(mask) = self.umask {
            umask(Mode::from_bits_truncate(mask));
        }
        Ok(())
    }
}

fn shown(value: u64) -> String {
    if value == UNLIMITED { "unlimited".to_owned() } else { value.to_string() }
}

fn refused(what: &str, errno: Errno) -> String {
    format!("cannot {what}: {}", errno.desc().to_lowercase())
}
