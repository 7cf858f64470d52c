//! The parent's loop. Each turn waits for something to happen, then sees to signals, dead
//! children, the router's orders, output and deadlines, each within a budget.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::unistd::{Pid, getpid, pipe2};
use tracing::{debug, error, info, warn};

use crate::link::{Ending, HookEvent, Link, Place, Received, Signal, ToParent, ToRouter, WorkerSignal};

use self::upgrade::{Asker, Upgrade};
use super::child::{self, WorkerChild};
use super::children::{Children, Worker};
use super::hooks::{Hooks, Variables};
use super::http::Http;
use super::journal::Journal;
use super::mold::Molds;
use super::out_of_memory::OutOfMemory;
use super::process::{self, Change, ChangeKind};
use super::recipes::{Recipe, Recipes};
use super::router_life::{Deaths, Flushed, Router, Unsent, Verdict};
use super::service_manager::{Pulse, ServiceManager};
use super::signals::{self, Signals, Taken};
use super::stop::Stop;
use super::{ParentError, Program, RouterProcess, Setup, WorkerProcess, clock, gate, threads};

mod molds;
mod news;
mod reread;
mod upgrade;

/// What killed processes have to be gone. Longer takes only what the kernel cannot kill.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// Orders per turn: a fork can take milliseconds, and a signal should not wait for a thousand.
const ORDERS_PER_TURN: usize = 16;
/// Changes of children per turn.
const CHANGES_PER_TURN: usize = 256;
/// The exit code where the pool could not end as it should.
const FAILURE: u8 = 1;

/// Runs the pool until it is done, and gives the exit code. The signals of this process
/// belong to it from here on, and stay blocked afterwards.
///
/// # Errors
/// [`ParentError`]; every child is dead by then.
pub fn run(mut setup: Setup, router: &mut dyn FnMut(RouterProcess) -> u8) -> Result<u8, ParentError> {
    let outcome = breed(&mut setup, router);
    setup.listeners.remove_files();
    outcome
}

fn breed(setup: &mut Setup, router: &mut dyn FnMut(RouterProcess) -> u8) -> Result<u8, ParentError> {
    threads::refuse()?;
    let system = |doing| move |source| ParentError::System { doing, source };
    let signals = Signals::take().map_err(system("take signals"))?;
    // Who loses his parent below us becomes our child: his process group is killed with
    // its worker, and nobody is left who could not be reaped.
    prctl::set_child_subreaper(true).map_err(system("become the reaper of orphans"))?;
    let hooks = Hooks::new(std::mem::take(&mut setup.hooks));
    let manager = ServiceManager::new(setup.supervision.as_ref(), getpid().as_raw());
    let recipes = setup.recipes.iter().cloned().map(Recipes::new).collect();
    let mut parent = Parent {
        setup,
        router_body: router,
        signals,
        pid: getpid(),
        started_at: clock::now(),
        children: Children::default(),
        hooks,
        http: Http::default(),
        molds: Molds::default(),
        tells_saved: true,
        recipes,
        out_of_memory: OutOfMemory::watch(),
        router: None,
        life: 1,
        deaths: Deaths::default(),
        start_router_at: None,
        unsent: Unsent::default(),
        blob: None,
        named_blobs: BTreeMap::new(),
        journal: None,
        is_ready: false,
        stop: Stop::default(),
        ending: None,
        is_reaping: false,
        upgrade: Upgrade::default(),
        manager,
    };
    if let Some(inherited) = parent.setup.inherited.take() {
        parent.inherit(inherited);
    } else {
        parent.journal = Journal::create();
        parent.start_router().map_err(system("start the router"))?;
    }
    parent.http.plan(clock::now());
    parent.serve()
}

struct Parent<'a> {
    setup: &'a mut Setup,
    router_body: &'a mut dyn FnMut(RouterProcess) -> u8,
    signals: Signals,
    pid: Pid,
    started_at: Duration,
    children: Children,
    hooks: Hooks,
    http: Http,
    molds: Molds,
    /// Nobody has been told yet what a mold saves.
    tells_saved: bool,
    /// In the order in which orders number them.
    recipes: Vec<Recipes>,
    out_of_memory: OutOfMemory,
    /// None between two lives.
    router: Option<Router>,
    life: u32,
    deaths: Deaths,
    start_router_at: Option<Duration>,
    unsent: Unsent,
    /// What routers ask to remember.
    blob: Option<Vec<u8>>,
    named_blobs: BTreeMap<String, Vec<u8>>,
    /// What routers write down for each other.
    journal: Option<Journal>,
    is_ready: bool,
    stop: Stop,
    /// Everything has been killed, and this comes when everything is reaped.
    ending: Option<FinalAct>,
    /// There may be more changes of children than the last turn saw.
    is_reaping: bool,
    upgrade: Upgrade,
    manager: ServiceManager,
}

