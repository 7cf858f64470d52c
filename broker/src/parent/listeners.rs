//! What the pool listens on, bound here and served by the router.
//!
//! They belong to the parent so that they stay open while one router follows another:
//! peers connect meanwhile and wait. No byte of a peer is read in this process.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, bind, connect, getsockname,
    getsockopt, listen, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chown};

pub use super::listen_error::ListenError;
use super::{port_holder, process};

/// Connections that may wait while a router restarts.
const BACKLOG: i32 = 1024;
/// The kernel's limit for the path of a unix socket, its final NUL excluded.
pub(super) const PATH_LIMIT: usize = 107;
/// The mode of a directory for the owner alone.
pub const PRIVATE: u32 = 0o700;

/// Everything that is listened on.
#[derive(Debug)]
pub struct Listeners {
    /// Where clients connect, if they may.
    pub frontend: Option<Port>,
    /// Where workers connect that this pool did not start, if they may.
    pub backend: Option<Port>,
    /// Where our own workers connect.
    pub crew: UnixSocket,
    /// Where `status` and its like connect.
    pub control: UnixSocket,
    /// Where others may ask, and change nothing.
    pub control_read: Option<UnixSocket>,
    /// Where metrics and health are asked for, if anywhere.
    pub http: Option<Port>,
}

/// A TCP listener.
#[derive(Debug)]
pub struct Port {
    /// Listening, non-blocking, closed on exec.
    pub descriptor: OwnedFd,
    /// The true address, also where a free port was asked for.
    pub address: SocketAddr,
}

/// A listener in the file system.
#[derive(Debug)]
pub struct UnixSocket {
    /// Listening, non-blocking, closed on exec.
    pub descriptor: OwnedFd,
    /// Its file.
    pub path: PathBuf,
    /// The file's device and inode: ours, and not that of a successor.
    file: (u64, u64),
}

/// How to make a [`UnixSocket`].
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// The mode of its directory, if that has to be made: [`PRIVATE`], or one with the
    /// right to pass for an owner who is not this user.
    pub directory_mode: u32,
    /// The user and group who own the socket and so may connect, if not this user.
    pub owner: Option<(u32, u32)>,
    /// A group whose members may connect too.
    pub group: Option<u32>,
}

impl Default for Access {
    fn default() -> Self {
        Self { directory_mode: PRIVATE, owner: None, group: None }
    }
}

impl Listeners {
    /// A second descriptor for each, for a router to own and close.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        Ok(Self {
            frontend: self.frontend.as_ref().map(Port::duplicate).transpose()?,
            backend: self.backend.as_ref().map(Port::duplicate).transpose()?,
            crew: self.crew.duplicate()?,
            control: self.control.duplicate()?,
            control_read: self.control_read.as_ref().map(UnixSocket::duplicate).transpose()?,
            // None of the router's business.
            http: None,
        })
    }

    /// The numbers of all descriptors.
    pub(super) fn numbers(&self) -> Vec<RawFd> {
        let ports = [&self.frontend, &self.backend, &self.http].into_iter().flatten();
        let ports = ports.map(|port| port.descriptor.as_raw_fd());
        let sockets = [&self.crew, &self.control].into_iter().chain(&self.control_read);
        let sockets = sockets.map(|socket| socket.descriptor.as_raw_fd());
        ports.chain(sockets).collect()
    }

    /// Removes the files of the unix sockets. For a clean end: a file that is left over
    /// is replaced by the next start.
    pub fn remove_files(&self) {
        self.crew.remove_file();
        self.control.remove_file();
        self.control_read.iter().for_each(UnixSocket::remove_file);
    }
}

impl Port {
    /// Binds `host:port` and listens. The host is an address, a name (the first of its
    /// addresses that can be bound) or `*` for every IPv4 address; port 0 is a free one.
    ///
    /// # Errors
    /// [`ListenError`], for the operator.
    pub fn bind(host: &str, port: u16) -> Result<Self, ListenError> {
        let host = if host == "*" { "0.0.0.0" } else { host };
        // Brackets belong to the way an IPv6 address is written beside a port.
        let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let unresolvable = |why| ListenError::BadAddress { address: format!("{host}:{port}"), why };
        let addresses = (bare, port).to_socket_addrs().map_err(|error| unresolvable(error.to_string()))?;
        let mut result = Err(unresolvable("the name has no address".to_owned()));
        for address in addresses {
            result = Self::bind_address(address);
            // A name can have addresses that this machine lacks. But a taken port is an answer.
            if matches!(result, Ok(_) | Err(ListenError::PortTaken { .. })) {
                break;
            }
        }
        result
    }

