//! What moves requests: sends, hears, keeps their time, goes on to the next broker.
//!
//! One thread at a time has it (`helm.rs`). It waits in one place, `step`, for the
//! sockets, for the bell, or for the next of its times.

mod hearing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use hornpipe_proto::{MAGIC, Status};

use crate::bell::Bell;
use crate::brokers::{Brokers, LinkState, Reach};
use crate::clock;
use crate::connection::poll;
use crate::errand::{Errand, Order, Serial, Ticket, Whereabouts};
use crate::error::AskError;
use crate::rendezvous;
use crate::reply::Reply;

/// How long the broker is given to say that a request was taken back.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);

/// How often to look whether somebody is there who was not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Requests that were given up and may still be answered, so that it counts as no noise.
const GIVEN_UP_LIMIT: usize = 1024;

pub(crate) struct Engine {
    brokers: Brokers,
    errands: BTreeMap<Ticket, Errand>,
    /// Those that look for a broker.
    seeking: BTreeSet<Ticket>,
    alarms: BTreeSet<(Instant, Ticket)>,
    given_up: VecDeque<Ticket>,
    /// What all ids of this client begin with.
    prefix: String,
    dropped: u64,
}

/// What to do for a caller.
#[derive(Debug)]
pub(crate) enum Command {
    Ask(Ticket, Box<Order>),
    /// Take it back, and say how it ended.
    Cancel(Ticket),
    /// Nobody waits for it any more.
    Abandon(Ticket),
}

/// What a caller is told.
#[derive(Debug)]
pub(crate) enum Mail {
    Part(Vec<Vec<u8>>),
    Done(Result<Reply, AskError>),
}

pub(crate) type Deliveries = Vec<(Ticket, Mail)>;

/// How long a step may wait for something to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Endless,
}

impl Engine {
    pub(crate) fn new(brokers: Brokers, nonce: u64) -> Self {
        Self {
            brokers,
            errands: BTreeMap::new(),
            seeking: BTreeSet::new(),
            alarms: BTreeSet::new(),
            given_up: VecDeque::new(),
            prefix: format!("{nonce:016x}-"),
            dropped: 0,
        }
    }

    /// Messages that answered nothing.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether a request waits for a connection that may come about any moment.
    pub(crate) fn is_connecting(&self, ticket: Ticket) -> bool {
        self.seeking.contains(&ticket) && self.brokers.is_connecting(clock::now())
    }

    pub(crate) fn accept(&mut self, command: Command, mail: &mut Deliveries) {
        match command {
            Command::Ask(ticket, order) => self.begin(ticket, *order),
            Command::Cancel(ticket) => self.cancel(ticket, mail),
            Command::Abandon(ticket) => self.abandon(ticket),
        }
    }

    /// Does what can be done, and waits if there was nothing.
    pub(crate) fn step(&mut self, bell: &Bell, patience: Patience, mail: &mut Deliveries) {
        if let Err(error) = self.try_step(bell, patience, mail) {
            // Without sockets nobody's request can go on.
            while let Some(ticket) = self.errands.keys().next().copied() {
                self.end(ticket, Err(error.clone()), mail);
            }
        }
    }

    fn try_step(&mut self, bell: &Bell, patience: Patience, mail: &mut Deliveries) -> Result<(), AskError> {
        let is_hot = self.hear(mail)?;
        let now = clock::now();
        self.keep_time(now, mail);
        let seeking: Vec<Ticket> = self.seeking.iter().copied().collect();
        for ticket in &seeking {
            if let Err(error) = self.place(*ticket, now, mail) {
                // Others may have their connections.
                self.end(*ticket, Err(error), mail);
            }
        }
        // Whoever waits a limited time may wait for just this.
        let is_news = matches!(patience, Patience::Until(_)) && self.seeking.len() < seeking.len();
        if is_hot || is_news || !mail.is_empty() || patience == Patience::None {
            return Ok(());
        }
        self.wait(bell, patience)
    }

    fn wait(&self, bell: &Bell, patience: Patience) -> Result<(), AskError> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        let until = match patience {
            Patience::Until(until) => Some(alarm.map_or(until, |alarm| alarm.min(until))),
            Patience::None | Patience::Endless => alarm,
        };
        let mut items = Vec::with_capacity(1 + 2 * self.brokers.links.len());
        items.push(zmq::PollItem::from_fd(bell.fd(), zmq::POLLIN));
        for link in self.brokers.links.values() {
            items.push(link.connection.dealer.as_poll_item(zmq::POLLIN));
            items.push(link.connection.monitor.as_poll_item(zmq::POLLIN));
        }
        poll(&mut items, until.map_or(-1, |until| clock::poll_timeout(clock::left(until))))?;
        if items.first().is_some_and(zmq::PollItem::is_readable) {
            bell.hush();
        }
        Ok(())
    }
}

