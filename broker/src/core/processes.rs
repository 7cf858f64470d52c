//! The life of a worker's process, from the parent's word that it runs to the
//! word that it has ended, and what its slot learns from that.

use std::time::Duration;

use super::action::{Action, ExitReason, LastFlights, Note, RecycleCause};
use super::crew::Worker;
use super::event::Ending;
use super::exit_kind::ExitKind;
use super::flight::Exit;
use super::ids::{Generation, Incarnation, Place, Timestamp, WorkerId};
use super::loss::{DeathCause, Fate};
use super::roster::{Failure, Heard, Process, Stage, Step};
use super::settings::{ADOPTION_GRACE, HALT_GRACE, HEALTHY, LAST_WORDS, RETURN_GRACE, YOUNG};
use super::timers::Timer;
use super::{Core, Turn, backoff, recycle};

impl From<Ending> for ExitReason {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Code(code) => Self::Code(code),
            Ending::Signal(signal) => Self::Signal(signal),
            Ending::OutOfMemory => Self::OutOfMemory,
            Ending::NotExecuted { why } => Self::NotExecuted(why),
        }
    }
}

impl<B: Clone> Core<B> {
    /// Asks the parent for a process.
    pub(super) fn spawn(&mut self, place: Place, generation: Generation, turn: &mut Turn<'_, B>) {
        self.counters.spawned += 1;
        let drawn = self.draw_wear();
        if let Some(wear) = self.roster.wear_mut(place) {
            *wear = drawn;
        }
        self.timers.arm(turn.now.after(self.settings.boot_timeout), Timer::Boot(place));
        // Remembered first: should this router die in between, no place is used twice.
        turn.act(Action::Remember(self.memory()));
        turn.act(Action::Spawn { place, generation });
    }

    pub(super) fn process_adopted(
        &mut self,
        place: Place,
        generation: Generation,
        (pid, started): (i32, Timestamp),
        turn: &mut Turn<'_, B>,
    ) {
        let mut process = Process::new(generation, started);
        process.pid = Some(pid);
        process.adopted = true;
        process.stage = Stage::Adopted;
        process.wear = self.draw_wear();
        self.roster.insert(place, process);
        self.roster.want(place.slot);
        let grace = if self.roster.returns(place) { RETURN_GRACE } else { ADOPTION_GRACE };
        self.timers.arm(turn.now.after(grace), Timer::Adoption(place));
        self.resume_reload(generation, turn);
    }

    pub(super) fn process_started(&mut self, place: Place, pid: i32, turn: &mut Turn<'_, B>) {
        if let Some(process) = self.roster.process_mut(place) {
            process.pid = Some(pid);
            process.started = turn.now;
            let generation = process.generation;
            turn.note(Note::WorkerStarted { place, generation, pid });
        }
    }

    /// A worker has said something that only a ready one says.
    pub(super) fn became_ready(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        if self.is_to_be_probed(worker) {
            self.probe(worker, turn);
            return;
        }
        if self.crew.worker(worker).is_some_and(Worker::serves) {
            self.somebody_is_ready(turn);
        }
        let Some(place) = self.crew.place_of(worker) else { return };
        let Some(stage) = self.roster.process(place).map(|process| &process.stage) else { return };
        let adopted = *stage == Stage::Adopted;
        if !adopted && *stage != Stage::Booting {
            return;
        }
        if self.is_unproven_heir(place) {
            self.retire(place, ExitReason::Reload, turn);
            return;
        }
        self.process_ready(place, turn);
        if adopted && self.settings.fresh {
            // It may have had its request from an earlier router.
            self.retire(place, ExitReason::Recycle(RecycleCause::Fresh), turn);
        }
    }

