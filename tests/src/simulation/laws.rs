//! The laws: what the core may order. What must hold after each step is in `checks`.

use std::time::Duration;

use hornpipe::core::{
    Action, Assignment, Ending, ExitReason, Finish, Generation, Home, Note, Phase, Place, Probe,
    RecycleCause, RequestId, Slot, Timestamp, WorkerId,
};
use hornpipe_proto::{Status, Token};

use super::books::{Desk, Due, Parting, Post, Sheet, State};
use super::model::Model;
use super::{Body, Core, PROBE};

macro_rules! law {
    ($model:expr, $holds:expr, $($why:tt)+) => {
        assert!($holds, "seed {} step {}: {}", $model.seed, $model.step, format_args!($($why)+))
    };
}

pub(super) use law;

pub(super) const HALT_GRACE: Duration = Duration::from_secs(5);

const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may take, one at a time and in calm, until whoever is spent is replaced.
const REPLACED_WITHIN: Duration = Duration::from_secs(20);

/// What the core orders.
impl Model {
    pub(super) fn judge(&mut self, action: &Action<Body>, now: Timestamp, core: &Core) {
        let is_order = matches!(
            action,
            Action::Answer { .. } | Action::Assign(_) | Action::Dismiss { .. } | Action::Spawn { .. }
        );
        law!(self, !is_order || self.parting != Some(Parting::Done), "handed over, and then {action:?}");
        match action {
            Action::Answer { request, attempt, body } => self.judge_answer(*request, *attempt, body),
            Action::Refuse { request, status, attempt, .. } => {
                self.judge_refusal(*request, *status, *attempt, (now, core));
            }
            Action::Forget { request } => {
                let state = self.close(*request);
                law!(self, state == State::Due(Due::Forget), "{request} forgotten while {state:?}");
                self.dropped += 1;
            }
            Action::Assign(assignment) => self.judge_assignment(assignment, now, core),
            Action::Probe(probe) => self.judge_probe(probe, now),
            Action::Cancel { worker, token } => self.judge_cancel(*worker, *token),
            Action::Dismiss { worker } => self.judge_dismissal(*worker, now),
            Action::Spawn { place, generation } => self.judge_spawn(*place, *generation, now, core),
            Action::Terminate { place } => self.judge_terminate(*place, now),
            Action::Kill { place } => self.judge_kill(*place, now, core),
            Action::Remember(memory) => {
                law!(self, memory.target == self.target, "a wrong target is remembered");
            }
            Action::Measure { place } => self.judge_measuring(*place, now),
            Action::Note(Note::ReloadFinished { generation }) => self.judge_reload(*generation),
            Action::Note(Note::RequestPoisoned { request, attempt, .. }) => {
                let deaths = self.requests.get(request).map_or(0, |asked| asked.deaths.len());
                law!(
                    self,
                    deaths == *attempt as usize,
                    "{request} is poison after {deaths} deaths, not {attempt}"
                );
            }
            Action::Note(Note::ReloadFailed { generation, .. }) => {
                let first = self.failed.insert(*generation);
                law!(self, first, "generation {generation} fails twice");
            }
            Action::Note(Note::ReloadAbandoned { generation }) => {
                let over = self.stopped.is_some() || self.gave_up(core);
                law!(self, over, "generation {generation} is abandoned, and nobody said stop");
            }
            Action::Note(Note::WorkerLeft { place, reason, planned, .. }) => {
                self.judge_end(*place, reason, *planned);
                self.judge_wear(*place, reason);
            }
            Action::Note(Note::RequestTimedOut { request, place, attempt, size, .. }) => {
                self.judge_time_out(*request, *place, (*attempt, *size));
            }
            Action::Note(_) => (),
            Action::Stopping { .. } => law!(self, self.stopped.is_some(), "stopping, and nobody said so"),
            Action::Finished(finish) => self.judge_finish(finish),
        }
    }

    fn close(&mut self, request: RequestId) -> State {
        let asked = self.requests.remove(&request);
        law!(self, asked.is_some(), "{request} has had its last action before");
        self.line.retain(|waiting| *waiting != request);
        asked.map_or(State::Waiting, |asked| asked.state)
    }

    fn judge_answer(&mut self, request: RequestId, attempt: u32, body: &Body) {
        let attempts = self.requests.get(&request).map_or(0, |asked| asked.attempts);
        let state = self.close(request);
        law!(
            self,
            state == State::Due(Due::Answer(body.number)),
            "{request} answered with {body:?} while {state:?}"
        );
        law!(self, attempt == attempts, "{request}: attempt {attempt}, not {attempts}");
        self.quarantine.retain(|_, kept| kept.retry != Some(request));
        self.answered += 1;
    }

