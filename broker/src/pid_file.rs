//! The file that tells others the parent's process id, and that it lives: it is
//! locked as long as it does, so a stale one is told from a live one.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A locked pid file; it is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    lock: Flock<File>,
}

/// Why there is no pid file.
#[derive(Debug)]
pub enum PidFileError {
    /// Another process has locked it.
    Held {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        pid: String,
    },
    /// It cannot be opened, locked or written.
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl fmt::Display for PidFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, pid } => {
                write!(
                    f,
                    "the pid file {} belongs to the running process {pid}: stop it first",
                    path.display()
                )
            }
            Self::Unusable { path, source } => {
                write!(f, "cannot write the pid file {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for PidFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unusable { source, .. } => Some(source),
            Self::Held { .. } => None,
        }
    }
}

impl PidFile {
    /// Writes this process's id, unless a live process has the file.
    pub(crate) fn write(path: &Path) -> Result<Self, PidFileError> {
        let unusable = |source| PidFileError::Unusable { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)
            .map_err(unusable)?;
        Self::hold(path, file)
    }

    /// The file that this process has had before it became this program.
    pub(crate) fn take_over(path: &Path, descriptor: OwnedFd) -> Result<Self, PidFileError> {
        Self::hold(path, descriptor.into())
    }

    fn hold(path: &Path, file: File) -> Result<Self, PidFileError> {
        let unusable = |source| PidFileError::Unusable { path: path.to_owned(), source };
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, Errno::EAGAIN)) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(unusable)?;
                return Err(PidFileError::Held { path: path.to_owned(), pid: pid.trim().to_owned() });
            }
            Err((_file, errno)) => return Err(unusable(errno.into())),
        };
        lock.rewind().map_err(unusable)?;
        lock.set_len(0).map_err(unusable)?;
        writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Another descriptor of the same lock, to be kept while the program changes.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd, PidFileError> {
        let unusable = |source| PidFileError::Unusable { path: self.path.clone(), source };
        self.lock.try_clone().map(OwnedFd::from).map_err(unusable)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the pid file");
        }
    }
}