    /// The process serves from here on.
    pub(super) fn process_ready(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        if let Some(process) = self.roster.process_mut(place) {
            process.stage = Stage::Serving;
            process.heard = Heard::Ready;
            if !process.adopted {
                self.counters.times.start.observe(turn.now.since(process.started));
            }
        }
        self.timers.disarm(Timer::Boot(place));
        self.timers.disarm(Timer::Adoption(place));
        self.timers.arm(turn.now.after(HEALTHY), Timer::Healthy(place));
        let routine = self.settings.fresh && place.incarnation > Incarnation(1);
        turn.note(Note::WorkerReady { place, routine });
        self.wear_begins(place, turn);
        self.newcomer_ready(place, turn);
    }

    pub(super) fn boot_deadline(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        if self.roster.process(place).is_some_and(|process| process.stage == Stage::Booting) {
            turn.note(Note::WorkerStuck { place, why: "not ready in time" });
            self.expel(place, ExitReason::BootTimeout, turn);
            self.living_newcomer_failed(place, "not ready in time", turn);
        }
    }

    pub(super) fn adoption_deadline(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let worker = self.roster.process(place).and_then(|process| process.worker);
        let unreturned =
            worker.and_then(|worker| self.crew.worker(worker)).is_some_and(Worker::is_unreturned);
        if self.roster.is_adopted(place) || unreturned {
            self.expel(place, ExitReason::Silent, turn);
        }
    }

    pub(super) fn reconnect_deadline(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        if self.roster.process(place).is_some_and(Process::is_cut_off) {
            turn.note(Note::WorkerStuck { place, why: "its connection is lost" });
            self.expel(place, ExitReason::Disconnected, turn);
        }
    }

    pub(super) fn process_halted(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        let Some(process) = self.roster.process_mut(place) else { return };
        process.halted = true;
        if let Some(worker) = process.worker {
            self.crew.set_halted(worker);
        }
        self.timers.arm(turn.now.after(HALT_GRACE), Timer::Halted(place));
    }

    pub(super) fn process_continued(&mut self, place: Place, turn: &Turn<'_, B>) {
        let Some(process) = self.roster.process_mut(place) else { return };
        process.halted = false;
        if let Some(worker) = process.worker {
            self.crew.set_continued(worker);
            // It could not say anything.
            self.crew.hear(worker, turn.now);
        }
        self.timers.disarm(Timer::Halted(place));
    }

    pub(super) fn halt_deadline(&mut self, place: Place, turn: &mut Turn<'_, B>) {
        if self.roster.process(place).is_some_and(|process| process.halted) {
            turn.note(Note::WorkerStuck { place, why: "stopped by a signal" });
            // A stopped process takes TERM only when it goes on; KILL needs no such consent.
            self.kill(place, ExitReason::Halted, turn);
        }
    }

    /// One more request is done.
    pub(super) fn process_served(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        if let Some(place) = self.crew.place_of(worker) {
            self.wear_by_reply(place, turn);
            self.newcomer_proven(place, turn);
        }
    }

