//! Requests handed over ahead of their time: to whom, how many, for how long; and that what
//! is taken back is what was not begun.

use std::time::Duration;

use hornpipe::core::{Details, Event, MAX_AHEAD, Phase, RequestId, Speech, Timestamp, WorkerId};
use hornpipe_proto::Token;

use super::books::{Asked, Desk, Sheet, State};
use super::model::{Model, in_order};
use super::peer::PeerId;
use super::world::World;
use super::{Body, Core, PROBE};

/// What a worker's last replies tell of its speed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tempo {
    /// The last reply, if nothing slow has come after it.
    last: Option<Duration>,
    /// The quickest since the last slow one.
    quickest: Option<Duration>,
}

impl Desk {
    pub(super) fn claims(&self) -> bool {
        matches!(self.speech, Some(Speech::Native(Details { claims: true, .. })))
    }

    fn ahead_len(&self) -> usize {
        self.held.values().filter(|sheet| sheet.ahead).count()
    }
}

/// How long one may wait in the hands of a worker that has not begun it.
fn patience(budget: Duration) -> Duration {
    2 * budget
}

impl Model {
    pub(super) fn is_ahead(&self, worker: WorkerId, token: Token) -> bool {
        let sheet = self.desks.get(&worker).and_then(|desk| desk.held.get(&token));
        sheet.is_some_and(|sheet| sheet.ahead)
    }

    /// Whether no worker is at it, wherever it is.
    pub(super) fn waits(&self, asked: &Asked) -> bool {
        match asked.state {
            State::Waiting => true,
            State::Held { worker, token, .. } => self.is_ahead(worker, token),
            State::Due(_) => false,
        }
    }

    /// Whether it is with a worker that has been asked for all that it has not begun.
    pub(super) fn is_being_withdrawn(&self, asked: &Asked) -> bool {
        let State::Held { worker, .. } = asked.state else { return false };
        self.desks.get(&worker).is_some_and(|desk| desk.withdrawing)
    }

    pub(super) fn is_lost_if_begun(&mut self, worker: WorkerId, token: Token) {
        if let Some(sheet) = self.desks.get_mut(&worker).and_then(|desk| desk.held.get_mut(&token)) {
            sheet.forgotten = true;
        }
    }

    /// Whether the request goes to a busy worker, ahead of its time; then it must be one that may.
    pub(super) fn judge_ahead(&self, request: RequestId, worker: WorkerId, core: &Core) -> bool {
        let Some(desk) = self.desks.get(&worker).filter(|desk| !desk.is_eligible()) else { return false };
        let Some(budget) = self.settings.prefetch else {
            law!(self, false, "{worker} is busy, and gets {request}");
            return true;
        };
        let serves = core.phase() == Phase::Serving && !self.settings.fresh;
        law!(self, serves, "{request} is handed over ahead of its time while {:?}", core.phase());
        let takes = desk.claims() && desk.credits == 1 && desk.is_native() && !desk.held.is_empty();
        let takes = takes && !desk.barred && !desk.exiting && !desk.halted && !desk.distrusted;
        law!(self, takes, "{worker} gets {request} ahead of its time, and cannot give it back");
        law!(self, !desk.unproven && !desk.elsewhere, "{worker} gets {request}, and is not to serve");
        law!(self, !desk.withdrawn, "{worker} gets {request}, and may not have dropped what was taken back");
        let idle = self.desks.iter().find(|(_, desk)| desk.is_eligible() && !self.is_finishing(desk));
        law!(
            self,
            idle.is_none(),
            "{request} goes to a busy worker, and {:?} is idle",
            idle.map(|(id, _)| id)
        );
        let wants = self.requests.get(&request).map(|asked| asked.wants.clone()).unwrap_or_default();
        let bound = wants.key.is_some() || wants.exclusive.is_some() || wants.affinity.is_some();
        law!(self, !bound, "{request} is bound to others, and goes ahead of its time");
        let Tempo { last, quickest } = desk.tempo;
        law!(
            self,
            last.is_some_and(|last| last <= budget),
            "{worker} was slow: {last:?}, and gets {request}"
        );
        let ahead = desk.ahead_len() + 1;
        law!(self, ahead <= MAX_AHEAD, "{worker} has {ahead} ahead of it");
        let work = quickest.unwrap_or_default() * u32::try_from(ahead).unwrap_or(u32::MAX);
        law!(self, work <= budget, "{worker} has {work:?} ahead of it, and the budget is {budget:?}");
        true
    }

    pub(super) fn judge_withdrawal(&mut self, worker: WorkerId, now: Timestamp) {
        let limit = patience(self.settings.prefetch.unwrap_or_default());
        let desk = self.desks.get_mut(&worker);
        let fits = desk.is_some_and(|desk| {
            if desk.held.values().any(|sheet| sheet.ahead && sheet.since.after(limit) <= now) {
                // It was slow.
                desk.tempo = Tempo::default();
            }
            let fits = desk.claims() && desk.ahead_len() > 0 && !desk.withdrawing;
            desk.withdrawing = true;
            fits
        });
        law!(self, fits, "{worker} has nothing ahead of it, and it is taken back");
    }

