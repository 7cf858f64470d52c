//! What virtual workers do with what reaches them, well or badly.

use std::time::Duration;

use hornpipe::core::{Ending, Event, Home, MAX_AHEAD, RequestId, WorkerId};
use hornpipe_proto::Token;
use hornpipe_proto::worker::ReplyStatus;

use super::calendar::{Happening, Order};
use super::peer::{Kind, Link, PeerId, Queued};
use super::world::World;
use super::{Body, PROBE};

/// A stopped worker is looked after again after this time.
const LATER: Duration = Duration::from_millis(100);

/// The pipes.
impl World {
    pub(super) fn connect(&mut self, peer: PeerId) {
        let worker = WorkerId(self.name());
        let Some(process) = self.peers.get_mut(&peer).filter(|process| process.connection.is_none()) else {
            return;
        };
        if process.halted {
            return self.enter(LATER, Happening::Connect { peer });
        }
        process.connection = Some(worker);
        process.seen = 0;
        process.reconnected = process.booted;
        let (details, idle, reconnects) = (process.details(), process.jobs.is_empty(), process.booted);
        let native = process.is_native();
        let home = process.place.map_or(Home::External, Home::Local);
        self.links
            .insert(worker, Link { peer, home, joined: false, open: true, up: self.now, down: self.now });
        if native && (reconnects || self.random.percent(50)) {
            self.send_up(worker, Event::Hello { worker, details });
        }
        let is_waiting = idle && (native || !reconnects);
        if let Some(process) = self.peers.get_mut(&peer) {
            process.booted = true;
        }
        if !reconnects && self.random.percent(self.faults.exit_idle / 2) {
            self.say_exiting(peer);
        } else if is_waiting {
            self.say_waiting(peer);
        }
        self.enter(LATER, Happening::Repeat { peer });
    }

    /// A message from a worker to the router, behind all that it sent before.
    pub(super) fn send_up(&mut self, worker: WorkerId, event: Event<Body>) {
        let slow = self.random.percent(self.faults.slow_pipe);
        let closes = matches!(event, Event::WorkerLeft { .. }) && self.random.percent(self.faults.slow_close);
        let mut delay = if slow { self.random.millis(0, 80) } else { self.random.millis(0, 1) };
        if closes {
            delay += self.random.millis(0, 400);
        }
        let Some(link) = self.links.get_mut(&worker).filter(|link| link.open) else { return };
        link.up = link.up.max(self.now.after(delay));
        link.open = !matches!(event, Event::WorkerLeft { .. });
        let at = link.up;
        self.calendar.enter(at, Happening::Arrive { worker, life: self.life, event });
    }

    pub(super) fn send_down(&mut self, worker: WorkerId, order: Order) {
        let slow = self.random.percent(self.faults.slow_pipe);
        let delay = if slow { self.random.millis(0, 80) } else { self.random.millis(0, 1) };
        let Some(link) = self.links.get_mut(&worker).filter(|link| link.open) else { return };
        link.down = link.down.max(self.now.after(delay));
        let at = link.down;
        self.calendar.enter(at, Happening::Deliver { worker, order });
    }