    /// The process is no more. `reason` is how it ended, unless it was made to.
    pub(super) fn process_ended(&mut self, place: Place, reason: &ExitReason, turn: &mut Turn<'_, B>) {
        let on_trial = self.is_on_trial(place);
        let Some(mut process) = self.roster.remove(place) else { return };
        self.timers.disarm_process(place);
        let why = recycle::why_it_ended(&process, reason);
        self.counters.exit(ExitKind::of(&why));
        let given = process.given + self.crew.sent_to(place);
        // What was made for one request, and had it, says nothing of the next one.
        let done = self.settings.fresh && process.was_ready() && given > 0;
        let meaning = if done { Meaning::Late } else { meaning(&process, &why, turn.now) };
        if meaning == Meaning::Early && (!process.was_ready() || process.served + given == 0) {
            // Not one that a request killed: the next request may be better.
            self.roster.started_badly(place.slot);
        }
        let respawn_after = self.learn_from_death(place, &why, meaning, turn.now);
        let failures = match meaning {
            Meaning::Early => self.roster.slot(place.slot).map_or(0, |record| record.failures),
            Meaning::Late | Meaning::Nothing => 0,
        };
        let telling = self.pool.teller.tell(failures, turn.now);
        let failed = !process.was_ready() || (on_trial && is_own_failure(&why));
        if !failed || is_wished(&why) {
            self.newcomer_withdrawn(place);
        } else {
            self.newcomer_failed((place, &mut process), &why.to_string(), turn);
        }
        // Before it is told that the process has left: its last words belong to the graver news.
        if let Some((generation, told)) = process.brought_down.take() {
            let reason = match reason {
                // How it went, if it was not by our order.
                ExitReason::Code(1..) | ExitReason::NotExecuted(_) if *reason != why => {
                    format!("{told}, {reason}")
                }
                _ => told,
            };
            self.counters.reloads.failed += 1;
            turn.note(Note::ReloadFailed { generation, place, reason });
        }
        let planned = is_planned(&why);
        let last =
            if planned { LastFlights::default() } else { self.last_flights(place, &process, turn.now) };
        turn.note(Note::WorkerLeft {
            place,
            generation: process.generation,
            pid: process.pid,
            reason: why.clone(),
            planned,
            respawn_after,
            last,
            telling,
        });
        self.recorder.exit(Exit { place, pid: process.pid, reason: why.clone(), at: turn.now });
        self.recorder.prune(&self.roster);
        let fate = fate(&process, reason, &why);
        self.doom_connections(place, &fate, turn);
        self.holder_ended(place, &fate, turn);
        if !process.was_ready() && !is_wished(&why) {
            self.consider_giving_up(&process, reason, turn);
        }
    }

    /// What the process holds is judged when its connection is gone as well.
    fn doom_connections(&mut self, place: Place, fate: &Fate, turn: &mut Turn<'_, B>) {
        // What it has begun is known without it.
        self.withdraw_from(place, turn);
        for worker in self.crew.of(place) {
            if self.crew.doom(worker, fate.clone()) {
                self.connection_over(worker, turn);
            } else {
                // Its last replies may still be in the pipe, whose end is awaited.
                self.timers.arm(turn.now.after(LAST_WORDS), Timer::LastWords(worker));
            }
        }
    }

    fn last_flights(&self, place: Place, process: &Process, now: Timestamp) -> LastFlights {
        LastFlights {
            held: self.flights_under_way(place, now),
            before: self.flights_before(place, FLIGHTS_TOLD),
            adopted: process.adopted,
        }
    }

    /// Makes the slot wait, if the death was an early one. Returns how long.
    fn learn_from_death(
        &mut self,
        Place { slot, incarnation }: Place,
        why: &ExitReason,
        meaning: Meaning,
        now: Timestamp,
    ) -> Duration {
        let never_ready = !self.pool.ever_ready;
        let Some(record) = self.roster.slot_mut(slot) else { return Duration::ZERO };
        record.last_exit = Some((why.clone(), now));
        match meaning {
            Meaning::Nothing => return Duration::ZERO,
            Meaning::Late => {
                record.failures = 0;
                record.bad_starts = 0;
                return Duration::ZERO;
            }
            Meaning::Early => {
                record.failures += 1;
                record.failed = Some(Failure { incarnation, reason: why.clone(), at: now });
            }
        }
        // That there is no room for a process says nothing of the program.
        if never_ready && !matches!(why, ExitReason::NotStarted(_)) {
            record.boot_failures += 1;
        }
        let delay = self.generator.lengthened(backoff::delay(record.failures));
        record.not_before = now.after(delay);
        self.timers.arm(record.not_before, Timer::Backoff(slot));
        delay
    }

    /// The moment a slot's process is withheld from new requests and told to end at once.
    pub(super) fn kill(&mut self, place: Place, reason: ExitReason, turn: &mut Turn<'_, B>) {
        self.start_going(place, reason);
        self.step(place, Step::Killed, turn);
    }

