//! The way to the broker and back: one socket, connected again whenever it is lost.
//! No threads, and no libzmq: a process may fork for ever. What is said over it, and
//! what to say again after a loss, is the session's affair.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hornpipe_proto::zmtp::{self, Event, Limits, SocketType};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, MsgFlags, SockFlag, SockType, setsockopt, sockopt};
use rustix::buffer::spare_capacity;
use rustix::net::RecvFlags;
use tracing::{debug, info, warn};

use crate::endpoint::{Address, Endpoint};
use crate::rehearsal::{rehearse, take_unsent};
use crate::sentry::{Orders, Sentry};
use crate::{clock, ffi};

/// The first pause after a loss. A router that restarts keeps its listener, so this is seldom needed.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Pauses double up to this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a broker may take to accept, and to say what it is. While a router restarts, who connects
/// waits in the kernel's queue.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine that vanished is given up 3 s after it was last heard.
const KEEPALIVE_IDLE_S: u32 = 1;
const KEEPALIVE_INTERVAL_S: u32 = 1;
const KEEPALIVE_COUNT: u32 = 3;
const USER_TIMEOUT_MS: u32 = 3000;

/// Pieces for one vectored write.
const SLICES: usize = 16;

/// What has happened on the way.
#[derive(Debug)]
pub(crate) enum News {
    /// A broker is there, and knows nothing of us.
    Opened,
    /// It says this.
    Message(Vec<Vec<u8>>),
    /// It is gone, and with it what was not yet written.
    Lost,
}

/// A descriptor to wait for beside the socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch<'a> {
    fd: BorrowedFd<'a>,
    events: PollFlags,
}

impl<'a> Watch<'a> {
    pub(crate) fn readable(fd: BorrowedFd<'a>) -> Self {
        Self { fd, events: PollFlags::POLLIN }
    }

    pub(crate) fn writable(fd: BorrowedFd<'a>) -> Self {
        Self { fd, events: PollFlags::POLLOUT }
    }
}

/// The way to one broker.
#[derive(Debug)]
pub(crate) struct Connection {
    name: String,
    endpoint: Endpoint,
    limits: Limits,
    link: Link,
    news: VecDeque<News>,
    pause: Duration,
    attempts: usize,
    opened: Option<Instant>,
    sentry: Option<Sentry>,
    /// Where the broker was last looked for.
    address: Option<Address>,
    /// How many sockets there have been: descriptors are used again.
    sockets: u64,
    /// How many forks lay between the first process and the one that made this.
    forks: u32,
}

#[derive(Debug)]
enum Link {
    Away {
        until: Option<Instant>,
    },
    /// The kernel connects.
    Reaching {
        socket: OwnedFd,
        until: Option<Instant>,
    },
    Up {
        socket: OwnedFd,
        zmtp: Box<zmtp::Connection>,
        /// Until when the handshake must be over.
        until: Option<Instant>,
    },
}

