//! The facts about our own processes: which slots there are, what fills them,
//! how their last processes ended. The wish is the pool's.

use std::collections::{BTreeMap, BTreeSet};

use hornpipe_proto::Token;

use super::action::{ExitReason, Memory};
use super::crew::Crew;
use super::ids::{Generation, Incarnation, Place, Slot, Timestamp, WorkerId};
use super::recycle::Wear;

#[derive(Debug, Default)]
pub(super) struct Roster {
    slots: BTreeMap<Slot, SlotRecord>,
    /// The lowest number that a slot may have.
    first: u32,
    /// The last incarnation of every slot ever filled, also of closed ones.
    incarnations: BTreeMap<Slot, Incarnation>,
    /// Processes that find the next router by themselves, as far as they have said so.
    returning: BTreeSet<Place>,
    /// How many slots are wanted.
    wanted_len: usize,
    /// Whether anything has changed since the pool was last compared with its wish.
    disturbed: bool,
    /// What there was at the last count, if nothing has changed since.
    tally: Option<Tally>,
}

/// How the wanted slots fare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// A process serves.
    pub(super) serving: u32,
    /// None does, and the last one died early.
    pub(super) ailing: u32,
    /// Of these, those that fail again and again.
    pub(super) unfilled: u32,
}

#[derive(Debug, Default)]
pub(super) struct SlotRecord {
    /// Whether the pool wants it filled.
    pub(super) wanted: bool,
    pub(super) processes: BTreeMap<Incarnation, Process>,
    /// Deaths in a row that were too early.
    pub(super) failures: u32,
    /// Of these, deaths in a row of processes that were good for nothing.
    pub(super) bad_starts: u32,
    /// Deaths before any worker of this pool was ready.
    pub(super) boot_failures: u32,
    pub(super) not_before: Timestamp,
    pub(super) last_exit: Option<(ExitReason, Timestamp)>,
    /// The last early death, whatever has ended there since.
    pub(super) failed: Option<Failure>,
}

#[derive(Debug)]
pub(super) struct Failure {
    pub(super) incarnation: Incarnation,
    pub(super) reason: ExitReason,
    pub(super) at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) generation: Generation,
    pub(super) pid: Option<i32>,
    pub(super) started: Timestamp,
    pub(super) stage: Stage,
    /// Its connection; the latest, should it have several.
    pub(super) worker: Option<WorkerId>,
    pub(super) heard: Heard,
    /// Requests it was given over connections that are gone.
    pub(super) given: u64,
    /// Requests it has answered.
    pub(super) served: u64,
    /// What it has been through.
    pub(super) wear: Wear,
    /// Whether it has said itself that it ends.
    pub(super) announced: bool,
    /// Whether somebody has stopped it.
    pub(super) halted: bool,
    /// Whether an earlier router started it.
    pub(super) adopted: bool,
    /// The reload that has failed because of it, and why.
    pub(super) brought_down: Option<(Generation, String)>,
}

/// The most that a process has ever said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heard {
    Nothing,
    /// Some message.
    Something,
    /// That it is ready.
    Ready,
}

/// Where a process stands in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Asked of the parent, or running and not yet ready.
    Booting,
    /// An earlier router's, not yet heard of.
    Adopted,
    /// It says that it is ready, and is to prove it: under this token.
    Probing { token: Token },
    /// It has been ready.
    Serving,
    /// It is made to leave, or does so by itself.
    Leaving { reason: ExitReason, step: Step, deadline: Option<Timestamp> },
}

/// How far making it leave has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// It finishes what it holds.
    Finishing,
    /// It was asked to leave, or has said that it does.
    Dismissed,
    /// It was sent TERM.
    Terminated,
    /// It was sent KILL.
    Killed,
}

impl Process {
    pub(super) fn new(generation: Generation, started: Timestamp) -> Self {
        Self {
            generation,
            pid: None,
            started,
            stage: Stage::Booting,
            worker: None,
            heard: Heard::Nothing,
            given: 0,
            served: 0,
            wear: Wear::default(),
            announced: false,
            halted: false,
            adopted: false,
            brought_down: None,
        }
    }

    /// Whether it has ever been ready.
    pub(super) fn was_ready(&self) -> bool {
        self.heard == Heard::Ready
    }

    /// Whether it has ever sent a message.
    pub(super) fn spoke(&self) -> bool {
        self.heard >= Heard::Something
    }

    /// Whether it had a connection, has none, and is not leaving.
    pub(super) fn is_cut_off(&self) -> bool {
        self.worker.is_none() && self.spoke() && !self.is_leaving()
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. })
    }
}

impl SlotRecord {
    fn is_serving(&self) -> bool {
        self.staying().any(|(_, process)| process.stage == Stage::Serving)
    }