    pub(super) fn memory(&self) -> super::action::Memory {
        super::action::Memory {
            target: self.pool.target,
            size: Some(self.settings.workers),
            generation: self.pool.current_generation().0,
            incarnations: self.roster.incarnations(),
            returning: self.roster.returning(),
            pause: self.pause(),
        }
    }
}

/// Requests before its last that are told when a worker dies.
const FLIGHTS_TOLD: usize = 3;

/// How the process ended: as it was made to or has said, or else by its own doing. One that
/// was only asked to finish has not been made to do anything yet.
fn fate(process: &Process, reason: &ExitReason, why: &ExitReason) -> Fate {
    let pid = process.pid;
    let is_pushed = matches!(process.stage, Stage::Leaving { step: Step::Terminated | Step::Killed, .. });
    if is_pushed || process.announced {
        Fate { pid, reason: why.clone(), cause: DeathCause::Others }
    } else {
        Fate { pid, reason: reason.clone(), cause: DeathCause::of(reason) }
    }
}

/// What a death says of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// It was wished for, or is somebody else's doing.
    Nothing,
    /// The process had lived: a row of early deaths ends.
    Late,
    /// One more early death in a row.
    Early,
}

fn meaning(process: &Process, why: &ExitReason, now: Timestamp) -> Meaning {
    let young = now.since(process.started) < YOUNG;
    let early = match why {
        ExitReason::Shrink
        | ExitReason::Reload
        | ExitReason::Recycle(_)
        | ExitReason::Drain
        | ExitReason::Silent
        | ExitReason::Halted => return Meaning::Nothing,
        // One that is made for a single short request has done its work.
        ExitReason::Announced(_)
        | ExitReason::Timeout
        | ExitReason::MemoryLimit
        | ExitReason::Disconnected
        | ExitReason::Code(0) => young && process.served == 0,
        ExitReason::BootTimeout
        | ExitReason::Unproven
        | ExitReason::Malformed
        | ExitReason::Code(_)
        | ExitReason::Signal(_)
        | ExitReason::OutOfMemory
        | ExitReason::NotExecuted(_)
        | ExitReason::NotStarted(_) => young,
    };
    // An adopted one was ready before, as far as anybody knows.
    let never_ready = !process.was_ready() && process.stage != Stage::Adopted;
    if early || never_ready { Meaning::Early } else { Meaning::Late }
}

/// Whether somebody wanted the process to end, whatever it did.
fn is_wished(why: &ExitReason) -> bool {
    matches!(why, ExitReason::Shrink | ExitReason::Reload | ExitReason::Recycle(_) | ExitReason::Drain)
}

/// Whether the end of a process that was ready says something of its code: a
/// slow request may be anybody's, and so may a signal that stops it.
fn is_own_failure(why: &ExitReason) -> bool {
    !matches!(why, ExitReason::Timeout | ExitReason::Halted | ExitReason::Silent)
}

/// Whether the process left because it was told to, or had said so.
fn is_planned(why: &ExitReason) -> bool {
    match why {
        ExitReason::Announced(_)
        | ExitReason::Shrink
        | ExitReason::Reload
        | ExitReason::Recycle(_)
        | ExitReason::Drain
        | ExitReason::Timeout
        | ExitReason::Malformed
        | ExitReason::Disconnected
        | ExitReason::Silent
        | ExitReason::Halted => true,
        ExitReason::BootTimeout
        | ExitReason::Unproven
        | ExitReason::MemoryLimit
        | ExitReason::Code(_)
        | ExitReason::Signal(_)
        | ExitReason::OutOfMemory
        | ExitReason::NotExecuted(_)
        | ExitReason::NotStarted(_) => false,
    }
}

/// A slot's age is measured from here when its process is not yet known to run.
pub(super) fn age(process: &Process, now: Timestamp) -> Duration {
    now.since(process.started)
}
