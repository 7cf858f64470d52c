//! The client: one request at a time, each to its end.
//!
//! Sockets are `connection.rs`, the meaning of frames is `reply.rs`.

use std::fmt;
use std::time::{Duration, Instant};

use hornpipe_proto::MAGIC;
use hornpipe_proto::client::RequestMeta;

use crate::clock;
use crate::connection::{Connection, Heard};
use crate::endpoint::{Address, Endpoint};
use crate::error::AskError;
use crate::reply::{Reply, read_answer};
use crate::request::{Body, Request};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_TRIES: u32 = 3;
const IDENTITY_LIMIT: usize = 255;

/// Asks one broker, one request at a time.
///
/// It connects with its first request and keeps the connection for the next
/// ones. Dropping it never waits.
pub struct Client {
    endpoint: Endpoint,
    address: Address,
    timeout: Duration,
    tries: u32,
    identity: Option<Vec<u8>>,
    nonce: u64,
    asked: u64,
    opened: u64,
    dropped: u64,
    pid: u32,
    /// `None` only while the client is dropped.
    wires: Option<Wires>,
}

/// What belongs to libzmq. Fields drop in order: the context waits for its sockets.
struct Wires {
    connection: Option<Connection>,
    context: zmq::Context,
}

/// How a client shall be. `Client::builder().endpoint("6660").build()`.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    endpoint: String,
    timeout: Duration,
    tries: u32,
    identity: Option<Vec<u8>>,
}

impl Builder {
    /// Where the broker is, as [`crate::endpoint`] reads it. There is no default.
    pub fn endpoint(mut self, spelling: impl Into<String>) -> Self {
        self.endpoint = spelling.into();
        self
    }

    /// How long a request may take in all, over every try. 30 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a request is sent before it is given up, at least once. 3 unless set.
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// The routing id the broker shall know this client by; none unless set.
    /// Two clients of one identity take each other's replies.
    pub fn identity(mut self, identity: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// The client. Nothing is connected yet, but the endpoint is resolved.
    ///
    /// # Errors
    /// If the endpoint or the identity is none.
    pub fn build(self) -> Result<Client, AskError> {
        let wrong = |source| AskError::Endpoint { spelling: self.endpoint.clone(), source };
        let endpoint: Endpoint = self.endpoint.parse().map_err(wrong)?;
        let address = endpoint.resolve().map_err(wrong)?;
        if self.identity.as_deref().is_some_and(|identity| !may_be_identity(identity)) {
            return Err(AskError::Identity);
        }
        Ok(Client {
            endpoint,
            address,
            timeout: self.timeout,
            tries: self.tries.max(1),
            identity: self.identity,
            nonce: getrandom::u64().map_err(|_error| AskError::Entropy)?,
            asked: 0,
            opened: 0,
            dropped: 0,
            pid: std::process::id(),
            wires: Some(Wires { connection: None, context: zmq::Context::new() }),
        })
    }
}

/// Ids that begin with a zero byte are libzmq's own (RFC 37).
fn may_be_identity(identity: &[u8]) -> bool {
    identity.len() <= IDENTITY_LIMIT && identity.first().is_some_and(|byte| *byte != 0)
}

/// How one try ended.
enum Try {
    Answered(Result<Reply, AskError>),
    /// It was sent; the answer did not come, or cannot come any more.
    Unanswered,
    /// The broker was not there.
    Unsent,
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
        Builder { endpoint: String::new(), timeout: DEFAULT_TIMEOUT, tries: DEFAULT_TRIES, identity: None }
    }

    /// Asks the default service and waits for the reply.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn ask(&mut self, body: impl Into<Body>) -> Result<Reply, AskError> {
        self.request(Request::new(body))
    }

    /// Asks and waits for the reply.
    ///
    /// # Errors
    /// Says how the request ended. [`AskError::Handler`] and
    /// [`AskError::Refused`] are the broker's word and final for this call;
    /// after [`AskError::NoAnswer`] nobody knows whether it was run.
    pub fn request(&mut self, request: Request) -> Result<Reply, AskError> {
        if self.is_forked() {
            return Err(AskError::Forked);
        }
        self.asked += 1;
        let began = clock::now();
        let deadline = clock::deadline(request.timeout.unwrap_or(self.timeout));
        let mut meta = RequestMeta {
            id: format!("{:016x}-{:x}", self.nonce, self.asked),
            service: request.service,
            timeout_ms: None,
            attempts: request.attempts,
            ..RequestMeta::default()
        };

        let mut sent = 0;
        for left in (1..=self.tries).rev() {
            let share = clock::deadline(clock::left(deadline) / left);
            match self.attempt_once(&mut meta, &request.body, share, deadline)? {
                Try::Answered(answer) => return answer,
                Try::Unanswered => sent += 1,
                Try::Unsent => {}
            }
            // Whatever comes over it from here on answers a request given up.
            self.disconnect();
        }
        let waited = began.elapsed();
        if sent == 0 {
            return Err(AskError::Unreachable { endpoint: self.endpoint.clone(), waited });
        }
        Err(AskError::NoAnswer { tries: sent, waited })
    }

    /// How many messages of the broker answered nothing that was asked: late,
    /// doubled or unreadable. They were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Where the broker is looked for.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn attempt_once(
        &mut self,
        meta: &mut RequestMeta,
        body: &Body,
        share: Instant,
        deadline: Instant,
    ) -> Result<Try, AskError> {
        let Some(wires) = &mut self.wires else { return Ok(Try::Unsent) };
        let connection = match &mut wires.connection {
            Some(connection) => connection,
            closed => {
                // The broker may have moved; if its name is lost, so is only this change.
                self.address = self.endpoint.resolve().unwrap_or_else(|_error| self.address.clone());
                self.opened += 1;
                let identity = self.identity.as_deref();
                let opened = Connection::open(&wires.context, &self.address, identity, self.opened)?;
                closed.insert(opened)
            }
        };
        if !connection.wait_until_up(share)? {
            return Ok(Try::Unsent);
        }
        let left = clock::left(deadline).as_millis();
        meta.timeout_ms = Some(u64::try_from(left).unwrap_or(u64::MAX));
        let map = meta.encode();
        let head = [&b""[..], MAGIC, &map];
        if !connection.send(head.into_iter().chain(body.frames().iter().map(Vec::as_slice)))? {
            return Ok(Try::Unsent);
        }
        loop {
            let Heard::Message(frames) = connection.receive(share)? else { return Ok(Try::Unanswered) };
            match read_answer(frames, &meta.id) {
                Some(answer) => return Ok(Try::Answered(answer)),
                None => self.dropped += 1,
            }
            // A flood of messages that answer nothing must not hold this call.
            if clock::left(share).is_zero() {
                return Ok(Try::Unanswered);
            }
        }
    }

    fn disconnect(&mut self) {
        if let Some(wires) = &mut self.wires {
            wires.connection = None;
        }
    }

    /// A forked child has libzmq's memory but none of its threads.
    fn is_forked(&self) -> bool {
        self.pid != std::process::id()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Ending an inherited context waits for threads that are not there.
        if self.is_forked() {
            std::mem::forget(self.wires.take());
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