    /// Whether it is empty, or filled with hope only, after an early death.
    fn is_ailing(&self) -> bool {
        let Some(Failure { incarnation: failed, .. }) = self.failed else { return false };
        // One that was ready since and is made to leave is no failure, or not yet.
        let mut later = self.processes.iter().filter(|(incarnation, _)| failed < **incarnation);
        // One that is made for a single request serves while it has it.
        let serves = self.is_serving() || self.is_at_its_only_request();
        let relieved = serves || later.any(|(_, process)| process.was_ready());
        self.wanted && self.failures > 0 && !relieved
    }

    /// Whether it cannot be filled. A single early death is an accident, unless it
    /// says itself that the next will be no better.
    pub(super) fn is_unfilled(&self) -> bool {
        let hopeless = |failure: &Failure| {
            matches!(failure.reason, ExitReason::NotStarted(_) | ExitReason::NotExecuted(_))
        };
        self.is_ailing() && (self.failures > 1 || self.failed.as_ref().is_some_and(hopeless))
    }

    /// Those that are to stay: one, or two while a replacement warms.
    pub(super) fn staying(&self) -> impl Iterator<Item = (Incarnation, &Process)> {
        self.processes
            .iter()
            .filter(|(_, process)| !process.is_leaving())
            .map(|(number, process)| (*number, process))
    }
}

