//! One request on its way: what is asked, until when, and over which connections.

use std::time::{Duration, Instant};

use hornpipe_proto::client::RequestMeta;

use crate::clock;
use crate::error::AskError;
use crate::request::Body;

/// Numbers the requests of one client, and the connections of one engine.
pub(crate) type Ticket = u64;
pub(crate) type Serial = u64;

/// What a caller wants.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) meta: RequestMeta,
    pub(crate) body: Body,
    pub(crate) deadline: Instant,
    pub(crate) tries: u32,
}

#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) meta: RequestMeta,
    pub(crate) body: Body,
    began: Instant,
    pub(crate) deadline: Instant,
    /// How often it may still be sent.
    pub(crate) tries: u32,
    /// How often it was.
    pub(crate) sent: u32,
    pub(crate) at: Whereabouts,
    /// The connections that an answer can come over.
    pub(crate) over: Vec<Serial>,
    /// The brokers, the one to be asked first in front.
    pub(crate) preference: Vec<usize>,
    /// How often each broker had it in vain, by its place in the list.
    pub(crate) passes: Vec<u32>,
    /// The broker that had it last.
    pub(crate) last: Option<usize>,
    /// What a broker said that others may do better than.
    pub(crate) refusal: Option<AskError>,
    /// Parts of the reply that came.
    pub(crate) parts: u64,
    pub(crate) is_cancelled: bool,
    /// When to look at it next.
    pub(crate) alarm: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// It looks for a broker.
    Seeking { since: Instant },
    /// It was sent over this connection, over which so much had been heard before.
    Out { serial: Serial, heard: u64, until: Instant },
}

impl Errand {
    pub(crate) fn new(order: Order, id: String, preference: Vec<usize>, now: Instant) -> Self {
        let meta = RequestMeta { id, ..order.meta };
        Self {
            meta,
            body: order.body,
            began: now,
            deadline: order.deadline,
            tries: order.tries,
            sent: 0,
            at: Whereabouts::Seeking { since: now },
            over: Vec::new(),
            passes: vec![0; preference.len()],
            preference,
            last: None,
            refusal: None,
            parts: 0,
            is_cancelled: false,
            alarm: order.deadline,
        }
    }

    /// How long its next try may take: what is left, shared by the tries that are.
    pub(crate) fn share(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now) / self.tries.max(1)
    }

    /// Its map, with the time that is left.
    pub(crate) fn map(&mut self, now: Instant) -> Vec<u8> {
        let left = self.deadline.saturating_duration_since(now).as_millis();
        self.meta.timeout_ms = Some(u64::try_from(left).unwrap_or(u64::MAX));
        self.meta.encode()
    }

    /// The map that takes it back. Work with a key is ended by its key, whoever asked for it.
    pub(crate) fn cancel_map(&self) -> Vec<u8> {
        let RequestMeta { id, service, key, .. } = &self.meta;
        let (id, key) = if key.is_some() { (String::new(), key.clone()) } else { (id.clone(), None) };
        RequestMeta { id, key, service: service.clone(), cancel: true, ..RequestMeta::default() }.encode()
    }

    pub(crate) fn is_keyed(&self) -> bool {
        self.meta.key.is_some()
    }

    pub(crate) fn has_been(&self, place: usize) -> bool {
        self.passes.get(place).is_some_and(|passes| *passes > 0)
    }

    pub(crate) fn pass(&mut self, place: usize) {
        if let Some(passes) = self.passes.get_mut(place) {
            *passes += 1;
        }
    }

    pub(crate) fn waited(&self) -> Duration {
        self.began.elapsed()
    }

    /// Puts its time off to `until`, which is far away if nobody minds.
    pub(crate) fn seek(&mut self) {
        self.at = Whereabouts::Seeking { since: clock::now() };
    }
}
