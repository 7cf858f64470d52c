//! Talking to a running broker over its control socket.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use hornpipe_proto::control::{self, ControlRequest, ControlResponse, ServiceRequest};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::Uid;

use super::exit_code::OperatorExit;
use super::output;
use crate::config::{self, Address, AddressError, ControlPlace, Environment, PlaceError};

/// Read from the socket in one call.
const CHUNK: usize = 64 * 1024;

/// Which broker is meant.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The broker's frontend port, or a crew's name. It must run on this machine
    #[arg(value_name = "FRONTEND")]
    which: Which,
    /// Its control socket, if that is not where this user's are [env: HORNPIPE_CONTROL]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// How long to wait for the broker to answer [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds)]
    timeout: Option<Duration>,
}

/// A broker or a crew.
#[derive(Debug, Clone)]
enum Which {
    Broker(Address),
    Crew(String),
}

impl FromStr for Which {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if config::is_crew_name(text) {
            return Ok(Self::Crew(text.to_owned()));
        }
        text.parse().map(Self::Broker)
    }
}

/// As the operator has said it.
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(address) => address.port().fmt(f),
            Self::Crew(name) => f.write_str(name),
        }
    }
}

/// Which of its services is meant.
#[derive(Debug, Args)]
pub(super) struct Service {
    /// This service alone, of several
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

impl Service {
    /// The request about the whole broker, or the same about that service.
    pub(super) fn request(&self, whole: ControlRequest, one: ServiceRequest) -> ControlRequest {
        match &self.service {
            None => whole,
            Some(name) => ControlRequest::Service { name: name.clone(), request: one },
        }
    }
}

/// How long a broker may take to answer, unless somebody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a broker.
#[derive(Debug)]
pub(super) struct Broker {
    stream: UnixStream,
    input: Vec<u8>,
    timeout: Duration,
    /// The parent's process id, as far as this process can see it.
    pub(super) pid: Option<i32>,
}

/// Why a broker does not answer.
#[derive(Debug)]
pub(super) enum OperatorError {
    Place(PlaceError),
    Missing { who: String, path: PathBuf },
    Forbidden { path: PathBuf },
    NotOurs { path: PathBuf, user: Uid },
    Connect { path: PathBuf, why: Errno },
    Silent { timeout: Duration },
    Left,
    Unreadable,
    Io(io::Error),
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(error) => error.fmt(f),
            Self::Missing { who, path } => write!(
                f,
                "no {who} here (looked at {}): is it running as another user? Then \
                 --control PATH says where its socket is",
                path.display()
            ),
            Self::Forbidden { path } => {
                write!(
                    f,
                    "{} belongs to another user: ask as that user, or as root; or read from the socket of its \
                     --control-read, with --control",
                    path.display()
                )
            }
            Self::NotOurs { path, user } => write!(
                f,
                "at {} answers a process of user {user}, which is neither you nor root, so it is not believed: \
                 name the socket with --control, in a directory that only that user or root can write to",
                path.display()
            ),
            Self::Connect { path, why } => write!(f, "cannot connect to {}: {}", path.display(), why.desc()),
            Self::Silent { timeout } => write!(
                f,
                "the broker did not answer within {}: is it stopped, or its machine too busy?",
                config::show_duration(*timeout)
            ),
            Self::Left => {
                f.write_str("the broker closed the connection: it is stopping, or its router restarts")
            }
            Self::Unreadable => {
                f.write_str("the broker answers something unreadable: is it another version?")
            }
            Self::Io(error) => write!(f, "cannot talk to the broker: {error}"),
        }
    }
}

impl Target {
    /// The broker with this frontend, for verbs that have words of their own for it.
    pub(super) fn new(frontend: Address, control: Option<PathBuf>, timeout: Duration) -> Self {
        Self { which: Which::Broker(frontend), control, timeout: Some(timeout) }
    }

    /// Connects, asks, and gives what `answered` makes of the answer.
    pub(super) fn ask(
        &self,
        request: &ControlRequest,
        answered: impl FnOnce(ControlResponse, &mut Broker) -> OperatorExit,
    ) -> OperatorExit {
        conclude(self.open(request), answered)
    }

    /// The same within this time, unless `--timeout` was given.
    pub(super) fn ask_within(
        &self,
        timeout: Duration,
        request: &ControlRequest,
        answered: impl FnOnce(ControlResponse, &mut Broker) -> OperatorExit,
    ) -> OperatorExit {
        let asked = self.connect_within(self.timeout.unwrap_or(timeout));
        conclude(asked.and_then(|mut broker| Ok((broker.ask(request)?, broker))), answered)
    }

    /// The same for an answer that comes when something has ended: unless `--timeout`
    /// was given, it is waited for as long as that takes.
    pub(super) fn ask_for_the_end(
        &self,
        request: &ControlRequest,
        answered: impl FnOnce(ControlResponse, &mut Broker) -> OperatorExit,
    ) -> OperatorExit {
        let asked = self.connect().and_then(|mut broker| {
            if self.timeout.is_none() {
                broker.stream.set_read_timeout(None).map_err(OperatorError::Io)?;
            }
            Ok((broker.ask(request)?, broker))
        });
        conclude(asked, answered)
    }

    /// Asks, and keeps silent about it if nobody answers.
    pub(super) fn try_ask(&self, request: &ControlRequest) -> Option<ControlResponse> {
        self.ask_quietly(request).ok()
    }

    /// Asks, and leaves it to the caller to say why nobody answers.
    pub(super) fn ask_quietly(&self, request: &ControlRequest) -> Result<ControlResponse, OperatorError> {
        self.open(request).map(|(response, _broker)| response)
    }