#[derive(Debug)]
struct FinalAct {
    outcome: Result<u8, ParentError>,
    by: Duration,
}

/// What a turn found to do.
#[derive(Debug, Default)]
struct Readiness {
    link: bool,
    outputs: Vec<i32>,
}

impl Parent<'_> {
    fn serve(&mut self) -> Result<u8, ParentError> {
        loop {
            let readiness = match self.wait() {
                Ok(readiness) => readiness,
                Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOMEM) => Readiness::default(),
                Err(source) => {
                    self.end(Err(ParentError::System { doing: "wait for events", source }));
                    Readiness::default()
                }
            };
            self.take_signals();
            self.read_trial();
            self.take_changes();
            if readiness.link {
                self.take_orders();
            }
            self.flush();
            for pid in readiness.outputs {
                self.children.read_output(pid, &mut self.setup.output);
                self.hooks.read_output(pid);
                self.http.read_output(pid);
                self.molds.read_output(pid);
                self.hear_mold(Pid::from_raw(pid));
            }
            self.see_to_deadlines(clock::now());
            self.start_hooks();
            self.tell_manager(clock::now());
            if let Some(outcome) = self.take_outcome() {
                self.manager.part();
                return outcome;
            }
        }
    }

    /// How it ended, once everybody is gone, or should be.
    fn take_outcome(&mut self) -> Option<Result<u8, ParentError>> {
        let all_gone = self.router.is_none()
            && self.children.is_empty()
            && self.hooks.is_idle()
            && self.http.is_idle()
            && self.molds.is_idle();
        if let Some(act) = self.ending.take_if(|_act| all_gone) {
            return Some(act.outcome);
        }
        // The processes may hang in the kernel, but the parent's end makes them die
        // as soon as they can.
        let act = self.ending.take_if(|act| act.by <= clock::now())?;
        error!("killed processes do not go away, leaving them");
        Some(act.outcome)
    }

    /// Sleeps until something happens or is due.
    fn wait(&self) -> nix::Result<Readiness> {
        let timeout = self.timeout(clock::now());
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.upgrade.pipe().map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        let link = self.router.as_ref().filter(|router| router.kill_at.is_none()).map(|router| &router.link);
        let mut wanted = PollFlags::POLLIN;
        wanted.set(PollFlags::POLLOUT, !self.unsent.is_empty());
        polled.extend(link.map(|link| PollFd::new(link.as_fd(), wanted)));
        let first_output = polled.len();
        let (pids, pipes): (Vec<i32>, Vec<_>) =
            (self.children.pipes().chain(self.hooks.pipes()).chain(self.http.pipe()))
                .chain(self.molds.pipes())
                .unzip();
        polled.extend(pipes.into_iter().map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        poll(&mut polled, timeout)?;
        let has_news = |descriptor: &PollFd<'_>| descriptor.any().unwrap_or(true);
        let (known, outputs) = polled.split_at(first_output);
        Ok(Readiness {
            link: link.is_some() && known.last().is_some_and(has_news),
            outputs: pids
                .into_iter()
                .zip(outputs)
                .filter(|(_pid, pipe)| has_news(pipe))
                .map(|(pid, _)| pid)
                .collect(),
        })
    }

    fn timeout(&self, now: Duration) -> PollTimeout {
        if self.is_reaping {
            return PollTimeout::ZERO;
        }
        let due = [
            self.start_router_at,
            self.stop.deadline,
            self.upgrade.deadline(),
            self.router.as_ref().and_then(|router| router.kill_at),
            self.ending.as_ref().map(|act| act.by),
            self.hooks.next_deadline(),
            self.manager.next_deadline(),
            self.http.next_deadline(),
            self.molds.next_deadline(),
        ];
        let Some(next) = due.into_iter().flatten().min() else { return PollTimeout::NONE };
        // Rounded up, or the last millisecond would be spent in a busy loop.
        let wait = next.saturating_sub(now).as_micros().div_ceil(1000);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }

    fn take_signals(&mut self) {
        while let Some(taken) = self.signals.next() {
            match taken {
                Taken::Child => self.is_reaping = true,
                Taken::Signal(signal) => self.take_signal(signal),
            }
        }
    }

    fn take_signal(&mut self, mut signal: Signal) {
        if self.ending.is_some() {
            return;
        }
        info!(%signal, "signal received");
        match signal {
            Signal::Term | Signal::Int => self.stop.request(self.setup.drain, clock::now()),
            Signal::Quit => self.stop.begin(),
            Signal::Usr1 => (self.setup.on_reopen)(),
            Signal::Usr2 => return self.begin_upgrade(Asker::Signal),
            Signal::Hup => signal = self.read_settings_again(),
            Signal::Ttin | Signal::Ttou => {}
        }
        if self.router.is_none() && self.stop.has_begun {
            error!("a stop was asked for and there is no router, so the workers are killed");
            return self.end(Ok(FAILURE));
        }
        if !self.upgrade.puts_off(signal) {
            self.tell(ToRouter::Signal(signal));
        }
        self.expect_reload(signal);
    }

    fn take_changes(&mut self) {
        if !self.is_reaping {
            return;
        }
        for _change in 0..CHANGES_PER_TURN {
            let Some(Change { pid, kind }) = process::peek() else {
                self.is_reaping = false;
                return;
            };
            match kind {
                ChangeKind::Ended => self.bury(pid),
                ChangeKind::Halted => self.note_halt(pid, Halt::Halted),
                ChangeKind::Continued => self.note_halt(pid, Halt::Continued),
            }
        }
    }

    fn note_halt(&mut self, pid: Pid, halt: Halt) {
        process::acknowledge(pid);
        let Some(place) = self.children.set_halted(pid, halt == Halt::Halted) else { return };
        let Place { slot, incarnation } = place;
        match halt {
            Halt::Halted => {
                warn!(slot, incarnation, pid = pid.as_raw(), "worker was stopped by somebody");
                self.tell(ToRouter::Halted { place });
            }
            Halt::Continued => {
                info!(slot, incarnation, pid = pid.as_raw(), "worker continues");
                self.tell(ToRouter::Continued { place });
            }
        }
    }

    /// Reaps a child that has ended, whoever it was.
    fn bury(&mut self, pid: Pid) {
        if let Some(router) = self.router.take_if(|router| router.pid == pid) {
            self.bury_router(router);
        } else if let Some(worker) = self.children.remove(pid) {
            self.bury_worker(pid, worker);
        } else if self.hooks.is_running(pid) {
            self.hooks.bury(pid);
            self.tell(ToRouter::HookEnded { pid: pid.as_raw() });
        } else if self.http.is_running(pid) {
            self.http.bury(pid, clock::now());
        } else if self.molds.is_running(pid) {
            self.bury_mold(pid);
        } else if !self.bury_trial(pid) {
            self.bury_stranger(pid);
        }
    }

    /// Somebody below us lost his parent, and is not counted; or a mold has forked him and had
    /// no time to say so.
    fn bury_stranger(&mut self, pid: Pid) {
        if self.molds.is_expecting() {
            self.hear_molds();
        }
        if let Some(worker) = self.children.remove(pid) {
            self.bury_worker(pid, worker);
        } else if let Some(remains) = process::reap(pid) {
            self.molds.keep_unknown(pid, remains);
        }
    }

    fn bury_worker(&mut self, pid: Pid, worker: Worker) {
        // While the leader is not reaped its number names its group and nobody else's.
        nix::sys::signal::killpg(pid, signals::number(WorkerSignal::Kill)).ok();
        let Some(remains) = process::reap(pid) else { return };
        let place @ Place { slot, incarnation } = worker.place;
        let (service, generation, is_killed) = (worker.service.clone(), worker.generation, worker.is_killed);
        let output = &mut self.setup.output;
        let (never_ran, last_lines) = worker.finish(&mut |line| output(place, pid.as_raw(), line));
        let mut status = never_ran.unwrap_or(remains.status);
        if !is_killed {
            status = self.out_of_memory.explain(status);
        }
        let backend = self.setup.worker_backend.clone();
        let process = WorkerProcess { place, service, generation, backend };
        (self.setup.on_worker_exit)(&process, pid.as_raw(), &status);
        debug!(slot, incarnation, pid = pid.as_raw(), %status, "worker reaped");
        let ending = Ending { status, cpu_ms: remains.cpu_ms, max_rss_kib: remains.max_rss_kib, last_lines };
        self.tell(ToRouter::Exited { place, ending });
        self.close_molds();
    }

    fn bury_router(&mut self, mut router: Router) {
        let Some(remains) = process::reap(router.pid) else { return };
        let mut status = remains.status;
        if router.kill_at.is_none() {
            status = self.out_of_memory.explain(status);
        }
        // What it said last still counts.
        while let Ok(Received::Message(order)) = router.link.receive() {
            self.obey_the_dead(order);
        }
        let unsent = std::mem::take(&mut self.unsent);
        self.unsent = unsent.give_up(&mut |pid| self.children.release(pid));
        self.molds.forget_orders();
        if self.ending.is_some() {
            return;
        }
        if let Some(code) = self.stop.finished {
            info!(code, "pool finished");
            return self.end(Ok(code));
        }
        if self.follow_handover() {
            return;
        }
        if self.stop.has_begun {
            error!(%status, "router died while the pool was stopping, so the workers are killed");
            return self.end(Ok(FAILURE));
        }
        error!(pid = router.pid.as_raw(), life = self.life, %status, "router died");
        self.plan_another_life(&status, clock::now().saturating_sub(router.started_at));
    }

    fn plan_another_life(&mut self, ending: &dyn std::fmt::Display, lived: Duration) {
        self.life = self.life.saturating_add(1);
        match self.deaths.record(lived, clock::now()) {
            Verdict::StartAt(at) => self.start_router_at = Some(at),
            Verdict::GiveUp { deaths } => {
                self.end(Err(ParentError::RouterKeepsDying { deaths, ending: ending.to_string() }));
            }
        }
    }

    fn take_orders(&mut self) {
        for _order in 0..ORDERS_PER_TURN {
            let Some(router) = &mut self.router else { return };
            match router.link.receive() {
                Ok(Received::Message(order)) => self.obey(order),
                Ok(Received::Empty) => return,
                Ok(Received::Closed) => return router.hang_up(clock::now()),
                Err(errno) => {
                    error!(%errno, "router cannot be understood, killing it");
                    router.kill();
                    return router.hang_up(clock::now());
                }
            }
        }
    }

    fn obey(&mut self, order: ToParent) {
        match order {
            ToParent::Spawn { place, generation, recipe } => self.spawn(place, generation, recipe),
            ToParent::Signal { place, signal } => {
                let number = signals::number(signal);
                if !self.children.signal(place, number) && !self.withdraw(place, number) {
                    debug!(
                        slot = place.slot,
                        incarnation = place.incarnation,
                        "worker to be signalled is gone"
                    );
                }
            }
            ToParent::Remember { name: None, blob } => self.blob = Some(blob),
            ToParent::Remember { name: Some(name), blob } => {
                self.named_blobs.insert(name, blob);
            }
            ToParent::Ready => {
                self.upgrade.note_ready();
                if !std::mem::replace(&mut self.is_ready, true) {
                    (self.setup.on_ready)();
                }
            }
            ToParent::Lines { place } => {
                let lines = self.children.last_lines(place, &mut self.setup.output);
                self.tell(ToRouter::Lines { place, lines });
            }
            ToParent::RunHook { event, variables } => self.run_hooks(event, variables),
            ToParent::Stopping { within_ms: None } => self.stop.begin(),
            ToParent::Stopping { within_ms: Some(milliseconds) } => {
                self.stop.estimate(Duration::from_millis(milliseconds), clock::now());
            }
            ToParent::Pulse { number, is_reloading, sentence } => {
                self.take_pulse(&Pulse { number, is_reloading, sentence });
            }
            ToParent::Upgrade => self.begin_upgrade(Asker::Operator),
            ToParent::Settled { recipe, generation } => {
                let recipes = usize::try_from(recipe).ok().and_then(|number| self.recipes.get_mut(number));
                if let Some(recipes) = recipes {
                    recipes.settle(generation);
                }
                self.molds.settle(usize::try_from(recipe).unwrap_or(usize::MAX), generation);
                self.close_molds();
            }
            ToParent::HandedOver => self.note_handed_over(),
            ToParent::Finished { exit_code } => self.stop.finish(exit_code, clock::now()),
        }
    }

    /// What a dead router asked of the workers, its successor decides anew.
    fn obey_the_dead(&mut self, order: ToParent) {
        match order {
            ToParent::Spawn { .. }
            | ToParent::Signal { .. }
            | ToParent::Lines { .. }
            | ToParent::Pulse { .. }
            | ToParent::Upgrade => {}
            ToParent::Remember { .. }
            | ToParent::Ready
            | ToParent::RunHook { .. }
            | ToParent::Stopping { .. }
            | ToParent::Settled { .. }
            | ToParent::HandedOver
            | ToParent::Finished { .. } => {
                self.obey(order);
            }
        }
    }

    fn run_hooks(&mut self, event: HookEvent, variables: Vec<(String, String)>) {
        let variables: Variables =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.hooks.happened(event, &variables, clock::now());
    }

    /// As many as there is room for. The router is told, because it ends them if the parent dies.
    fn start_hooks(&mut self) {
        let nothing = Vec::new();
        loop {
            let first = self.recipes.first();
            let environment = first.map_or(&nothing, |recipes| &recipes.serving().environment);
            let Some(pid) = self.hooks.start_next(&self.setup.identity, environment, self.pid, clock::now())
            else {
                return;
            };
            self.tell(ToRouter::HookStarted { pid: pid.as_raw() });
        }
    }

    fn spawn(&mut self, place: Place, generation: u32, recipe: u32) {
        if self.ending.is_some() {
            return;
        }
        let Place { slot, incarnation } = place;
        if self.has_mold(recipe, generation) && self.children.is_free(place) {
            return self.cast(place, generation, recipe);
        }
        let result = if self.children.is_free(place) {
            self.fork_worker(place, generation, recipe)
        } else {
            Err("the place was used before".to_owned())
        };
        match result {
            Ok(pid) => {
                debug!(slot, incarnation, generation, pid = pid.as_raw(), "worker forked");
                let pid = pid.as_raw();
                self.tell_and_release(ToRouter::Started { place, pid }, Some(pid));
            }
            Err(why) => {
                // The router says so, no more often than is of use.
                debug!(slot, incarnation, why, "worker not started");
                self.tell(ToRouter::NotStarted { place, why });
            }
        }
    }

    fn fork_worker(&mut self, place: Place, generation: u32, recipe: u32) -> Result<Pid, String> {
        let refused = |errno: Errno| errno.desc().to_lowercase();
        let recipes = usize::try_from(recipe).ok().and_then(|number| self.recipes.get_mut(number));
        let recipe = recipes.map(|recipes| recipes.of(generation).clone());
        let is_some = |recipe: &Recipe| !matches!(*recipe.program.borrow(), Program::None);
        let Some(Recipe { service, program, conditions, environment, .. }) = recipe.filter(is_some) else {
            return Err("there is no program".to_owned());
        };
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(refused)?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(refused)?;
        let (gate, threshold) = gate::pair().map_err(refused)?;
        let Setup { identity, worker_backend, before_fork, .. } = &mut *self.setup;
        let (service, backend) = (service.clone(), worker_backend.clone());
        let worker = WorkerProcess { place, service: service.clone(), generation, backend };
        before_fork(&worker);
        let child = WorkerChild {
            worker,
            identity,
            conditions: &conditions,
            environment: &environment,
            output: theirs,
            threshold,
            parent: self.pid,
        };
        let pid = process::fork(move || child.run(&mut program.borrow_mut())).map_err(refused)?;
        let output = super::output::Output::new(ours);
        let started_at = clock::now();
        let (halted, is_killed) = (false, false);
        let worker = Worker { place, service, generation, started_at, gate, output, halted, is_killed };
        self.children.insert(pid, worker);
        Ok(pid)
    }

    fn start_router(&mut self) -> nix::Result<()> {
        let (ours, theirs) = Link::pair()?;
        let (workers, used) = (self.children.live(), self.children.used());
        let (life, parent, parent_started_at) = (self.life, self.pid, self.started_at);
        let (setup, blob, named_blobs) = (&*self.setup, &self.blob, &self.named_blobs);
        let journal = self.journal.as_ref();
        let router_body = &mut *self.router_body;
        let pid = process::fork(move || {
            let listeners = match setup.listeners.duplicate() {
                Ok(listeners) => listeners,
                Err(error) => {
                    error!(%error, "router cannot be prepared");
                    return FAILURE;
                }
            };
            let mut kept = listeners.numbers();
            kept.push(theirs.as_fd().as_raw_fd());
            let journal = journal.and_then(Journal::duplicate);
            kept.extend(journal.iter().flatten().map(AsRawFd::as_raw_fd));
            if let Err(why) = child::prepare_router(&kept, &setup.identity, parent) {
                error!(why, "router cannot be prepared");
                return FAILURE;
            }
            router_body(RouterProcess {
                link: theirs,
                life,
                listeners,
                journal,
                workers,
                used,
                blob: blob.clone(),
                named_blobs: named_blobs.clone(),
                parent_pid: parent.as_raw(),
                parent_started_at,
            })
        })?;
        info!(pid = pid.as_raw(), life, "router started");
        self.router = Some(Router { pid, link: ours, started_at: clock::now(), kill_at: None });
        self.manager.router_started(clock::now());
        let halted: Vec<Place> = self.children.halted().collect();
        for place in halted {
            self.tell(ToRouter::Halted { place });
        }
        if let Some(read) = self.setup.config_read {
            self.tell(ToRouter::ConfigRead(read));
        }
        for pid in self.hooks.pids().collect::<Vec<i32>>() {
            self.tell(ToRouter::HookStarted { pid });
        }
        Ok(())
    }

    fn tell(&mut self, message: ToRouter) {
        self.tell_and_release(message, None);
    }

    /// Tells the router, and lets the worker `releases` run as soon as it has been told.
    fn tell_and_release(&mut self, message: ToRouter, releases: Option<i32>) {
        let is_signal = matches!(message, ToRouter::Signal(_));
        if self.ending.is_some() || (self.router.is_none() && !is_signal) {
            // The next router finds out from the list of the living.
            return releases.into_iter().for_each(|pid| self.children.release(pid));
        }
        if !self.unsent.push(message, releases)
            && let Some(router) = &mut self.router
            && router.kill_at.is_none()
        {
            error!(pid = router.pid.as_raw(), "router does not listen, killing it");
            router.kill();
            router.hang_up(clock::now());
        }
    }

    fn flush(&mut self) {
        let Some(router) = self.router.as_mut().filter(|router| router.kill_at.is_none()) else { return };
        let flushed = self.unsent.flush(&router.link, &mut |pid| self.children.release(pid));
        if flushed == Flushed::Broken {
            router.hang_up(clock::now());
        }
    }

    fn see_to_deadlines(&mut self, now: Duration) {
        let is_due = |at: &mut Duration| *at <= now;
        if self.start_router_at.take_if(is_due).is_some()
            && let Err(errno) = self.start_router()
        {
            error!(%errno, "router cannot be started");
            self.plan_another_life(&errno.desc().to_lowercase(), Duration::ZERO);
        }
        if let Some(router) = &mut self.router
            && router.kill_at.is_some_and(|at| at <= now)
        {
            router.kill();
            // Once more if it is still there then.
            router.kill_at = Some(now.saturating_add(KILL_GRACE));
        }
        self.see_to_upgrade(now);
        self.hooks.see_to_deadlines(now);
        self.http.see_to_deadlines(self.setup, self.pid, now);
        self.see_to_molds(now);
        if self.stop.deadline.take_if(is_due).is_some() {
            let code = self.stop.finished.unwrap_or(FAILURE);
            error!(code, "pool did not end in time, so everything is killed");
            self.end(Ok(code));
        }
    }

    /// Kills everything. The outcome is given when everything is reaped.
    fn end(&mut self, outcome: Result<u8, ParentError>) {
        if self.ending.is_some() {
            return;
        }
        if let Err(error) = &outcome {
            self.manager.describe(&error.to_string(), clock::now());
        }
        if let Some(router) = &self.router {
            router.kill();
        }
        self.children.kill_all();
        self.hooks.kill_all();
        self.http.kill_for_good();
        self.molds.kill_all();
        self.start_router_at = None;
        self.stop.deadline = None;
        self.ending = Some(FinalAct { outcome, by: clock::now().saturating_add(KILL_GRACE) });
    }
}

/// What somebody did to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Halt {
    Halted,
    Continued,
}
