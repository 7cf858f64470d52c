//! What the brokers say, and what it means for the requests that are out.

use hornpipe_proto::Status;

use super::{Deliveries, Engine, Mail};
use crate::brokers::LinkState;
use crate::clock;
use crate::connection::News;
use crate::errand::{Errand, Serial, Ticket, Whereabouts};
use crate::error::AskError;
use crate::reply::Answer;

/// Messages read from one connection before the others have their turn.
const BUDGET: usize = 256;

impl Engine {
    /// Whether there is more to hear.
    pub(super) fn hear(&mut self, mail: &mut Deliveries) -> Result<bool, AskError> {
        let mut is_hot = false;
        for serial in self.brokers.links.keys().copied().collect::<Vec<_>>() {
            // The monitor first: what was sent before the connection went is
            // in the DEALER by the time the monitor tells of the loss.
            let is_lost = self.watch(serial)?;
            let mut is_drained = false;
            for _ in 0..BUDGET {
                // An answer may have closed it.
                let Some(link) = self.brokers.links.get(&serial) else { break };
                let Some(frames) = link.connection.receive()? else {
                    is_drained = true;
                    break;
                };
                self.answer(serial, frames, mail);
            }
            if is_drained && is_lost {
                self.lose(serial, mail);
            }
            is_hot |= !is_drained && self.brokers.links.contains_key(&serial);
        }
        Ok(is_hot)
    }

    /// What became of a connection; whether it is lost.
    fn watch(&mut self, serial: Serial) -> Result<bool, AskError> {
        let Some(link) = self.brokers.links.get_mut(&serial) else { return Ok(false) };
        while !link.is_lost {
            match link.connection.news()? {
                None => break,
                Some(News::Up) => link.set_state(LinkState::Up, clock::now()),
                Some(News::Failed) => link.set_state(LinkState::Failing, clock::now()),
                // Before its handshake there was nothing to lose.
                Some(News::Lost) if link.state != LinkState::Up => {}
                Some(News::Lost) => link.is_lost = true,
            }
        }
        Ok(link.is_lost)
    }

    pub(super) fn lose(&mut self, serial: Serial, mail: &mut Deliveries) {
        self.brokers.close(serial, clock::now());
        let concerned = |errand: &Errand| errand.over.contains(&serial);
        let tickets: Vec<Ticket> =
            self.errands.iter().filter(|(_, errand)| concerned(errand)).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            let Some(errand) = self.errands.get_mut(&ticket) else { continue };
            errand.over.retain(|other| *other != serial);
            if matches!(errand.at, Whereabouts::Out { serial: at, .. } if at == serial) {
                self.retry(ticket, true, mail);
            }
        }
    }

    fn answer(&mut self, serial: Serial, frames: Vec<Vec<u8>>, mail: &mut Deliveries) {
        let Some(answer) = Answer::read(frames) else {
            self.dropped += 1;
            return;
        };
        let Some(ticket) = self.meant(serial, &answer.meta.id) else {
            self.dropped += 1;
            return;
        };
        let meta = &answer.meta;
        let shows_new_words = (meta.status == Status::Ok)
            .then_some(meta.more || meta.wait_us.is_some() || meta.run_us.is_some());
        self.brokers.note_answer(serial, shows_new_words);
        let Some(errand) = self.errands.get_mut(&ticket) else {
            self.forget_given_up(ticket);
            return;
        };
        let is_latest = matches!(errand.at, Whereabouts::Out { serial: at, .. } if at == serial);
        // Of an earlier try only a reply is worth anything.
        if !is_latest && !matches!(meta.status, Status::Ok | Status::Error) {
            return;
        }
        if meta.more && meta.status == Status::Ok {
            // The parts of one try only: another one begins anew.
            if is_latest {
                errand.parts += 1;
                let deadline = errand.deadline;
                mail.push((ticket, Mail::Part(answer.frames)));
                self.set_alarm(ticket, deadline);
            }
            return;
        }
        let place = self.brokers.links.get(&serial).map_or(0, |link| link.place);
        let Some(broker) = self.brokers.endpoint(place) else { return };
        let ended = answer.conclude(broker);
        if let Err(error) = &ended
            && self.may_go_elsewhere(ticket, place, error)
            && let Some(errand) = self.errands.get_mut(&ticket)
        {
            errand.refusal = Some(error.clone());
            errand.pass(place);
            errand.over.retain(|other| *other != serial);
            errand.seek();
            self.seeking.insert(ticket);
            self.brokers.let_go(serial);
            return;
        }
        if self.errands.get(&ticket).is_some_and(|errand| errand.over.len() > 1 && !errand.is_keyed()) {
            self.tell_cancel(ticket, Some(serial));
            self.give_up(ticket);
        }
        self.end(ticket, ended, mail);
    }

    /// Which request an id means. What carries none answers the only one that is out there.
    fn meant(&self, serial: Serial, id: &str) -> Option<Ticket> {
        if !id.is_empty() {
            let ticket = Ticket::from_str_radix(id.strip_prefix(&self.prefix)?, 16).ok()?;
            let errand = self.errands.get(&ticket);
            let is_known = errand
                .map_or_else(|| self.given_up.contains(&ticket), |errand| errand.over.contains(&serial));
            return is_known.then_some(ticket);
        }
        let mut out = self.errands.iter().filter(|(_, errand)| errand.over.contains(&serial));
        match (out.next(), out.next()) {
            (Some((ticket, _)), None) => Some(*ticket),
            _ => None,
        }
    }

    /// Whether another broker may do better: this one did not run it, or is going.
    fn may_go_elsewhere(&self, ticket: Ticket, place: usize, error: &AskError) -> bool {
        use Status::{Busy, Draining, NoService, Unavailable};
        let Some(errand) = self.errands.get(&ticket) else { return false };
        let AskError::Refused { status, .. } = error else { return false };
        matches!(status, Busy | Draining | NoService | Unavailable)
            && errand.preference.iter().any(|other| *other != place && !errand.has_been(*other))
            && errand.tries > 0
            && errand.parts == 0
            && !errand.is_cancelled
    }
}
