//! Deaths of the router in the world of keys: between any two of the things that it does. What it
//! has written down is there for the next, and nothing else; workers come back one after the
//! other, in their own time.

use hornpipe::core::{Core, Event, Generation, Generator, Home, WorkerId};
use hornpipe_proto::worker::ReplyStatus;

use super::World;
use super::hands::Hand;
use crate::simulation::random::seed_bytes;

/// When the router dies: after so many more of its actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fuse {
    None,
    Burning { actions: u64 },
    Dead,
}

impl Fuse {
    /// Whether one more thing is done.
    pub(super) fn burn(&mut self) -> bool {
        match self {
            Self::None => true,
            Self::Dead => false,
            Self::Burning { actions: 0 } => {
                *self = Self::Dead;
                false
            }
            Self::Burning { actions } => {
                *actions -= 1;
                true
            }
        }
    }
}

impl World {
    /// There is another router, who knows what was written down.
    pub(super) fn start_anew(&mut self) {
        self.fuse = Fuse::None;
        self.life += 1;
        self.tally.lives += 1;
        self.open.clear();
        for (_worker, mut hand) in std::mem::take(&mut self.workers) {
            self.lose_connection(&mut hand);
            self.away.push(hand);
        }
        let generator = Generator::new(self.life, seed_bytes(self.seed));
        self.core = Core::new(self.settings.clone(), generator, self.memory.as_ref());
        let service = self.settings.service.clone();
        for (key, entry) in self.journal.clone() {
            self.tell(Event::Recalled { service: service.clone(), key, entry });
        }
        let places: Vec<_> = self.away.iter().filter_map(|hand| hand.place).collect();
        for place in places {
            self.tell(Event::Adopted { place, generation: Generation(0), pid: 1, started: self.now });
        }
        self.tell(Event::Tick);
    }

    /// What was on its way is lost. What the worker had done by then it may have kept.
    fn lose_connection(&mut self, hand: &mut Hand) {
        // The next router takes back what has not begun, before anything else.
        hand.withdraw(WorkerId(0));
        let mut lost = Vec::new();
        for token in hand.held.keys().copied().collect::<Vec<_>>() {
            match self.random.below(6) {
                0 => lost.push(token),
                1 => {
                    let status = self.random.pick(ReplyStatus::Ok, &[ReplyStatus::Error]);
                    let body = self.name();
                    hand.finish(token, status, body);
                }
                _ => (),
            }
        }
        hand.cut_off(&lost);
    }

    /// One of those that are away connects, and says what it owes.
    pub(super) fn come_back(&mut self) {
        if self.away.is_empty() {
            return;
        }
        let chosen = usize::try_from(self.random.below(self.away.len() as u64)).unwrap_or(0);
        let hand = self.away.swap_remove(chosen);
        let worker = WorkerId(self.name());
        let home = hand.place.map_or(Home::External, Home::Local);
        let (details, kept) = (hand.details(), hand.kept.clone());
        self.workers.insert(worker, hand);
        self.tell(Event::Joined { worker, home });
        if self.random.percent(70) {
            self.tell(Event::Hello { worker, details });
        }
        for reply in kept {
            self.send(worker, reply.token, reply.status, reply.body);
        }
        let Some(hand) = self.workers.get(&worker) else { return };
        let speech = hand.speech();
        if hand.held.is_empty() {
            self.tell(Event::Waiting { worker, speech });
        } else {
            self.tell(Event::Processing { worker, speech });
        }
    }
}