impl Connection {
    /// Begins to connect. Returns at once, also if nobody is there yet.
    pub(crate) fn open(name: &str, limits: Limits) -> Result<Self, &'static str> {
        let endpoint = Endpoint::parse(name)?;
        let mut connection = Self {
            name: name.to_owned(),
            endpoint,
            limits,
            link: Link::Away { until: None },
            news: VecDeque::new(),
            pause: FIRST_PAUSE,
            attempts: 0,
            opened: None,
            sentry: None,
            address: None,
            sockets: 0,
            forks: ffi::forks(),
        };
        connection.reach();
        Ok(connection)
    }

    /// Has somebody answer with this message for a handler that runs while a router is replaced.
    pub(crate) fn post_sentry(&mut self, hello: Vec<u8>) {
        let Some(address) = self.address.clone() else { return };
        let (mut zmtp, greeting, ready) = rehearse(self.limits);
        zmtp.send([hello]);
        let hello = take_unsent(&mut zmtp);
        self.sentry = Sentry::post(Orders { address, greeting, ready, hello });
    }

    /// Whether the next router hears of us also while the handler runs, once [`watch`](Self::watch) was called.
    pub(crate) fn has_sentry(&self) -> bool {
        self.sentry.is_some()
    }

    /// The handler runs from here on.
    pub(crate) fn watch(&mut self) {
        if let (Some(sentry), Link::Up { socket, until: None, .. }) = (&mut self.sentry, &self.link) {
            sentry.watch(socket.as_fd());
        }
    }

    /// It does not any more. What has happened meanwhile is news.
    pub(crate) fn relieve(&mut self) {
        if self.sentry.is_none() {
            return;
        }
        let socket = match &self.link {
            Link::Up { socket, .. } => Some(socket.as_fd()),
            Link::Away { .. } | Link::Reaching { .. } => None,
        };
        if let Some(socket) = Sentry::relieve(socket) {
            debug!(endpoint = self.name, "another router was met while the handler ran");
            let (zmtp, _greeting, _ready) = rehearse(self.limits);
            self.sockets += 1;
            self.link = Link::Up { socket, zmtp: Box::new(zmtp), until: None };
            self.opened = Some(clock::now());
            self.news.extend([News::Lost, News::Opened]);
        }
    }

    /// Whether messages can be sent.
    pub(crate) fn is_open(&self) -> bool {
        matches!(&self.link, Link::Up { zmtp, .. } if zmtp.is_open())
    }

    /// Whether something is still to be written.
    pub(crate) fn has_unsent(&self) -> bool {
        matches!(&self.link, Link::Up { zmtp, .. } if zmtp.unsent_bytes() != 0)
    }

    /// The next thing that has happened, as far as it was read.
    pub(crate) fn take_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Puts a message behind what is to be written. Without a broker it is dropped.
    pub(crate) fn send(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) {
        if let Link::Up { zmtp, .. } = &mut self.link {
            zmtp.send(frames);
        }
    }

    /// Writes what the socket takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.check_process()?;
        self.write();
        Ok(())
    }

    /// Writes everything, or gives up at this time, or when a watch is ready. Meanwhile nothing is read.
    /// True if all is written; false also if there is no broker any more.
    pub(crate) fn flush_all(&mut self, watch: Option<Watch<'_>>, until: Option<Instant>) -> io::Result<bool> {
        loop {
            self.flush()?;
            let Link::Up { socket, .. } = &self.link else { return Ok(false) };
            if !self.has_unsent() {
                return Ok(true);
            }
            let own = PollFd::new(socket.as_fd(), PollFlags::POLLOUT);
            match watch {
                None => wait_for(&mut [own], until)?,
                Some(watch) => {
                    let mut items = [own, PollFd::new(watch.fd, watch.events)];
                    wait_for(&mut items, until)?;
                    if items.iter().skip(1).any(is_ready) {
                        return Ok(false);
                    }
                }
            }
            if until.is_some_and(|until| until <= clock::now()) {
                return Ok(false);
            }
        }
    }

    /// Waits until there is news, one of the watches is ready, a signal came, or the time is over.
    pub(crate) fn wait(&mut self, watches: &[Watch<'_>], until: Option<Instant>) -> io::Result<()> {
        self.flush()?;
        if !self.news.is_empty() {
            return Ok(());
        }
        if watches.is_empty() && until.is_none() && self.is_open() && !self.has_unsent() {
            // One system call for each message, as long as there is nothing else to wait for.
            self.read(RecvFlags::empty());
            return Ok(());
        }
        let mut items: Vec<PollFd<'_>> =
            watches.iter().map(|watch| PollFd::new(watch.fd, watch.events)).collect();
        items.extend(self.link.interest());
        wait_for(&mut items, [until, self.link.deadline()].into_iter().flatten().min())?;
        let own = items.get(watches.len()).is_some_and(is_ready);
        if own || self.link.deadline().is_some_and(|time| time <= clock::now()) {
            self.go_on()?;
        }
        Ok(())
    }

    /// Does what can be done without waiting. True if there may be more to read.
    pub(crate) fn go_on(&mut self) -> io::Result<bool> {
        self.check_process()?;
        let late = self.link.deadline().is_some_and(|time| time <= clock::now());
        match &self.link {
            Link::Away { .. } if late => self.reach(),
            Link::Away { .. } => (),
            Link::Reaching { socket, .. } => {
                let mut items = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut items, PollTimeout::ZERO) {
                    Ok(1..) => self.reached(),
                    _ if late => self.fail(&Errno::ETIMEDOUT),
                    _ => (),
                }
            }
            Link::Up { .. } => {
                let more = self.read(RecvFlags::DONTWAIT);
                if !self.is_open() && late && matches!(self.link, Link::Up { .. }) {
                    self.fail(&Errno::ETIMEDOUT);
                }
                return Ok(more);
            }
        }
        Ok(false)
    }

    /// The socket, and which one of all there have been it is.
    #[cfg(feature = "async")]
    pub(crate) fn descriptor(&self) -> Option<(u64, BorrowedFd<'_>)> {
        match &self.link {
            Link::Away { .. } => None,
            Link::Reaching { socket, .. } | Link::Up { socket, .. } => Some((self.sockets, socket.as_fd())),
        }
    }

    /// When [`go_on`](Self::go_on) has something to do whatever the socket says.
    #[cfg(feature = "async")]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.link.deadline()
    }

    /// Whether it is worth to know that the socket can be written to.
    #[cfg(feature = "async")]
    pub(crate) fn wants_to_write(&self) -> bool {
        matches!(self.link, Link::Reaching { .. }) || self.has_unsent()
    }

    fn check_process(&self) -> io::Result<()> {
        if self.forks == ffi::forks() {
            return Ok(());
        }
        Err(io::Error::other("the connection belongs to the process that forked this one"))
    }

    fn reach(&mut self) {
        self.attempts = self.attempts.wrapping_add(1);
        let address = match self.endpoint.resolve(self.attempts) {
            Ok(address) => address,
            Err(error) => return self.fail(&error),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket::socket(address.family(), SockType::Stream, flags, None);
        let socket = match made.and_then(|socket| prepare(&socket, &address).map(|()| socket)) {
            Ok(socket) => socket,
            Err(errno) => return self.fail(&errno),
        };
        if self.sentry.is_some() {
            Sentry::look_at(address.clone());
        }
        self.address = Some(address.clone());
        self.sockets += 1;
        self.link = Link::Reaching { socket, until: clock::after(PATIENCE) };
        let Link::Reaching { socket, .. } = &self.link else { return };
        match socket::connect(socket.as_raw_fd(), address.as_sockaddr()) {
            Ok(()) => self.reached(),
            Err(Errno::EINPROGRESS | Errno::EINTR) => (),
            // Among others: nobody listens, or too many wait to be accepted.
            Err(errno) => self.fail(&errno),
        }
    }

    /// The kernel has connected, or knows that it cannot.
    fn reached(&mut self) {
        let until = clock::after(PATIENCE);
        match std::mem::replace(&mut self.link, Link::Away { until: None }) {
            Link::Reaching { socket, .. } => match settle(&socket) {
                Ok(()) => {
                    let zmtp = Box::new(zmtp::Connection::new(SocketType::Dealer, self.limits));
                    self.link = Link::Up { socket, zmtp, until };
                    self.write();
                }
                Err(errno) => self.fail(&errno),
            },
            other => self.link = other,
        }
    }

    /// Reads once. True if there may be more.
    fn read(&mut self, flags: RecvFlags) -> bool {
        let Link::Up { socket, zmtp, until } = &mut self.link else { return false };
        let buffer = zmtp.buffer();
        let room = buffer.capacity() - buffer.len();
        let count = match rustix::net::recv(&*socket, spare_capacity(buffer), flags) {
            Ok((count @ 1.., _)) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return false,
            ended => {
                self.fail(&ended.err().unwrap_or(rustix::io::Errno::CONNRESET));
                return true;
            }
        };
        let was_open = zmtp.is_open();
        let result = zmtp.received();
        let mut overlong = false;
        while let Some(event) = zmtp.next_event() {
            match event {
                Event::Overlong(_) => overlong = true,
                Event::Ready(_) => {
                    *until = None;
                    self.news.push_back(News::Opened);
                }
                Event::Message(frames) => {
                    self.pause = FIRST_PAUSE;
                    self.news.push_back(News::Message(frames));
                }
                Event::Pong { .. } => (),
            }
        }
        if !was_open && zmtp.is_open() {
            self.opened = Some(clock::now());
            if self.pause == LONGEST_PAUSE {
                info!(endpoint = self.name, "connected to the broker");
            }
        }
        // What belongs to the handshake, an answer to a ping, or a reason to part.
        self.write();
        let error = result.err().map(Box::<dyn std::error::Error>::from);
        if let Some(error) = error.or_else(|| overlong.then(|| "a message has too many frames".into())) {
            warn!(endpoint = self.name, error, "cannot talk to the broker");
            self.fail(&*error);
            return true;
        }
        count == room
    }

    fn write(&mut self) {
        while let Link::Up { socket, zmtp, .. } = &mut self.link {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0;
            for (slice, bytes) in slices.iter_mut().zip(zmtp.unsent().filter(|bytes| !bytes.is_empty())) {
                *slice = IoSlice::new(bytes);
                used += 1;
            }
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let written = match slices.get(..used).unwrap_or_default() {
                [] => return,
                [only] => socket::send(socket.as_raw_fd(), only, flags),
                several => socket::sendmsg::<()>(socket.as_raw_fd(), several, &[], flags, None),
            };
            match written {
                Ok(count) => zmtp.sent(count),
                Err(Errno::EINTR) => (),
                Err(Errno::EAGAIN) => return,
                Err(errno) => self.fail(&errno),
            }
        }
    }

    /// Closes what there is, and tries again: at once if a broker was there for a while, for its
    /// successor replaces who comes late; else after a pause.
    fn fail(&mut self, why: &dyn std::error::Error) {
        let was_open = matches!(&self.link, Link::Up { until: None, .. });
        if was_open {
            debug!(endpoint = self.name, error = %why, "the connection to the broker was lost");
            self.news.push_back(News::Lost);
            if self.opened.is_some_and(|opened| LONGEST_PAUSE <= clock::now() - opened) {
                self.pause = FIRST_PAUSE;
            }
        } else {
            debug!(endpoint = self.name, error = %why, "cannot connect to the broker");
        }
        let pause = self.pause;
        self.pause = LONGEST_PAUSE.min(pause * 2);
        if was_open && pause == FIRST_PAUSE {
            self.link = Link::Away { until: Some(clock::now()) };
            return;
        }
        if pause < LONGEST_PAUSE && self.pause == LONGEST_PAUSE {
            warn!(endpoint = self.name, error = %why, "no connection to the broker, and will go on trying");
        }
        // Longer by up to a half, so that a crew does not come all at once.
        let spread = std::process::id().wrapping_add(u32::try_from(self.attempts % 7).unwrap_or(0));
        self.link = Link::Away { until: clock::after(pause + pause * (spread % 16) / 32) };
    }
}

