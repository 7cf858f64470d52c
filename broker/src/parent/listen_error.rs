//! Why a port or a socket cannot be had, and what to do about it.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use nix::errno::Errno;

use super::listeners::PATH_LIMIT;

/// Why something cannot be listened on. The messages fit after "cannot start: ".
#[derive(Debug)]
pub enum ListenError {
    /// Somebody else listens there.
    PortTaken {
        /// The address asked for.
        address: SocketAddr,
        /// The process and its name, if that can be found out.
        holder: Option<(i32, String)>,
    },
    /// This user may not.
    NoPermission {
        /// The address or the path.
        what: String,
    },
    /// There is no such address here.
    BadAddress {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// What the service manager hands over is not what it should be.
    HandedOver {
        /// What it should be.
        name: &'static str,
        /// The descriptor.
        number: RawFd,
        /// What it is, or does.
        why: String,
    },
    /// A living process listens there.
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there, and stays.
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The kernel takes no longer path.
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Somebody else could replace the socket by his own.
    UnsafeDirectory {
        /// The directory.
        directory: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// The group is not one of this user's.
    NotInGroup {
        /// The socket that it was to have.
        path: PathBuf,
        /// The group's id.
        group: u32,
    },
    /// The kernel refused for another reason.
    System {
        /// The address or the path.
        what: String,
        /// What it said.
        source: Errno,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortTaken { address, holder: Some((pid, name)) } => {
                write!(
                    out,
                    "{address} is in use by {name} (pid {pid}): stop it, or take another port (0 is a free one)"
                )
            }
            Self::PortTaken { address, holder: None } => write!(
                out,
                "{address} is in use by a process that this user may not see: take another port (0 is a free one)"
            ),
            Self::NoPermission { what } => write!(
                out,
                "no permission to listen on {what}: take a port from 1024 up, or a directory that this user may write to"
            ),
            Self::BadAddress { address, why } => write!(out, "cannot listen on {address}: {why}"),
            Self::HandedOver { name, number, why } => {
                write!(out, "the {name} that the service manager hands over (descriptor {number}) {why}")
            }
            Self::SocketInUse { path } => write!(
                out,
                "{} is in use by a running process: stop it, or name another path",
                path.display()
            ),
            Self::NotASocket { path } => {
                write!(out, "{} exists and is not a socket: remove it, or name another path", path.display())
            }
            Self::PathTooLong { path, length } => write!(
                out,
                "{} has {length} bytes, and the path of a socket at most {PATH_LIMIT}: name a shorter one",
                path.display()
            ),
            Self::UnsafeDirectory { directory, owner } => write!(
                out,
                "{} (of user id {owner}) lets others replace the socket: name a directory that only this user can write to",
                directory.display()
            ),
            Self::NotInGroup { path, group } => write!(
                out,
                "{} cannot be opened to the group {group}, because this user is not in it: be added to it, or start as root",
                path.display()
            ),
            Self::System { what, source } => {
                write!(out, "cannot listen on {what}: {}", source.desc().to_lowercase())
            }
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            Self::PortTaken { .. }
            | Self::NoPermission { .. }
            | Self::BadAddress { .. }
            | Self::HandedOver { .. }
            | Self::SocketInUse { .. }
            | Self::NotASocket { .. }
            | Self::PathTooLong { .. }
            | Self::UnsafeDirectory { .. }
            | Self::NotInGroup { .. } => None,
        }
    }
}
