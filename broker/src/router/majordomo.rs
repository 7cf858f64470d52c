//! Workers of RFC 7 and 18, Majordomo: their commands become events, and who says what may
//! not be said now is told to begin anew.

use hornpipe_proto::dialect::Dialect;
use hornpipe_proto::dialect::majordomo::{Command, Edition, INTERVAL};

use super::frame::{Body, Frame, total_size};
use super::paranoid::reply;
use crate::core::{DEFAULT_SERVICE, Event, Speech, WorkerId};

/// What a command means for its worker's connection.
#[derive(Debug)]
pub(super) enum Heard {
    /// It goes on.
    Word(Event<Body>),
    /// The worker ends it.
    Leaving(Event<Body>),
    /// READY comes first, and once.
    OutOfTurn,
    /// No worker says this.
    Unreadable,
}

/// What the first words of a worker make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    Welcome,
    /// It has been here before, with an earlier broker or before it was given up.
    BeginAnew(Edition),
    /// It goes at once.
    Farewell,
}

/// READY comes first. Nothing else that a worker says counts before it.
pub(super) fn greeting(dialect: Dialect, frames: &[Frame]) -> Greeting {
    let Dialect::Majordomo(edition) = dialect else { return Greeting::Welcome };
    match edition.decode(frames) {
        Ok(Command::Heartbeat | Command::Reply { .. }) => Greeting::BeginAnew(edition),
        Ok(Command::Disconnect) => Greeting::Farewell,
        Ok(Command::Ready { .. }) | Err(_) => Greeting::Welcome,
    }
}

/// What a worker that has been heard before says, or a newcomer.
pub(super) fn read(
    (worker, edition, standing): (WorkerId, Edition, Standing),
    frames: &mut Vec<Frame>,
) -> Heard {
    let command = match edition.decode(frames) {
        Ok(command) => command,
        Err(error) => {
            tracing::debug!(worker = worker.0, %error, "unreadable");
            return Heard::Unreadable;
        }
    };
    match (command, standing) {
        (Command::Ready { service }, Standing::Newcomer) => {
            let service = (service != DEFAULT_SERVICE).then_some(service);
            let speech = Speech::Beating { service, interval: INTERVAL };
            Heard::Word(Event::Waiting { worker, speech })
        }
        (Command::Ready { .. }, Standing::Introduced) | (_, Standing::Newcomer) => Heard::OutOfTurn,
        (Command::Heartbeat, Standing::Introduced) => Heard::Word(Event::Heartbeat { worker }),
        (Command::Disconnect, Standing::Introduced) => Heard::Leaving(Event::Exiting {
            worker,
            speech: Speech::PlainReadyByReply,
            reason: None,
            ending: None,
        }),
        (Command::Reply { token: None, .. }, Standing::Introduced) => {
            Heard::Word(Event::StrayReply { worker })
        }
        (Command::Reply { token: Some(token), more }, Standing::Introduced) => {
            let body = frames.drain(edition.reply_head_len().min(frames.len())..);
            if !more {
                return Heard::Word(reply(worker, token, Body::to_pass(body)));
            }
            let body = Body::to_keep(body);
            let size = total_size(body.frames());
            Heard::Word(Event::Part { worker, token, size, body })
        }
    }
}

/// Whether READY has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Newcomer,
    Introduced,
}