/// Requests begin and are taken back.
impl Engine {
    fn begin(&mut self, ticket: Ticket, order: Order) {
        let meta = &order.meta;
        let word = meta.affinity.as_ref().or(meta.key.as_ref()).or(meta.exclusive.as_ref());
        let preference = match word {
            Some(word) if self.brokers.len() > 1 => rendezvous::order(word, &self.brokers.endpoints()),
            _ => (0..self.brokers.len()).collect(),
        };
        let id = format!("{}{ticket:x}", self.prefix);
        let errand = Errand::new(order, id, preference, clock::now());
        self.alarms.insert((errand.alarm, ticket));
        self.errands.insert(ticket, errand);
        self.seeking.insert(ticket);
    }

    fn cancel(&mut self, ticket: Ticket, mail: &mut Deliveries) {
        let Some(errand) = self.errands.get_mut(&ticket).filter(|errand| !errand.is_cancelled) else {
            return;
        };
        errand.is_cancelled = true;
        let patience = clock::now() + CANCEL_PATIENCE;
        errand.deadline = errand.deadline.min(patience);
        let (alarm, is_seeking) = (errand.deadline, errand.over.is_empty());
        let is_told = self.tell_cancel(ticket, None);
        if is_seeking || !is_told {
            let cancelled = self.cancelled(ticket);
            self.end(ticket, Err(cancelled), mail);
        } else {
            self.give_up(ticket);
            self.seeking.remove(&ticket);
            self.set_alarm(ticket, alarm);
        }
    }

    fn abandon(&mut self, ticket: Ticket) {
        let Some(errand) = self.errands.get(&ticket) else { return };
        // What has a key outlives whoever asked for it.
        if !errand.is_keyed() {
            self.tell_cancel(ticket, None);
        }
        self.give_up(ticket);
        self.remove(ticket);
    }

    /// What comes for it from here on is no noise.
    fn give_up(&mut self, ticket: Ticket) {
        if self.given_up.len() == GIVEN_UP_LIMIT {
            self.given_up.pop_front();
        }
        self.given_up.push_back(ticket);
    }

    /// Takes it back wherever it is, but over this connection. Whether anybody was told.
    fn tell_cancel(&self, ticket: Ticket, except: Option<Serial>) -> bool {
        let Some(errand) = self.errands.get(&ticket) else { return false };
        let map = errand.cancel_map();
        let mut is_told = false;
        for serial in errand.over.iter().filter(|serial| Some(**serial) != except) {
            let Some(link) = self.brokers.links.get(serial) else { continue };
            if link.state == LinkState::Up && self.brokers.understands_cancel(link.place) {
                is_told |= link.connection.send([&b""[..], MAGIC, &map]).unwrap_or(false);
            }
        }
        is_told
    }

    fn cancelled(&self, ticket: Ticket) -> AskError {
        let place = self.errands.get(&ticket).and_then(|errand| errand.last).unwrap_or(0);
        match self.brokers.endpoint(place) {
            Some(broker) => AskError::Refused {
                status: Status::Cancelled,
                message: String::new(),
                broker: broker.clone(),
                attempt: 0,
                retry_after: None,
            },
            None => AskError::Behind,
        }
    }
}

/// Requests find a broker.
impl Engine {
    fn place(&mut self, ticket: Ticket, now: Instant, mail: &mut Deliveries) -> Result<(), AskError> {
        let Some(errand) = self.errands.get(&ticket) else { return Ok(()) };
        let Whereabouts::Seeking { since } = errand.at else { return Ok(()) };
        let patience = errand.share(since);
        let mut places = errand.preference.clone();
        if places.len() > 1 {
            let passes = |place: &usize| errand.passes.get(*place).copied();
            places.sort_by_key(|place| (self.brokers.is_suspect(*place, now), passes(place)));
        }
        let is_refused = errand.refusal.is_some();
        places.retain(|place| !is_refused || !errand.has_been(*place));
        for place in places {
            match self.brokers.reach(place, patience, now)? {
                Reach::Now(serial) => {
                    if self.send(ticket, serial, now)? {
                        return Ok(());
                    }
                }
                Reach::Until(until) => {
                    let deadline = self.errands.get(&ticket).map_or(until, |errand| errand.deadline);
                    self.set_alarm(ticket, until.min(deadline));
                    return Ok(());
                }
                Reach::No => {}
            }
        }
        // Nobody else is there who could do better.
        let refusal = self.errands.get_mut(&ticket).and_then(|errand| errand.refusal.take());
        if let Some(refusal) = refusal {
            self.end(ticket, Err(refusal), mail);
        } else if let Some(deadline) = self.errands.get(&ticket).map(|errand| errand.deadline) {
            self.set_alarm(ticket, deadline.min(now + LOOK_AGAIN));
        }
        Ok(())
    }