    fn judge_refusal(
        &mut self,
        request: RequestId,
        status: Status,
        attempt: u32,
        (now, core): (Timestamp, &Core),
    ) {
        let Some(asked) = self.requests.get(&request) else {
            self.close(request);
            return;
        };
        let late = asked.deadline.is_some_and(|deadline| deadline <= now);
        let waited = self.settings.queue_timeout.is_some_and(|timeout| asked.since.after(timeout) <= now);
        let overdue = late || asked.until.is_some_and(|until| until <= now);
        let (attempts, size, service) = (asked.attempts, asked.size, asked.service.clone());
        law!(self, attempt == attempts, "{request}: attempt {attempt}, not {attempts}");
        let gave_up = self.gave_up(core);
        let is_parting = self.parting.is_some();
        let is_parting_time = matches!(self.parting, Some(Parting::Until(end)) if end <= now);
        let state = self.close(request);
        let retried = self.quarantine.values_mut().find(|kept| kept.retry == Some(request));
        if let Some(kept) = retried {
            kept.retry = None;
        }
        self.refused += 1;
        let arriving = self.arrival.as_mut().filter(|arrival| arrival.request == request);
        let fits = match (status, &state) {
            (Status::Expired, State::Waiting) => (late || waited) && attempts == 0,
            (Status::Timeout, State::Waiting) => (overdue || waited) && attempts > 0,
            (status, State::Due(due)) => *due == Due::Refuse(status),
            (Status::Timeout, State::Held { until, .. }) => late || until.is_some_and(|until| until <= now),
            (Status::Draining, _) => self.stopped.is_some(),
            (Status::Unavailable, State::Waiting) => {
                let failing = self.phase_before == Phase::Failing || core.phase() == Phase::Failing;
                failing || gave_up || is_parting_time || (is_parting && arriving.is_some())
            }
            (Status::Unavailable, State::Held { .. }) => is_parting_time,
            (Status::Busy, State::Waiting) => arriving.is_some_and(|arrival| {
                let full =
                    arrival.waiting >= self.settings.backlog_limit && !(arrival.idle && arrival.waiting == 0);
                arrival.refused = true;
                full || arrival.bytes + size > self.settings.held_bytes_limit
            }),
            (Status::TooLarge, State::Waiting) => arriving.is_some() && size > self.settings.body_limit,
            (Status::NoService, State::Waiting) => {
                arriving.is_some() && service.is_some_and(|name| name != "default")
            }
            _ => false,
        };
        law!(self, fits, "{request} refused {status:?} while {state:?} after {attempts} attempts");
    }

    fn gave_up(&self, core: &Core) -> bool {
        core.phase() == Phase::Over && self.stopped.is_none()
    }

    fn judge_assignment(&mut self, assignment: &Assignment<Body>, now: Timestamp, core: &Core) {
        let Assignment { worker, token, request, attempt, left, detailed, body } = assignment;
        law!(self, !matches!(core.phase(), Phase::Over), "work for {worker} after the end");
        let about = self.requests.get(request).map(|asked| asked.about);
        law!(self, about == Some(body.request) && body.number == 0, "{request} goes out with {body:?}");
        let first = self.line.pop_front();
        law!(self, first == Some(*request), "{request} given to {worker} before {first:?}");
        let idle = self.desks.values().filter(|desk| desk.is_eligible() && !self.is_finishing(desk));
        let best = idle.map(rank).min();
        let Some(desk) = self.desks.get_mut(worker) else {
            law!(self, false, "work for {worker}, which is gone");
            return;
        };
        let eligible = desk.is_eligible();
        let (place, native, chosen) = (desk.home, desk.is_native(), rank(desk));
        self.turns += 1;
        desk.sent += 1;
        desk.last_turn = self.turns;
        desk.ready = native;
        let sheet = Sheet { request: *request, ordinal: desk.sent, begun: false };
        let doubled = desk.held.insert(*token, sheet).is_some();
        law!(self, !doubled, "{worker} has {token:?} twice");
        law!(self, eligible, "{worker} is not idle");
        law!(self, best.is_none_or(|best| chosen <= best), "{worker} is not the next of the idle");
        law!(self, native == *detailed, "{worker} gets details: {detailed}");
        if let Home::Local(place) = place {
            let fit = self.posts.get(&place).is_some_and(|post| !post.is_leaving() && post.halted.is_none());
            let proven = self.posts.get(&place).is_none_or(|post| post.probe.is_none() || post.ready);
            law!(self, proven, "work for {place}, which has not answered its probe");
            law!(self, fit, "work for {place}, which is leaving or stopped");
            self.judge_share(place);
        }
        let until = self.settings.timeout.map(|timeout| now.after(timeout));
        let Some(asked) = self.requests.get_mut(request) else { return };
        asked.attempts += 1;
        asked.tried = true;
        asked.until = until;
        asked.state = State::Held { worker: *worker, token: *token, until };
        let end = [asked.deadline, until].into_iter().flatten().min();
        let (attempts, limit) = (asked.attempts, asked.attempts_limit);
        law!(self, attempts <= limit, "{request} is tried {attempts} times, not {limit}");
        law!(self, attempts == *attempt, "{request}: attempt {attempt}, not {attempts}");
        law!(self, end.map(|end| now.until(end)) == *left, "{request}: the time left is wrong");
    }