impl Roster {
    pub(super) fn new(first: Slot, memory: Option<&Memory>) -> Self {
        let incarnations = memory.map(|memory| memory.incarnations.iter().copied().collect());
        Self {
            first: first.0,
            incarnations: incarnations.unwrap_or_default(),
            returning: memory.into_iter().flat_map(|memory| memory.returning.iter().copied()).collect(),
            disturbed: true,
            ..Self::default()
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = (Slot, &SlotRecord)> {
        self.slots.iter().map(|(slot, record)| (*slot, record))
    }

    pub(super) fn slots_len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slots_mut(&mut self) -> impl Iterator<Item = &mut SlotRecord> {
        self.disturb();
        self.slots.values_mut()
    }

    /// The pool must be compared with its wish.
    pub(super) fn disturb(&mut self) {
        self.disturbed = true;
        self.tally = None;
    }

    /// Whether anything has changed since the last call.
    pub(super) fn take_disturbed(&mut self) -> bool {
        std::mem::take(&mut self.disturbed)
    }

    pub(super) fn wanted(&self) -> impl Iterator<Item = (Slot, &SlotRecord)> {
        self.slots().filter(|(_slot, record)| record.wanted)
    }

    pub(super) fn wanted_len(&self) -> usize {
        self.wanted_len
    }

    /// How the wanted slots fare; counted anew only if something has changed.
    pub(super) fn tally(&mut self) -> Tally {
        if let Some(tally) = self.tally {
            return tally;
        }
        let mut tally = Tally::default();
        for (_slot, record) in self.wanted() {
            tally.serving += u32::from(record.is_serving());
            tally.ailing += u32::from(record.is_ailing());
            tally.unfilled += u32::from(record.is_unfilled());
        }
        self.tally = Some(tally);
        tally
    }

    pub(super) fn slot(&self, slot: Slot) -> Option<&SlotRecord> {
        self.slots.get(&slot)
    }

    pub(super) fn slot_mut(&mut self, slot: Slot) -> Option<&mut SlotRecord> {
        self.disturb();
        self.slots.get_mut(&slot)
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = (Place, &Process)> {
        self.slots.iter().flat_map(|(slot, record)| {
            record
                .processes
                .iter()
                .map(|(incarnation, process)| (Place { slot: *slot, incarnation: *incarnation }, process))
        })
    }

    pub(super) fn process(&self, place: Place) -> Option<&Process> {
        self.slots.get(&place.slot)?.processes.get(&place.incarnation)
    }

    pub(super) fn process_mut(&mut self, place: Place) -> Option<&mut Process> {
        self.disturb();
        self.slots.get_mut(&place.slot)?.processes.get_mut(&place.incarnation)
    }

    pub(super) fn contains(&self, place: Place) -> bool {
        self.process(place).is_some()
    }

    pub(super) fn is_leaving(&self, place: Place) -> bool {
        self.process(place).is_some_and(Process::is_leaving)
    }

    /// Wants the lowest slot that is not wanted yet.
    pub(super) fn open_slot(&mut self) {
        let mut number = self.first;
        while self.slots.get(&Slot(number)).is_some_and(|record| record.wanted) {
            number += 1;
        }
        self.want(Slot(number));
    }

    pub(super) fn want(&mut self, slot: Slot) {
        self.disturb();
        let record = self.slots.entry(slot).or_default();
        self.wanted_len += usize::from(!record.wanted);
        record.wanted = true;
    }

    /// The slot is not filled again, and is gone with its last process.
    pub(super) fn unwant(&mut self, slot: Slot) {
        self.disturb();
        if let Some(record) = self.slots.get_mut(&slot) {
            self.wanted_len -= usize::from(record.wanted);
            record.wanted = false;
            // Should it be wanted again before it is gone, it begins as any other.
            record.failures = 0;
            record.bad_starts = 0;
        }
        self.close_if_empty(slot);
    }

    /// One more request is done. Returns how many the process has done.
    pub(super) fn count_served(&mut self, place: Place) -> u64 {
        let Some(record) = self.slots.get_mut(&place.slot) else { return 0 };
        record.bad_starts = 0;
        let Some(process) = record.processes.get_mut(&place.incarnation) else { return 0 };
        process.served += 1;
        process.served
    }

    /// What a process has been through. Changing it is no reason to look at the pool:
    /// whoever makes one of it must disturb.
    pub(super) fn wear_mut(&mut self, place: Place) -> Option<&mut Wear> {
        let process = self.slots.get_mut(&place.slot)?.processes.get_mut(&place.incarnation)?;
        Some(&mut process.wear)
    }

    /// The place of the slot's next process, which is now on the roster.
    pub(super) fn fill(&mut self, slot: Slot, generation: Generation, now: Timestamp) -> Place {
        let incarnation = self.incarnations.entry(slot).or_insert(Incarnation(0));
        incarnation.0 += 1;
        let place = Place { slot, incarnation: *incarnation };
        self.insert(place, Process::new(generation, now));
        place
    }

    /// Puts a process on the roster that exists already.
    pub(super) fn insert(&mut self, place: Place, process: Process) {
        self.disturb();
        let last = self.incarnations.entry(place.slot).or_insert(place.incarnation);
        *last = (*last).max(place.incarnation);
        self.slots.entry(place.slot).or_default().processes.insert(place.incarnation, process);
    }

    /// Takes a process off the roster, and a slot with it that nobody wants.
    pub(super) fn remove(&mut self, place: Place) -> Option<Process> {
        self.disturb();
        self.returning.remove(&place);
        let record = self.slots.get_mut(&place.slot)?;
        let process = record.processes.remove(&place.incarnation);
        self.close_if_empty(place.slot);
        process
    }

    fn close_if_empty(&mut self, slot: Slot) {
        if self.slots.get(&slot).is_some_and(|record| !record.wanted && record.processes.is_empty()) {
            self.slots.remove(&slot);
        }
    }

    pub(super) fn incarnations(&self) -> Vec<(Slot, Incarnation)> {
        self.incarnations.iter().map(|(slot, incarnation)| (*slot, *incarnation)).collect()
    }

    /// It has said that it finds the next router by itself. Returns whether that is news.
    pub(super) fn will_return(&mut self, place: Place) -> bool {
        self.contains(place) && self.returning.insert(place)
    }

    pub(super) fn returns(&self, place: Place) -> bool {
        self.returning.contains(&place)
    }

    pub(super) fn returning(&self) -> Vec<Place> {
        self.returning.iter().copied().filter(|place| self.contains(*place)).collect()
    }

    pub(super) fn last_incarnation(&self, slot: Slot) -> Incarnation {
        self.incarnations.get(&slot).copied().unwrap_or(Incarnation(0))
    }

    /// Its process has ended and was good for nothing.
    pub(super) fn started_badly(&mut self, slot: Slot) {
        if let Some(record) = self.slots.get_mut(&slot) {
            record.bad_starts += 1;
        }
    }

    /// The process has connected; returns the connection it had before.
    pub(super) fn connect(&mut self, place: Place, worker: WorkerId) -> Option<WorkerId> {
        let process = self.process_mut(place)?;
        process.heard = process.heard.max(Heard::Something);
        process.worker.replace(worker).filter(|earlier| *earlier != worker)
    }

    /// A connection of the process is gone, over which `given` requests had come.
    /// Returns whether it was its present one.
    pub(super) fn disconnect(&mut self, place: Place, worker: WorkerId, given: u64) -> bool {
        let Some(process) = self.process_mut(place) else { return false };
        process.given += given;
        let only = process.worker == Some(worker);
        if only {
            process.worker = None;
        }
        only
    }

    /// Whether an earlier router started the process, and it has not yet said how it is.
    pub(super) fn is_adopted(&self, place: Place) -> bool {
        self.process(place).is_some_and(|process| process.stage == Stage::Adopted)
    }

    /// The process has lived long enough for its slot to be trusted.
    pub(super) fn forgive(&mut self, place: Place) {
        if self.contains(place)
            && let Some(record) = self.slots.get_mut(&place.slot)
        {
            record.failures = 0;
            record.bad_starts = 0;
            self.tally = None;
        }
    }

    pub(super) fn check(&self, crew: &Crew) {
        debug_assert_eq!(self.wanted().count(), self.wanted_len, "wanted slots are miscounted");
        for (place, process) in self.processes() {
            if let Some(worker) = process.worker {
                debug_assert_eq!(crew.place_of(worker), Some(place), "{place}: not its connection");
            }
        }
        for (slot, record) in &self.slots {
            debug_assert!(record.staying().count() <= 2, "{slot}: more than a process and its replacement");
        }
    }
}
