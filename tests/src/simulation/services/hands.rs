//! Workers: what they hold, what they say, when they come, move and go.

use std::collections::VecDeque;
use std::time::Duration;

use hornpipe::core::{Details, Ending, Event, Home, Place, RequestId, Speech, Timestamp, WINDOW, WorkerId};
use hornpipe_proto::Token;
use hornpipe_proto::worker::ReplyStatus;

use super::{World, home};

/// Between two heartbeats of a worker that has them.
const INTERVAL: Duration = Duration::from_secs(1);

/// The heart of a worker that has one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heart {
    None,
    /// It beats again at this time; not while it is at work, if it has but one thread.
    Beats {
        next: Timestamp,
        at_work: bool,
    },
    /// It has stopped.
    Still,
}

/// A worker's end of a connection.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) place: Option<Place>,
    /// What it announces, if it speaks with details.
    service: Option<String>,
    native: bool,
    heart: Heart,
    /// Sent, and not received yet.
    pub(super) pipe: VecDeque<(Token, RequestId)>,
    holds: VecDeque<(Token, RequestId)>,
    /// How many jobs it has received.
    seen: u64,
    dismissed: bool,
    /// So many parts of the reply in hand it may send.
    left: u32,
}

impl Hand {
    fn speech(&self) -> Speech {
        if !matches!(self.heart, Heart::None) {
            return Speech::Beating { service: self.service.clone(), interval: INTERVAL };
        }
        if !self.native {
            return Speech::Plain;
        }
        Speech::Native(Details {
            name: None,
            service: self.service.clone(),
            credits: 1,
            seen: self.seen,
            claims: false,
            instance: None,
        })
    }

    fn is_free(&self) -> bool {
        self.pipe.is_empty() && self.holds.is_empty()
    }
}

impl World {
    fn some_hand(&mut self) -> Option<WorkerId> {
        let all: Vec<_> = self.hands.keys().copied().collect();
        all.get(usize::try_from(self.random.below(all.len() as u64)).unwrap_or(0)).copied()
    }

    fn some_external(&mut self) -> Option<WorkerId> {
        let external = self.hands.iter().filter(|(_, hand)| hand.place.is_none());
        let all: Vec<_> = external.map(|(worker, _)| *worker).collect();
        all.get(usize::try_from(self.random.below(all.len() as u64)).unwrap_or(0)).copied()
    }

    pub(super) fn some_hand_works(&mut self) {
        if let Some(worker) = self.some_hand() {
            self.work(worker);
        }
    }

    /// Takes a job out of the pipe, or replies to the one it has.
    pub(super) fn work(&mut self, worker: WorkerId) {
        let sends_part = self.random.percent(40);
        let Some(hand) = self.hands.get_mut(&worker) else { return };
        if let Some((token, request)) = hand.holds.front().copied()
            // Who beats has parts and no window.
            && (if hand.native { hand.left > 0 } else { !matches!(hand.heart, Heart::None) })
            && sends_part
        {
            hand.left = hand.left.saturating_sub(1);
            return self.tell(Event::Part { worker, token, size: 1, body: request });
        }
        if let Some((token, request)) = hand.holds.pop_front() {
            let status = if self.random.percent(10) { ReplyStatus::Retry } else { ReplyStatus::Ok };
            // A reply says it all.
            let says_more = !hand.native && matches!(hand.heart, Heart::None);
            self.tell(Event::Reply { worker, token, status, message: None, size: 1, body: request });
            if says_more {
                self.say_waiting(worker);
            }
        } else if let Some(job) = hand.pipe.pop_front() {
            hand.holds.push_back(job);
            hand.seen += 1;
            hand.left = WINDOW;
            if !matches!(hand.heart, Heart::None) {
                return;
            }
            let speech = hand.speech();
            self.tell(Event::Processing { worker, speech });
        }
        let dismissed = |hand: &Hand| (hand.dismissed && hand.is_free()).then_some(hand.place).flatten();
        if let Some(place) = self.hands.get(&worker).and_then(dismissed) {
            self.end_process(place, Ending::Code(0));
            self.tell(Event::Tick);
        }
    }

