//! The line to the service manager: datagrams to the socket that it has named. What it has
//! no room for waits, if it must be heard, or is dropped. What it says is never read.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::errno::Errno;
use tracing::warn;

/// What must be heard and cannot be said yet: far more than there are turns in a life.
const UNSENT_LIMIT: usize = 16;

/// The wait before it is said again, doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A socket of the service manager.
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
    unsent: VecDeque<String>,
    /// When it is tried again, and how long that is after the last time.
    retry: Option<(Duration, Duration)>,
    /// It is told once that nobody listens.
    has_complained: bool,
}

/// Whether a message must be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Without it the service manager would be wrong about this process.
    Must,
    /// The next one of its kind says the same, or more.
    May,
}

impl fmt::Debug for NotifySocket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NotifySocket").field("address", &self.address).finish_non_exhaustive()
    }
}

impl NotifySocket {
    /// A line to the socket of that name: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// If it is no such name, or no descriptor is left.
    pub(super) fn open(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _other => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a path nor @NAME"));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, unsent: VecDeque::new(), retry: None, has_complained: false })
    }

    /// Says it, behind what waits. False if it is not said, and will not be.
    pub(super) fn say(&mut self, message: String, weight: Weight, now: Duration) -> bool {
        if weight == Weight::Must {
            self.say_the_rest();
        }
        if self.unsent.is_empty() && self.send(&message) != Sent::NoRoom {
            return true;
        }
        if weight == Weight::May {
            return false;
        }
        if self.unsent.len() == UNSENT_LIMIT {
            self.unsent.pop_front();
        }
        self.unsent.push_back(message);
        self.retry.get_or_insert((now.saturating_add(FIRST_WAIT), FIRST_WAIT));
        true
    }

    /// When to try again what waits.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.retry.map(|(at, _wait)| at)
    }

    /// Tries again what waits, if that is due.
    pub(super) fn see_to_deadlines(&mut self, now: Duration) {
        let Some((at, wait)) = self.retry else { return };
        if now < at {
            return;
        }
        self.say_the_rest();
        if !self.unsent.is_empty() {
            let wait = wait.saturating_mul(2).min(LONGEST_WAIT);
            self.retry = Some((now.saturating_add(wait), wait));
        }
    }

    /// Says what waits, as far as there is room at this moment.
    pub(super) fn say_the_rest(&mut self) {
        while let Some(message) = self.unsent.front().cloned() {
            if self.send(&message) == Sent::NoRoom {
                return;
            }
            self.unsent.pop_front();
        }
        self.retry = None;
    }

    fn send(&mut self, message: &str) -> Sent {
        let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) else {
            return Sent::Done;
        };
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => Sent::NoRoom,
            _nobody_is_there => {
                if !std::mem::replace(&mut self.has_complained, true) {
                    warn!(%error, "the service manager cannot be told: NOTIFY_SOCKET leads nowhere");
                }
                Sent::Done
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// It is, or never will be.
    Done,
    NoRoom,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service manager, and a line to it.
    fn pair(name: &str) -> (UnixDatagram, NotifySocket) {
        let name = format!("hornpipe-test-{}-{name}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager.set_nonblocking(true).unwrap();
        (manager, NotifySocket::open(OsStr::new(&format!("@{name}"))).unwrap())
    }

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 256];
        let mut all = Vec::new();
        while let Ok(size) = manager.recv(&mut buffer) {
            all.push(String::from_utf8(buffer[..size].to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn what_must_be_heard_waits_for_room_and_keeps_its_order() {
        let (manager, mut line) = pair("full");
        let mut said = Vec::new();
        let now = Duration::ZERO;
        for number in 0..1000 {
            let message = format!("STATUS={number}");
            if !line.say(message.clone(), Weight::May, now) {
                break;
            }
            said.push(message);
        }
        assert!(said.len() < 1000, "the kernel has no limit");
        assert!(line.say("READY=1".into(), Weight::Must, now));
        assert!(line.say("STOPPING=1".into(), Weight::Must, now));
        assert!(!line.say("STATUS=late".into(), Weight::May, now), "it would overtake");
        assert_eq!(heard(&manager), said);
        assert_eq!(line.next_deadline(), Some(FIRST_WAIT));
        line.see_to_deadlines(Duration::ZERO);
        assert_eq!(heard(&manager), [""; 0], "it is tried again when that is due");
        line.see_to_deadlines(FIRST_WAIT);
        assert_eq!(heard(&manager), ["READY=1", "STOPPING=1"]);
        assert_eq!(line.next_deadline(), None);
    }

    #[test]
    fn what_waits_is_said_before_its_time_with_the_next_word_and_at_the_end() {
        let (manager, mut line) = pair("room");
        let now = Duration::ZERO;
        while line.say("STATUS=x".into(), Weight::May, now) {}
        line.say("READY=1".into(), Weight::Must, now);
        heard(&manager);
        line.say("STOPPING=1".into(), Weight::Must, now);
        assert_eq!(heard(&manager), ["READY=1", "STOPPING=1"]);
        assert_eq!(line.next_deadline(), None);
        while line.say("STATUS=x".into(), Weight::May, now) {}
        line.say("READY=1".into(), Weight::Must, now);
        heard(&manager);
        line.say_the_rest();
        assert_eq!(heard(&manager), ["READY=1"]);
    }

    #[test]
    fn a_manager_that_never_reads_is_tried_less_and_less_often() {
        let (_manager, mut line) = pair("deaf");
        let mut now = Duration::ZERO;
        while line.say("STATUS=x".into(), Weight::May, now) {}
        for _message in 0..100 {
            line.say("READY=1".into(), Weight::Must, now);
        }
        assert_eq!(line.unsent.len(), UNSENT_LIMIT);
        let mut waits = Vec::new();
        for _try in 0..8 {
            let next = line.next_deadline().unwrap();
            waits.push(next.saturating_sub(now).as_millis());
            now = next;
            line.see_to_deadlines(now);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn a_manager_that_is_gone_costs_nothing() {
        let (manager, mut line) = pair("gone");
        drop(manager);
        assert!(line.say("READY=1".into(), Weight::Must, Duration::ZERO));
        assert_eq!(line.next_deadline(), None);
    }

    #[test]
    fn a_name_is_a_path_or_abstract() {
        let path = NotifySocket::open(OsStr::new("/run/no-such/notify")).unwrap();
        assert_eq!(path.address.as_pathname(), Some(std::path::Path::new("/run/no-such/notify")));
        assert!(NotifySocket::open(OsStr::new("@name")).is_ok());
        for name in ["vsock:2:1", "relative", ""] {
            assert!(NotifySocket::open(OsStr::new(name)).is_err(), "{name:?}");
        }
        let long = format!("/{}", "x".repeat(200));
        assert!(NotifySocket::open(OsStr::new(&long)).is_err());
    }
}