    fn bind_address(address: SocketAddr) -> Result<Self, ListenError> {
        let explain = |errno| match errno {
            Errno::EADDRINUSE => ListenError::PortTaken { address, holder: port_holder::find(address) },
            Errno::EACCES | Errno::EPERM => ListenError::NoPermission { what: address.to_string() },
            Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT | Errno::EINVAL => ListenError::BadAddress {
                address: address.to_string(),
                why: "it is not an address of this machine".to_owned(),
            },
            other => ListenError::System { what: address.to_string(), source: other },
        };
        let descriptor = listen_on_address(address).map_err(explain)?;
        let name: SockaddrStorage = getsockname(descriptor.as_raw_fd()).map_err(explain)?;
        let address = to_socket_address(&name).unwrap_or(address);
        Ok(Self { descriptor, address })
    }

    /// One that this process was started with, by its number. It must be where the operator
    /// wants it, because what may be reached is decided by that.
    ///
    /// # Errors
    /// [`ListenError::HandedOver`] for what would only look like a port: libzmq would take
    /// it, and end the router when somebody connects.
    pub fn handed_over(name: &'static str, number: RawFd, wanted: SocketAddr) -> Result<Self, ListenError> {
        let refused = |why| ListenError::HandedOver { name, number, why };
        let descriptor = process::adopt(number).map_err(|_errno| refused("is not open".to_owned()))?;
        match prepare(&descriptor).and_then(|address| expect_address(address, wanted)) {
            Ok(address) => Ok(Self { descriptor, address }),
            Err(why) => {
                // Who knows whose it is: it must not be closed.
                let _number = descriptor.into_raw_fd();
                Err(refused(why))
            }
        }
    }

    fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { descriptor: self.descriptor.try_clone()?, address: self.address })
    }
}

/// Makes a descriptor of another program's one as we make them. Gives what it listens on.
fn prepare(descriptor: &OwnedFd) -> Result<SocketAddr, String> {
    let failed = |errno: Errno| format!("cannot be used: {}", errno.desc().to_lowercase());
    match getsockopt(descriptor, sockopt::AcceptConn) {
        Err(Errno::ENOTSOCK) => return Err("is no socket".to_owned()),
        Err(errno) => return Err(failed(errno)),
        Ok(false) => return Err("does not listen (Accept=no, and ListenStream=, are needed)".to_owned()),
        Ok(true) => (),
    }
    let name: SockaddrStorage = getsockname(descriptor.as_raw_fd()).map_err(failed)?;
    let address = to_socket_address(&name).ok_or("is no TCP socket")?;
    process::set_flags(descriptor.as_raw_fd(), FdFlag::FD_CLOEXEC).map_err(failed)?;
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL).map_err(failed)?);
    fcntl(descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(failed)?;
    Ok(address)
}

fn expect_address(address: SocketAddr, wanted: SocketAddr) -> Result<SocketAddr, String> {
    let same_port = wanted.port() == 0 || wanted.port() == address.port();
    // To systemd a bare port is every address of both families, through one IPv6 socket.
    let same_host =
        wanted.ip() == address.ip() || wanted.ip().is_unspecified() && address.ip().is_unspecified();
    if same_port && same_host {
        return Ok(address);
    }
    Err(format!(
        "listens on {address}, and {wanted} is asked for: write the same on the command line and as ListenStream="
    ))
}

fn listen_on_address(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let descriptor = stream_socket(family)?;
    // A port whose last owner has ended is free, however many of its connections still time out.
    setsockopt(&descriptor, sockopt::ReuseAddr, &true)?;
    bind(descriptor.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&descriptor, Backlog::new(BACKLOG)?)?;
    Ok(descriptor)
}