    /// Asks, and keeps the connection for what follows the answer.
    pub(super) fn open(&self, request: &ControlRequest) -> Result<(ControlResponse, Broker), OperatorError> {
        self.connect().and_then(|mut broker| Ok((broker.ask(request)?, broker)))
    }

    /// How long to wait.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// What names the broker: its port, or a crew's name.
    pub(super) fn name(&self) -> String {
        self.which.to_string()
    }

    /// The same in a sentence.
    pub(super) fn who(&self) -> String {
        match &self.which {
            Which::Broker(address) => format!("broker with frontend port {}", address.port()),
            Which::Crew(name) => format!("crew {name}"),
        }
    }

    fn connect(&self) -> Result<Broker, OperatorError> {
        self.connect_within(self.timeout())
    }

    fn connect_within(&self, timeout: Duration) -> Result<Broker, OperatorError> {
        let environment = Environment::read();
        let control = self.control.clone().or_else(|| environment.control());
        let user = Uid::effective();
        let mut place = ControlPlace::choose(control, &environment, user);
        place.check().map_err(OperatorError::Place)?;
        // A service of root has no runtime directory, while root at a terminal may.
        let is_there = place.socket(&self.which).exists() || matches!(place, ControlPlace::File(_));
        if user.is_root() && !is_there {
            place = ControlPlace::of_root();
        }
        let path = place.socket(&self.which);
        let stream = connect_within(&path, timeout).map_err(|why| match why {
            Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTDIR => {
                OperatorError::Missing { who: self.who(), path: path.clone() }
            }
            Errno::EACCES | Errno::EPERM => OperatorError::Forbidden { path: path.clone() },
            Errno::EAGAIN => OperatorError::Silent { timeout },
            why => OperatorError::Connect { path: path.clone(), why },
        })?;
        // Who listened on the socket, however many processes accept from it.
        let peer =
            getsockopt(&stream, sockopt::PeerCredentials).map_err(|errno| OperatorError::Io(errno.into()))?;
        let owner = Uid::from_raw(peer.uid());
        let is_named = matches!(place, ControlPlace::File(_));
        let is_ours = owner.is_root() || user.is_root() || owner == user;
        let is_believed = is_ours || (is_named && is_guarded(&path, owner));
        if !is_believed {
            return Err(OperatorError::NotOurs { path, user: owner });
        }
        // Zero: it lives in a pid namespace that is not visible from here.
        let pid = Some(peer.pid()).filter(|pid| *pid != 0);
        Ok(Broker { stream, input: Vec::new(), timeout, pid })
    }
}

/// Whether nobody but this user or root can have put the socket there.
fn is_guarded(socket: &Path, owner: Uid) -> bool {
    let directory = socket.parent().and_then(|directory| directory.metadata().ok());
    directory.is_some_and(|found| {
        let by_whom = found.uid() == 0 || found.uid() == owner.as_raw();
        by_whom && found.mode() & 0o022 == 0
    })
}

fn conclude(
    asked: Result<(ControlResponse, Broker), OperatorError>,
    answered: impl FnOnce(ControlResponse, &mut Broker) -> OperatorExit,
) -> OperatorExit {
    match asked {
        Ok((ControlResponse::Refused { message }, _)) => {
            output::complain(message);
            OperatorExit::No
        }
        Ok((response, mut broker)) => answered(response, &mut broker),
        Err(error) => {
            output::complain(error);
            OperatorExit::Unreachable
        }
    }
}

fn connect_within(path: &Path, timeout: Duration) -> nix::Result<UnixStream> {
    let descriptor = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Zero would mean for ever.
    let timeout = timeout.max(Duration::from_millis(1));
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    let limit = TimeVal::new(seconds, i64::from(timeout.subsec_micros()));
    // A broker that is stopped accepts nobody: connecting waits as sending does.
    setsockopt(&descriptor, sockopt::SendTimeout, &limit)?;
    setsockopt(&descriptor, sockopt::ReceiveTimeout, &limit)?;
    connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(descriptor.into())
}

impl Broker {
    /// Asks, and waits for the answer. The time-out holds for each piece of it.
    pub(super) fn ask(&mut self, request: &ControlRequest) -> Result<ControlResponse, OperatorError> {
        self.stream.write_all(&control::encode(request)).map_err(|error| self.explain(error))?;
        self.next_response()
    }

    /// What the broker says next, however long that takes.
    pub(super) fn wait_for_more(&mut self) -> Result<ControlResponse, OperatorError> {
        self.stream.set_read_timeout(None).map_err(OperatorError::Io)?;
        self.next_response()
    }

    fn next_response(&mut self) -> Result<ControlResponse, OperatorError> {
        loop {
            let taken = control::take(&mut self.input, control::RESPONSE_LIMIT);
            if let Some(response) = taken.map_err(|_error| OperatorError::Unreadable)? {
                return Ok(response);
            }
            let mut chunk = vec![0; CHUNK];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(OperatorError::Left),
                Ok(size) => self.input.extend_from_slice(chunk.get(..size).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    /// Waits until the broker closes the connection, however long that takes.
    pub(super) fn wait_until_closed(&mut self) -> io::Result<()> {
        self.stream.set_read_timeout(None)?;
        let mut chunk = [0; 512];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn explain(&self, error: io::Error) -> OperatorError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => OperatorError::Silent { timeout: self.timeout },
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => OperatorError::Left,
            _ => OperatorError::Io(error),
        }
    }
}

/// For an answer to another question than the one asked.
pub(super) fn misunderstood() -> OperatorExit {
    output::complain(OperatorError::Unreadable);
    OperatorExit::Unreachable
}
