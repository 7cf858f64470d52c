//! The model's books and laws of early deaths: back-off, forks a second, what is told
//! of them, and when the pool is degraded.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hornpipe::core::{ExitReason, Incarnation, Phase, Place, Slot, Telling, Timestamp};

use super::Core;
use super::books::Post;
use super::model::Model;

const SECOND: Duration = Duration::from_secs(1);
const HEALTHY: Duration = Duration::from_secs(30);

/// What the model remembers of processes that ended early.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Slots whose last process did, and how many in a row.
    slots: BTreeMap<Slot, Row>,
    forks: VecDeque<Timestamp>,
    last: Option<Timestamp>,
    /// When a slot last failed in a way that makes the pool degraded.
    last_bad: Timestamp,
    /// The slot that has failed so in this step, and may be closed before it ends.
    bad_now: Option<Slot>,
    /// When a slot was last relieved of what it had failed in.
    eased: Timestamp,
    /// Since when every slot that is wanted has a process that serves.
    filled_since: Option<Timestamp>,
    degraded: bool,
    told: Option<Timestamp>,
    untold: u64,
    /// The slots there are, and whether each is empty: room for a look at them.
    open: Vec<(Slot, bool)>,
    /// The process whose end is heard of in this step.
    pub(super) ended_now: Option<(Place, Post)>,
}

#[derive(Debug)]
struct Row {
    failures: u32,
    hopeless: bool,
    not_before: Timestamp,
    failed_at: Timestamp,
    /// A process has lived there for so long that the row may be forgiven, of which nobody is told.
    uncertain: bool,
    /// A process serves there now.
    served_since: Option<Timestamp>,
    /// Which of them failed last.
    failed: Incarnation,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            failures: 0,
            hopeless: false,
            not_before: Timestamp::default(),
            failed_at: Timestamp::default(),
            uncertain: false,
            served_since: None,
            failed: Incarnation(0),
        }
    }
}

impl Row {
    /// Whether it has failed in a way that makes the pool degraded.
    fn has_failed(&self) -> bool {
        self.failures > 1 || self.hopeless
    }

    fn is_bad(&self) -> bool {
        self.served_since.is_none() && self.has_failed() && !self.uncertain
    }
}

impl Early {
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.last
    }

    pub(super) fn reload(&mut self, now: Timestamp) {
        self.slots.values_mut().for_each(|row| row.not_before = now);
    }
}

fn is_wished(reason: &ExitReason) -> bool {
    use ExitReason::{Drain, Halted, Recycle, Reload, Shrink, Silent};
    matches!(reason, Shrink | Reload | Recycle(_) | Drain | Silent | Halted)
}

impl Model {
    /// Whether a slot is certainly empty because its process died early.
    pub(super) fn backs_off(&self, now: Timestamp) -> bool {
        let empty = |slot: &Slot| self.posts.keys().all(|place| place.slot != *slot);
        // One that failed before the pool last shrank may have been closed, and have begun anew.
        let since = |row: &Row| self.load.shrunk.is_none_or(|shrunk| shrunk < row.failed_at);
        self.early.slots.iter().any(|(slot, row)| now < row.not_before && since(row) && empty(slot))
    }

    pub(super) fn judge_death(
        &mut self,
        (place, reason): (Place, &ExitReason),
        respawn_after: Duration,
        telling: Telling,
        now: Timestamp,
    ) {
        let ended = self.early.ended_now.take();
        let expected = ended.as_ref().is_some_and(|(ended, _)| *ended == place);
        law!(self, expected, "{place} left, and nobody said so");
        let made_for_one =
            |post: &Post| self.settings.fresh && post.ready && (post.given > 0 || post.probe.is_some());
        let has_had_it = ended.as_ref().is_some_and(|(_, post)| made_for_one(post));
        let useless = ended.is_some_and(|(_, post)| !post.ready && !post.adopted && !post.is_leaving());
        law!(
            self,
            !useless || respawn_after > Duration::ZERO,
            "{place} was never ready, and is no early death"
        );
        let others_serve = self.posts.iter().any(|(other, post)| other.slot == place.slot && post.ready);
        if self.early.slots.contains_key(&place.slot) {
            self.early.eased = now;
        }
        let row = self.early.slots.entry(place.slot).or_default();
        // Processes may have relieved one another, none of which lived for so long.
        row.uncertain |= row.served_since.take().is_some_and(|since| since.after(HEALTHY) <= now);
        if respawn_after == Duration::ZERO {
            // A slot that was closed meanwhile began anew, and so does one whose process has
            // had the one request that it was made for.
            let since = self.load.shrunk.is_some_and(|shrunk| row.failed_at <= shrunk);
            let closed = *reason == ExitReason::Shrink && since;
            let anew = !is_wished(reason) || closed || has_had_it;
            if anew || row.failures == 0 {
                self.early.slots.remove(&place.slot);
            }
            law!(self, telling == Telling::Aloud { untold: 0 }, "{place} is told as {telling:?}");
            return;
        }
        row.failures += 1;
        row.failed = place.incarnation;
        let base = |failures: u32| {
            Duration::from_millis(100 * (1 << (failures - 1).min(7))).min(Duration::from_secs(10))
        };
        let fit =
            |failures: u32| base(failures) <= respawn_after && respawn_after <= base(failures).mul_f64(1.251);
        if (self.load.shrunk.is_some() || row.uncertain) && !fit(row.failures) {
            // It may have been closed and wanted again, or been forgiven, of which nobody is told.
            row.failures = (1..9).find(|failures| fit(*failures)).unwrap_or(row.failures);
        }
        let fits = fit(row.failures);
        row.hopeless = matches!(reason, ExitReason::NotStarted(_) | ExitReason::NotExecuted(_));
        row.uncertain = false;
        row.failed_at = now;
        row.not_before = now.after(respawn_after);
        let failures = row.failures;
        self.early.last = Some(now);
        if (failures > 1 || row.hopeless) && !others_serve {
            self.early.bad_now = Some(place.slot);
        }
        law!(self, fits, "{place} waits {respawn_after:?} after {failures} early deaths");
        match telling {
            Telling::Counted => self.early.untold += 1,
            Telling::Aloud { untold } => {
                let soon = self.early.told.is_some_and(|told| told.after(SECOND) > now);
                law!(
                    self,
                    failures == 1 || !soon,
                    "{place} fails for the {failures}th time, and it is told again"
                );
                law!(self, untold == self.early.untold, "{untold} were not told, not {}", self.early.untold);
                self.early.untold = 0;
                self.early.told = Some(now);
            }
        }
    }