    /// The worker is at this one from here on: an attempt, with its own time.
    pub(super) fn begins(&mut self, worker: WorkerId, token: Token, now: Timestamp) {
        let sheet = self.desks.get_mut(&worker).and_then(|desk| desk.held.get_mut(&token));
        let Some(sheet) = sheet.filter(|sheet| sheet.ahead) else { return };
        (sheet.ahead, sheet.since) = (false, now);
        let request = sheet.request;
        if !self.holds(request, token) {
            return;
        }
        let until = self.settings.timeout.map(|timeout| now.after(timeout));
        let Some(asked) = self.requests.get_mut(&request) else { return };
        asked.attempts += 1;
        asked.until = until;
        asked.state = State::Held { worker, token, until };
        self.measures.assigned += 1;
        self.measures.waits += now.since(asked.since);
        let (attempts, limit) = (asked.attempts, asked.attempts_limit);
        law!(self, attempts <= limit, "{request} is tried {attempts} times, not {limit}");
    }

    /// The worker has replied: it is at the next one now.
    pub(super) fn finish(&mut self, worker: WorkerId, token: Token, now: Timestamp) -> Option<RequestId> {
        self.begins(worker, token, now);
        let desk = self.desks.get_mut(&worker)?;
        let sheet = desk.held.get(&token)?;
        let (run, probe) = (now.since(sheet.since), sheet.request == PROBE);
        let own = self.post_of(worker).and_then(|post| post.probe).is_some_and(|(own, _)| own == token);
        if let (Some(budget), false) = (self.settings.prefetch, probe || own) {
            let tempo = self.desks.get_mut(&worker).map(|desk| &mut desk.tempo)?;
            let quickest = tempo.quickest.map_or(run, |quickest| quickest.min(run));
            *tempo = if run <= budget {
                Tempo { last: Some(run), quickest: Some(quickest) }
            } else {
                Tempo::default()
            };
        }
        let request = self.take(worker, token);
        let held = &self.desks.get(&worker)?.held;
        let next = held.iter().filter(|(_, sheet)| sheet.ahead).min_by_key(|(_, sheet)| sheet.ordinal);
        let next = next.map(|(token, _)| *token).filter(|_| held.values().all(|sheet| sheet.ahead));
        if let Some(next) = next {
            self.begins(worker, next, now);
        }
        request
    }

    /// The worker has begun its jobs up to this one, and never will begin the others.
    pub(super) fn withdrawn(&mut self, worker: WorkerId, begun: u64, now: Timestamp) {
        let Some(desk) = self.desks.get_mut(&worker) else { return };
        desk.barred |= !std::mem::take(&mut desk.withdrawing);
        desk.withdrawn = true;
        for token in in_order(desk) {
            let Some(sheet) = self.desks.get(&worker).and_then(|desk| desk.held.get(&token)) else {
                continue;
            };
            let (ahead, forgotten) = (sheet.ahead, sheet.forgotten);
            if begun < sheet.number {
                self.untouched(worker, token, now);
                if let Some(desk) = self.desks.get_mut(&worker) {
                    desk.free_since = now;
                }
            } else if ahead {
                self.begins(worker, token, now);
                if forgotten {
                    self.let_go(worker, token, false, now);
                }
            }
        }
    }

    /// After each step: nobody keeps for long what it has not begun.
    pub(super) fn check_ahead(&self, (worker, desk): (WorkerId, &Desk), sheet: &Sheet, now: Timestamp) {
        if !sheet.ahead || desk.withdrawing {
            return;
        }
        let limit = patience(self.settings.prefetch.unwrap_or_default());
        let late = sheet.since.after(limit) <= now;
        law!(self, !late, "{worker} has kept {sheet:?} for too long, and not begun it");
        // What the dead, and those who have said their last, have not begun goes to others at once.
        let gone = desk.cut || desk.exiting || desk.death.is_some();
        law!(self, !gone, "{worker} is gone, and begins more");
        law!(self, self.paused.is_none(), "paused, and more begins");
    }
}

/// What workers and the router do with their word.
impl World {
    /// Begins the next that it may, if there is one.
    pub(super) fn begin_next(&mut self, peer: PeerId, worker: WorkerId) {
        let Some(process) = self.peers.get_mut(&peer) else { return };
        let word = self.words.entry(worker).or_default();
        while let Some(job) = process.queue.pop_front() {
            if process.claims && job.number <= word.withdrawn {
                continue;
            }
            word.begun = job.number;
            process.jobs.insert(job.token, job.body);
            return self.begin(peer, worker, job);
        }
    }

    /// The router takes back what the worker has not begun.
    pub(super) fn withdraw(&mut self, worker: WorkerId) {
        if let Some(event) = self.withdrawn(worker) {
            self.at_once.push_front(event);
        }
    }

    /// The router is gone, and the word is not: what was taken back is still not begun.
    pub(super) fn outlive(&mut self, peer: PeerId, worker: WorkerId) {
        let withdrawn = self.words.get(&worker).map_or(0, |word| word.withdrawn);
        if let Some(process) = self.peers.get_mut(&peer) {
            process.queue.retain(|job| !process.claims || withdrawn < job.number);
        }
    }

    /// A router hears of the worker for the first time, and takes back what another has sent it.
    pub(super) fn take_over(&mut self, worker: WorkerId) {
        let peer = self.links.get(&worker).and_then(|link| self.peers.get_mut(&link.peer));
        if let Some(process) = peer.filter(|process| process.claims) {
            process.queue.clear();
        }
    }

    pub(super) fn withdrawn(&mut self, worker: WorkerId) -> Option<Event<Body>> {
        let word = self.words.get_mut(&worker)?;
        let claims = self.model.desks.get(&worker).is_some_and(Desk::claims);
        word.withdrawn = word.last;
        claims.then_some(Event::Withdrawn { worker, begun: word.begun })
    }
}