    fn judge_probe(&mut self, probe: &Probe, now: Timestamp) {
        let Probe { worker, token, left, detailed } = *probe;
        law!(self, self.settings.probe_timeout == Some(left), "a probe of {left:?}");
        let Some(desk) = self.desks.get_mut(&worker) else {
            law!(self, false, "a probe for {worker}, which is gone");
            return;
        };
        let fit = desk.unproven && desk.ready && desk.held.is_empty() && !desk.barred;
        let (native, home) = (desk.is_native(), desk.home);
        self.turns += 1;
        self.probed += 1;
        desk.sent += 1;
        desk.last_turn = self.turns;
        desk.ready = native;
        desk.held.insert(token, Sheet { request: PROBE, ordinal: desk.sent, begun: false });
        law!(self, fit, "{worker} is to prove nothing, or not yet");
        law!(self, native == detailed, "{worker} gets details: {detailed}");
        let Home::Local(place) = home else {
            law!(self, false, "{worker} is probed, and is not ours");
            return;
        };
        let Some(post) = self.posts.get_mut(&place) else { return };
        let first = post.probe.replace((token, now)).is_none();
        law!(self, first, "{place} is probed twice");
    }

    fn judge_cancel(&self, worker: WorkerId, token: Token) {
        let fit =
            self.desks.get(&worker).is_some_and(|desk| desk.is_native() && desk.held.contains_key(&token));
        let fit = fit || self.gone_now.contains(&worker);
        law!(self, fit, "{worker} is told to cancel what it does not hold, or does not understand");
    }

    fn judge_dismissal(&mut self, worker: WorkerId, now: Timestamp) {
        // One that is made for a single request goes after it, whoever follows.
        let stays = self.parting.is_some() && !self.settings.fresh;
        law!(self, !stays, "{worker} is dismissed, and is the next router's");
        let Some(desk) = self.desks.get_mut(&worker) else {
            law!(self, false, "{worker} is dismissed, and is gone");
            return;
        };
        desk.barred = true;
        let (native, home) = (desk.is_native(), desk.home);
        law!(self, native, "{worker} is dismissed, and knows no such word");
        let Home::Local(place) = home else {
            law!(self, false, "{worker} is dismissed, and is not ours");
            return;
        };
        if let Some(post) = self.posts.get_mut(&place) {
            post.dismissed.get_or_insert(now);
        }
    }

    fn judge_spawn(&mut self, place: Place, generation: Generation, now: Timestamp, core: &Core) {
        law!(self, self.in_slot(place.slot) < 2, "{place} would be the third in its slot");
        law!(self, !matches!(core.phase(), Phase::Ending | Phase::Over), "{place} spawned at the end");
        if self.stopped.is_some() || self.parting.is_some() {
            law!(self, !self.line.is_empty(), "{place} spawned while draining, for no work");
            law!(
                self,
                !self.desks.values().any(Desk::is_eligible),
                "{place} spawned while draining, others idle"
            );
        }
        let post = Post { born_at: self.step, ..Post::new(generation, false, now) };
        let doubled = self.posts.insert(place, post).is_some();
        law!(self, !doubled, "{place} is spawned twice");
        law!(self, !self.failed.contains(&generation), "{place} is of a generation that failed");
        let newcomers = self.newcomers_len();
        let limit = match core.reload_under_way() {
            Some(reload) if self.worked.contains(&reload.to) => self.surge as usize,
            Some(_) | None => 1,
        };
        law!(self, newcomers <= limit, "{newcomers} newcomers, at most {limit} may be");
    }

