//! Connections that are several workers each: a crew's agent speaks for all of its own over one.
//! To the core each member is a worker from elsewhere like any other.

use std::collections::{BTreeMap, HashMap};

use hornpipe_proto::Token;
use hornpipe_proto::worker::{Announcement, State, WorkerMessage};

use super::claims::Claims;
use super::frame::{Body, Frame};
use super::sockets::Door;
use super::words::event;
use super::workers::Workers;
use crate::core::{Event, Home, MAX_WORKERS, WorkerId};

/// The members of each such connection.
#[derive(Debug, Default)]
pub(super) struct Bands {
    table: HashMap<WorkerId, Band>,
}

#[derive(Debug, Default)]
struct Band {
    members: BTreeMap<u32, WorkerId>,
    /// Whose job each is that a member has in hand: a reply names nothing else.
    tokens: HashMap<Token, WorkerId>,
}

/// Whether a connection that begins like this will be several workers.
pub(super) fn names_member(frames: &[Frame]) -> bool {
    let message = WorkerMessage::decode(frames);
    matches!(
        message,
        Ok(WorkerMessage::State { announcement: Some(Announcement { member: Some(_), .. }), .. })
    )
}

impl Bands {
    pub(super) fn begin(&mut self, connection: WorkerId) {
        self.table.insert(connection, Band::default());
    }

    pub(super) fn is_one(&self, connection: WorkerId) -> bool {
        self.table.contains_key(&connection)
    }

    /// The connection is gone. Gives its members, if it was several workers.
    pub(super) fn end(&mut self, connection: WorkerId) -> Option<Vec<WorkerId>> {
        self.table.remove(&connection).map(|band| band.members.into_values().collect())
    }

    /// A member is given a job.
    pub(super) fn assign(&mut self, connection: WorkerId, member: WorkerId, token: Token) {
        if let Some(band) = self.table.get_mut(&connection) {
            band.tokens.insert(token, member);
        }
    }
}

impl Workers {
    /// The events that a word over such a connection stands for.
    pub(super) fn hear_band(
        &mut self,
        connection: WorkerId,
        frames: &mut Vec<Frame>,
        events: &mut Vec<Event<Body>>,
    ) {
        let Some(band) = self.bands.table.get_mut(&connection) else { return };
        match WorkerMessage::decode(frames) {
            Ok(message @ WorkerMessage::Reply { token, .. }) => {
                let more = matches!(&message, WorkerMessage::Reply { meta, .. } if meta.more);
                let holder = if more { band.tokens.get(&token).copied() } else { band.tokens.remove(&token) };
                events.push(match holder {
                    Some(member) => event(member, message, frames, &Claims::default()),
                    None => Event::StrayReply { worker: connection },
                });
            }
            Ok(WorkerMessage::StrayReply) => events.push(Event::StrayReply { worker: connection }),
            Ok(message @ WorkerMessage::State { .. }) => {
                self.hear_member(connection, message, frames, events);
            }
            Ok(WorkerMessage::Hello(_)) | Err(_) => self.misunderstand_band(connection, events),
        }
    }

    fn hear_member(
        &mut self,
        connection: WorkerId,
        message: WorkerMessage,
        frames: &mut Vec<Frame>,
        events: &mut Vec<Event<Body>>,
    ) {
        let WorkerMessage::State { state, announcement: Some(announcement), .. } = &message else {
            return self.misunderstand_band(connection, events);
        };
        let Some(number) = announcement.member else { return self.misunderstand_band(connection, events) };
        let leaves = *state == State::Exiting;
        let known = self.bands.table.get(&connection).and_then(|band| band.members.get(&number).copied());
        let member = match known {
            Some(member) => member,
            // It was never here.
            None if leaves => return,
            None => match self.take_in(connection, number, events) {
                Some(member) => member,
                None => return self.misunderstand_band(connection, events),
            },
        };
        events.push(event(member, message, frames, &Claims::default()));
        if leaves {
            if let Some(band) = self.bands.table.get_mut(&connection) {
                band.members.remove(&number);
                band.tokens.retain(|_token, holder| *holder != member);
            }
            self.forget(member);
            events.push(Event::WorkerLeft { worker: member });
        }
    }

    /// `None` if there are too many.
    fn take_in(
        &mut self,
        connection: WorkerId,
        number: u32,
        events: &mut Vec<Event<Body>>,
    ) -> Option<WorkerId> {
        let band = self.bands.table.get_mut(&connection)?;
        if band.members.len() >= MAX_WORKERS as usize {
            return None;
        }
        let member = WorkerId(self.next_worker + 1);
        band.members.insert(number, member);
        self.next_worker += 1;
        self.enlist(connection, member, number)?;
        events.push(Event::Joined { worker: member, home: Home::External });
        Some(member)
    }

    /// Whose word it was is not known, so all may have lost what they hold.
    pub(super) fn misunderstand_band(&mut self, connection: WorkerId, events: &mut Vec<Event<Body>>) {
        let Some(band) = self.bands.table.get_mut(&connection) else { return };
        band.tokens.clear();
        let members = band.members.values().map(|member| Event::Malformed { worker: *member });
        let before = events.len();
        events.extend(members);
        if events.len() == before {
            events.push(Event::Malformed { worker: connection });
        }
    }

    /// Whether a connection begins that may be several workers.
    pub(super) fn begins_band(door: Door, frames: &[Frame]) -> bool {
        door == Door::Backend && names_member(frames)
    }
}
