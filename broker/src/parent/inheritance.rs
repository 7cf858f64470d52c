//! What a parent leaves to the program that takes its place: open descriptors by their
//! numbers, and what it knows of its children. Written to a file in memory, because the
//! memory of the process itself does not outlive an exec.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::FdFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::link::{Place, Signal};

use super::children::{Children, Worker};
use super::gate::Gate;
use super::journal::Journal;
use super::listeners::{Listeners, Port, UnixSocket};
use super::output::{Output, Written};
use super::process;

/// Changes whenever a program of before could misunderstand.
const VERSION: u32 = 1;

/// Far more than a thousand workers need.
const SIZE_LIMIT: u64 = 64 * 1024 * 1024;

/// All versions have this.
#[derive(Debug, Deserialize)]
struct Heading {
    version: u32,
}

/// What is written down. Descriptors are numbers here: they stay open over the exec.
#[derive(Debug, Serialize, Deserialize)]
struct Will {
    version: u32,
    listeners: SavedListeners,
    pid_file: Option<RawFd>,
    workers: Vec<SavedWorker>,
    used: Vec<Place>,
    state: PoolState,
    /// A program of before has none.
    #[serde(default)]
    journal: Option<[RawFd; 2]>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedListeners {
    frontend: Option<(RawFd, SocketAddr)>,
    backend: Option<(RawFd, SocketAddr)>,
    crew: SavedSocket,
    control: SavedSocket,
    /// A program of before has none.
    #[serde(default)]
    control_read: Option<SavedSocket>,
    /// A program of before may know no such thing.
    #[serde(default)]
    http: Option<(RawFd, SocketAddr)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedSocket {
    descriptor: RawFd,
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedWorker {
    pid: i32,
    place: Place,
    #[serde(default)]
    service: String,
    generation: u32,
    started_at: Duration,
    gate: RawFd,
    output: Option<RawFd>,
    written: Written,
    halted: bool,
}

/// What the parent knows besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PoolState {
    /// What the last router asked to remember.
    pub(super) blob: Option<Vec<u8>>,
    /// The same, by the name it gave.
    #[serde(default)]
    pub(super) named_blobs: BTreeMap<String, Vec<u8>>,
    /// The number of the last router.
    pub(super) life: u32,
    pub(super) started_at: Duration,
    pub(super) is_ready: bool,
    /// What nobody has acted on yet.
    pub(super) signals: Vec<Signal>,
    /// What the settings in force were read from. Not left by the first versions.
    #[serde(default)]
    pub(super) settings_text: Option<String>,
}

/// What a parent has left, in the hands of the next.
#[derive(Debug)]
pub struct Inheritance {
    /// What is listened on.
    pub listeners: Listeners,
    /// The pid file, locked.
    pub pid_file: Option<OwnedFd>,
    /// The rest is the parent's own.
    pub pool: InheritedPool,
}

/// What the next parent begins with.
#[derive(Debug)]
pub struct InheritedPool {
    pub(super) children: Children,
    pub(super) journal: Option<Journal>,
    pub(super) state: PoolState,
}

/// Why nothing can be taken over.
#[derive(Debug)]
pub enum InheritanceError {
    /// A descriptor is not what it should be.
    Descriptor {
        /// Its number.
        number: RawFd,
        /// What the kernel said.
        source: Errno,
    },
    /// The description cannot be read.
    Unreadable {
        /// Why.
        why: String,
    },
    /// It is written by a program that this one does not know.
    Version {
        /// What it says.
        found: u32,
    },
}

impl fmt::Display for InheritanceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Descriptor { number, source } => {
                write!(
                    out,
                    "the inherited descriptor {number} is of no use: {}",
                    source.desc().to_lowercase()
                )
            }
            Self::Unreadable { why } => {
                write!(out, "what the running broker would leave cannot be read: {why}")
            }
            Self::Version { found } => write!(
                out,
                "the running broker leaves its state in version {found}, and this program knows {VERSION}: \
                 stop it and start this one"
            ),
        }
    }
}

impl std::error::Error for InheritanceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Descriptor { source, .. } => Some(source),
            Self::Unreadable { .. } | Self::Version { .. } => None,
        }
    }
}

/// What is given away, before it is written down.
#[derive(Debug)]
pub(super) struct Estate<'a> {
    pub(super) listeners: &'a Listeners,
    pub(super) pid_file: Option<&'a OwnedFd>,
    pub(super) children: &'a Children,
    pub(super) journal: Option<&'a Journal>,
    pub(super) state: PoolState,
}