    /// Another request for this process: may it have one more?
    fn judge_share(&mut self, place: Place) {
        let Some(post) = self.posts.get_mut(&place) else { return };
        post.given += 1;
        post.given_at = self.step;
        let (given, served, born_at) = (post.given, post.served, post.born_at);
        let neighbours = || {
            let others = self.posts.iter().filter(|(other, _)| other.slot == place.slot);
            others.filter(|(other, _)| other.incarnation != place.incarnation)
        };
        if self.settings.fresh {
            law!(self, given == 1, "{place} gets {given} requests");
            let works = |other: &Place, post: &Post| {
                let told = post.announced || post.terminated.is_some() || post.killed.is_some();
                let at = |desk: &Desk| desk.home == Home::Local(*other) && !desk.held.is_empty();
                // A replacement that warms beside it may be ready before it is done. A probe
                // is no request.
                !told && post.given > 0 && post.given_at <= born_at && self.desks.values().any(at)
            };
            let doubled = neighbours().find(|(other, post)| works(other, post)).map(|(other, _)| other);
            law!(self, doubled.is_none(), "{place} works beside {doubled:?}");
        }
        // One on trial serves beside the process that it is to replace.
        if self.settings.max_requests.is_some_and(|most| most <= served) && self.reloading.is_none() {
            // One that holds a request may itself be about to leave, without a word of it.
            let idle = |post: &Post| post.desk.and_then(|worker| self.desks.get(&worker));
            let better = neighbours().find(|(other, post)| {
                place.incarnation < other.incarnation && idle(post).is_some_and(Desk::is_eligible)
            });
            law!(self, better.is_none(), "{place} has served {served}, and gets more beside {better:?}");
        }
    }

    /// Only who works or has just worked is measured, and nobody all the time.
    fn judge_measuring(&mut self, place: Place, now: Timestamp) {
        let busy = self.desks.values().any(|desk| desk.home == Home::Local(place) && !desk.held.is_empty());
        let due = self.replied_now == Some(place) || (busy && self.settings.max_memory_hard.is_some());
        law!(self, due, "{place} is measured while it does nothing");
        let Some(post) = self.posts.get_mut(&place) else {
            law!(self, false, "{place} has ended, and is measured");
            return;
        };
        let before = post.weighed.replace(now);
        let often = before.is_some_and(|before| now < before.after(MEASURE_INTERVAL));
        law!(self, !often, "{place} is measured too often");
    }

    /// A process has ended, as the core says for this reason.
    fn judge_wear(&mut self, place: Place, reason: &ExitReason) {
        let Some((_, post)) = self.buried_now.take().filter(|(ended, _)| *ended == place) else {
            law!(self, false, "{place} has not ended");
            return;
        };
        let fits = match reason {
            ExitReason::Recycle(RecycleCause::MaxRequests) => {
                self.settings.max_requests.is_some_and(|most| most - most / 10 <= post.served)
            }
            ExitReason::Recycle(RecycleCause::MaxAge) => self.settings.max_age.is_some(),
            ExitReason::Recycle(RecycleCause::IdleTimeout) => self.settings.idle_timeout.is_some(),
            ExitReason::Recycle(RecycleCause::MaxMemory) => self.settings.max_memory.is_some(),
            ExitReason::Recycle(RecycleCause::Fresh) => {
                self.settings.fresh && (post.given == 1 || post.adopted)
            }
            ExitReason::MemoryLimit => post.overrun,
            _ => true,
        };
        law!(self, fits, "{place} ends by {reason}, after {} requests", post.served);
    }

    /// After a long calm nobody is left who should have been replaced.
    pub(super) fn check_wear(&self, now: Timestamp) {
        let settings = &self.settings;
        let beyond = |since: Timestamp, most: Option<Duration>| {
            most.is_some_and(|most| since.after(most).after(REPLACED_WITHIN) < now)
        };
        for (place, post) in self.posts.iter().filter(|(_, post)| post.ready && !post.is_leaving()) {
            let spent = settings.max_requests.is_some_and(|most| most <= post.served);
            law!(self, !spent, "{place} has served {}, and stays", post.served);
            law!(self, !beyond(post.since, settings.max_age), "{place} is too old");
            let Some(desk) = post.desk.and_then(|worker| self.desks.get(&worker)) else { continue };
            let idle = desk.held.is_empty() && beyond(desk.free_since, settings.idle_timeout);
            law!(self, !idle, "{place} is idle for too long");
        }
    }

    fn judge_reload(&self, generation: Generation) {
        // Where each request brings a process, all are seldom ready at once.
        // One that has had its request leaves after it.
        let old = |post: &Post| post.generation < generation && post.given == 0 && !post.is_leaving();
        if self.settings.fresh {
            let old = self.posts.iter().find(|(_, post)| old(post));
            return law!(self, old.is_none(), "reloaded, and {old:?} stays");
        }

        let renewed = |post: &&Post| post.generation == generation && post.ready && !post.is_leaving();
        let renewed = self.posts.values().filter(renewed).count();
        law!(self, renewed >= self.target as usize, "reloaded, and {renewed} of {} are new", self.target);
    }