impl Link {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Away { until } | Self::Reaching { until, .. } | Self::Up { until, .. } => *until,
        }
    }

    fn interest(&self) -> Option<PollFd<'_>> {
        match self {
            Self::Away { .. } => None,
            Self::Reaching { socket, .. } => Some(PollFd::new(socket.as_fd(), PollFlags::POLLOUT)),
            Self::Up { socket, zmtp, .. } => {
                let out = if zmtp.unsent_bytes() == 0 { PollFlags::empty() } else { PollFlags::POLLOUT };
                Some(PollFd::new(socket.as_fd(), PollFlags::POLLIN | out))
            }
        }
    }
}

fn is_ready(item: &PollFd<'_>) -> bool {
    item.revents().is_some_and(|events| !events.is_empty())
}

fn wait_for(items: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        let left = until.saturating_duration_since(clock::now());
        // Rounded up, or the last millisecond would be spent asking for the time.
        PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
    });
    match poll(items, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What has to be so before the connection is made.
pub(crate) fn prepare(socket: &OwnedFd, address: &Address) -> nix::Result<()> {
    if let Address::Tcp(_) = address {
        setsockopt(socket, sockopt::TcpNoDelay, &true)?;
        setsockopt(socket, sockopt::KeepAlive, &true)?;
        setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_S)?;
        setsockopt(socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_S)?;
        setsockopt(socket, sockopt::TcpKeepCount, &KEEPALIVE_COUNT)?;
        setsockopt(socket, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
    }
    Ok(())
}

/// What has become of connecting. From here on the socket is one that blocks.
fn settle(socket: &OwnedFd) -> nix::Result<()> {
    match socket::getsockopt(socket, sockopt::SocketError)? {
        0 => (),
        error => return Err(Errno::from_raw(error)),
    }
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?) & !OFlag::O_NONBLOCK;
    fcntl(socket, FcntlArg::F_SETFL(flags)).map(drop)
}
