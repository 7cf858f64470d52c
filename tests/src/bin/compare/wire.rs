//! Peers that speak protocols of their own over TCP: how they are started, and clients that keep
//! a number of requests out on each of many connections and look at every reply.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hornpipe_tests::harness::{DEADLINE, until};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::{Result, Seen, Stack, WORKERS, gearman, nats};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// Digits of the number that a body begins with.
const NUMBER: usize = 16;

/// Without a word of the server for so long a reply is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Gearman,
    Nats,
}

/// What a client has heard from its server.
pub(super) enum Heard<'a> {
    Nothing,
    Reply(&'a [u8]),
    /// And must say this at once.
    Answer(&'static [u8]),
}

impl Wire {
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Gearman => "gearmand",
            Self::Nats => "nats-server",
        }
    }

    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Gearman => "gearman-job-server",
            Self::Nats => "nats-server",
        }
    }

    /// The server on this port, in the foreground and with nothing to say.
    fn command(self, port: u16) -> Command {
        // Both are of those that Debian keeps for the superuser's path.
        let beside = ["/usr/sbin", "/usr/local/sbin"].map(|folder| format!("{folder}/{}", self.program()));
        let found = beside.iter().find(|path| std::path::Path::new(path).exists());
        let mut command = Command::new(found.map_or(self.program(), String::as_str));
        let port = port.to_string();
        match self {
            Self::Gearman => {
                command.args(["--listen", "127.0.0.1", "--port", &port, "--log-file", "/dev/null"])
            }
            Self::Nats => command.args(["--addr", "127.0.0.1", "--port", &port, "--log", "/dev/null"]),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn hello(self, connection: usize, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Gearman => Ok(()),
            Self::Nats => nats::hello(connection, out),
        }
    }

    fn ask(self, connection: usize, body: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Gearman => {
                gearman::ask(body, out);
                Ok(())
            }
            Self::Nats => nats::ask(connection, body, out),
        }
    }

    fn hear(self, bytes: &[u8]) -> Result<Option<(usize, Heard<'_>)>> {
        match self {
            Self::Gearman => gearman::hear(bytes),
            Self::Nats => nats::hear(bytes),
        }
    }
}

/// The server and its workers; `None` if it is not installed.
pub(super) fn start(wire: Wire) -> Result<Option<Stack>> {
    // Free a moment ago: the server says if it is not any more.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let server = match wire.command(port).spawn() {
        Ok(server) => server,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (broker, endpoint) = (server.id(), format!("127.0.0.1:{port}"));
    let mut stack = Stack { endpoint, processes: vec![server], broker, wire: Some(wire) };
    let server_accepts = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
    drop(until(&format!("{} accepts connections", wire.program()), DEADLINE, server_accepts));
    let this = std::env::current_exe()?;
    for _worker in 0..WORKERS {
        let (worker, _ready) =
            crate::start(Command::new(&this).args([&format!("{}-worker", wire.program()), &stack.endpoint]))?;
        stack.processes.push(worker);
    }
    Ok(Some(stack))
}

