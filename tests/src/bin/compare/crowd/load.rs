//! Any number of REQ clients in one thread, each with one request out.
//!
//! A request costs one `recv` and one `send` here, and its part of an `epoll_wait` that tells of up to 256 clients. That
//! was 6 to 10 us with 256 clients and 9 to 14 with 10,000, on the machine of `docs/PERFORMANCE.md`, about one of them
//! outside the kernel. The rest is TCP, which on one machine does a part of the receiver's work in the sender's time. A
//! slow broker's replies come one by one, and cost up to 18.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hornpipe_tests::harness::DEADLINE;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::retry_on_intr;

use super::client::Client;
use crate::{Result, Seen};

/// Clients that connect at once: half of those that libzmq lets wait to be accepted.
const STEP: usize = 50;

/// Clients that one look tells of.
const LOOK: usize = 256;

/// All clients ask for at least so long before the time begins.
const WARM_UP: Duration = Duration::from_millis(500);

/// Without any reply for so long, those that are missing are lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is listened for replies that come twice.
const LISTEN: Duration = Duration::from_millis(50);

pub(super) struct Load {
    epoll: OwnedFd,
    clients: Vec<Client>,
    events: Vec<epoll::Event>,
    /// What the clients read into, one after the other.
    buffer: Vec<u8>,
    /// Who has had no reply ever.
    unserved: usize,
    /// Who waits for one.
    waiting: usize,
    /// When the last one came.
    heard: Instant,
    /// Nobody asks again.
    is_over: bool,
    /// In nanoseconds.
    times: Histogram<u64>,
}

impl Load {
    /// All of them, connected and shaken hands with.
    pub(super) fn connect(endpoint: &str, count: usize) -> Result<Self> {
        let address: SocketAddr = endpoint.trim_start_matches("tcp://").parse()?;
        let mut load = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            clients: Vec::with_capacity(count),
            events: Vec::with_capacity(LOOK),
            buffer: Vec::new(),
            unserved: count,
            waiting: 0,
            heard: Instant::now(),
            is_over: false,
            times: Histogram::new(3)?,
        };
        while load.clients.len() < count {
            let known = load.clients.len();
            for number in known..count.min(known + STEP) {
                load.add(Client::connect(address, number as u64)?)?;
            }
            let deadline = Instant::now() + DEADLINE;
            while load.clients.iter().skip(known).any(|client| !client.is_open()) {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(
                        format!("no handshake within {DEADLINE:?}, with {known} clients connected").into()
                    );
                }
                load.look(left)?;
            }
        }
        Ok(load)
    }

    /// Has each client served once, and the broker find its pace.
    pub(super) fn warm_up(&mut self) -> Result<()> {
        let begin = Instant::now();
        for client in &mut self.clients {
            client.ask(Instant::now())?;
            client.write()?;
        }
        self.waiting = self.clients.len();
        self.heard = Instant::now();
        while self.unserved != 0 || begin.elapsed() < WARM_UP {
            self.turn()?;
        }
        Ok(())
    }

    /// The replies of this time.
    pub(super) fn measure(&mut self, time: Duration) -> Result<Seen> {
        self.times.reset();
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.turn()?;
        }
        let rate = f64::from(u32::try_from(self.times.len())?) / begin.elapsed().as_secs_f64();
        let at = |quantile| Duration::from_nanos(self.times.value_at_quantile(quantile)).as_secs_f64() * 1e6;
        Ok(Seen { rate, p50: at(0.5), p99: at(0.99) })
    }

    /// Waits for what is still out. Fails unless each request of all had one reply.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.is_over = true;
        while self.waiting != 0 {
            self.turn()?;
        }
        let end = Instant::now() + LISTEN;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.look(left)?;
        }
    }

    fn add(&mut self, mut client: Client) -> Result<()> {
        client.write()?;
        // Told of when something comes and not again for what is there, which saves the kernel a second look at each
        // client. Who asks and is not told of a closed connection is told of the request's refusal.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, &client, EventData::new_u64(self.clients.len() as u64), flags)?;
        self.clients.push(client);
        Ok(())
    }

    /// Sees to those who have heard something. Some reply must come in time.
    fn turn(&mut self) -> Result<()> {
        let left = PATIENCE.saturating_sub(self.heard.elapsed());
        if left.is_zero() {
            let (waiting, all) = (self.waiting, self.clients.len());
            return Err(format!(
                "replies are lost: {waiting} of {all} clients wait, none heard for {PATIENCE:?}"
            )
            .into());
        }
        self.look(left)
    }

    fn look(&mut self, wait: Duration) -> Result<()> {
        let wait = Timespec::try_from(wait)?;
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)))?;
        for event in &events {
            self.see_to(usize::try_from(event.data.u64())?)?;
        }
        self.events = events;
        Ok(())
    }

    fn see_to(&mut self, number: usize) -> Result<()> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        if let Some(since) = client.hear(&mut self.buffer)? {
            let now = Instant::now();
            self.heard = now;
            self.times.record(u64::try_from((now - since).as_nanos())?)?;
            self.unserved -= usize::from(client.requests() == 1);
            if self.is_over {
                self.waiting -= 1;
            } else {
                client.ask(now)?;
            }
        }
        client.write()
    }
}
