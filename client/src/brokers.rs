//! The brokers of a list, the connections to them, and how well each of them does.
//!
//! Health is known by use: nobody is asked anything but the requests themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::endpoint::{Address, Endpoint};
use crate::errand::Serial;
use crate::error::AskError;
use crate::helm::CONNECTING;

/// A connection that is lost before anything was heard over it is made again after this
/// time, then after twice as long, up to a second.
const BACKOFF: Duration = Duration::from_millis(10);

/// A broker that kept silent is asked after the others for so long, then for twice as
/// long, up to a minute.
const SUSPICION: Duration = Duration::from_secs(5);

/// A host's name is looked up again when nobody was at its address for so long.
const STALE: Duration = Duration::from_secs(10);

/// Connections to one broker at a time, the ones that only late answers may come over included.
const LINKS_LIMIT: usize = 4;

pub(crate) struct Brokers {
    list: Vec<Broker>,
    pub(crate) links: BTreeMap<Serial, Link>,
    identity: Option<Vec<u8>>,
    opened: Serial,
    // Last: it waits for its sockets.
    context: zmq::Context,
}

#[derive(Debug)]
struct Broker {
    endpoint: Endpoint,
    address: Address,
    /// The connection that new requests take.
    current: Option<Serial>,
    /// Connections lost in a row, and when the next one may be made.
    losses: u32,
    not_before: Option<Instant>,
    silences: u32,
    suspect_until: Option<Instant>,
    words: Words,
}

/// Whether a broker knows what it means to take a request back. One that does not would
/// run it as an empty request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Unknown,
    Old,
    New,
}

pub(crate) struct Link {
    pub(crate) place: usize,
    pub(crate) connection: Connection,
    pub(crate) state: LinkState,
    since: Instant,
    /// Answers that came over it.
    pub(crate) heard: u64,
    /// Requests that an answer may come to.
    pub(crate) out: usize,
    /// It is gone, and what came over it is still to be read.
    pub(crate) is_lost: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    Connecting,
    Up,
    /// Nobody was there. libzmq goes on trying.
    Failing,
}

/// Whether a broker can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Now(Serial),
    /// Perhaps, when its connection has come about; not later than this.
    Until(Instant),
    No,
}