    pub(super) fn arrive(&mut self, worker: WorkerId, event: Event<Body>) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        let (home, first) = (link.home, !std::mem::replace(&mut link.joined, true));
        let closes = matches!(event, Event::WorkerLeft { .. });
        if first && closes {
            // The router never heard of it.
            self.links.remove(&worker);
            return;
        }
        if first {
            self.take_over(worker);
            self.tell(Event::Joined { worker, home });
        }
        if closes {
            self.links.remove(&worker);
            // What it has not begun by now it never will.
            if let Some(event) = self.withdrawn(worker) {
                self.tell(event);
            }
            self.words.remove(&worker);
        }
        self.tell(event);
    }

    /// The router performs an assignment.
    pub(super) fn hand_over(&mut self, worker: WorkerId, job: Queued) {
        let token = job.token;
        self.words.entry(worker).or_default().last = job.number;
        let open = self.links.get(&worker).is_some_and(|link| link.open);
        let refused =
            if open { self.random.percent(self.faults.undelivered) } else { self.random.percent(50) };
        if refused {
            self.at_once.push_back(Event::Undelivered { worker, token });
        } else {
            self.send_down(worker, Order::Job(job));
        }
    }

    pub(super) fn left_behind(&self, peer: PeerId) -> Vec<WorkerId> {
        let open = self.links.iter().filter(|(_, link)| link.peer == peer && link.open);
        open.map(|(worker, _)| *worker).collect()
    }

    pub(super) fn close_link(&mut self, worker: WorkerId) {
        self.send_up(worker, Event::WorkerLeft { worker });
    }

    /// The worker's end is closed: what it has sent still arrives.
    pub(super) fn close(&mut self, peer: PeerId) {
        let Some(process) = self.peers.get_mut(&peer) else { return };
        if let Some(worker) = process.connection.take() {
            self.send_up(worker, Event::WorkerLeft { worker });
        }
    }

    pub(super) fn disconnect(&mut self, peer: PeerId) {
        if self.random.percent(self.faults.reopen) {
            self.leave_open(peer);
        }
        self.close(peer);
        if let Some(process) = self.peers.get_mut(&peer)
            && process.booted
        {
            process.jobs.clear();
            process.queue.clear();
            let pause = self.random.millis(1, 1500);
            self.enter(pause, Happening::Connect { peer });
        }
    }

    /// A connection that the worker has left behind, and that ends later or never.
    fn leave_open(&mut self, peer: PeerId) {
        let Some(worker) = self.peers.get_mut(&peer).and_then(|process| process.connection.take()) else {
            return;
        };
        if self.random.percent(50) {
            let pause = self.random.millis(0, 5000);
            self.enter(pause, Happening::Close { worker });
        }
    }

    /// The router has died: whoever notices connects to the next one.
    pub(super) fn connection_lost(&mut self, worker: WorkerId) {
        let Some((peer, process)) = self.peers.iter_mut().find(|(_, peer)| peer.connection == Some(worker))
        else {
            return;
        };
        process.connection = None;
        let peer = *peer;
        self.outlive(peer, worker);
        let pause = self.random.millis(10, 30);
        self.enter(pause, Happening::Connect { peer });
    }
}

/// Words.
impl World {
    fn say_waiting(&mut self, peer: PeerId) {
        let Some(process) = self.peers.get_mut(&peer) else { return };
        if process.leaving || process.dismissed {
            return;
        }
        if !process.claims
            && let Kind::Native { credits } = &mut process.kind
            && self.random.percent(self.faults.moody)
        {
            // What is on its way was sent to who took more.
            process.promised = process.promised.max(*credits as usize);
            *credits = self.random.between(1, 4);
        }
        let speech = process.speech();
        if let Some(worker) = process.connection {
            self.send_up(worker, Event::Waiting { worker, speech });
        }
    }

    pub(super) fn say_exiting(&mut self, peer: PeerId) {
        let denies = self.denies_all(peer);
        let Some(process) = self.peers.get_mut(&peer).filter(|process| process.booted && !process.halted)
        else {
            return;
        };
        let Some(worker) = process.connection.filter(|_| !process.leaving) else { return };
        process.leaving = true;
        process.jobs.clear();
        process.queue.clear();
        if denies {
            process.seen = 0;
        }
        let speech = process.speech();
        let ending = self.random.percent(40).then(|| self.draw_ending());
        self.send_up(worker, Event::Exiting { worker, speech, reason: None, ending });
        if !self.random.percent(self.faults.silence) {
            let pause = self.random.millis(0, 100);
            self.enter(pause, Happening::Quit { peer });
        }
    }

    pub(super) fn repeat(&mut self, peer: PeerId) {
        let Some(process) = self.peers.get(&peer) else { return };
        let idle = process.jobs.is_empty() && !process.halted;
        if self.random.percent(self.faults.repeat) {
            if idle {
                self.say_waiting(peer);
            }
            let pause = self.random.millis(2, 300);
            self.enter(pause, Happening::Repeat { peer });
        }
    }

    pub(super) fn booted(&mut self, peer: PeerId) {
        let Some(process) = self.peers.get(&peer) else { return };
        if process.halted {
            return self.enter(LATER, Happening::Booted { peer });
        }
        self.connect(peer);
    }

    pub(super) fn quit(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|process| process.halted) {
            return self.enter(LATER, Happening::Quit { peer });
        }
        let code = i32::from(self.random.percent(50));
        self.end(peer, Ending::Code(code));
    }

    /// Told to leave: at once if it is free, else when it is.
    pub(super) fn dismiss(&mut self, peer: PeerId) {
        let Some(process) = self.peers.get_mut(&peer) else { return };
        process.dismissed = true;
        if process.jobs.is_empty() {
            let announces = self.random.percent(50);
            if announces {
                self.say_exiting(peer);
            }
            let pause = self.random.millis(0, 50);
            self.enter(pause, Happening::Quit { peer });
        }
    }
}

