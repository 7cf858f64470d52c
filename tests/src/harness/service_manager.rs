//! A service manager as a process sees it: a datagram socket that it is to write to. Knows
//! who has written, as systemd does.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, setsockopt, sockopt};

use super::folder::Folder;
use super::wait::eventually;

/// What a message may say besides the turns of a life, which come in an order.
const ASIDES: [&str; 3] = ["STATUS", "WATCHDOG", "EXTEND_TIMEOUT_USEC"];

/// Hears what a process tells its service manager.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    name: OsString,
    heard: RefCell<Vec<Message>>,
    /// How many of them a test has looked at.
    seen: RefCell<usize>,
    _folder: Folder,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The process that has sent it.
    pub pid: i32,
    /// Its lines.
    pub lines: Vec<String>,
}

impl Message {
    /// The value of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    fn is_turn(&self) -> bool {
        self.lines.iter().any(|line| !ASIDES.iter().any(|aside| line.starts_with(aside)))
    }
}

impl ServiceManager {
    /// One that listens in a file.
    pub fn new() -> Self {
        let folder = Folder::new();
        let path = folder.file("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::of(socket, path.into(), folder)
    }

    /// One that listens at an abstract name.
    pub fn without_a_file() -> Self {
        let folder = Folder::new();
        let name = folder.path().display().to_string();
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Self::of(socket, format!("@{name}").into(), folder)
    }

    fn of(socket: UnixDatagram, name: OsString, folder: Folder) -> Self {
        socket.set_nonblocking(true).unwrap();
        setsockopt(&socket, sockopt::PassCred, &true).unwrap();
        Self { socket, name, heard: RefCell::default(), seen: RefCell::default(), _folder: folder }
    }

    /// What `NOTIFY_SOCKET` is to be.
    pub fn name(&self) -> OsString {
        self.name.clone()
    }

    /// Everything that was ever said.
    pub fn all(&self) -> Vec<Message> {
        while let Some(message) = self.receive() {
            self.heard.borrow_mut().push(message);
        }
        self.heard.borrow().clone()
    }

    /// What was said that no test has looked at.
    pub fn news(&self) -> Vec<Message> {
        let all = self.all();
        let seen = self.seen.replace(all.len());
        all[seen..].to_vec()
    }

    /// The next turn in the life of the process, which must be this one.
    pub fn expect(&self, line: &str) -> Message {
        let mut found = None;
        eventually(&format!("the service manager is told {line}, and was told {:#?}", self.all()), || {
            let all = self.all();
            let seen = *self.seen.borrow();
            let next = all[seen..].iter().position(Message::is_turn);
            if let Some(next) = next {
                self.seen.replace(seen + next + 1);
                found = Some(all[seen + next].clone());
            }
            next.is_some()
        });
        let message = found.unwrap();
        assert!(message.lines.iter().any(|one| one == line), "not {line} but {message:?}: {:#?}", self.all());
        message
    }

    /// Waits until the last sentence is such a one.
    pub fn wait_for_sentence(&self, check: impl Fn(&str) -> bool) {
        eventually("the service manager is told a sentence that is expected", || {
            let all = self.all();
            all.iter().rev().find_map(|message| message.value("STATUS")).is_some_and(&check)
        });
    }

    /// Waits until something of that name has such a value, whatever is told before it.
    pub fn wait_for(&self, name: &str, check: impl Fn(&str) -> bool) -> String {
        let mut found = None;
        eventually(&format!("the service manager is told a {name} that is expected"), || {
            let news = self.news();
            found = news
                .iter()
                .filter_map(|message| message.value(name))
                .find(|value| check(value))
                .map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }

    fn receive(&self) -> Option<Message> {
        let mut buffer = [0; 4096];
        let mut space = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let received =
            recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
        let pid = received.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
            _ => None,
        });
        let size = received.bytes;
        let text = String::from_utf8(buffer[..size].to_vec()).unwrap();
        Some(Message { pid: pid.unwrap(), lines: text.lines().map(str::to_owned).collect() })
    }
}

impl Default for ServiceManager {
    fn default() -> Self {
        Self::new()
    }
}
