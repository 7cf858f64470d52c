//! Everybody outside: clients, operators, and those who meddle.

use std::sync::Arc;
use std::time::Duration;

use hornpipe::core::{ClientId, Ending, Event, PauseMode, Request, RequestId, Slot, Stop, Wants};
use hornpipe_proto::Priority;

use super::Body;
use super::calendar::Happening;
use super::faults;
use super::peer::{Kind, Peer, PeerId};
use super::random::Random;
use super::world::World;

/// External workers at most.
const EXTERNAL_LIMIT: usize = 4;

impl World {
    pub(super) fn open_doors(&mut self) {
        for number in 1..=self.random.below(5) + 1 {
            self.enter(Duration::ZERO, Happening::Ask { client: ClientId(number) });
        }
        let strangers = self.random.pick(0, &[0, 1, 3]);
        for _ in 0..strangers {
            self.external();
        }
        self.enter(Duration::from_millis(50), Happening::Meddle);
    }

    pub(super) fn ask(&mut self, client: ClientId) {
        if self.closed {
            return;
        }
        if self.now < self.hushed_until {
            self.calendar.enter(self.hushed_until, Happening::Ask { client });
            return;
        }
        if self.random.percent(self.faults.leave) {
            self.tell(Event::ClientLeft { client });
        }
        if self.random.percent(self.faults.cancel) {
            let name = self.some_request_of(client).to_string().into();
            self.tell(Event::Cancel { client, name });
        }
        let burst = self.random.percent(self.faults.burst);
        let pause = match (self.calm, burst) {
            (true, _) => self.random.millis(500, 9000),
            (false, true) => Duration::ZERO,
            (false, false) => self.random.millis(0, 60),
        };
        self.enter(pause, Happening::Ask { client });
        let request = RequestId(self.name());
        if self.random.percent(self.faults.improper) {
            let event = self.improper(request);
            self.tell(event);
            return;
        }
        let improper = self.random.percent(self.faults.improper);
        let timeout = if self.random.percent(40) { Some(self.random.millis(0, 800)) } else { None };
        let size = self.random.below(if improper { 4000 } else { 1000 });
        let service = self.random.pick(None, &[None, Some("default"), Some("other")]);
        let attempts = self.random.between(0, 5);
        if self.random.percent(self.faults.poison) {
            self.poisonous.insert(request);
        }
        let wants = self.wants();
        self.tell(Event::Request(Request {
            request,
            client,
            name: Some(request.to_string().into()),
            service: service.filter(|name| improper || *name == "default").map(str::to_owned),
            timeout: timeout.filter(|_| !self.calm && !self.only_replacements),
            attempts: (attempts < 5).then_some(attempts),
            size,
            wants,
            body: Body { request, number: 0 },
        }));
    }

    /// One that the client has open, or one that it has not.
    fn some_request_of(&mut self, client: ClientId) -> RequestId {
        let open = self.model.requests.iter().filter(|(_, asked)| asked.client == client);
        let open: Vec<RequestId> = open.map(|(request, _)| *request).collect();
        self.random.pick(RequestId(self.names), &open)
    }

    /// What a client asks for beside an answer: few words, so that they meet.
    fn wants(&mut self) -> Wants {
        let word = |random: &mut Random, often: u32| {
            random.percent(often).then(|| Arc::from(random.pick("a", &["b", "c"])))
        };
        Wants {
            priority: if self.random.percent(self.faults.classes) {
                self.random.pick(Priority::High, &[Priority::Low])
            } else {
                Priority::Normal
            },
            // Played by a world of its own: `keys.rs`.
            key: None,
            exclusive: word(&mut self.random, self.faults.exclusive),
            affinity: word(&mut self.random, self.faults.affinity),
            strict: self.random.percent(30),
            parts: self.random.percent(self.faults.readers),
            // Nobody here knows workers by name.
            worker: None,
        }
    }

    fn improper(&mut self, request: RequestId) -> Event<Body> {
        match self.random.below(3) {
            0 => Event::UnreadableRequest { request, why: "no".into() },
            1 => Event::IgnoredClientMessage,
            _ => Event::Stranger,
        }
    }

    pub(super) fn external(&mut self) {
        let peer = PeerId(self.name());
        let credits = self.random.between(1, 4);
        let kind = self.random.pick(Kind::Plain, &[Kind::Pirate, Kind::Native { credits }]);
        let mut worker = Peer::new(kind, None);
        worker.elsewhere = self.random.percent(self.faults.elsewhere) && worker.is_native();
        worker.deaf = self.random.percent(self.faults.deaf);
        self.peers.insert(peer, worker);
        let pause = self.random.millis(0, 300);
        self.enter(pause, Happening::Booted { peer });
    }

