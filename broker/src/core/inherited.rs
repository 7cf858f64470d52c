//! Work of keys that an earlier router has given to workers. Its clients are gone with that
//! router, and ask again: who does so claims the run, and hears what the worker brings. The
//! worker is found by its process, by the name that it has for itself, or by its reply.

use std::collections::BTreeMap;
use std::sync::Arc;

use hornpipe_proto::{Status, Token};

use super::action::{Action, Spent};
use super::event::Request;
use super::held::{Held, OnceBegun};
use super::ids::{Place, WorkerId};
use super::journal::{Begun, Entry, Holder};
use super::keys::{Done, Key};
use super::loss::{Fate, Loss};
use super::settings::RETURN_GRACE;
use super::timers::Timer;
use super::{Core, Turn};

/// What has not come back yet.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    missed: BTreeMap<Token, Holder>,
    /// Whether it has been looked which of their workers there are.
    looked: bool,
}

impl<B> super::keys::Keys<B> {
    /// By what the worker is known that has this, if it has yet to come back.
    pub(super) fn missed(&self, token: Token) -> Option<&Holder> {
        self.inherited.missed.get(&token)
    }
}

impl<B: Clone> Core<B> {
    /// What an earlier router has written down.
    pub(super) fn recall(&mut self, key: Arc<str>, entry: Entry<B>) {
        match entry {
            Entry::Begun(begun) => self.inherit(key, begun),
            Entry::Done { reply, size, attempt, until } => {
                self.keys.keep(key, Done { reply, size, attempt }, until);
            }
            Entry::Tried { attempt, until } => self.keys.set(key, Key::Tried { attempt, until }),
            Entry::Free => (),
        }
        self.arm_expiry();
    }

    fn inherit(&mut self, key: Arc<str>, begun: Begun) {
        let token = begun.token;
        self.hold_inherited(Arc::clone(&key), &begun);
        self.keys.set(key, if begun.over { Key::Ending { token } } else { Key::Unclaimed { token } });
        let limit = self.settings.timeout.map(|timeout| begun.since.after(timeout));
        if let Some(end) = [begun.deadline, limit].into_iter().flatten().min() {
            self.timers.arm(end, Timer::Attempt(token));
        }
        self.keys.inherited.missed.insert(token, begun.holder);
        self.keys.inherited.looked = false;
    }

    /// Which processes there are is known by now.
    pub(super) fn miss_the_gone(&mut self, turn: &mut Turn<'_, B>) {
        if std::mem::replace(&mut self.keys.inherited.looked, true) {
            return;
        }
        let missed: Vec<_> =
            self.keys.inherited.missed.iter().map(|(token, holder)| (*token, holder.clone())).collect();
        for (token, holder) in missed {
            match holder {
                // It is heard of within the grace of an adopted process, or ends.
                Holder::Local(place) if self.roster.contains(place) => (),
                Holder::Local(_) => self.miss(token, &Loss::Disconnected, turn),
                Holder::Named(_) => self.timers.arm(turn.now.after(RETURN_GRACE), Timer::Missed(token)),
                // Whether it lives will not be told: it has the time in which a retry may come.
                Holder::Unknown => {
                    self.timers.arm(turn.now.after(self.settings.key_window), Timer::Missed(token));
                }
            }
        }
    }

    /// The worker has said who it is.
    pub(super) fn recognise(&mut self, worker: WorkerId, turn: &mut Turn<'_, B>) {
        if self.keys.inherited.missed.is_empty() {
            return;
        }
        let Some(record) = self.crew.worker(worker) else { return };
        let own = match self.crew.place_of(worker) {
            Some(place) => Holder::Local(place),
            None => match record.instance() {
                Some(instance) => Holder::Named(Arc::clone(instance)),
                None => return,
            },
        };
        let missed = self.keys.inherited.missed.iter();
        let found: Vec<Token> =
            missed.filter(|(_, holder)| **holder == own).map(|(token, _)| *token).collect();
        for token in found {
            self.find_with(worker, token, turn);
        }
    }

    /// A worker speaks of this: it can have it from nobody but the router that gave it.
    pub(super) fn recognise_by(&mut self, token: Token, worker: WorkerId, turn: &mut Turn<'_, B>) {
        let Some(holder) = self.keys.missed(token) else { return };
        let fits = match (holder, self.crew.place_of(worker)) {
            (Holder::Local(own), Some(place)) => *own == place,
            (Holder::Named(_) | Holder::Unknown, None) => true,
            (Holder::Local(_), None) | (Holder::Named(_) | Holder::Unknown, Some(_)) => false,
        };
        if fits && self.crew.worker(worker).is_some() {
            self.find_with(worker, token, turn);
        }
    }

    fn find_with(&mut self, worker: WorkerId, token: Token, turn: &mut Turn<'_, B>) {
        self.found(token);
        let Some(held) = self.requests.held_mut(token) else { return };
        held.worker = worker;
        let key = held.key.clone();
        self.crew.find_with(worker, token, turn.now);
        if key.is_some_and(|key| matches!(self.keys.get(&key), Some(Key::Ending { .. }))) {
            self.break_off(token, turn);
        }
    }

    /// It is known who has it, or that nobody has.
    pub(super) fn found(&mut self, token: Token) {
        if self.keys.inherited.missed.remove(&token).is_some() {
            self.timers.disarm(Timer::Missed(token));
        }
    }

    /// The worker has come back, and has neither this nor a reply. One that keeps its replies
    /// has not run it; of another it is not known.
    pub(super) fn come_back_without(&mut self, worker: WorkerId, token: Token, turn: &mut Turn<'_, B>) {
        let keeps = self.crew.worker(worker).is_some_and(|record| record.instance().is_some());
        if keeps {
            self.untouched(worker, token, turn);
        } else {
            self.let_go(worker, token, &Loss::Forgotten, turn);
        }
    }