/// A connection, and the bytes on it that have come and not been taken.
#[derive(Debug)]
pub(super) struct Inbox {
    stream: TcpStream,
    /// Room for what comes; the part from `taken` to `filled` is there.
    room: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl Inbox {
    pub(super) fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, room: vec![0; 2 * CHUNK], taken: 0, filled: 0 })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.room.get(self.taken..self.filled).unwrap_or_default()
    }

    pub(super) fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
    }

    /// Reads once.
    pub(super) fn fill(&mut self) -> Result<()> {
        if self.room.len() < self.filled + CHUNK {
            self.room.copy_within(self.taken..self.filled, 0);
            (self.taken, self.filled) = (0, self.filled - self.taken);
            let least = (2 * self.filled).max(2 * CHUNK);
            self.room.resize(self.room.len().max(least), 0);
        }
        match self.stream.read(self.room.get_mut(self.filled..).unwrap_or_default()) {
            Ok(0) => Err("the server has closed the connection".into()),
            Ok(count) => {
                self.filled += count;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what there is, as much of it as the socket takes.
    pub(super) fn send(&mut self, out: &mut Vec<u8>) -> Result<()> {
        while !out.is_empty() {
            match self.stream.write(out) {
                Ok(count) => drop(out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// One connection of a client.
struct Client {
    inbox: Inbox,
    out: Vec<u8>,
    /// The socket has no room, and it is awaited.
    stuffed: bool,
    /// By number, since when.
    waiting: BTreeMap<u64, Instant>,
}

/// All clients, in one loop.
struct Load {
    wire: Wire,
    epoll: OwnedFd,
    clients: Vec<Client>,
    /// What each body is but for its number.
    body: Vec<u8>,
    numbers: u64,
    /// Nobody asks after it.
    end: Instant,
    times: Histogram<u64>,
}

/// So many connections with so many requests out on each, for this time. Fails unless every reply was right.
pub(super) fn measure(
    (wire, address): (Wire, &str),
    (clients, depth, body): (usize, usize, usize),
    time: Duration,
) -> Result<Seen> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut connected = Vec::new();
    for number in 0..clients {
        let mut inbox = Inbox::connect(address)?;
        let mut out = Vec::new();
        wire.hello(number, &mut out)?;
        inbox.send(&mut out)?;
        inbox.stream.set_nonblocking(true)?;
        epoll::add(&epoll, &inbox.stream, EventData::new_u64(number as u64), EventFlags::IN)?;
        connected.push(Client { inbox, out, stuffed: false, waiting: BTreeMap::new() });
    }
    let begin = Instant::now();
    let mut load = Load {
        wire,
        epoll,
        clients: connected,
        body: vec![b'x'; body.max(NUMBER)],
        numbers: 0,
        end: begin + time,
        times: Histogram::new(3)?,
    };
    for client in 0..clients {
        (0..depth).try_for_each(|_| load.ask(client))?;
        load.flush(client)?;
    }
    let patience = Timespec { tv_sec: PATIENCE.as_secs().try_into()?, tv_nsec: 0 };
    let mut events = Vec::with_capacity(clients);
    while load.clients.iter().any(|client| !client.waiting.is_empty()) {
        events.clear();
        if epoll::wait(&load.epoll, spare_capacity(&mut events), Some(&patience))? == 0 {
            return Err(format!("{}: replies are lost", wire.program()).into());
        }
        for event in &events {
            load.look(usize::try_from(event.data.u64())?)?;
        }
    }
    let elapsed = begin.elapsed().max(time).as_secs_f64();
    let at = |quantile| Duration::from_nanos(load.times.value_at_quantile(quantile)).as_secs_f64() * 1e6;
    let rate = f64::from(u32::try_from(load.numbers)?) / elapsed;
    Ok(Seen { rate, p50: at(0.5), p99: at(0.99) })
}

impl Load {
    fn ask(&mut self, number: usize) -> Result<()> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        self.numbers += 1;
        let name = format!("{:0NUMBER$x}", self.numbers);
        self.body.splice(..NUMBER, name.bytes());
        client.waiting.insert(self.numbers, Instant::now());
        self.wire.ask(number, &self.body, &mut client.out)
    }

    fn flush(&mut self, number: usize) -> Result<()> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        client.inbox.send(&mut client.out)?;
        if client.stuffed == client.out.is_empty() {
            client.stuffed = !client.stuffed;
            let awaited = if client.stuffed { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, &client.inbox.stream, EventData::new_u64(number as u64), awaited)?;
        }
        Ok(())
    }

    /// Takes what has come on this connection, and asks again for each reply.
    fn look(&mut self, number: usize) -> Result<()> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        client.inbox.fill()?;
        let mut replies = 0;
        while let Some((size, heard)) = self.wire.hear(client.inbox.bytes())? {
            match heard {
                Heard::Nothing => (),
                Heard::Answer(answer) => client.out.extend_from_slice(answer),
                Heard::Reply(body) => {
                    let (name, rest) = body.split_at_checked(NUMBER).ok_or("a reply is too short")?;
                    let name = u64::from_str_radix(std::str::from_utf8(name)?, 16)?;
                    let since = client.waiting.remove(&name).ok_or("a reply is doubled, or another's")?;
                    if Some(rest) != self.body.get(NUMBER..) {
                        return Err("a reply has another body than its request".into());
                    }
                    self.times.record(u64::try_from(since.elapsed().as_nanos())?)?;
                    replies += 1;
                }
            }
            client.inbox.take(size);
        }
        if Instant::now() < self.end {
            (0..replies).try_for_each(|_| self.ask(number))?;
        }
        self.flush(number)
    }
}
