//! The end of each request, for whoever keeps a record of all of them. Noted only if the
//! settings ask for it: nothing else is noted once for each request.

use std::sync::Arc;
use std::time::Duration;

use hornpipe_proto::Status;

use super::action::{Note, Spent};
use super::event::Request;
use super::flight::Outcome;
use super::ids::{ClientId, Place, RequestId};
use super::requests::Record;
use super::{Core, Turn};

/// A request whose client hears its last, or is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub request: RequestId,
    /// What the client calls it, if anything.
    pub name: Option<Arc<str>>,
    /// The service asked for; `None` is the default one.
    pub service: Option<String>,
    /// `None` if it could not be read.
    pub client: Option<ClientId>,
    /// The last worker that had it, if that was one of ours.
    pub place: Option<Place>,
    /// How many workers have had it.
    pub attempt: u32,
    pub size: u64,
    /// Bytes of the reply that the client gets.
    pub reply_size: Option<u64>,
    /// In the queue, over all attempts.
    pub wait: Duration,
    /// With workers, over all attempts.
    pub run: Duration,
    pub outcome: Outcome,
}

impl<B: Clone> Core<B> {
    /// An admitted request has its last action next.
    pub(super) fn tell_end(
        &self,
        request: RequestId,
        record: &Record<B>,
        (outcome, reply_size): (Outcome, Option<u64>),
        turn: &mut Turn<'_, B>,
    ) {
        if !self.settings.tell_ends {
            return;
        }
        let Spent { wait, run } = record.spent(turn.now);
        turn.note(Note::RequestEnded(Box::new(Ended {
            request,
            name: record.name.clone(),
            service: None,
            client: Some(record.client),
            place: record.place,
            attempt: record.attempt,
            size: record.size,
            reply_size,
            wait,
            run,
            outcome,
        })));
    }

    /// It has waited for another's run, or for none.
    pub(super) fn tell_end_without_run(
        &self,
        (request, client, name, size): (RequestId, ClientId, Option<Arc<str>>, u64),
        (outcome, reply_size): (Outcome, Option<u64>),
        (attempt, wait): (u32, Duration),
        turn: &mut Turn<'_, B>,
    ) {
        if !self.settings.tell_ends {
            return;
        }
        turn.note(Note::RequestEnded(Box::new(Ended {
            request,
            name,
            service: None,
            client: Some(client),
            place: None,
            attempt,
            size,
            reply_size,
            wait,
            run: Duration::ZERO,
            outcome,
        })));
    }

    /// It is refused as it arrives.
    pub(super) fn tell_refusal(&self, request: &Request<B>, status: Status, turn: &mut Turn<'_, B>) {
        if self.settings.tell_ends {
            turn.note(Note::RequestEnded(Box::new(Ended {
                name: request.name.clone(),
                service: request.service.clone(),
                client: Some(request.client),
                size: request.size,
                ..unknown(request.request, status)
            })));
        }
    }

    /// It is refused, and nothing is known of it.
    pub(super) fn tell_unknown(&self, request: RequestId, status: Status, turn: &mut Turn<'_, B>) {
        if self.settings.tell_ends {
            turn.note(Note::RequestEnded(Box::new(unknown(request, status))));
        }
    }
}

fn unknown(request: RequestId, status: Status) -> Ended {
    Ended {
        request,
        name: None,
        service: None,
        client: None,
        place: None,
        attempt: 0,
        size: 0,
        reply_size: None,
        wait: Duration::ZERO,
        run: Duration::ZERO,
        outcome: Outcome::Refused(status),
    }
}
