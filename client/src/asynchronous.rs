//! The same for tasks: a thread steers, and tasks are told.
//!
//! libzmq's descriptors tell of changes only and block their thread when a context ends, so
//! they are not given to a runtime. Nothing here depends on which runtime it is.
#![expect(clippy::disallowed_methods, reason = "this file is the door of the client's one thread")]

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::client::{Builder, Defaults, InParts};
use crate::endpoint::Endpoint;
use crate::engine::Mail;
use crate::errand::Ticket;
use crate::error::AskError;
use crate::helm::{Caller, Helm};
use crate::reply::Reply;
use crate::request::{Body, Request};

/// A [`Client`](crate::Client) for tasks. Cloning it is cheap, and all clones share the
/// connections.
///
/// ```
/// # mod broker { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/broker.in")); }
/// use hornpipe_client::{AsyncClient, Request};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// # let endpoint = broker::start();
/// let client = AsyncClient::connect(&endpoint)?;
/// let large = Request::new("render").service("images");
/// let (small, large) = tokio::join!(client.ask("hello"), client.request(large));
/// assert_eq!((small?.bytes(), large?.bytes()), (b"hello".to_vec(), b"render".to_vec()));
/// # Ok::<(), hornpipe_client::AskError>(())
/// # }).unwrap();
/// ```
///
/// Dropping the future of a request takes the request back, unless it has a
/// [key](Request::key). One thread, which ends with the last clone, moves the requests along.
#[derive(Clone)]
pub struct AsyncClient {
    shared: Arc<Shared>,
}

struct Shared {
    helm: Arc<Helm>,
    defaults: Defaults,
    room: Arc<Semaphore>,
    limit: usize,
}

/// The reply of a request, part by part; see [`AsyncClient::parts`].
#[must_use = "dropping it takes the request back"]
pub struct AsyncParts {
    pending: AsyncPending,
    reply: Option<Reply>,
}

struct AsyncPending {
    shared: Arc<Shared>,
    ticket: Ticket,
    caller: Arc<Notify>,
    has_ended: bool,
    _room: OwnedSemaphorePermit,
}

impl AsyncClient {
    /// A client of the broker at `spelling`, with every default.
    ///
    /// # Errors
    /// If the endpoint is none, or the system gives no thread.
    pub fn connect(spelling: &str) -> Result<Self, AskError> {
        Self::open(Builder::new().endpoint(spelling))
    }

    /// The client that [`crate::Client::builder`] describes.
    ///
    /// # Errors
    /// If an endpoint is none, or the system gives no thread.
    pub fn open(builder: Builder) -> Result<Self, AskError> {
        let limit = builder.limit().min(Semaphore::MAX_PERMITS);
        let (helm, defaults) = builder.open()?;
        let steered = Arc::clone(&helm);
        std::thread::Builder::new()
            .name("hornpipe-client".to_owned())
            .spawn(move || steered.steer())
            .map_err(|error| AskError::System(error.kind()))?;
        let room = Arc::new(Semaphore::new(limit));
        Ok(Self { shared: Arc::new(Shared { helm, defaults, room, limit }) })
    }

    /// Asks the default service.
    ///
    /// # Errors
    /// As [`crate::Client::request`].
    pub async fn ask(&self, body: impl Into<Body>) -> Result<Reply, AskError> {
        self.request(Request::new(body)).await
    }

    /// Asks. The request is sent when the future is first polled.
    ///
    /// # Errors
    /// As [`crate::Client::request`].
    pub async fn request(&self, request: Request) -> Result<Reply, AskError> {
        let mut pending = self.begin(request, InParts::No).await?;
        let mut frames = Vec::new();
        loop {
            match pending.next().await {
                Mail::Part(mut part) => frames.append(&mut part),
                Mail::Done(ended) => {
                    return ended.map(|reply| {
                        frames.extend(reply.frames);
                        Reply { frames, ..reply }
                    });
                }
            }
        }
    }

    /// Asks, and takes the reply part by part; see [`crate::Client::parts`].
    ///
    /// # Errors
    /// As [`crate::Client::send`].
    pub async fn parts(&self, request: Request) -> Result<AsyncParts, AskError> {
        Ok(AsyncParts { pending: self.begin(request, InParts::Yes).await?, reply: None })
    }

    /// Where brokers are looked for.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.shared.defaults.endpoints
    }

    /// Known limit: the time of a request begins when there is room for it, because a
    /// runtime's timers are the caller's. `tokio::time::timeout` around it counts the wait.
    async fn begin(&self, request: Request, in_parts: InParts) -> Result<AsyncPending, AskError> {
        let shared = Arc::clone(&self.shared);
        if shared.helm.is_forked() {
            return Err(AskError::Forked);
        }
        request.check()?;
        let room = Arc::clone(&shared.room).acquire_owned().await;
        let room = room.map_err(|_closed| AskError::NoRoom { limit: shared.limit })?;
        let caller = Arc::new(Notify::new());
        let order = shared.defaults.order(request, in_parts)?;
        let ticket = shared.helm.enter(order, Caller::Task(Arc::clone(&caller)));
        Ok(AsyncPending { shared, ticket, caller, has_ended: false, _room: room })
    }
}

impl AsyncPending {
    async fn next(&mut self) -> Mail {
        loop {
            if let Some(mail) = self.shared.helm.take(self.ticket) {
                self.has_ended = matches!(mail, Mail::Done(_));
                return mail;
            }
            self.caller.notified().await;
        }
    }
}

impl AsyncParts {
    /// The frames of the next part; nothing after the last. An error is the last.
    pub async fn next(&mut self) -> Option<Result<Vec<Vec<u8>>, AskError>> {
        if self.pending.has_ended {
            return None;
        }
        match self.pending.next().await {
            Mail::Part(frames) => Some(Ok(frames)),
            Mail::Done(Ok(mut reply)) => {
                let frames = std::mem::take(&mut reply.frames);
                self.reply = Some(reply);
                // The end of a reply in parts need not have one of its own.
                if frames.is_empty() { None } else { Some(Ok(frames)) }
            }
            Mail::Done(Err(error)) => Some(Err(error)),
        }
    }

    /// What there is to know of the reply beside its parts, once it has ended well.
    pub fn reply(&self) -> Option<&Reply> {
        self.reply.as_ref()
    }

    /// Takes it back: it ends in [`AskError::Refused`] with the status `cancelled`.
    pub fn cancel(&self) {
        self.pending.shared.helm.cancel(self.pending.ticket);
    }
}

impl Drop for AsyncPending {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.helm.leave(self.ticket);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.helm.close();
    }
}

impl fmt::Debug for AsyncClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncClient").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

impl fmt::Debug for AsyncParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncParts").field("reply", &self.reply).finish_non_exhaustive()
    }
}
