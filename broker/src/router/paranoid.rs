//! Workers of RFC 6, Paranoid Pirate: their words become events.

use hornpipe_proto::dialect::paranoid::{HEAD_LEN, INTERVAL, Unreadable, Word};
use hornpipe_proto::worker::ReplyStatus;

use super::frame::{Body, Frame, total_size};
use crate::core::{Event, Speech, WorkerId};

/// What a word of one stands for. A heartbeat is a readiness too, as the Guide's queue takes
/// it: one that holds nothing is idle, and one that holds something stays busy.
pub(super) fn event(worker: WorkerId, frames: &mut Vec<Frame>) -> Event<Body> {
    match Word::decode(frames) {
        Ok(Word::Ready | Word::Heartbeat) => {
            Event::Waiting { worker, speech: Speech::Beating { service: None, interval: INTERVAL } }
        }
        Ok(Word::Reply(Some(token))) => {
            let frames = frames.drain(HEAD_LEN.min(frames.len())..);
            reply(worker, token, Body::to_pass(frames))
        }
        Ok(Word::Reply(None)) => Event::StrayReply { worker },
        Err(Unreadable) => Event::Malformed { worker },
    }
}

/// The success of a worker that has no word for anything else.
pub(super) fn reply(worker: WorkerId, token: hornpipe_proto::Token, body: Body) -> Event<Body> {
    let size = total_size(body.frames());
    Event::Reply { worker, token, status: ReplyStatus::Ok, message: None, size, body }
}
