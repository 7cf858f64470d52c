//! Which molds there are: one for each generation of a recipe that has one, started when its
//! first worker is wanted, closed when its generation has gone. To the router a worker of a
//! mold is like any other.

use std::os::fd::AsFd;
use std::time::Duration;

use hornpipe_proto::mold::{ForkOrder, MoldOrder, MoldWord};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal as Number;
use nix::unistd::{Pid, pipe2};
use tracing::{debug, error, info, warn};

use crate::link::{Ending, ExitStatus, Place, ToRouter};
use crate::parent::children::Worker;
use crate::parent::mold::{Heard, Measuring, Mold, Ordered, Plan, Stage};
use crate::parent::output::Output;
use crate::parent::process::Remains;
use crate::parent::{Program, Saved, WorkerProcess, clock, gate, process};

use super::Parent;

/// What a mold says in one turn.
const WORDS_PER_TURN: usize = 64;
/// What is saved is looked at when the first workers have come to rest.
const REST: Duration = Duration::from_millis(500);
/// A mold that was ready and ends sooner is started again only when a worker is wanted.
const HEALTHY: Duration = Duration::from_secs(1);

impl Parent<'_> {
    /// Whether workers of this recipe and generation come from a mold.
    pub(super) fn has_mold(&mut self, recipe: u32, generation: u32) -> bool {
        let recipes = usize::try_from(recipe).ok().and_then(|number| self.recipes.get_mut(number));
        recipes.is_some_and(|recipes| recipes.of(generation).molded)
    }

    /// Lets the mold make a worker, as soon as it can.
    pub(super) fn cast(&mut self, place: Place, generation: u32, recipe: u32) {
        let recipe = usize::try_from(recipe).unwrap_or(usize::MAX);
        if self.molds.find(recipe, generation).is_none()
            && let Err(why) = self.start_mold(recipe, generation)
        {
            debug!(slot = place.slot, incarnation = place.incarnation, why, "mold not started");
            return self.tell(ToRouter::NotStarted { place, why });
        }
        if let Some(mold) = self.molds.find(recipe, generation) {
            mold.waiting.push_back(place);
            let pid = mold.pid;
            self.pour(pid);
        }
    }

    fn start_mold(&mut self, number: usize, generation: u32) -> Result<(), String> {
        let recipe = self.recipes.get_mut(number).map(|recipes| recipes.of(generation).clone());
        let recipe = recipe.ok_or("there is no program")?;
        let program = recipe.program.borrow();
        let Program::Exec { argv } = &*program else { return Err("there is no program".to_owned()) };
        let mold = Mold::start(&Plan {
            recipe: number,
            generation,
            service: &recipe.service,
            argv,
            identity: &self.setup.identity,
            conditions: &recipe.conditions,
            environment: &recipe.environment,
            parent: self.pid,
        })?;
        info!(generation, pid = mold.pid.as_raw(), service = recipe.service, "mold started");
        self.molds.insert(mold);
        Ok(())
    }

    /// Gives the mold as many orders as it takes.
    fn pour(&mut self, pid: Pid) {
        loop {
            let Some(mold) = self.molds.of(pid).filter(|mold| mold.has_room()) else { return };
            let (recipe, generation) = (mold.recipe, mold.generation);
            let Some(place) = mold.waiting.pop_front() else { return };
            let Some(service) = self.recipes.get(recipe).map(|recipes| recipes.serving().service.clone())
            else {
                return;
            };
            if let Err(errno) = self.order_worker(pid, place, (service, generation)) {
                let why = errno.desc().to_lowercase();
                self.tell(ToRouter::NotStarted { place, why });
            }
        }
    }

    fn order_worker(
        &mut self,
        pid: Pid,
        place: Place,
        (service, generation): (String, u32),
    ) -> nix::Result<()> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (gate, threshold) = gate::pair()?;
        let backend = self.setup.worker_backend.clone();
        let worker = WorkerProcess { place, service: service.clone(), generation, backend: backend.clone() };
        (self.setup.before_fork)(&worker);
        let number = self.molds.next_number();
        let Place { slot, incarnation } = place;
        let order = MoldOrder::Fork(ForkOrder { number, backend, service, slot, incarnation, generation });
        let mold = self.molds.of(pid).ok_or(Errno::ESRCH)?;
        mold.order(&order, &[theirs.as_fd(), threshold.as_fd()])?;
        mold.note_ordered(number, Ordered { place, gate, output: ours }, clock::now());
        Ok(())
    }

    /// Hears all of them. Before a child is taken for a stranger.
    pub(super) fn hear_molds(&mut self) {
        for pid in self.molds.pids() {
            self.hear_mold(pid);
        }
    }

    /// Takes what a mold has said.
    pub(super) fn hear_mold(&mut self, pid: Pid) {
        for _word in 0..WORDS_PER_TURN {
            let Some(mold) = self.molds.of(pid) else { return };
            match mold.receive(clock::now()) {
                Heard::Word(word) => self.take_word(pid, word),
                Heard::Empty => return,
                Heard::Closed => return mold.hang_up(clock::now()),
                Heard::Unreadable(why) => {
                    error!(pid = pid.as_raw(), why, "mold cannot be understood, killing it");
                    mold.kill();
                    return;
                }
            }
        }
    }

    fn take_word(&mut self, pid: Pid, word: MoldWord) {
        let Some(mold) = self.molds.of(pid) else { return };
        match word {
            MoldWord::Ready { version: 1, sdk } => {
                if mold.stage == Stage::Loading {
                    info!(generation = mold.generation, pid = pid.as_raw(), sdk, "mold ready");
                    mold.stage = Stage::Ready { since: clock::now() };
                }
            }
            MoldWord::Ready { version, .. } => {
                error!(pid = pid.as_raw(), version, "mold speaks another version of the protocol than 1");
                mold.kill();
            }
            MoldWord::Forked { number, pid: worker } => {
                // Of a place that is wanted no more, if it is not among the ordered: that
                // process finds its gate gone.
                if let Some(Some(ordered)) = mold.ordered.remove(&number) {
                    self.admit(pid, worker, ordered);
                }
            }
            MoldWord::Failed { number, why } => {
                if let Some(Some(Ordered { place, .. })) = mold.ordered.remove(&number) {
                    debug!(slot = place.slot, incarnation = place.incarnation, why, "worker not started");
                    self.tell(ToRouter::NotStarted { place, why });
                }
            }
            MoldWord::Measured { shared_kib, private_kib, alone_kib, .. } => {
                self.tell_saved(pid, shared_kib, private_kib, alone_kib);
            }
        }
        self.pour(pid);
        if let Some(mold) = self.molds.of(pid)
            && mold.measuring == Measuring::NotYet
            && matches!(mold.stage, Stage::Ready { .. })
            && mold.waiting.is_empty()
            && mold.ordered.is_empty()
        {
            mold.measuring = Measuring::Due { at: clock::now().saturating_add(REST) };
        }
    }

    /// A worker is there: from here on it is like any other.
    fn admit(&mut self, mold: Pid, worker: i32, ordered: Ordered) {
        let Some(Mold { recipe, generation, .. }) = self.molds.of(mold) else { return };
        let (recipe, generation) = (*recipe, *generation);
        let Ordered { place, gate, output } = ordered;
        let Place { slot, incarnation } = place;
        let remains = self.molds.take_unknown(worker);
        let pid = Pid::from_raw(worker);
        let is_taken = worker <= 1
            || self.children.is_known(pid)
            || self.molds.is_running(pid)
            || self.hooks.is_running(pid)
            || self.http.is_running(pid)
            || self.router.as_ref().is_some_and(|router| router.pid == pid);
        if let Some(Remains { status, cpu_ms, max_rss_kib }) = remains {
            debug!(slot, incarnation, pid = worker, %status, "worker ended while it was forked");
            let ending = Ending { status, cpu_ms, max_rss_kib, last_lines: Vec::new() };
            return self.tell(ToRouter::Exited { place, ending });
        }
        if is_taken || !process::is_child(pid) {
            error!(
                slot,
                incarnation,
                pid = worker,
                "mold calls a worker what is none of our children, killing it"
            );
            if let Some(mold) = self.molds.of(mold) {
                mold.kill();
            }
            let why = "the mold has not made a child of the parent".to_owned();
            return self.tell(ToRouter::NotStarted { place, why });
        }
        // The worker does this too, but may not have come so far.
        nix::unistd::setpgid(pid, pid).ok();
        let service = self.recipes.get(recipe).map(|recipes| recipes.serving().service.clone());
        let (halted, is_killed) = (false, false);
        debug!(slot, incarnation, generation, pid = worker, "worker forked by its mold");
        let worker_process = Worker {
            place,
            service: service.unwrap_or_default(),
            generation,
            started_at: clock::now(),
            gate,
            output: Output::new(output),
            halted,
            is_killed,
        };
        self.children.insert(pid, worker_process);
        self.tell_and_release(ToRouter::Started { place, pid: worker }, Some(worker));
    }

    /// Reaps a mold that has ended. Its workers live on.
    pub(super) fn bury_mold(&mut self, pid: Pid) {
        // What it has said before it ended counts.
        self.hear_mold(pid);
        let Some(mold) = self.molds.remove(pid) else { return };
        mold.kill();
        let Some(remains) = process::reap(pid) else { return };
        let Mold { recipe, generation, stage, .. } = mold;
        let places: Vec<Place> = mold.places().collect();
        let (never_ran, last_lines) = mold.finish();
        if self.ending.is_some() {
            return;
        }
        let status = never_ran.unwrap_or_else(|| self.out_of_memory.explain(remains.status));
        match stage {
            Stage::Closing => debug!(generation, pid = pid.as_raw(), %status, "mold ended"),
            Stage::Loading => {
                // Said with the last words of the worker that it was to make.
                debug!(generation, pid = pid.as_raw(), %status, "mold did not get ready");
                self.give_up_places(places, &status, &last_lines);
            }
            Stage::Ready { since } => {
                warn!(generation, pid = pid.as_raw(), %status, "mold died, and its workers live on");
                let lived = clock::now().saturating_sub(since);
                self.replace_mold((recipe, generation), lived, places, (status, last_lines));
            }
        }
    }

    fn replace_mold(
        &mut self,
        (recipe, generation): (usize, u32),
        lived: Duration,
        places: Vec<Place>,
        (status, last_lines): (ExitStatus, Vec<String>),
    ) {
        if lived < HEALTHY {
            return self.give_up_places(places, &status, &last_lines);
        }
        let is_wanted = self.molds.serves(recipe, generation) && !self.stop.has_begun;
        if !is_wanted && places.is_empty() {
            return;
        }
        match self.start_mold(recipe, generation) {
            Ok(()) => {
                if let Some(mold) = self.molds.find(recipe, generation) {
                    mold.measuring = Measuring::Done;
                    mold.waiting.extend(places);
                }
            }
            Err(why) => {
                warn!(why, "mold not started: it is tried again when a worker is wanted");
                for place in places {
                    self.tell(ToRouter::NotStarted { place, why: why.clone() });
                }
            }
        }
    }

    fn give_up_places(&mut self, places: Vec<Place>, status: &ExitStatus, last_lines: &[String]) {
        if places.is_empty() {
            warn!(%status, ?last_lines, "mold ended, and nobody waited for it");
        }
        for place in places {
            let (status, last_lines) = (status.clone(), last_lines.to_vec());
            let ending = Ending { status, cpu_ms: 0, max_rss_kib: 0, last_lines };
            self.tell(ToRouter::Exited { place, ending });
        }
    }

    /// A worker that was not there yet is to end. False if there is none such.
    pub(super) fn withdraw(&mut self, place: Place, number: Number) -> bool {
        let Some(withdrawn) = self.molds.withdraw(place, clock::now()) else { return false };
        if let Some(mold) = withdrawn.hangs.and_then(|pid| self.molds.of(pid)) {
            warn!(pid = mold.pid.as_raw(), "mold does not fork in time, killing it");
            mold.kill();
        }
        let (status, last_lines) = (ExitStatus::Signal(number as i32), withdrawn.last_lines);
        let ending = Ending { status, cpu_ms: 0, max_rss_kib: 0, last_lines };
        self.tell(ToRouter::Exited { place, ending });
        true
    }

    /// Closes the molds of generations that serve no more and have no workers.
    pub(super) fn close_molds(&mut self) {
        for pid in self.molds.pids() {
            let Some(mold) = self.molds.of(pid) else { continue };
            let (recipe, generation) = (mold.recipe, mold.generation);
            if mold.is_closing() || mold.places().next().is_some() || self.molds.serves(recipe, generation) {
                continue;
            }
            let service = self.recipes.get(recipe).map(|recipes| recipes.serving().service.as_str());
            let is_used = self.children.all().any(|(_pid, worker)| {
                worker.generation == generation && Some(worker.service.as_str()) == service
            });
            if is_used {
                continue;
            }
            if let Some(mold) = self.molds.of(pid) {
                debug!(generation, pid = pid.as_raw(), "mold closed");
                mold.close(clock::now());
            }
        }
    }

    pub(super) fn see_to_molds(&mut self, now: Duration) {
        for pid in self.molds.pids() {
            let Some(mold) = self.molds.of(pid) else { continue };
            mold.see_to_end(now);
            if mold.is_closing() || !matches!(mold.measuring, Measuring::Due { at } if at <= now) {
                continue;
            }
            mold.measuring = Measuring::Done;
            let generation = mold.generation;
            let pids = self.workers_of(pid, generation);
            let number = self.molds.next_number();
            let order = MoldOrder::Measure { number, pids };
            if let Some(mold) = self.molds.of(pid)
                && let Err(errno) = mold.order(&order, &[])
            {
                debug!(%errno, "mold not asked for its memory");
            }
        }
    }

    fn workers_of(&mut self, mold: Pid, generation: u32) -> Vec<i32> {
        let recipe = self.molds.of(mold).map(|mold| mold.recipe);
        let recipes = recipe.and_then(|recipe| self.recipes.get(recipe));
        let service = recipes.map(|recipes| recipes.serving().service.clone()).unwrap_or_default();
        let is_of = |worker: &Worker| worker.generation == generation && worker.service == service;
        // As many as fit into one packet.
        self.children.all().filter(|(_pid, worker)| is_of(worker)).map(|(pid, _)| pid).take(500).collect()
    }

    fn tell_saved(&mut self, mold: Pid, shared_kib: u64, private_kib: u64, alone_kib: u64) {
        let Some(generation) = self.molds.of(mold).map(|mold| mold.generation) else { return };
        let workers = self.workers_of(mold, generation).len();
        let saved = Saved { workers, shared_kib, private_kib, alone_kib };
        info!(generation, workers, shared_kib, private_kib, alone_kib, "memory shared by a mold");
        if std::mem::take(&mut self.tells_saved) {
            (self.setup.on_saved)(&saved);
        }
    }
}