impl Estate<'_> {
    /// Writes it down, in a file that is closed on exec.
    pub(super) fn write(self) -> Result<OwnedFd, String> {
        let bytes = rmp_serde::to_vec_named(&self.will()).map_err(|error| error.to_string())?;
        let file = memfd_create(c"hornpipe-inheritance", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| errno.desc().to_lowercase())?;
        let mut file = File::from(file);
        file.write_all(&bytes).map_err(|error| error.to_string())?;
        Ok(file.into())
    }

    fn will(self) -> Will {
        let port = |port: &Port| (port.descriptor.as_raw_fd(), port.address);
        let socket = |socket: &UnixSocket| SavedSocket {
            descriptor: socket.descriptor.as_raw_fd(),
            path: socket.path.clone(),
            file: socket.file(),
        };
        Will {
            version: VERSION,
            listeners: SavedListeners {
                frontend: self.listeners.frontend.as_ref().map(port),
                backend: self.listeners.backend.as_ref().map(port),
                crew: socket(&self.listeners.crew),
                control: socket(&self.listeners.control),
                control_read: self.listeners.control_read.as_ref().map(socket),
                http: self.listeners.http.as_ref().map(port),
            },
            pid_file: self.pid_file.map(AsRawFd::as_raw_fd),
            workers: self.children.all().map(|(pid, worker)| save(pid, worker)).collect(),
            used: self.children.used(),
            journal: self.journal.map(Journal::numbers),
            state: self.state,
        }
    }

    /// The numbers of all that must stay open over the exec.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let workers = self.children.all().flat_map(|(_pid, worker)| {
            let output = worker.output.pipe().map(|pipe| pipe.as_raw_fd());
            output.into_iter().chain([worker.gate.number()])
        });
        let mut all: Vec<RawFd> = workers.collect();
        all.extend(self.listeners.numbers());
        all.extend(self.pid_file.map(AsRawFd::as_raw_fd));
        all.extend(self.journal.into_iter().flat_map(Journal::numbers));
        all
    }
}

fn save(pid: i32, worker: &Worker) -> SavedWorker {
    SavedWorker {
        pid,
        place: worker.place,
        service: worker.service.clone(),
        generation: worker.generation,
        started_at: worker.started_at,
        gate: worker.gate.number(),
        output: worker.output.pipe().map(|pipe| pipe.as_raw_fd()),
        written: worker.output.written(),
        halted: worker.halted,
    }
}

/// Whether a description can be understood.
///
/// # Errors
/// If not.
pub(super) fn check(description: RawFd) -> Result<(), InheritanceError> {
    let file = File::from(adopt(description)?);
    read(&file).map(|_will| ())
}

/// What the settings of the parent before were read from, if it has left that. Nothing is
/// taken over by this.
pub fn settings_text(description: RawFd) -> Option<String> {
    let file = File::open(format!("/proc/self/fd/{description}")).ok()?;
    read(&file).ok()?.state.settings_text
}

impl Inheritance {
    /// Takes over what is described there: the descriptors are this value's from here on.
    ///
    /// # Errors
    /// If it cannot be understood, or a descriptor is missing.
    pub fn take(description: RawFd) -> Result<Self, InheritanceError> {
        let file = File::from(adopt(description)?);
        let Will { listeners, pid_file, workers, used, state, journal, version: _ } = read(&file)?;
        let port = |(descriptor, address): (RawFd, SocketAddr)| {
            Ok(Port { descriptor: adopt_listener(descriptor)?, address })
        };
        let socket = |socket: SavedSocket| {
            Ok(UnixSocket::inherited(adopt_listener(socket.descriptor)?, socket.path, socket.file))
        };
        let mut children = Children::default();
        children.mark_used(&used);
        for worker in workers {
            children.insert(Pid::from_raw(worker.pid), restore(worker)?);
        }
        children.mark_used(&used);
        let journal = match journal {
            Some([one, other]) => Some(Journal::inherited([adopt(one)?, adopt(other)?])),
            None => None,
        };
        Ok(Self {
            listeners: Listeners {
                frontend: listeners.frontend.map(port).transpose()?,
                backend: listeners.backend.map(port).transpose()?,
                crew: socket(listeners.crew)?,
                control: socket(listeners.control)?,
                control_read: listeners.control_read.map(socket).transpose()?,
                http: listeners.http.map(port).transpose()?,
            },
            pid_file: pid_file.map(adopt).transpose()?,
            pool: InheritedPool { children, journal, state },
        })
    }
}