    pub(super) fn judge_refill(&mut self, place: Place, now: Timestamp) {
        if self.posts.keys().any(|other| other.slot == place.slot) {
            return;
        }
        let Some(row) = self.early.slots.get(&place.slot) else { return };
        law!(self, row.not_before <= now, "{place} is started before its back-off is over");
        // One that failed before the pool last shrank may have been closed, and have begun anew.
        if self.load.shrunk.is_some_and(|shrunk| row.failed_at <= shrunk) {
            return;
        }
        self.early.forks.push_back(now);
        while self.early.forks.front().is_some_and(|fork| fork.after(SECOND) <= now) {
            self.early.forks.pop_front();
        }
        let (forks, limit) = (self.early.forks.len(), self.settings.forks_after_early_deaths);
        law!(self, forks <= limit, "{forks} forks in a second after early deaths, at most {limit}");
    }

    pub(super) fn judge_degraded(&mut self) {
        law!(self, !self.early.degraded, "degraded twice");
        // What still serves may be on its way out, of which nobody is told.
        law!(self, self.early.slots.values().any(Row::has_failed), "degraded, and no slot fails");
        self.early.degraded = true;
    }

    pub(super) fn judge_restored(&mut self, now: Timestamp) {
        law!(self, self.early.degraded, "restored, and it was not degraded");
        let lasts = self.early.bad_now.is_none() && self.early.last_bad.after(SECOND) <= now;
        law!(self, lasts, "restored right after a failure");
        self.early.degraded = false;
    }

    pub(super) fn check_health(&mut self, now: Timestamp, core: &Core) {
        let bad_now = self.early.bad_now.take();
        if core.phase() == Phase::Over || self.stopped.is_some() {
            self.early.degraded = core.is_degraded();
            return;
        }
        if self.early.slots.is_empty() && !self.early.degraded {
            law!(self, !core.is_degraded(), "degraded, and nothing has failed");
            return;
        }
        let mut slots = std::mem::take(&mut self.early.open);
        slots.clear();
        slots.extend(core.slots());
        let find = |slot: &Slot| slots.binary_search_by_key(slot, |(slot, _)| *slot).ok();
        if bad_now.is_some_and(|slot| find(&slot).is_some()) {
            self.early.last_bad = now;
        }
        let (early, posts) = (&mut self.early, &self.posts);
        let known = early.slots.len();
        early.slots.retain(|slot, _| find(slot).is_some());
        if early.slots.len() < known {
            early.eased = now;
        }
        for (slot, row) in &mut early.slots {
            let of_it = || posts.range(places_in(*slot));
            let serves = of_it()
                .any(|(place, post)| post.ready && (!post.is_leaving() || row.failed < place.incarnation));
            if serves != row.served_since.is_some() {
                early.eased = now;
            }
            row.served_since = serves.then(|| row.served_since.unwrap_or(now));
            let old = |post: &Post| post.ready && post.since.after(HEALTHY) <= now;
            row.uncertain |= of_it().any(|(_, post)| old(post));
        }
        let empty = |slot| find(slot).and_then(|index| slots.get(index)).is_some_and(|(_, empty)| *empty);
        let bad = early.slots.iter().find(|(slot, row)| row.is_bad() && empty(slot));
        let assessed = matches!(core.phase(), Phase::Serving | Phase::Failing);
        let degraded = core.is_degraded();
        law!(self, !assessed || bad.is_none() || degraded, "{bad:?} fails, and the pool is not degraded");
        law!(self, degraded == self.early.degraded, "degraded {degraded}, and the notes say otherwise");
        self.early.open = slots;
        let filled = !early_is_bad(&self.early) && self.posts.len() == self.target as usize;
        let filled = filled && self.posts.values().all(|post| post.ready && !post.is_leaving());
        // One that a later process has relieved leaves after its request, of which nobody is told.
        let relieved = |place: &Place| self.early.slots.get(&place.slot).map(|row| row.failed);
        let last = |place: &Place| relieved(place).is_none_or(|failed| failed < place.incarnation);
        let filled = filled && self.posts.keys().all(last);
        self.early.filled_since = filled.then(|| self.early.filled_since.unwrap_or(now));
        let others = self.early.eased.max(self.early.last_bad).max(self.load.changed);
        let restored = self.early.filled_since.is_some_and(|since| since.max(others).after(SECOND) <= now);
        law!(self, !(assessed && restored && degraded), "every slot is filled, and the pool is degraded");
    }
}

fn early_is_bad(early: &Early) -> bool {
    early.slots.values().any(Row::is_bad)
}

/// All that a slot may have had.
fn places_in(slot: Slot) -> std::ops::RangeInclusive<Place> {
    let place = |incarnation| Place { slot, incarnation: Incarnation(incarnation) };
    place(0)..=place(u32::MAX)
}
