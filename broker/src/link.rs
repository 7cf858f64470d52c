//! What parent and router say to each other.
//!
//! They are two processes of one program, joined by a socketpair that keeps
//! message boundaries (SOCK_SEQPACKET): one packet, one MessagePack value.
//! `hornpipe-proto` holds what strangers may rely on; nobody may rely on this.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A packet is never larger. `Remember` of a pool of 1024 slots needs 16 KiB.
pub const PACKET_LIMIT: usize = 64 * 1024;

/// Names a worker process: the slot it fills, and how often that slot has been filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The slot.
    pub slot: u32,
    /// The incarnation.
    pub incarnation: u32,
}

/// An order of the router to the parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToParent {
    /// Start a worker after this recipe, as the parent numbers them. Answered by `Started` or
    /// `NotStarted`.
    Spawn { place: Place, generation: u32, recipe: u32 },
    /// Send a signal to a worker's process group. Ignored if it has ended.
    Signal { place: Place, signal: WorkerSignal },
    /// Keep these bytes for the next router, under this name if there is one.
    Remember { name: Option<String>, blob: Vec<u8> },
    /// The first worker is ready (or none is wanted): the parent tells whoever waits for it.
    Ready,
    /// What did this worker write last? Answered by `Lines`.
    Lines { place: Place },
    /// Something has happened for which the operator may want programs to be run.
    RunHook { event: HookEvent, variables: Vec<(String, String)> },
    /// The pool is stopping. If running requests have only `within_ms` to finish, the parent
    /// ends everything 5 s after that.
    Stopping { within_ms: Option<u64> },
    /// How the router is: the answer to `TakePulse`, and after the first one of those also
    /// whenever it has changed, about once a second at most. `number` is the last question.
    Pulse { number: u64, is_reloading: bool, sentence: String },
    /// Everything is done and every worker is gone: the parent exits with this
    /// code as soon as the router has ended.
    Finished { exit_code: u8 },
    /// An operator asks for another router of the program's file as it is now.
    Upgrade,
    /// The reload of a recipe's workers to this generation is done.
    Settled { recipe: u32, generation: u32 },
    /// What was accepted is answered: another router may follow as soon as this one has ended.
    HandedOver,
}

/// What the parent tells the router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRouter {
    /// A worker process exists. It does not run a step before this is sent.
    Started { place: Place, pid: i32 },
    /// A worker process could not be made: fork failed.
    NotStarted { place: Place, why: String },
    /// Somebody stopped a worker (SIGSTOP and the like).
    Halted { place: Place },
    /// And let it go on.
    Continued { place: Place },
    /// A worker process has ended and is reaped.
    Exited { place: Place, ending: Ending },
    /// What a worker wrote last, oldest first: nothing if it has ended.
    Lines { place: Place, lines: Vec<String> },
    /// A process of a hook runs, and leads a group: to be killed if the parent dies.
    HookStarted { pid: i32 },
    /// It has ended.
    HookEnded { pid: i32 },
    /// Other settings hold from here on: bytes that only routers understand.
    Configured { settings: Vec<u8> },
    /// The configuration file was read, at this router's birth or at HUP.
    ConfigRead(ConfigRead),
    /// A signal came.
    Signal(Signal),
    /// How are you? Answered by `Pulse` as soon as the loop has come round.
    TakePulse { number: u64 },
    /// Finish what was accepted, then make room for another router.
    HandOver,
    /// There will be none: why. The answer to `Upgrade`, if it is no.
    UpgradeRefused { why: String },
}

/// How the last reading of the configuration file went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRead {
    /// It could be used.
    pub succeeded: bool,
    /// When, since the machine started.
    pub at: Duration,
}

/// What an operator may have programs run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookEvent {
    /// A worker is ready.
    WorkerStart,
    /// A worker's process has ended.
    WorkerExit,
    /// A reload was given up.
    ReloadFailed,
    /// The pool cannot do all that it should.
    Degraded,
}

impl HookEvent {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::WorkerStart, Self::WorkerExit, Self::ReloadFailed, Self::Degraded];

    /// As operators write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkerStart => "worker_start",
            Self::WorkerExit => "worker_exit",
            Self::ReloadFailed => "reload_failed",
            Self::Degraded => "degraded",
        }
    }
}

impl std::fmt::Display for HookEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The signals a worker is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerSignal {
    Term,
    Kill,
}

/// The signals the parent takes and hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    Term,
    Int,
    Quit,
    Hup,
    Ttin,
    Ttou,
    Usr1,
    Usr2,
}

impl std::fmt::Display for Signal {
    /// As `kill -l` names it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Ttin => "TTIN",
            Self::Ttou => "TTOU",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        })
    }
}

/// How a worker process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub status: ExitStatus,
    /// User and system time it used, its children included, in milliseconds.
    pub cpu_ms: u64,
    /// The most memory it had resident, in KiB.
    pub max_rss_kib: u64,
    /// The last lines it wrote, oldest first.
    pub last_lines: Vec<String>,
}

/// What `wait` said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// The kernel killed it because there was no memory left.
    OutOfMemory,
    /// The program could not be executed at all: which, and why.
    NotExecuted { program: String, why: String },
    /// The child could not be prepared (user, directory, limits): why.
    NotPrepared { why: String },
}

/// One end of the socketpair.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// What `Link::receive` found.
#[derive(Debug)]
pub enum Received<T> {
    Message(T),
    /// Nothing at present.
    Empty,
    /// The other end is gone.
    Closed,
}

impl Link {
    /// Both ends, non-blocking and closed on exec.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn pair() -> nix::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (left, right) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self::new(left), Self::new(right)))
    }

    /// An end that another program has handed over.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; PACKET_LIMIT] }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// `EAGAIN` if the other end has not read enough yet, `EPIPE` if it is gone.
    pub fn send<T: Serialize>(&self, message: &T) -> nix::Result<()> {
        let packet = rmp_serde::to_vec(message).map_err(|_unencodable| Errno::EINVAL)?;
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        send(self.socket.as_raw_fd(), &packet, flags).map(|_sent| ())
    }

    /// Takes the next message, without waiting.
    ///
    /// # Errors
    /// `EBADMSG` for a packet that is not a `T`: the two ends are not the same program.
    pub fn receive<T: DeserializeOwned>(&mut self) -> nix::Result<Received<T>> {
        let mut take = || recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT);
        // The kernel says once that the other end has left without reading what it was
        // sent. What it has said itself stands behind that, and counts.
        let size = match take().or_else(|error| if error == Errno::ECONNRESET { take() } else { Err(error) })
        {
            Ok(0) | Err(Errno::ECONNRESET) => return Ok(Received::Closed),
            Ok(size) => size,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Received::Empty),
            Err(error) => return Err(error),
        };
        let packet = self.buffer.get(..size).unwrap_or_default();
        rmp_serde::from_slice(packet).map(Received::Message).map_err(|_unreadable| Errno::EBADMSG)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_one_who_has_not_read_everything_is_heard() {
        let (mut parent, router) = Link::pair().unwrap();
        let last_word = ToParent::Finished { exit_code: 0 };
        router.send(&last_word).unwrap();
        parent.send(&ToRouter::HookEnded { pid: 1 }).unwrap();
        drop(router);
        let heard = parent.receive::<ToParent>().unwrap();
        assert!(matches!(heard, Received::Message(message) if message == last_word));
        assert!(matches!(parent.receive::<ToParent>().unwrap(), Received::Closed));
    }
}
