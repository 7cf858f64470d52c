//! The file that tells others the parent's process id, and that it lives: it is
//! locked as long as it does, so a stale one is told from a live one.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// More than a number is no pid file.
const CONTENT_LIMIT: u64 = 32;

/// Another process may remove the file between our opening and our locking it: so often it
/// is opened again.
const TRIES: usize = 8;

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
    /// Something else stands in it, and it is nobody's to overwrite.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is a symbolic link, by which somebody could have any file overwritten.
    Link {
        /// The link.
        path: PathBuf,
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
            Self::Held { path, pid } if pid.is_empty() => {
                write!(f, "the pid file {} belongs to a process that starts at this moment", path.display())
            }
            Self::Held { path, pid } => {
                write!(
                    f,
                    "the pid file {} belongs to the running process {pid}: stop it first",
                    path.display()
                )
            }
            Self::Foreign { path } => {
                write!(f, "{} is no pid file: name another one, or remove it", path.display())
            }
            Self::Link { path } => {
                write!(f, "the pid file {} is a symbolic link: name the file itself", path.display())
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
            Self::Held { .. } | Self::Foreign { .. } | Self::Link { .. } => None,
        }
    }
}

impl PidFile {
    /// Writes this process's id, unless a live process has the file. That a process of the
    /// number in it lives says nothing, for numbers are used again: only the lock counts.
    pub(crate) fn write(path: &Path) -> Result<Self, PidFileError> {
        for _try in 0..TRIES {
            let held = Self { path: path.to_owned(), lock: lock(path, open(path)?)? };
            if held.is_in_place() {
                return held.filled();
            }
        }
        let source = io::Error::other("others remove it again and again");
        Err(PidFileError::Unusable { path: path.to_owned(), source })
    }

    /// The file that this process has had before it became this program.
    pub(crate) fn take_over(path: &Path, descriptor: OwnedFd) -> Result<Self, PidFileError> {
        Self { path: path.to_owned(), lock: lock(path, descriptor.into())? }.filled()
    }

    fn filled(mut self) -> Result<Self, PidFileError> {
        let unusable = |source| PidFileError::Unusable { path: self.path.clone(), source };
        self.lock.rewind().map_err(unusable)?;
        self.lock.set_len(0).map_err(unusable)?;
        writeln!(self.lock, "{}", std::process::id()).map_err(unusable)?;
        Ok(self)
    }

    /// Whether the file that is locked is the one that others find there.
    fn is_in_place(&self) -> bool {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let found = self.path.symlink_metadata().map(identity);
        self.lock.metadata().map(identity).is_ok_and(|own| found.is_ok_and(|found| found == own))
    }

    /// Another descriptor of the same lock, to be kept while the program changes.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd, PidFileError> {
        let unusable = |source| PidFileError::Unusable { path: self.path.clone(), source };
        self.lock.try_clone().map(OwnedFd::from).map_err(unusable)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody may have removed it, and another process may have made one of its own.
        if self.is_in_place()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the pid file");
        }
    }
}

fn open(path: &Path) -> Result<File, PidFileError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path);
    opened.map_err(|source| match source.raw_os_error() {
        Some(libc::ELOOP) if path.is_symlink() => PidFileError::Link { path: path.to_owned() },
        _other => PidFileError::Unusable { path: path.to_owned(), source },
    })
}

fn lock(path: &Path, file: File) -> Result<Flock<File>, PidFileError> {
    let unusable = |source| PidFileError::Unusable { path: path.to_owned(), source };
    let foreign = || PidFileError::Foreign { path: path.to_owned() };
    let metadata = file.metadata().map_err(unusable)?;
    if !metadata.is_file() || CONTENT_LIMIT < metadata.len() {
        return Err(foreign());
    }
    let mut text = String::new();
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.rewind().map_err(unusable)?;
            let read = lock.read_to_string(&mut text);
            let is_a_number = text.trim().bytes().all(|byte| byte.is_ascii_digit());
            if read.is_ok() && is_a_number { Ok(lock) } else { Err(foreign()) }
        }
        Err((mut file, Errno::EAGAIN)) => {
            file.read_to_string(&mut text).map_err(unusable)?;
            Err(PidFileError::Held { path: path.to_owned(), pid: text.trim().to_owned() })
        }
        Err((_file, errno)) => Err(unusable(errno.into())),
    }
}