    /// So many more parts of what it holds.
    pub(super) fn may_send(&mut self, worker: WorkerId, parts: u32) {
        if let Some(hand) = self.hands.get_mut(&worker) {
            hand.left += parts;
            assert!(hand.left <= WINDOW, "{worker} may send {} parts ahead", hand.left);
        }
    }

    fn say_waiting(&mut self, worker: WorkerId) {
        let Some(hand) = self.hands.get(&worker) else { return };
        let speech = hand.speech();
        if let Speech::Beating { service, .. } = &speech {
            // Paranoid Pirate's say both alike, Majordomo's READY but once.
            let event = match service {
                None => Event::Waiting { worker, speech },
                Some(_) => Event::Heartbeat { worker },
            };
            return self.tell(event);
        }
        if hand.holds.is_empty() && (hand.native || hand.is_free()) {
            // One with details says how many jobs it has received, so another may be on its way.
            self.tell(Event::Waiting { worker, speech });
        } else {
            self.tell(Event::Processing { worker, speech });
        }
    }

    /// A worker from elsewhere.
    pub(super) fn some_worker_comes(&mut self) {
        if self.hands.len() > 40 && !self.is_crowded() {
            return;
        }
        let worker = WorkerId(self.number());
        let beats = self.random.percent(30);
        let native = !beats && self.random.percent(85);
        let service = if native || beats { self.some_name() } else { None };
        let next = self.now.after(self.random.millis(0, 1000));
        let heart = match (beats, self.random.below(8)) {
            (false, _) => Heart::None,
            (true, 0..3) => Heart::Still,
            (true, number) => Heart::Beats { next, at_work: number < 6 },
        };
        let hand = Hand {
            place: None,
            service,
            native,
            heart,
            pipe: VecDeque::new(),
            holds: VecDeque::new(),
            seen: 0,
            dismissed: false,
            left: 0,
        };
        let speech = hand.speech();
        self.hands.insert(worker, hand);
        self.tell(Event::Joined { worker, home: Home::External });
        if let Speech::Native(details) = &speech
            && self.random.percent(50)
        {
            self.tell(Event::Hello { worker, details: details.clone() });
        }
        if beats {
            self.tell(Event::Waiting { worker, speech });
        } else if self.random.percent(90) {
            self.say_waiting(worker);
        }
    }

    /// One says once more that it waits, or names another service, or something unreadable.
    pub(super) fn some_worker_speaks(&mut self) {
        let Some(worker) = self.some_external() else { return };
        if let Some(hand) = self.hands.get_mut(&worker)
            && !matches!(hand.heart, Heart::None)
        {
            match self.random.below(4) {
                0 => hand.heart = Heart::Still,
                1 => {
                    self.hands.remove(&worker);
                    self.tell(Event::OutOfTurn { worker });
                }
                _ => self.say_waiting(worker),
            }
            return;
        }
        let moves = self.random.percent(50);
        let name = self.some_name();
        let unfit = self.random.percent(5);
        if let Some(hand) = self.hands.get_mut(&worker)
            && hand.native
            && moves
        {
            let name = if unfit { Some("no such name".into()) } else { name };
            self.tally.moved += u64::from(hand.service != name);
            hand.service = name;
        }
        self.say_waiting(worker);
    }

    pub(super) fn some_worker_goes(&mut self) {
        let Some(worker) = self.some_external() else { return };
        if self.random.percent(30)
            && let Some(hand) = self.hands.get(&worker)
        {
            let speech = hand.speech();
            self.tell(Event::Exiting { worker, speech, reason: None, ending: None });
        }
        self.hands.remove(&worker);
        // They may have had one connection, and a request of one must not go to another.
        let other = self.random.percent(40).then(|| self.some_external()).flatten();
        let Some(other) = other else { return self.tell(Event::WorkerLeft { worker }) };
        self.hands.remove(&other);
        self.tell(Event::WorkersLeft { workers: vec![worker, other] });
    }
}