/// Non-blocking, for two routers that follow each other share the open file: an accept
/// that finds nothing must not hang.
fn stream_socket(family: AddressFamily) -> nix::Result<OwnedFd> {
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

fn to_socket_address(name: &SockaddrStorage) -> Option<SocketAddr> {
    let four = name.as_sockaddr_in().map(|four| SocketAddr::V4((*four).into()));
    four.or_else(|| name.as_sockaddr_in6().map(|six| SocketAddr::V6((*six).into())))
}

impl UnixSocket {
    /// Binds a socket at `path`, which only its owner may connect to, and listens. Makes
    /// its directory if there is none, and replaces a socket that nobody listens on.
    ///
    /// Known limit: two processes that replace the same dead socket in the same instant
    /// can both succeed, and only one is heard. Their ports keep them apart before that.
    ///
    /// # Errors
    /// [`ListenError`], for the operator.
    pub fn bind(path: &Path, access: Access) -> Result<Self, ListenError> {
        let length = path.as_os_str().as_bytes().len();
        if PATH_LIMIT < length {
            return Err(ListenError::PathTooLong { path: path.to_owned(), length });
        }
        prepare_directory(path, access)?;
        make_way(path)?;
        let explain = |errno| match errno {
            Errno::EADDRINUSE => ListenError::SocketInUse { path: path.to_owned() },
            other => path_error(path, other),
        };
        let descriptor = bind_to_path(path, access.owner).map_err(explain)?;
        if let Some(group) = access.group {
            open_to_group(path, group)?;
        }
        listen(&descriptor, Backlog::new(BACKLOG).map_err(explain)?).map_err(explain)?;
        let metadata = path.symlink_metadata().map_err(|error| path_error(path, errno_of(&error)))?;
        Ok(Self { descriptor, path: path.to_owned(), file: (metadata.dev(), metadata.ino()) })
    }

    /// One that was bound by a parent of before, whose `file` has this device and inode.
    pub(super) fn inherited(descriptor: OwnedFd, path: PathBuf, file: (u64, u64)) -> Self {
        Self { descriptor, path, file }
    }

    /// The device and inode of its file.
    pub(super) fn file(&self) -> (u64, u64) {
        self.file
    }

    /// A connection to it, which does not block. Whoever listens may be dead: the next one
    /// finds it waiting.
    pub(super) fn connect(&self) -> nix::Result<OwnedFd> {
        connect_to(&self.path)
    }

    fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { descriptor: self.descriptor.try_clone()?, path: self.path.clone(), file: self.file })
    }

    fn remove_file(&self) {
        let is_ours = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino()) == self.file;
        if self.path.symlink_metadata().is_ok_and(is_ours) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn prepare_directory(path: &Path, access: Access) -> Result<(), ListenError> {
    let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) else {
        return Ok(());
    };
    let explain = |error: io::Error| path_error(directory, errno_of(&error));
    match directory.metadata() {
        Ok(metadata) => {
            let owner = metadata.uid();
            let is_of_socket_owner = access.owner.is_some_and(|(user, _group)| user == owner);
            let is_trusted = owner == 0 || owner == Uid::effective().as_raw() || is_of_socket_owner;
            // In a directory like /tmp the sticky bit keeps others from replacing the file.
            let is_open_to_all = metadata.mode() & 0o1002 == 0o0002;
            if !is_trusted || is_open_to_all {
                return Err(ListenError::UnsafeDirectory { directory: directory.to_owned(), owner });
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(access.directory_mode)
                .create(directory)
                .map_err(explain)?;
            // The umask may have taken away what the caller wants.
            std::fs::set_permissions(directory, PermissionsExt::from_mode(access.directory_mode))
                .map_err(explain)
        }
        Err(error) => Err(explain(error)),
    }
}

/// Removes a socket that nobody listens on, and nothing else.
fn make_way(path: &Path) -> Result<(), ListenError> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(path_error(path, errno_of(&error))),
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    match connect_to(path).map(drop) {
        Err(Errno::ECONNREFUSED) => match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(path_error(path, errno_of(&error))),
            Ok(()) | Err(_) => Ok(()),
        },
        Err(Errno::ENOENT) => Ok(()),
        Err(errno @ (Errno::EACCES | Errno::EPERM)) => Err(path_error(path, errno)),
        // Connected, or its backlog is full, or it is of another kind: somebody is there.
        Ok(()) | Err(_) => Err(ListenError::SocketInUse { path: path.to_owned() }),
    }
}

fn connect_to(path: &Path) -> nix::Result<OwnedFd> {
    let descriptor = stream_socket(AddressFamily::Unix)?;
    connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(descriptor)
}

fn bind_to_path(path: &Path, owner: Option<(u32, u32)>) -> nix::Result<OwnedFd> {
    let descriptor = stream_socket(AddressFamily::Unix)?;
    let address = UnixAddr::new(path)?;
    // The file must never exist with more rights than it is to have. One thread, so
    // nothing else is made with this umask.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = bind(descriptor.as_raw_fd(), &address);
    umask(before);
    bound?;
    if let Some((user, group)) = owner {
        chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    Ok(descriptor)
}

/// Before anybody can connect: first the group, then its rights.
fn open_to_group(path: &Path, group: u32) -> Result<(), ListenError> {
    chown(path, None, Some(Gid::from_raw(group))).map_err(|errno| match errno {
        Errno::EPERM => ListenError::NotInGroup { path: path.to_owned(), group },
        other => path_error(path, other),
    })?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))
        .map_err(|error| path_error(path, errno_of(&error)))
}

fn path_error(path: &Path, errno: Errno) -> ListenError {
    match errno {
        Errno::EACCES | Errno::EPERM | Errno::EROFS => {
            ListenError::NoPermission { what: path.display().to_string() }
        }
        other => ListenError::System { what: path.display().to_string(), source: other },
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}