    /// False if the connection has no room for it.
    fn send(&mut self, ticket: Ticket, serial: Serial, now: Instant) -> Result<bool, AskError> {
        let Some(errand) = self.errands.get_mut(&ticket) else { return Ok(true) };
        let Some(link) = self.brokers.links.get_mut(&serial) else { return Ok(false) };
        let map = errand.map(now);
        let head = [&b""[..], MAGIC, &map];
        let body = errand.body.frames().iter().map(Vec::as_slice);
        if !link.connection.send(head.into_iter().chain(body))? {
            return Ok(false);
        }
        link.out += 1;
        let until = now + errand.share(now);
        errand.at = Whereabouts::Out { serial, heard: link.heard, until };
        errand.tries = errand.tries.saturating_sub(1);
        errand.sent += 1;
        errand.over.push(serial);
        errand.last = Some(link.place);
        let alarm = until.min(errand.deadline);
        self.seeking.remove(&ticket);
        self.set_alarm(ticket, alarm);
        Ok(true)
    }

    /// Its connection is gone, or said nothing for all of a try.
    fn retry(&mut self, ticket: Ticket, is_lost: bool, mail: &mut Deliveries) {
        let Some(errand) = self.errands.get_mut(&ticket) else { return };
        let Some(broker) = errand.last.and_then(|place| self.brokers.endpoint(place)).cloned() else {
            return;
        };
        if errand.is_cancelled {
            let cancelled = self.cancelled(ticket);
            return self.end(ticket, Err(cancelled), mail);
        }
        if errand.parts > 0 {
            let error = AskError::BrokenOff { broker, parts: errand.parts };
            return self.end(ticket, Err(error), mail);
        }
        // With a key it is harmless however often it is sent.
        if is_lost && errand.is_keyed() {
            errand.tries += 1;
        }
        if errand.tries == 0 {
            let error = AskError::NoAnswer { broker, tries: errand.sent, waited: errand.waited() };
            return self.end(ticket, Err(error), mail);
        }
        errand.seek();
        self.seeking.insert(ticket);
    }
}

/// Time passes, and requests end.
impl Engine {
    fn keep_time(&mut self, now: Instant, mail: &mut Deliveries) {
        while let Some((_, ticket)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            self.alarms.pop_first();
            let Some(errand) = self.errands.get_mut(&ticket) else { continue };
            if errand.deadline <= now {
                let error = self.too_late(ticket);
                self.end(ticket, Err(error), mail);
                continue;
            }
            let Whereabouts::Out { serial, heard, until } = errand.at else {
                // It looks for a broker again, which sets the next alarm.
                continue;
            };
            let heard_now = self.brokers.links.get(&serial).map_or(heard, |link| link.heard);
            if heard_now != heard || now < until || errand.is_cancelled {
                // The broker is well and says what it has to say: this takes long, that is all.
                let until = now + errand.share(now);
                errand.at = Whereabouts::Out { serial, heard: heard_now, until };
                let alarm = until.min(errand.deadline);
                self.set_alarm(ticket, alarm);
                continue;
            }
            if let Some(place) = errand.last {
                errand.pass(place);
            }
            for surplus in self.brokers.note_silence(serial, now) {
                self.lose(surplus, mail);
            }
            let is_there =
                |errand: &Errand| matches!(errand.at, Whereabouts::Out { serial: at, .. } if at == serial);
            if self.errands.get(&ticket).is_some_and(is_there) {
                self.retry(ticket, false, mail);
            }
        }
    }

    fn too_late(&mut self, ticket: Ticket) -> AskError {
        let Some(errand) = self.errands.get_mut(&ticket) else { return AskError::Behind };
        if errand.is_cancelled {
            return self.cancelled(ticket);
        }
        if let Some(refusal) = errand.refusal.take() {
            return refusal;
        }
        let waited = errand.waited();
        match errand.last.and_then(|place| self.brokers.endpoint(place)) {
            Some(broker) if errand.parts > 0 => {
                AskError::BrokenOff { broker: broker.clone(), parts: errand.parts }
            }
            Some(broker) => AskError::NoAnswer { broker: broker.clone(), tries: errand.sent, waited },
            None => AskError::Unreachable { brokers: self.brokers.endpoints(), waited },
        }
    }

    fn set_alarm(&mut self, ticket: Ticket, at: Instant) {
        let Some(errand) = self.errands.get_mut(&ticket) else { return };
        self.alarms.remove(&(errand.alarm, ticket));
        errand.alarm = at;
        self.alarms.insert((at, ticket));
    }

    fn end(&mut self, ticket: Ticket, ended: Result<Reply, AskError>, mail: &mut Deliveries) {
        self.remove(ticket);
        mail.push((ticket, Mail::Done(ended)));
    }

    fn remove(&mut self, ticket: Ticket) {
        let Some(errand) = self.errands.remove(&ticket) else { return };
        self.seeking.remove(&ticket);
        self.alarms.remove(&(errand.alarm, ticket));
        for serial in errand.over {
            self.brokers.let_go(serial);
        }
    }

    fn forget_given_up(&mut self, ticket: Ticket) {
        self.given_up.retain(|other| *other != ticket);
    }
}