/// Hearts.
impl World {
    /// When the next one beats.
    pub(super) fn next_beat(&self) -> Option<(Timestamp, WorkerId)> {
        let beats = |(worker, hand): (&WorkerId, &Hand)| match hand.heart {
            Heart::Beats { next, .. } => Some((next, *worker)),
            Heart::None | Heart::Still => None,
        };
        self.hands.iter().filter_map(beats).min()
    }

    pub(super) fn beat(&mut self, worker: WorkerId) {
        let Some(hand) = self.hands.get_mut(&worker) else { return };
        let Heart::Beats { next, at_work } = &mut hand.heart else { return };
        *next = next.after(INTERVAL);
        if *at_work || hand.holds.is_empty() {
            self.say_waiting(worker);
        }
    }

    /// It is given up, and knows it or not.
    pub(super) fn disowned(&mut self, worker: WorkerId) {
        self.hands.remove(&worker);
        self.tally.disowned += 1;
    }
}

/// Processes of our own.
impl World {
    pub(super) fn boot_somebody(&mut self) {
        let waiting = self.processes.iter().filter(|(_, process)| process.worker.is_none());
        let all: Vec<_> = waiting.map(|(place, _)| *place).collect();
        let chosen = usize::try_from(self.random.below(all.len() as u64)).unwrap_or(0);
        if let Some(place) = all.get(chosen) {
            self.boot(*place);
        }
    }

    pub(super) fn boot(&mut self, place: Place) {
        let Some(process) = self.processes.get(&place) else { return };
        if Some(process.service) == self.broken {
            self.end_process(place, Ending::Code(1));
            return self.tell(Event::Tick);
        }
        let worker = WorkerId(self.number());
        let service = match self.random.below(20) {
            // Not for it to choose: it gets nothing.
            0 => Some("elsewhere".to_owned()),
            1..8 => Some(self.ledger.owner(place)),
            _ => None,
        };
        let (pipe, holds) = (VecDeque::new(), VecDeque::new());
        let hand = Hand {
            place: Some(place),
            service,
            native: true,
            heart: Heart::None,
            pipe,
            holds,
            seen: 0,
            dismissed: false,
            left: 0,
        };
        let speech = hand.speech();
        self.hands.insert(worker, hand);
        self.processes.entry(place).and_modify(|process| process.worker = Some(worker));
        self.tell(Event::Joined { worker, home: home(place) });
        self.tell(Event::Waiting { worker, speech });
    }

    pub(super) fn some_process_dies(&mut self) {
        let all: Vec<_> = self.processes.keys().copied().collect();
        let chosen = usize::try_from(self.random.below(all.len() as u64)).unwrap_or(0);
        if let Some(place) = all.get(chosen) {
            self.end_process(*place, Ending::Signal(9));
            self.tell(Event::Tick);
        }
    }

    /// The process is no more: its notice and the end of its connection cross or not.
    pub(super) fn end_process(&mut self, place: Place, ending: Ending) {
        let Some(process) = self.processes.remove(&place) else { return };
        let gone = Event::Exited { place, ending };
        let Some(worker) = process.worker else { return self.todo.push_back(gone) };
        self.hands.remove(&worker);
        let events = [gone, Event::WorkerLeft { worker }];
        if self.random.percent(50) {
            self.todo.extend(events);
        } else {
            self.todo.extend(events.into_iter().rev());
        }
    }

    pub(super) fn dismissed(&mut self, worker: WorkerId) {
        let Some(hand) = self.hands.get_mut(&worker) else { return };
        hand.dismissed = true;
        if let Some(place) = hand.place.filter(|_place| hand.is_free()) {
            self.end_process(place, Ending::Code(0));
        }
    }
}