fn restore(worker: SavedWorker) -> Result<Worker, InheritanceError> {
    let pipe = worker.output.map(adopt).transpose()?;
    Ok(Worker {
        place: worker.place,
        service: worker.service,
        generation: worker.generation,
        started_at: worker.started_at,
        gate: Gate::inherited(adopt(worker.gate)?),
        output: Output::inherited(pipe, worker.written),
        halted: worker.halted,
        // If it was, it is not asked for long.
        is_killed: false,
    })
}

fn read(file: &File) -> Result<Will, InheritanceError> {
    let unreadable = |error: &dyn fmt::Display| InheritanceError::Unreadable { why: error.to_string() };
    let size = file.metadata().map_err(|error| unreadable(&error))?.len();
    let size = usize::try_from(size.min(SIZE_LIMIT)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size];
    // By its place: the writer has left the descriptor at the end.
    file.read_exact_at(&mut bytes, 0).map_err(|error| unreadable(&error))?;
    let Heading { version } = rmp_serde::from_slice(&bytes).map_err(|error| unreadable(&error))?;
    if version != VERSION {
        return Err(InheritanceError::Version { found: version });
    }
    rmp_serde::from_slice(&bytes).map_err(|error| unreadable(&error))
}

/// Makes a number that stayed open over the exec a descriptor again, closed at the next.
fn adopt(number: RawFd) -> Result<OwnedFd, InheritanceError> {
    let wrong = |source| InheritanceError::Descriptor { number, source };
    process::set_flags(number, FdFlag::FD_CLOEXEC).map_err(wrong)?;
    process::adopt(number).map_err(wrong)
}

fn adopt_listener(number: RawFd) -> Result<OwnedFd, InheritanceError> {
    let descriptor = adopt(number)?;
    match getsockopt(&descriptor, sockopt::AcceptConn) {
        Ok(true) => Ok(descriptor),
        Ok(false) => Err(InheritanceError::Descriptor { number, source: Errno::EINVAL }),
        Err(source) => Err(InheritanceError::Descriptor { number, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(bytes: &[u8]) -> File {
        let mut file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_description_of_another_version_is_refused_by_name() {
        let bytes = rmp_serde::to_vec_named(&serde_json::json!({"version": 99, "news": [1]})).unwrap();
        let error = read(&description(&bytes)).unwrap_err();
        assert!(error.to_string().contains("version 99"), "{error}");
    }

    #[test]
    fn rubbish_is_refused() {
        for bytes in [&b""[..], b"\xc1", b"\x81\xa7version\x01", b"\x90"] {
            assert!(
                matches!(read(&description(bytes)), Err(InheritanceError::Unreadable { .. })),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn what_a_program_without_http_and_readers_has_left_is_read() {
        #[derive(Serialize)]
        struct OldListeners {
            frontend: (RawFd, SocketAddr),
            backend: (RawFd, SocketAddr),
            crew: SavedSocket,
            control: SavedSocket,
        }
        #[derive(Serialize)]
        struct OldWill {
            version: u32,
            listeners: OldListeners,
            pid_file: Option<RawFd>,
            workers: Vec<SavedWorker>,
            used: Vec<Place>,
            state: PoolState,
        }
        let port = |number| (number, SocketAddr::from(([127, 0, 0, 1], 6660)));
        let socket = |descriptor| SavedSocket { descriptor, path: "/x".into(), file: (1, 2) };
        let started_at = Duration::from_secs(1);
        let state = PoolState {
            blob: None,
            named_blobs: BTreeMap::new(),
            life: 1,
            started_at,
            is_ready: true,
            signals: Vec::new(),
            settings_text: None,
        };
        let listeners =
            OldListeners { frontend: port(3), backend: port(4), crew: socket(5), control: socket(6) };
        let (pid_file, workers, used) = (None, Vec::new(), Vec::new());
        let will = OldWill { version: VERSION, listeners, pid_file, workers, used, state };
        let read = read(&description(&rmp_serde::to_vec_named(&will).unwrap())).unwrap();
        assert_eq!((read.listeners.http, read.listeners.control.descriptor), (None, 6));
        assert!(read.listeners.control_read.is_none() && read.journal.is_none());
    }
}
