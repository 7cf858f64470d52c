//! The line to the parent: its words become events, orders become its words.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::crew::CrewList;
use super::frame::Body;
use super::inquiries::{Inquiries, Next, Subject};
use crate::core::{Ending, Event, Generation, Incarnation, Place, ServiceId, Slot, Stop, Timestamp};
use crate::link::{self, ConfigRead, ExitStatus, Link, Received, Signal, ToParent, ToRouter, WorkerSignal};

/// Orders that the parent has not read yet: far more than a pool needs.
const OUTBOX_LIMIT: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Parent {
    link: Link,
    outbox: VecDeque<ToParent>,
    /// The last lines of the process that ended last in each slot.
    last_words: BTreeMap<Slot, Vec<String>>,
    /// Why no other router follows, until somebody asks.
    pub(super) upgrade_refused: Option<String>,
    /// How the configuration file was read last, if there is one.
    pub(super) config_read: Option<ConfigRead>,
    /// What it has told of settings, to be taken up.
    pub(super) settings: Vec<Vec<u8>>,
    /// What it has been asked about workers.
    inquiries: Inquiries,
}

/// A parent that reads nothing for so long is not told how it ended.
const LAST_WORD_MS: u16 = 1000;

/// What is for the router itself and not for the core.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Signals that it has a part in.
    pub(super) signals: Vec<Signal>,
    /// The last question how it is.
    pub(super) question: Option<u64>,
}

/// The parent is gone.
#[derive(Debug)]
pub(super) struct Orphaned;

impl Parent {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            outbox: VecDeque::new(),
            last_words: BTreeMap::new(),
            upgrade_refused: None,
            config_read: None,
            settings: Vec::new(),
            inquiries: Inquiries::default(),
        }
    }

    /// Reads everything the parent has said.
    pub(super) fn read(
        &mut self,
        crew: &mut CrewList,
        events: &mut Vec<Event<Body>>,
    ) -> Result<Heard, Orphaned> {
        let mut heard = Heard::default();
        loop {
            match self.link.receive() {
                Ok(Received::Message(ToRouter::TakePulse { number })) => heard.question = Some(number),
                Ok(Received::Message(message)) => {
                    heard.signals.extend(self.translate(message, crew, events));
                }
                Ok(Received::Empty) => return Ok(heard),
                Ok(Received::Closed) => return Err(Orphaned),
                Err(error) => {
                    tracing::error!(%error, "cannot read the parent's word");
                    return Err(Orphaned);
                }
            }
        }
    }

    /// Signals that the core has no part in are handed back.
    fn translate(
        &mut self,
        message: ToRouter,
        crew: &mut CrewList,
        events: &mut Vec<Event<Body>>,
    ) -> Option<Signal> {
        match message {
            ToRouter::Started { place, pid } => {
                crew.started(from_link(place), pid);
                events.push(Event::Started { place: from_link(place), pid });
            }
            ToRouter::NotStarted { place, why } => {
                self.last_words.remove(&Slot(place.slot));
                events.push(Event::NotStarted { place: from_link(place), why });
            }
            ToRouter::Halted { place } => events.push(Event::Halted { place: from_link(place) }),
            ToRouter::Continued { place } => events.push(Event::Continued { place: from_link(place) }),
            ToRouter::Exited { place, ending } => {
                crew.ended(from_link(place));
                // It ended before the question came: these are its last lines all the same.
                self.inquiries.close(from_link(place), &ending.last_lines);
                self.last_words.insert(Slot(place.slot), ending.last_lines);
                events.push(Event::Exited { place: from_link(place), ending: from_status(ending.status) });
            }
            ToRouter::Configured { settings } => self.settings.push(settings),
            ToRouter::ConfigRead(read) => self.config_read = Some(read),
            ToRouter::HandOver => events.push(Event::HandOver),
            ToRouter::UpgradeRefused { why } => self.upgrade_refused = Some(why),
            ToRouter::Lines { place, lines } => self.inquiries.close(from_link(place), &lines),
            ToRouter::HookStarted { pid } => crew.hook_started(pid),
            ToRouter::HookEnded { pid } => crew.hook_ended(pid),
            // Nothing that happens: `read` has seen to it.
            ToRouter::TakePulse { .. } => (),
            ToRouter::Signal(signal) => match signal {
                Signal::Term | Signal::Int => events.push(Event::Stop(Stop::Drain)),
                Signal::Quit => events.push(Event::Stop(Stop::Finish)),
                Signal::Hup => {
                    events.push(Event::Reload { surge: None });
                    return Some(signal);
                }
                Signal::Ttin => events.push(Event::Grow),
                Signal::Ttou => events.push(Event::Shrink),
                Signal::Usr1 => return Some(signal),
                // The parent's business.
                Signal::Usr2 => (),
            },
        }
        None
    }

    /// What the slot's last process said last. It is told once.
    pub(super) fn take_last_words(&mut self, slot: Slot) -> Vec<String> {
        self.last_words.remove(&slot).unwrap_or_default()
    }

    /// Asks what the worker wrote last, for the line that will tell all about it.
    pub(super) fn inquire(&mut self, worker: (Place, Option<i32>), subject: Subject, now: Timestamp) {
        let (place, _pid) = worker;
        if self.inquiries.open(worker, subject, now) == Next::Ask {
            self.send(ToParent::Lines { place: to_link(place) });
        }
    }

    /// Its recipe has the number of its service.
    pub(super) fn spawn(&mut self, place: Place, generation: Generation, service: ServiceId) {
        let (place, recipe) = (to_link(place), service.0);
        self.send(ToParent::Spawn { place, generation: generation.0, recipe });
    }

    pub(super) fn signal(&mut self, place: Place, signal: WorkerSignal) {
        self.send(ToParent::Signal { place: to_link(place), signal });
    }

    pub(super) fn send(&mut self, message: ToParent) {
        if self.outbox.len() < OUTBOX_LIMIT {
            self.outbox.push_back(message);
        } else {
            tracing::error!("the parent does not read its orders");
        }
        self.flush();
    }

    /// Sends what the parent has room for.
    pub(super) fn flush(&mut self) {
        while let Some(message) = self.outbox.front() {
            match self.link.send(message) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                Err(error) => {
                    // Its end is noticed by the next read.
                    tracing::debug!(%error, "order not sent");
                    self.outbox.clear();
                }
            }
        }
    }

    /// Waits a moment for room, so that the parent hears how it ended.
    pub(super) fn say_the_last_word(&mut self) {
        self.flush();
        if self.wants_to_write() {
            let mut room = [PollFd::new(self.link.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut room, LAST_WORD_MS) {
                Ok(0) | Err(_) => tracing::error!("the parent does not listen"),
                Ok(_) => self.flush(),
            }
        }
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

fn from_status(status: ExitStatus) -> Ending {
    match status {
        ExitStatus::Code(code) => Ending::Code(code),
        ExitStatus::Signal(signal) => Ending::Signal(signal),
        ExitStatus::OutOfMemory => Ending::OutOfMemory,
        ExitStatus::NotExecuted { program, why } => Ending::NotExecuted { why: format!("{program}: {why}") },
        ExitStatus::NotPrepared { why } => Ending::NotExecuted { why },
    }
}

pub(super) fn from_link(place: link::Place) -> Place {
    Place { slot: Slot(place.slot), incarnation: Incarnation(place.incarnation) }
}

pub(super) fn to_link(place: Place) -> link::Place {
    link::Place { slot: place.slot.0, incarnation: place.incarnation.0 }
}
