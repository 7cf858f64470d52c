//! How processes and connections end, as the model has it, and when what they held is judged.

use hornpipe::core::{Ending, Home, Place, RequestId, Timestamp, WorkerId};
use hornpipe_proto::{Status, Token};

use super::books::{Desk, Due, State};
use super::model::{LAST_WORDS, Model, in_order};

impl Model {
    pub(super) fn set_halted(&mut self, place: Place, halted: Option<Timestamp>) {
        let Some(post) = self.posts.get_mut(&place) else { return };
        post.halted = halted;
        if let Some(desk) = post.desk.and_then(|worker| self.desks.get_mut(&worker)) {
            desk.halted = halted.is_some();
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.requests.is_empty() && self.desks.values().all(|desk| desk.held.is_empty())
    }

    /// A worker of ours that holds something may have ended: that is known in a moment.
    pub(super) fn left(&mut self, worker: WorkerId, now: Timestamp) {
        let lives = self.post_of(worker).is_some();
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        if lives && !desk.held.is_empty() {
            desk.barred = true;
            desk.cut = true;
            desk.gone_at = Some(now.after(LAST_WORDS));
            self.await_end(now);
        } else {
            self.over(worker, now);
        }
    }

    pub(super) fn over(&mut self, worker: WorkerId, now: Timestamp) {
        let Some(desk) = self.desks.get(&worker) else { return };
        let (by_itself, held) = (desk.death == Some(true), !desk.held.is_empty());
        for token in in_order(desk) {
            law!(self, !self.is_ahead(worker, token), "{worker} is gone, and what it has begun is not known");
            self.let_go(worker, token, by_itself, now);
        }
        if let Some(post) = self.post_of(worker)
            && post.desk == Some(worker)
        {
            (post.desk, post.bereft) = (None, held);
        }
        let other = self.post_of(worker).and_then(|post| post.desk);
        if let Some(other) = other.and_then(|other| self.desks.get_mut(&other))
            && held
        {
            other.free_since = now;
        }
        self.desks.remove(&worker);
    }

    /// The end of a pipe is awaited from now on.
    pub(super) fn await_end(&mut self, now: Timestamp) {
        self.none_gone_before.get_or_insert(now.after(LAST_WORDS));
    }

    /// Those whose pipe has not ended in time after their process did.
    pub(super) fn expire(&mut self, now: Timestamp) {
        if self.none_gone_before.is_none_or(|at| now < at) {
            return;
        }
        let overdue = |desk: &Desk| desk.gone_at.filter(|at| *at <= now);
        let mut gone: Vec<_> =
            self.desks.iter().filter_map(|(id, desk)| Some((overdue(desk)?, *id))).collect();
        gone.sort_unstable();
        for (at, worker) in gone {
            // A late tick finds more than one end at once: the earlier counts.
            for token in self.desks.get(&worker).map(in_order).unwrap_or_default() {
                self.time_out(worker, token, at);
            }
            let desk = self.desks.get(&worker).filter(|desk| !desk.held.is_empty());
            if let Some(Home::Local(place)) = desk.map(|desk| desk.home) {
                self.freed_now.insert(place);
            }
            self.over(worker, now);
            self.gone_now.insert(worker);
        }
        self.none_gone_before = self.desks.values().filter_map(|desk| desk.gone_at).min();
    }

    fn time_out(&mut self, worker: WorkerId, token: Token, at: Timestamp) {
        let sheet = self.desks.get(&worker).and_then(|desk| desk.held.get(&token));
        let Some(request) = sheet.map(|sheet| sheet.request).filter(|request| self.holds(*request, token))
        else {
            return;
        };
        let Some(asked) = self.requests.get(&request) else { return };
        let end = [asked.deadline, asked.until, asked.partly.silent_until].into_iter().flatten().min();
        if end.is_some_and(|end| end <= at) {
            self.due(request, Due::Refuse(Status::Timeout));
        }
    }

    pub(super) fn judge_time_out(&self, request: RequestId, place: Option<Place>, told: (u32, u64)) {
        let asked = self.requests.get(&request);
        let known = asked.map(|asked| (asked.attempts, asked.size));
        law!(self, known == Some(told), "{request} timed out with {told:?}, not {known:?}");
        let holder = asked.and_then(|asked| match asked.state {
            State::Held { worker, .. } => self.desks.get(&worker).map(|desk| desk.home),
            State::Waiting | State::Due(_) => None,
        });
        let fits = holder.is_none_or(|home| match home {
            Home::Local(holder) => place == Some(holder),
            Home::External => place.is_none(),
        });
        law!(self, fits, "{request} timed out at {place:?}, which does not hold it");
    }
}

/// Processes.
impl Model {
    pub(super) fn ended(&mut self, place: Place, ending: &Ending, now: Timestamp) {
        let Some(post) = self.posts.remove(&place) else { return };
        self.measures.exited += 1;
        let pushed = post.announced || post.terminated.is_some() || post.killed.is_some();
        self.early.ended_now = Some((place, post.clone()));
        self.buried_now = Some((place, post));
        let mut cut = Vec::new();
        for (worker, desk) in self.desks.iter_mut().filter(|(_, desk)| desk.home == Home::Local(place)) {
            desk.barred = true;
            desk.death = Some(is_own_doing(ending) && !pushed);
            if desk.cut {
                cut.push(*worker);
            } else {
                desk.gone_at = Some(now.after(LAST_WORDS));
            }
        }
        self.await_end(now);
        for worker in cut {
            self.over(worker, now);
            self.gone_now.insert(worker);
        }
    }
}

/// Whether a process that ended so has nobody else to thank for it.
pub(super) fn is_own_doing(ending: &Ending) -> bool {
    match ending {
        Ending::Code(_) | Ending::OutOfMemory => true,
        Ending::Signal(signal) => matches!(signal, 4..=8 | 11 | 13 | 24 | 25 | 31),
        Ending::NotExecuted { .. } => false,
    }
}
