//! The client, and how it shall be.

use std::fmt;
use std::sync::{Arc, Condvar};
use std::time::Duration;

use crate::brokers::Brokers;
use crate::clock;
use crate::endpoint::Endpoint;
use crate::engine::Engine;
use crate::errand::Order;
use crate::error::AskError;
use crate::helm::Helm;
use crate::pending::{Parts, Pending};
use crate::reply::Reply;
use crate::request::{Body, Request};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_TRIES: u32 = 3;
const DEFAULT_IN_FLIGHT: usize = 1000;
const IDENTITY_LIMIT: usize = 255;

/// Asks a broker, or a list of brokers.
///
/// It connects with its first request and keeps the connection for the next ones. Threads
/// may share it, and any number of requests are out on one connection. It has no thread of
/// its own: whoever waits moves everybody's requests along. Dropping it never waits.
pub struct Client {
    helm: Arc<Helm>,
    defaults: Defaults,
}

/// What requests have that do not say otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    pub(crate) endpoints: Vec<Endpoint>,
    timeout: Duration,
    tries: u32,
}

/// How a client shall be. `Client::builder().endpoint("6660").build()`.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    endpoints: Vec<String>,
    timeout: Duration,
    tries: u32,
    in_flight: usize,
    identity: Option<Vec<u8>>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            endpoints: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            tries: DEFAULT_TRIES,
            in_flight: DEFAULT_IN_FLIGHT,
            identity: None,
        }
    }

    /// Where a broker is, as [`crate::endpoint`] reads it. There is no default.
    ///
    /// Said several times it is a list: a request goes to the first of them that is well,
    /// and to the next when that one is not there, is lost, keeps silent for a whole try, or
    /// refuses it as `busy`, `draining`, `unavailable` or `no_service`. Requests with an
    /// affinity, a key or an exclusive word (the first of these that they have) have an order
    /// of their own for each word, the same in every client with the same list, so they meet
    /// at one broker.
    pub fn endpoint(mut self, spelling: impl Into<String>) -> Self {
        self.endpoints.push(spelling.into());
        self
    }

    /// All of a list; see [`Builder::endpoint`].
    pub fn endpoints(mut self, spellings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.endpoints.extend(spellings.into_iter().map(Into::into));
        self
    }

    /// How long a request may take in all, over every try. 30 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a request is sent before it is given up, at least once. 3 unless set.
    ///
    /// It is sent again, with the same id, when its connection is lost, and when nothing at
    /// all came over that connection for its share of the time: what is left, divided by the
    /// tries that are. It may then run more than once, unless it has a
    /// [key](Request::key); with one, a lost connection does not count as a try.
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// How many requests may be out at once; the next one waits until another has ended.
    /// 1000 unless set.
    pub fn in_flight(mut self, limit: usize) -> Self {
        self.in_flight = limit.max(1);
        self
    }

    /// The routing id the brokers shall know this client by; none unless set.
    /// Two clients of one identity take each other's replies.
    pub fn identity(mut self, identity: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// The client. Nothing is connected yet, but the endpoints are resolved.
    ///
    /// # Errors
    /// If an endpoint is none, or there is none, or the identity is none.
    pub fn build(self) -> Result<Client, AskError> {
        let (helm, defaults) = self.open()?;
        Ok(Client { helm, defaults })
    }

    pub(crate) fn open(self) -> Result<(Arc<Helm>, Defaults), AskError> {
        let spellings = if self.endpoints.is_empty() { vec![String::new()] } else { self.endpoints };
        let mut endpoints = Vec::new();
        for spelling in spellings {
            let wrong = |source| AskError::Endpoint { spelling: spelling.clone(), source };
            let endpoint: Endpoint = spelling.parse().map_err(wrong)?;
            let address = endpoint.resolve().map_err(wrong)?;
            endpoints.push((endpoint, address));
        }
        if self.identity.as_deref().is_some_and(|identity| !may_be_identity(identity)) {
            return Err(AskError::Identity);
        }
        let nonce = getrandom::u64().map_err(|_error| AskError::Entropy)?;
        let defaults = Defaults {
            endpoints: endpoints.iter().map(|(endpoint, _)| endpoint.clone()).collect(),
            timeout: self.timeout,
            tries: self.tries,
        };
        let engine = Engine::new(Brokers::new(endpoints, self.identity), nonce);
        Ok((Arc::new(Helm::new(engine, self.in_flight)?), defaults))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn limit(&self) -> usize {
        self.in_flight
    }
}

/// Ids that begin with a zero byte are libzmq's own (RFC 37).
fn may_be_identity(identity: &[u8]) -> bool {
    identity.len() <= IDENTITY_LIMIT && identity.first().is_some_and(|byte| *byte != 0)
}

impl Defaults {
    pub(crate) fn order(&self, request: Request, in_parts: InParts) -> Result<Order, AskError> {
        request.check()?;
        let mut meta = request.meta;
        meta.more = in_parts == InParts::Yes;
        Ok(Order {
            meta,
            body: request.body,
            deadline: clock::deadline(request.timeout.unwrap_or(self.timeout)),
            tries: request.tries.unwrap_or(self.tries),
        })
    }
}

/// Whether somebody reads a reply part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InParts {
    Yes,
    No,
}

impl Client {
    /// A client of the broker at `spelling`, with every default.
    ///
    /// # Errors
    /// If the endpoint is none. A broker that is not there shows in the first request.
    pub fn connect(spelling: &str) -> Result<Self, AskError> {
        Self::builder().endpoint(spelling).build()
    }

    /// A client to be described.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Asks the default service and waits for the reply.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn ask(&self, body: impl Into<Body>) -> Result<Reply, AskError> {
        self.request(Request::new(body))
    }

    /// Asks and waits for the reply.
    ///
    /// # Errors
    /// Says how the request ended. [`AskError::Handler`] and
    /// [`AskError::Refused`] are the broker's word and final for this call;
    /// after [`AskError::NoAnswer`] nobody knows whether it was run.
    pub fn request(&self, request: Request) -> Result<Reply, AskError> {
        self.send(request)?.wait()
    }

    /// Asks and does not wait, except for room if [`Builder::in_flight`] requests are out, and
    /// the first time a moment for the connection, at most a second.
    ///
    /// # Errors
    /// If the request is none, or there came to be no room in its time. All else is told by
    /// [`Pending::wait`].
    pub fn send(&self, request: Request) -> Result<Pending, AskError> {
        self.begin(request, InParts::No)
    }

    /// Asks, and takes the reply part by part. A part cannot be asked for again: once one
    /// has come, the request is not sent again, and a lost connection is its end.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn parts(&self, request: Request) -> Result<Parts, AskError> {
        self.begin(request, InParts::Yes).map(Parts::new)
    }

    fn begin(&self, request: Request, in_parts: InParts) -> Result<Pending, AskError> {
        if self.helm.is_forked() {
            return Err(AskError::Forked);
        }
        let caller = Arc::new(Condvar::new());
        let ticket = self.helm.ask(self.defaults.order(request, in_parts)?, &caller)?;
        Ok(Pending::new(Arc::clone(&self.helm), ticket, caller))
    }

    /// How many messages of the brokers answered nothing that was asked: late,
    /// doubled or unreadable. They were dropped.
    pub fn dropped(&self) -> u64 {
        self.helm.dropped()
    }

    /// Where brokers are looked for.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.defaults.endpoints
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.defaults.endpoints).finish_non_exhaustive()
    }
}