    /// Slots where somebody warms up beside the process it is to replace.
    fn newcomers_len(&self) -> usize {
        let warms = |post: &Post| !post.ready && !post.adopted && !post.is_leaving();
        let replaces = |new: &Place| {
            let mut others = self.posts.iter().filter(|(old, _)| old.slot == new.slot && *old != new);
            others.any(|(old, post)| !post.is_leaving() && !self.may_be_finishing(*old))
        };
        self.posts.iter().filter(|(place, post)| warms(post) && replaces(place)).count()
    }

    /// Nobody tells a plain worker, or one that has lost its connection, that it leaves
    /// after its request.
    fn may_be_finishing(&self, place: Place) -> bool {
        let of_it = |desk: &&Desk| desk.home == Home::Local(place);
        let silent = |desk: &Desk| (desk.cut || !desk.is_native()) && !desk.held.is_empty();
        self.posts.get(&place).is_some_and(|post| post.bereft)
            || self.desks.values().filter(of_it).any(silent)
    }

    /// What is said of a process's end is what happened, or what was wished before.
    fn judge_end(&self, place: Place, reason: &ExitReason, planned: bool) {
        let starved = self.ended_now == Some((place, Ending::OutOfMemory));
        let told = *reason == ExitReason::OutOfMemory;
        law!(self, starved || !told, "{place} had memory enough, and left for lack of it");
        let by_itself = matches!(reason, ExitReason::Code(_) | ExitReason::Signal(_));
        law!(self, !(starved && by_itself), "{place} was killed for lack of memory, not {reason}");
        law!(self, !(told && planned), "{place} was killed for lack of memory, and that was planned");
    }

    fn judge_time_out(&self, request: RequestId, place: Option<Place>, told: (u32, u64)) {
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

    fn in_slot(&self, slot: Slot) -> usize {
        self.posts.keys().filter(|place| place.slot == slot).count()
    }

    fn bar(&mut self, place: Place) {
        for desk in self.desks.values_mut().filter(|desk| desk.home == Home::Local(place)) {
            desk.barred = true;
        }
    }

    fn judge_terminate(&mut self, place: Place, now: Timestamp) {
        self.bar(place);
        let Some(post) = self.posts.get_mut(&place) else {
            law!(self, false, "{place} has ended, and gets TERM");
            return;
        };
        let killed = post.killed.is_some();
        post.terminated.get_or_insert(now);
        law!(self, !killed, "{place} gets TERM after KILL");
    }

    fn judge_kill(&mut self, place: Place, now: Timestamp, core: &Core) {
        self.bar(place);
        let at_once = self.stopped.is_some_and(|stopped| stopped.now) || self.gave_up(core);
        let Some(post) = self.posts.get_mut(&place) else {
            law!(self, false, "{place} has ended, and gets KILL");
            return;
        };
        post.killed.get_or_insert(now);
        let halted = post.halted.is_some_and(|since| since.after(HALT_GRACE) <= now);
        let asked = post.terminated.is_some_and(|since| since.after(self.settings.term_grace) <= now);
        let asked = asked || (post.terminated.is_some() && self.stopped.is_some());
        let overrun = post.overrun;
        law!(self, halted || asked || at_once || overrun, "{place} gets KILL before it was asked to leave");
    }

    fn judge_finish(&mut self, finish: &Finish) {
        law!(self, !self.finished, "finished twice");
        if *finish == Finish::HandedOver {
            let began = matches!(self.parting, Some(Parting::Until(_)));
            law!(self, began, "handed over while {:?}, {:?}", self.parting, self.stopped);
            law!(self, self.requests.is_empty(), "handed over, and requests are open");
            self.parting = Some(Parting::Done);
            return;
        }
        law!(self, self.parting.is_none(), "finished for good while it hands over");
        self.finished = true;
        if *finish == Finish::Stopped {
            law!(self, self.stopped.is_some(), "finished, and nobody said stop");
            law!(self, self.posts.is_empty(), "finished, and {:?} live", self.posts.keys());
        } else {
            let serves = |desk: &Desk| desk.ready && !desk.elsewhere && !desk.barred;
            law!(self, !self.desks.values().any(serves), "given up, and a worker was ready");
        }
        law!(self, self.requests.is_empty(), "finished, and requests are open");
    }
}

/// Least loaded first, then least recently used.
fn rank(desk: &Desk) -> (usize, u64) {
    (desk.held.len(), desk.last_turn)
}