impl Brokers {
    pub(crate) fn new(endpoints: Vec<(Endpoint, Address)>, identity: Option<Vec<u8>>) -> Self {
        let broker = |(endpoint, address)| Broker {
            endpoint,
            address,
            current: None,
            losses: 0,
            not_before: None,
            silences: 0,
            suspect_until: None,
            words: Words::Unknown,
        };
        let list = endpoints.into_iter().map(broker).collect();
        Self { list, links: BTreeMap::new(), identity, opened: 0, context: zmq::Context::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.list.iter().map(|broker| broker.endpoint.clone()).collect()
    }

    pub(crate) fn endpoint(&self, place: usize) -> Option<&Endpoint> {
        self.list.get(place).map(|broker| &broker.endpoint)
    }

    pub(crate) fn is_suspect(&self, place: usize, now: Instant) -> bool {
        let until = self.list.get(place).and_then(|broker| broker.suspect_until);
        until.is_some_and(|until| now < until)
    }

    /// Whether a connection has just been begun.
    pub(crate) fn is_connecting(&self, now: Instant) -> bool {
        let is_new = |link: &Link| now.saturating_duration_since(link.since) < CONNECTING;
        self.links.values().any(|link| link.state == LinkState::Connecting && is_new(link))
    }

    /// Whether a request to this broker can be taken back.
    pub(crate) fn understands_cancel(&self, place: usize) -> bool {
        self.list.get(place).is_some_and(|broker| broker.words != Words::Old)
    }

    /// A connection to this broker, which is begun if there is none. One that does not come
    /// about within `patience` counts as none.
    pub(crate) fn reach(
        &mut self,
        place: usize,
        patience: Duration,
        now: Instant,
    ) -> Result<Reach, AskError> {
        let alone = self.list.len() == 1;
        let Some(broker) = self.list.get_mut(place) else { return Ok(Reach::No) };
        if let Some((serial, link)) =
            broker.current.and_then(|serial| Some((serial, self.links.get(&serial)?)))
        {
            let age = now.saturating_duration_since(link.since);
            match link.state {
                LinkState::Up if !link.is_lost => return Ok(Reach::Now(serial)),
                LinkState::Up => return Ok(Reach::Until(now)),
                LinkState::Connecting if age < patience => return Ok(Reach::Until(link.since + patience)),
                // Alone it is the only hope, and a fresh connection a better one.
                LinkState::Connecting if alone => {
                    self.links.remove(&serial);
                }
                LinkState::Connecting | LinkState::Failing if age < STALE => return Ok(Reach::No),
                LinkState::Connecting | LinkState::Failing => {
                    self.links.remove(&serial);
                }
            }
        }
        if let Some(at) = broker.not_before.filter(|at| now < *at) {
            return Ok(Reach::Until(at));
        }
        // Known limit: a name that the resolver is slow to find keeps all requests of this
        // client waiting. It is looked up once for each connection.
        // The broker may have moved; if its name is lost, so is only this change.
        if let Ok(address) = broker.endpoint.resolve() {
            broker.address = address;
        }
        self.opened += 1;
        let identity = self.identity.as_deref();
        let connection = Connection::open(&self.context, &broker.address, identity, self.opened)?;
        let state = LinkState::Connecting;
        let link = Link { place, connection, state, since: now, heard: 0, out: 0, is_lost: false };
        self.links.insert(self.opened, link);
        broker.current = Some(self.opened);
        Ok(Reach::Until(now + patience))
    }

    /// Something was heard over this connection that answers a request.
    pub(crate) fn note_answer(&mut self, serial: Serial, shows_new_words: Option<bool>) {
        let Some(link) = self.links.get_mut(&serial) else { return };
        link.heard += 1;
        let Some(broker) = self.list.get_mut(link.place) else { return };
        broker.losses = 0;
        broker.not_before = None;
        broker.silences = 0;
        broker.suspect_until = None;
        match shows_new_words {
            Some(true) => broker.words = Words::New,
            Some(false) if broker.words == Words::Unknown => broker.words = Words::Old,
            Some(false) | None => {}
        }
    }

    /// Nothing was heard over this connection for a whole try. New requests take another
    /// one, and this one is kept for what may still come. The connections to be given up.
    pub(crate) fn note_silence(&mut self, serial: Serial, now: Instant) -> Vec<Serial> {
        let Some(place) = self.links.get(&serial).map(|link| link.place) else { return Vec::new() };
        let Some(broker) = self.list.get_mut(place) else { return Vec::new() };
        if broker.current != Some(serial) {
            return Vec::new();
        }
        broker.current = None;
        broker.suspect_until = Some(now + SUSPICION * (1 << broker.silences.min(4)).min(12));
        broker.silences += 1;
        // Two connections of one identity would take each other's replies.
        let kept = if self.identity.is_some() { 0 } else { LINKS_LIMIT - 1 };
        let mine: Vec<Serial> =
            self.links.iter().filter(|(_, link)| link.place == place).map(|(serial, _)| *serial).collect();
        let surplus = mine.len().saturating_sub(kept);
        mine.into_iter().take(surplus).collect()
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, serial: Serial, now: Instant) {
        let Some(link) = self.links.remove(&serial) else { return };
        let Some(broker) = self.list.get_mut(link.place) else { return };
        if broker.current == Some(serial) {
            broker.current = None;
        }
        // The first loss may be a router that has been replaced, so the next is there at once.
        if link.is_lost && link.heard == 0 {
            broker.not_before = Some(now + BACKOFF * (1 << broker.losses.min(7)).min(100));
            broker.losses += 1;
        }
    }

    /// One request less that an answer may come to over this connection.
    pub(crate) fn let_go(&mut self, serial: Serial) {
        let Some(link) = self.links.get_mut(&serial) else { return };
        link.out = link.out.saturating_sub(1);
        let is_current = self.list.get(link.place).is_some_and(|broker| broker.current == Some(serial));
        if link.out == 0 && !is_current {
            self.links.remove(&serial);
        }
    }
}

impl Link {
    pub(crate) fn set_state(&mut self, state: LinkState, now: Instant) {
        // How long nobody has been there counts from the first failure.
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}
