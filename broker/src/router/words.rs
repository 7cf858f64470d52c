//! What workers say in our own protocol, as events.

use hornpipe_proto::Ended;
use hornpipe_proto::dialect::Dialect;
use hornpipe_proto::worker::{Announcement, HEAD_LEN, INSTANCE_LIMIT, ReplyStatus, State, WorkerMessage};

use super::claims::Claims;
use super::frame::{Body, Frame, total_size};
use crate::core::{Details, Ending, Event, Speech, WorkerId};

/// The descriptor that a worker's announcement names.
pub(super) fn claims_of(message: &WorkerMessage) -> Option<u32> {
    match message {
        WorkerMessage::Hello(announcement)
        | WorkerMessage::State { announcement: Some(announcement), .. } => announcement.claims,
        _other => None,
    }
}

/// What a worker has said, as an event. `frames` are the whole message.
pub(super) fn event(
    worker: WorkerId,
    message: WorkerMessage,
    frames: &mut Vec<Frame>,
    claims: &Claims,
) -> Event<Body> {
    match message {
        WorkerMessage::Hello(announcement) => {
            Event::Hello { worker, details: details(announcement, claims).0 }
        }
        WorkerMessage::StrayReply => Event::StrayReply { worker },
        WorkerMessage::Reply { token, meta } => {
            let head_len = HEAD_LEN.min(frames.len());
            let size = total_size(frames.get(head_len..).unwrap_or_default());
            if meta.more && meta.status == ReplyStatus::Ok {
                let body = Body::to_keep(frames.drain(head_len..));
                return Event::Part { worker, token, size, body };
            }
            let body = Body::to_pass(frames.drain(head_len..));
            Event::Reply { worker, token, status: meta.status, message: meta.message, size, body }
        }
        WorkerMessage::State { state, announcement, dialect } => {
            let (speech, reason, ending) = match (announcement, dialect) {
                (Some(announcement), _) => {
                    let ending = announcement.ended.and_then(ending);
                    let (details, reason) = details(announcement, claims);
                    (Speech::Native(details), reason, ending)
                }
                (None, Dialect::Hornpipe) => (Speech::Plain, None, None),
                (None, _ready_by_reply) => (Speech::PlainReadyByReply, None, None),
            };
            match state {
                State::Waiting => Event::Waiting { worker, speech },
                State::Processing => Event::Processing { worker, speech },
                State::Exiting => Event::Exiting { worker, speech, reason, ending },
            }
        }
    }
}

/// How a process of another machine has ended, as the core knows ends.
fn ending(ended: Ended) -> Option<Ending> {
    let code = ended.code.map(Ending::Code);
    code.or(ended.signal.map(Ending::Signal)).or(ended.out_of_memory.then_some(Ending::OutOfMemory))
}

/// And as its broker is told.
pub(super) fn ended(ending: &Ending) -> Option<Ended> {
    match *ending {
        Ending::Code(code) => Some(Ended { code: Some(code), ..Ended::default() }),
        Ending::Signal(signal) => Some(Ended { signal: Some(signal), ..Ended::default() }),
        Ending::OutOfMemory => Some(Ended { out_of_memory: true, ..Ended::default() }),
        // It was no worker yet.
        Ending::NotExecuted { .. } => None,
    }
}

fn details(announcement: Announcement, claims: &Claims) -> (Details, Option<String>) {
    let Announcement {
        service,
        name,
        credits,
        seen,
        reason,
        instance,
        version: _,
        sdk: _,
        claims: _,
        ended: _,
        member: _,
    } = announcement;
    let instance = instance.filter(|instance| instance.len() <= INSTANCE_LIMIT).map(Into::into);
    (Details { name, service, credits, seen, claims: claims.are_open(), instance }, reason)
}