    /// Whatever an operator, the kernel or fate does now and then.
    pub(super) fn meddle(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.random.millis(1, 400);
        self.enter(pause, Happening::Meddle);
        let living: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| peer.alive).map(|(id, _)| *id).collect();
        if self.random.percent(self.faults.scale) {
            for _ in 0..=self.random.below(4) {
                let event = self.scaling();
                self.tell(event);
            }
        }
        if self.random.percent(self.faults.antidote) {
            self.treat_poison();
        }
        if self.random.percent(self.faults.recycle) {
            let slot = Slot(u32::try_from(self.random.below(8)).unwrap_or(0));
            self.tell(Event::Recycle { slot });
        }
        self.pause_and_resume();
        if self.random.percent(self.faults.hush / 4) {
            self.hushed_until = self.now.after(self.random.millis(100, 15_000));
        }
        if self.random.percent(self.faults.configure) {
            self.settings = faults::draw_change(&mut self.random, &self.settings);
            self.tell(Event::Configure { settings: Box::new(self.settings.clone()) });
        }
        if self.random.percent(self.faults.reload) {
            let surge = self.random.pick(None, &[None, Some(1), Some(3)]);
            self.tell(Event::Reload { surge });
        }
        let some = usize::try_from(self.random.below(living.len().max(1) as u64)).unwrap_or(0);
        if let Some(peer) = living.get(some).copied() {
            if self.random.percent(self.faults.halt) {
                self.halt(peer);
            }
            if self.random.percent(self.faults.disconnect) {
                self.disconnect(peer);
            }
            if self.random.percent(self.faults.death / 4) {
                let starved = self.random.percent(self.faults.out_of_memory);
                self.end(peer, if starved { Ending::OutOfMemory } else { Ending::Signal(9) });
            }
            if self.random.percent(self.faults.exit_idle) {
                self.say_exiting(peer);
            }
        }
        let external = self.peers.values().filter(|peer| peer.alive && peer.place.is_none()).count();
        if !self.faults_are_few() && external < EXTERNAL_LIMIT && self.random.percent(10) {
            self.external();
        }
        if self.random.percent(self.faults.restart / 4) && self.model.stopped.is_none() {
            self.restart();
        }
        if self.random.percent(self.faults.hand_over / 4) {
            self.tell(Event::HandOver);
        }
        if self.random.percent(self.faults.stop / 6) {
            let stop = self.random.pick(Stop::Drain, &[Stop::Finish, Stop::Drain, Stop::Now]);
            self.tell(Event::Stop(stop));
        }
    }

    fn pause_and_resume(&mut self) {
        if self.random.percent(self.faults.pause / 2) {
            let mode = self.random.pick(PauseMode::Hold, &[PauseMode::Hold, PauseMode::Refuse]);
            self.tell(Event::Pause { mode });
        }
        if self.model.paused.is_some() && self.random.percent(25) {
            self.tell(Event::Resume);
        }
    }

    /// How a process ends that nobody ends.
    pub(super) fn draw_ending(&mut self) -> Ending {
        let starved = self.random.percent(self.faults.out_of_memory);
        match self.random.below(4) {
            _ if starved => Ending::OutOfMemory,
            0 => Ending::Signal(6),
            1 => Ending::Signal(11),
            code => Ending::Code(i32::from(code == 2)),
        }
    }

    /// An operator looks at the quarantine: retries, mostly after mending what was wrong.
    fn treat_poison(&mut self) {
        let numbers: Vec<u64> = self.core.quarantine().iter().map(|(number, _)| number).collect();
        let some = usize::try_from(self.random.below(numbers.len().max(1) as u64)).unwrap_or(0);
        let number = numbers.get(some).copied().unwrap_or(7);
        if self.random.percent(10) {
            return self.tell(Event::DropAllPoison);
        }
        if self.random.percent(10) {
            return self.tell(Event::DropPoison { number });
        }
        let request = RequestId(self.name());
        if let Some(entry) = self.core.quarantine().get(number) {
            let original = entry.request;
            if entry.retry.is_none() {
                self.runs.remove(&original);
            }
            if self.random.percent(70) {
                self.poisonous.remove(&original);
            }
            self.again.insert(request, original);
        }
        self.tell(Event::RetryPoison { number, request });
    }

    fn faults_are_few(&self) -> bool {
        self.faults.death == 0 && self.faults.halt == 0 && self.faults.disconnect == 0
    }

    fn scaling(&mut self) -> Event<Body> {
        match self.random.below(6) {
            0 | 1 => Event::Grow,
            2 | 3 => Event::Shrink,
            4 => Event::ScaleTo { target: self.random.between(0, 14) },
            _ => Event::ScaleBy { change: self.random.pick(2, &[-3, 5, i32::MIN]) },
        }
    }
}
