//! The virtual parent: makes processes, signals them, reports their ends on a
//! channel of its own, which may be faster or slower than the workers' pipes.

use std::time::Duration;

use hornpipe::core::{Ending, Event, Footprint, Generation, Place};

use super::Body;
use super::calendar::{Calendar, Happening, Signal};
use super::peer::{Kind, Peer, PeerId};
use super::world::World;

impl World {
    /// A command from the router to the parent.
    pub(super) fn command(&mut self, command: Happening) {
        let delay = if self.random.percent(self.faults.slow_notice) {
            self.random.millis(0, 80)
        } else {
            self.random.millis(0, 2)
        };
        self.commands = self.commands.max(self.now.after(delay));
        self.calendar.enter(self.commands, command);
    }

    pub(super) fn order_signal(&mut self, place: Place, signal: Signal) {
        self.command(Happening::Signal { place, signal });
    }

    pub(super) fn notice(&mut self, event: Event<Body>) {
        let delay = if self.random.percent(self.faults.slow_notice) {
            self.random.millis(0, 300)
        } else {
            self.random.millis(0, 2)
        };
        self.notices = self.notices.max(self.now.after(delay));
        self.calendar.enter(self.notices, Happening::Notice { life: self.life, event });
    }

    pub(super) fn fork(&mut self, place: Place, generation: Generation) {
        if self.random.percent(self.faults.not_started) {
            return self.notice(Event::NotStarted { place, why: "no room".into() });
        }
        let peer = PeerId(self.name());
        let credits = self.random.between(1, 4);
        let kind = self
            .random
            .pick(Kind::Native { credits }, &[Kind::Plain, Kind::Pirate, Kind::Native { credits }]);
        let mut process = Peer::new(kind, Some(place));
        if self.random.percent(self.faults.claims) {
            process.claims = true;
            process.kind = Kind::Native { credits: 1 };
        }
        process.generation = generation;
        process.started = self.now;
        process.deaf = self.random.percent(self.faults.deaf);
        process.elsewhere = process.is_native() && self.random.percent(self.faults.elsewhere);
        self.peers.insert(peer, process);
        if self.random.percent(self.faults.not_executed) {
            return self.end(peer, Ending::NotExecuted { why: "no such program".into() });
        }
        self.notice(Event::Started { place, pid: i32::try_from(peer.0).unwrap_or(1) });
        if self.random.percent(self.faults.boot_death) {
            let pause = self.random.millis(0, 1500);
            return self.enter(pause, Happening::Quit { peer });
        }
        if self.random.percent(self.faults.never_ready) {
            return;
        }
        let slow = self.random.percent(self.faults.slow_boot);
        let pause = if slow { self.random.millis(100, 3000) } else { self.random.millis(1, 30) };
        self.enter(pause, Happening::Booted { peer });
    }

    pub(super) fn signal(&mut self, place: Place, signal: Signal) {
        let found = self.peers.iter().find(|(_, peer)| peer.alive && peer.place == Some(place));
        let Some((peer, process)) = found.map(|(id, process)| (*id, process)) else { return };
        match signal {
            Signal::Kill => self.end(peer, Ending::Signal(9)),
            Signal::Terminate if process.deaf => (),
            Signal::Terminate if process.halted => {
                self.enter(Duration::from_millis(100), Happening::Signal { place, signal });
            }
            Signal::Terminate => {
                let busy = !process.jobs.is_empty();
                if busy && self.random.percent(50) {
                    // It finishes first, and is gone when the job is done.
                    self.dismiss(peer);
                } else {
                    self.end(peer, Ending::Signal(15));
                }
            }
        }
    }

    /// A process, or an external worker, is no more.
    pub(super) fn end(&mut self, peer: PeerId, ending: Ending) {
        let Some(worker) = self.peers.get_mut(&peer).filter(|peer| peer.alive) else { return };
        worker.alive = false;
        let place = worker.place;
        self.close(peer);
        for worker in self.left_behind(peer) {
            self.close_link(worker);
        }
        if let Some(place) = place {
            self.notice(Event::Exited { place, ending });
        }
        self.peers.remove(&peer);
    }

    /// Whoever measures looks when it has time, and finds nobody who is gone.
    pub(super) fn weigh(&mut self, place: Place) {
        if self.random.percent(self.faults.unmeasured) {
            return;
        }
        let found = self.peers.values().find(|peer| peer.alive && peer.place == Some(place));
        let Some(private_bytes) = found.map(|process| process.memory) else { return };
        let delay = self.random.millis(0, 60);
        let footprint = Footprint { private_bytes, shared_bytes: 0, resident_bytes: private_bytes };
        let event = Event::Measured { place, footprint };
        self.enter(delay, Happening::Notice { life: self.life, event });
    }

    pub(super) fn halt(&mut self, peer: PeerId) {
        let Some(process) = self.peers.get_mut(&peer) else { return };
        let Some(place) = process.place.filter(|_| !process.halted) else { return };
        process.halted = true;
        self.notice(Event::Halted { place });
        let pause = self.random.millis(10, 8000);
        self.enter(pause, Happening::Continue { peer });
    }

    pub(super) fn go_on(&mut self, peer: PeerId) {
        let Some(process) = self.peers.get_mut(&peer).filter(|process| process.halted) else { return };
        process.halted = false;
        let unread = std::mem::take(&mut process.unread);
        if let Some(place) = process.place {
            self.notice(Event::Continued { place });
        }
        for (worker, order) in unread {
            self.deliver(worker, order);
        }
    }

    /// What the earlier router had asked is done before the next one begins,
    /// or is lost with it.
    pub(super) fn carry_out_commands(&mut self) {
        let mut later = Calendar::default();
        let mut commands = Vec::new();
        while let Some((at, happening)) = self.calendar.pop() {
            if matches!(happening, Happening::Fork { .. } | Happening::Signal { .. }) {
                commands.push(happening);
            } else {
                later.enter(at, happening);
            }
        }
        self.calendar = later;
        let lost = self.random.percent(30);
        for command in commands {
            match command {
                Happening::Fork { place, generation } if !lost => self.fork(place, generation),
                Happening::Signal { place, signal } if !lost => self.signal(place, signal),
                _ => (),
            }
        }
    }

    /// What the parent tells a new router.
    pub(super) fn living(&self) -> Vec<Event<Body>> {
        let adopted = |(id, process): (&PeerId, &Peer)| {
            process.place.map(|place| Event::Adopted {
                place,
                generation: process.generation,
                pid: i32::try_from(id.0).unwrap_or(1),
                started: process.started,
            })
        };
        let mut living: Vec<_> = self.peers.iter().filter_map(adopted).collect();
        let halted = self.peers.values().filter(|process| process.halted);
        living.extend(halted.filter_map(|process| process.place.map(|place| Event::Halted { place })));
        living
    }
}