/// Jobs.
impl World {
    pub(super) fn deliver(&mut self, worker: WorkerId, order: Order) {
        let Some((peer, open)) = self.links.get(&worker).map(|link| (link.peer, link.open)) else { return };
        let Some(process) =
            self.peers.get_mut(&peer).filter(|process| open && process.connection == Some(worker))
        else {
            return;
        };
        if process.halted {
            return process.unread.push((worker, order));
        }
        let native = process.is_native();
        match order {
            Order::Stop if process.deaf => (),
            Order::Stop => {
                assert!(native, "seed {}: a plain worker is told to stop", self.seed);
                self.dismiss(peer);
            }
            Order::Cancel { token } => {
                assert!(native, "seed {}: a plain worker is told to cancel", self.seed);
                if !process.deaf && process.jobs.contains_key(&token) {
                    self.reply(peer, token, ReplyStatus::Error);
                }
            }
            Order::More { token, parts } => {
                assert!(native, "seed {}: a plain worker is told of parts", self.seed);
                self.allow_parts(token, parts);
            }
            Order::Job(job) => {
                process.seen += 1;
                if process.leaving {
                    return;
                }
                process.queue.push_back(job);
                let all = process.jobs.len() + process.queue.len();
                // What was taken back is dropped when its turn has come.
                let ahead = if process.claims { 2 * MAX_AHEAD } else { 0 };
                let fits = all <= process.promised.max(process.credits()) + ahead;
                assert!(fits, "seed {} step {}: {worker} has too much in hand", self.seed, self.model.step);
                if !process.claims || process.jobs.is_empty() {
                    self.begin_next(peer, worker);
                }
            }
        }
    }

    pub(super) fn begin(&mut self, peer: PeerId, worker: WorkerId, job: Queued) {
        let Queued { token, window, body, attempt, .. } = job;
        if body.request == PROBE {
            if self.random.percent(self.faults.bad_probe) {
                return self.fail_probe(peer, worker, token);
            }
        } else {
            self.count_run(body, attempt);
        }
        if self.random.percent(self.faults.growth) {
            let growth = self.random.below(120);
            self.peers.entry(peer).and_modify(|process| process.memory += growth);
        }
        if self.random.percent(30)
            && let Some(process) = self.peers.get(&peer)
        {
            let speech = process.speech();
            self.send_up(worker, Event::Processing { worker, speech });
        }
        if self.begins_parts(peer, worker, token, window) {
            return;
        }
        if self.random.percent(self.faults.hang) {
            return;
        }
        let time = self.faults.job_time(&mut self.random, self.calm);
        self.enter(time, Happening::Done { peer, token });
    }

    fn fail_probe(&mut self, peer: PeerId, worker: WorkerId, token: Token) {
        match self.random.below(4) {
            0 => (),
            1 => self.end(peer, Ending::Signal(11)),
            2 => self.reply(peer, token, ReplyStatus::Error),
            _ => {
                if let Some(process) = self.peers.get_mut(&peer) {
                    process.jobs.clear();
                    process.queue.clear();
                }
                self.send_up(worker, Event::Malformed { worker });
            }
        }
    }

    fn count_run(&mut self, body: Body, attempt: u32) {
        let runs = self.runs.entry(body.request).or_insert(0);
        *runs += 1;
        // Known as such by its router, or not at all.
        let told = *runs <= attempt;
        assert!(
            told,
            "seed {} step {}: {} runs {runs} times, in attempt {attempt}",
            self.seed, self.model.step, body.request
        );
        let limit = self.model.eras.iter().map(|settings| settings.attempts).max().unwrap_or(1).max(1);
        assert!(
            *runs <= limit,
            "seed {} step {}: {} runs too often",
            self.seed,
            self.model.step,
            body.request
        );
    }

    pub(super) fn done(&mut self, peer: PeerId, token: Token) {
        let Some(process) = self.peers.get_mut(&peer).filter(|process| process.jobs.contains_key(&token))
        else {
            return;
        };
        if process.halted {
            return self.enter(LATER, Happening::Done { peer, token });
        }
        let native = process.is_native();
        let poisonous = process.jobs.get(&token).is_some_and(|body| self.poisonous.contains(&body.request));
        if poisonous || self.random.percent(self.faults.death) {
            let ending = self.draw_ending();
            let by_others = !poisonous && self.random.percent(30);
            return self.end(peer, if by_others { Ending::Signal(9) } else { ending });
        }
        if self.random.percent(self.faults.exit_in_hand) {
            return self.say_exiting(peer);
        }
        if self.random.percent(self.faults.lose) {
            return self.lose(peer);
        }
        if self.random.percent(self.faults.malformed) {
            process.jobs.clear();
            process.queue.clear();
            if let Some(worker) = process.connection {
                self.send_up(worker, Event::Malformed { worker });
                self.say_waiting(peer);
            }
            return;
        }
        let status =
            match (native, self.random.percent(self.faults.error), self.random.percent(self.faults.retry)) {
                (true, true, _) => ReplyStatus::Error,
                (true, false, true) => ReplyStatus::Retry,
                _ => ReplyStatus::Ok,
            };
        self.reply(peer, token, status);
    }