    /// The worker that has it will not come back.
    pub(super) fn miss(&mut self, token: Token, loss: &Loss, turn: &mut Turn<'_, B>) {
        if let Some(held) = self.take_back(token) {
            self.lose(&held, loss.clone(), turn);
        }
    }

    /// The process is no more, and has not been heard since the earlier router.
    pub(super) fn holder_ended(&mut self, place: Place, fate: &Fate, turn: &mut Turn<'_, B>) {
        let missed = self.keys.inherited.missed.iter();
        let own: Vec<Token> =
            missed.filter(|(_, holder)| **holder == Holder::Local(place)).map(|(token, _)| *token).collect();
        for token in own {
            self.miss(token, &Loss::Ended(fate.clone()), turn);
        }
    }

    /// A request for work that a worker has since an earlier router.
    pub(super) fn claim(&mut self, token: Token, request: Request<B>, turn: &mut Turn<'_, B>) {
        if let Some(objection) = self.weight(&request) {
            return self.turn_away(&request, objection, turn);
        }
        let run = request.request;
        if let Some(key) = request.wants.key.clone() {
            self.open_key(key, run);
        }
        self.take_over(token, request, turn);
    }

    /// A request for work that workers have had, and none has any more. Gives it back if another
    /// may have it.
    pub(super) fn try_again(
        &mut self,
        key: &Arc<str>,
        attempt: u32,
        request: Request<B>,
        turn: &mut Turn<'_, B>,
    ) -> Option<Request<B>> {
        if attempt < self.attempts_for(request.attempts) {
            return Some(request);
        }
        // An end like any other: who asks once more wants another try.
        self.keys.free(key);
        self.counters.turn_away(Status::Lost);
        self.tell_refusal(&request, Status::Lost, turn);
        turn.act(Action::Refuse {
            request: request.request,
            status: Status::Lost,
            attempt,
            spent: Spent::default(),
            retry_after: None,
            message: "its worker ended without a reply, and so did the router".into(),
        });
        None
    }

    /// Nobody has asked for it since the earlier router, and a worker had it in vain.
    pub(super) fn lose_unclaimed(&mut self, held: &Held, turn: &mut Turn<'_, B>) {
        self.leave_tried(held, held.attempt, turn);
    }

    /// The same, and the worker has not begun.
    pub(super) fn untry_unclaimed(&mut self, held: &Held, turn: &mut Turn<'_, B>) {
        self.leave_tried(held, held.attempt.saturating_sub(1), turn);
    }

    fn leave_tried(&mut self, held: &Held, attempt: u32, turn: &mut Turn<'_, B>) {
        let Some(key) = held.key.clone().filter(|_| held.unclaimed && attempt > 0) else { return };
        let until = turn.now.after(self.settings.key_window);
        turn.act(Action::Journal { key: Arc::clone(&key), entry: Entry::Tried { attempt, until } });
        self.keys.set(key, Key::Tried { attempt, until });
        self.arm_expiry();
    }

    /// The work of this key is taken back, and no client has asked for it since the earlier
    /// router. Returns whether there is any.
    pub(super) fn forget_key(&mut self, key: &str, turn: &mut Turn<'_, B>) -> bool {
        match self.keys.get(key) {
            Some(Key::Unclaimed { token }) => {
                let token = *token;
                self.nobody_claims(token, turn);
                self.break_off(token, turn);
            }
            Some(Key::Tried { .. }) => {
                self.keys.free(&key.into());
                self.arm_expiry();
            }
            Some(Key::Open { .. } | Key::Ending { .. } | Key::Done(_)) | None => return false,
        }
        true
    }

    /// Its time is over. If nobody has asked for it since the earlier router, nobody will hear.
    pub(super) fn nobody_claims(&mut self, token: Token, turn: &mut Turn<'_, B>) {
        let key = self.requests.held(token).and_then(|held| held.key.clone());
        if let Some(key) = key.filter(|key| self.keys.is_unclaimed(key, token)) {
            self.end_key(key, token, turn);
        }
    }
}

/// Work that an earlier router has given to a worker.
impl<B: Clone> Core<B> {
    /// In whose hands it is will be seen.
    fn hold_inherited(&mut self, key: Arc<str>, begun: &Begun) {
        let held = Held {
            worker: WorkerId::NOBODY,
            request: None,
            since: begun.since,
            attempt: begun.attempt,
            ordinal: 0,
            number: 0,
            begun: false,
            ahead: false,
            once_begun: OnceBegun::Runs,
            outcome: None,
            exclusive: None,
            key: Some(key),
            unclaimed: false,
            plan: None,
            window: None,
        };
        self.requests.held.insert(begun.token, Box::new(held));
    }

    /// A request asks for it.
    fn take_over(&mut self, token: Token, request: Request<B>, turn: &Turn<'_, B>) {
        let id = request.request;
        let mut record = self.record_of(request, turn.now);
        let Some(held) = self.requests.held.get_mut(&token) else { return };
        held.request = Some(id);
        record.attempt = held.attempt;
        record.hand_over(token, self.crew.place_of(held.worker), turn.now);
        match self.settings.timeout.map(|timeout| held.since.after(timeout)) {
            Some(end) => self.timers.arm(end, Timer::Attempt(token)),
            None => self.timers.disarm(Timer::Attempt(token)),
        }
        self.requests.insert(id, record);
        self.requests.in_flight += 1;
    }
}
