//! Who answers for a worker while its handler runs: a new router replaces whoever it does not hear
//! of within a moment, and a handler may be at work for longer than that.
//!
//! There is no thread for it. When a handler has run for a while, the kernel is asked to signal what
//! happens on the socket; and when that is the end of the connection, the signal's handler connects
//! to the next router and says hello, in a few system calls, none of which allocates or locks. The
//! signal is SIGURG, which does nothing by default, so neither programs nor forks mind it.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::socket::{self, MsgFlags, SockFlag, SockType, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;
use tracing::debug;

use crate::endpoint::Address;
use crate::{connection, ffi};

/// A handler that runs for less is not worth a system call. A new router waits for 300 ms.
const SHORT: Duration = Duration::from_millis(100);

/// How long the handler is interrupted at most, for a router that is yet to come.
const PATIENCE_S: i64 = 3;

/// The socket that is watched; below zero while our own code is at work.
static WATCHED: AtomicI32 = AtomicI32::new(-1);
/// The kernel signals what happens on it.
static ALERT: AtomicBool = AtomicBool::new(false);
/// The timer will say that a handler has been running for a while.
static TIMED: AtomicBool = AtomicBool::new(false);
/// The connection to the next router; below zero if there is none.
static SUCCESSOR: AtomicI32 = AtomicI32::new(-1);
/// One worker of a process has the sentry, others do without.
static POSTED: AtomicBool = AtomicBool::new(false);
static ORDERS: Mutex<Option<Orders>> = Mutex::new(None);

/// What to say to a router, and where it is.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) address: Address,
    pub(crate) greeting: Vec<u8>,
    pub(crate) ready: Vec<u8>,
    pub(crate) hello: Vec<u8>,
}

/// Answers for the worker of the thread that made it.
#[derive(Debug)]
pub(crate) struct Sentry {
    timer: Timer,
}

impl Sentry {
    /// `None` if another worker of this process has one, or the program uses the signal itself.
    pub(crate) fn post(orders: Orders) -> Option<Self> {
        if POSTED.swap(true, SeqCst) {
            return None;
        }
        let thread_id = gettid().as_raw();
        let event = SigevNotify::SigevThreadId { signal: Signal::SIGURG, thread_id, si_value: 0 };
        let timer = match ffi::take_signal(Signal::SIGURG, alarmed) {
            Ok(true) => Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(event)),
            Ok(false) => Err(Errno::EBUSY),
            Err(errno) => Err(errno),
        };
        let mut posted = ORDERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match timer {
            Ok(timer) => {
                *posted = Some(orders);
                Some(Self { timer })
            }
            Err(error) => {
                debug!(%error, "nobody answers for this worker while its handler runs");
                POSTED.store(false, SeqCst);
                None
            }
        }
    }

    /// The broker was found here.
    pub(crate) fn look_at(address: Address) {
        if let Some(orders) = &mut *ORDERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            orders.address = address;
        }
    }

    /// The handler begins, or goes on.
    pub(crate) fn watch(&mut self, socket: BorrowedFd<'_>) {
        if !ALERT.load(SeqCst) && !TIMED.swap(true, SeqCst) {
            let expiration = Expiration::OneShot(SHORT.into());
            self.timer.set(expiration, TimerSetTimeFlags::empty()).ok();
        }
        WATCHED.store(socket.as_raw_fd(), SeqCst);
    }

    /// The handler has ended, or calls us. The connection to the next router, if that had to be made.
    pub(crate) fn relieve(socket: Option<BorrowedFd<'_>>) -> Option<OwnedFd> {
        if WATCHED.swap(-1, SeqCst) < 0 {
            return None;
        }
        let successor = SUCCESSOR.swap(-1, SeqCst);
        if ALERT.swap(false, SeqCst)
            && let Some(socket) = socket
        {
            ffi::do_not_signal(socket.as_raw_fd()).ok();
        }
        if successor < 0 {
            return None;
        }
        ffi::do_not_signal(successor).ok();
        Some(ffi::own(successor))
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        drop(Self::relieve(None));
        *ORDERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        POSTED.store(false, SeqCst);
    }
}

/// The timer has run out, or something has happened on the socket. Runs between any two instructions of the
/// thread, a handler's or ours, so it may neither allocate nor wait for a lock.
extern "C" fn alarmed(_signal: c_int) {
    let errno = Errno::last_raw();
    TIMED.store(false, SeqCst);
    let watched = WATCHED.load(SeqCst);
    if 0 <= watched {
        if !ALERT.swap(true, SeqCst) {
            ffi::signal_events(watched).ok();
        }
        if is_lost(watched)
            && let Ok(orders) = ORDERS.try_lock()
            && let Some(orders) = orders.as_ref()
            && let Ok(successor) = meet(orders)
        {
            let successor = successor.into_raw_fd();
            ffi::signal_events(successor).ok();
            WATCHED.store(successor, SeqCst);
            let earlier = SUCCESSOR.swap(successor, SeqCst);
            if 0 <= earlier {
                drop(ffi::own(earlier));
            }
        }
    }
    Errno::set_raw(errno);
}

fn is_lost(socket: RawFd) -> bool {
    match socket::recv(socket, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(0) => true,
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => false,
        Err(_) => true,
    }
}

/// Connects to the router, which may be about to start, and says hello.
fn meet(orders: &Orders) -> nix::Result<OwnedFd> {
    let socket = socket::socket(orders.address.family(), SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connection::prepare(&socket, &orders.address)?;
    let patience = TimeVal::seconds(PATIENCE_S);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    socket::connect(socket.as_raw_fd(), orders.address.as_sockaddr())?;
    say(&socket, &orders.greeting)?;
    // Both are as long as ours: a greeting, and a READY whose size is in its second byte.
    let mut greeting = [0; 64];
    hear(&socket, &mut greeting)?;
    say(&socket, &orders.ready)?;
    let mut head = [0; 2];
    hear(&socket, &mut head)?;
    let [4, size] = head else { return Err(Errno::EPROTO) };
    let mut ready = [0; 255];
    hear(&socket, ready.get_mut(..usize::from(size)).unwrap_or_default())?;
    if greeting.first() != Some(&0xff) || !ready.starts_with(b"\x05READY") {
        return Err(Errno::EPROTO);
    }
    say(&socket, &orders.hello)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(0))?;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(0))?;
    Ok(socket)
}

fn say(socket: &OwnedFd, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        match socket::send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => (),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn hear(socket: &OwnedFd, mut space: &mut [u8]) -> nix::Result<()> {
    while !space.is_empty() {
        match socket::recv(socket.as_raw_fd(), space, MsgFlags::empty()) {
            Ok(0) => return Err(Errno::ECONNRESET),
            Ok(count) => space = space.get_mut(count..).unwrap_or_default(),
            Err(Errno::EINTR) => (),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