    /// It forgets what it does, and is ready for more.
    fn lose(&mut self, peer: PeerId) {
        let Some(process) = self.peers.get_mut(&peer) else { return };
        process.jobs.clear();
        process.queue.clear();
        if process.dismissed {
            return self.dismiss(peer);
        }
        let (speech, native) = (process.speech(), process.is_native());
        if let Some(worker) = process.connection
            && !native
        {
            // Else the broker could not know.
            self.send_up(worker, Event::Processing { worker, speech });
        }
        self.say_waiting(peer);
    }

    fn reply(&mut self, peer: PeerId, token: Token, status: ReplyStatus) {
        let Some(process) = self.peers.get_mut(&peer) else { return };
        let Some(body) = process.jobs.remove(&token) else { return };
        let (kind, dismissed, idle) = (process.kind, process.dismissed, process.jobs.is_empty());
        let reconnected = idle && std::mem::take(&mut process.reconnected);
        let Some(worker) = process.connection else { return };
        if self.random.percent(self.faults.forge) {
            let request = RequestId(self.random.below(self.names + 1));
            let forged = if self.random.percent(50) { self.token_of_another(peer) } else { Token::new(0, 1) };
            self.send_reply(worker, forged, ReplyStatus::Ok, request);
        }
        self.send_reply(worker, token, status, body.request);
        self.late_part(worker, token);
        if self.random.percent(self.faults.double) {
            self.send_reply(worker, token, status, RequestId(0));
        }
        if self.random.percent(self.faults.death_after_reply) {
            return self.end(peer, Ending::Code(0));
        }
        if idle && self.peers.get(&peer).is_some_and(|process| process.claims) {
            self.begin_next(peer, worker);
            if self.peers.get(&peer).is_none_or(|process| !process.jobs.is_empty()) {
                return;
            }
        }
        if dismissed {
            return self.dismiss(peer);
        }
        match kind {
            Kind::Plain => self.say_waiting(peer),
            // A router that does not know this reply takes it for no sign of readiness.
            Kind::Native { .. } if idle && (reconnected || self.random.percent(50)) => self.say_waiting(peer),
            Kind::Native { .. } | Kind::Pirate => (),
        }
    }

    fn send_reply(&mut self, worker: WorkerId, token: Token, status: ReplyStatus, request: RequestId) {
        let number = self.name();
        let (body, size) = (Body { request, number }, 1);
        if token == Token::new(0, 1) && self.random.percent(50) {
            return self.send_up(worker, Event::StrayReply { worker });
        }
        self.send_up(worker, Event::Reply { worker, token, status, message: None, size, body });
    }

    /// A token of another worker, as a forger could have overheard it.
    fn token_of_another(&mut self, peer: PeerId) -> Token {
        let others = self.peers.iter().filter(|(id, _)| **id != peer);
        let tokens: Vec<Token> = others.flat_map(|(_, peer)| peer.jobs.keys().copied()).collect();
        let index = usize::try_from(self.random.below(tokens.len() as u64)).unwrap_or(0);
        tokens.get(index).copied().unwrap_or(Token::new(0, 1))
    }

    /// What hung is done at last, and nobody is stopped any more.
    pub(super) fn settle_peers(&mut self) {
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.go_on(peer);
            let connection = self.peers.get(&peer).and_then(|peer| peer.connection);
            for worker in self.left_behind(peer).into_iter().filter(|worker| Some(*worker) != connection) {
                self.close_link(worker);
            }
            if self.peers.get(&peer).is_some_and(|peer| peer.leaving || peer.dismissed) {
                self.enter(LATER, Happening::Quit { peer });
            }
            let tokens = self.peers.get(&peer).map(|peer| peer.jobs.keys().copied().collect::<Vec<_>>());
            for token in tokens.unwrap_or_default() {
                self.enter(LATER, Happening::Done { peer, token });
            }
        }
    }
}
