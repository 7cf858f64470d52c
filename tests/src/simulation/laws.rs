//! The laws of what the core may order. What must hold after each step is in `checks`.

use std::time::Duration;

use hornpipe::core::{
    Action, Assignment, Ending, ExitReason, Generation, Home, Note, PauseMode, Phase, Place, RequestId, Slot,
    Timestamp, WINDOW, WorkerId,
};
use hornpipe_proto::Status;

use super::books::{Desk, Due, Parting, Post, Sheet, State};
use super::model::Model;
use super::{Body, Core, PROBE};

/// How long a stopped process is waited for.
pub(super) const HALT_GRACE: Duration = Duration::from_secs(5);

/// What the core orders.
impl Model {
    pub(super) fn judge(&mut self, action: &Action<Body>, now: Timestamp, core: &Core) {
        let is_order = matches!(
            action,
            Action::Answer { .. } | Action::Assign(_) | Action::Dismiss { .. } | Action::Spawn { .. }
        );
        law!(self, !is_order || self.parting != Some(Parting::Done), "handed over, and then {action:?}");
        match action {
            Action::Part { request, attempt, body } => self.judge_part(*request, *attempt, body),
            Action::Answer { request, attempt, parts, body, .. } => {
                self.judge_answer(*request, *attempt, (parts, body));
            }
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
            Action::Withdraw { worker } => self.judge_withdrawal(*worker, now),
            Action::Cancel { worker, token } => self.judge_cancel(*worker, *token),
            Action::Allow { worker, token, parts } => {
                self.judge_allowance((*worker, *token), *parts, now);
            }
            Action::Dismiss { worker } => self.judge_dismissal(*worker, now),
            Action::Capacity { worker, requests } => {
                law!(self, *requests == 0 || core.serves(*worker), "{worker} is offered and takes nothing");
            }
            Action::Disown { worker } => law!(self, false, "{worker} has no heart to fail"),
            Action::Spawn { place, generation } => self.judge_spawn(*place, *generation, now, core),
            Action::Terminate { place } => self.judge_terminate(*place, now),
            Action::Kill { place } => self.judge_kill(*place, now, core),
            Action::Journal { key, .. } => law!(self, false, "nobody has asked with a key, and {key} is one"),
            Action::Remember(memory) => {
                law!(self, memory.target == self.target, "a wrong target is remembered");
                let paused = memory.pause.map(|pause| pause.mode);
                law!(self, paused == self.paused, "{paused:?} is remembered, not {:?}", self.paused);
                self.paused_in_memory = paused;
            }
            Action::Measure { place } => self.judge_measuring(*place, now),
            Action::Note(note) => self.judge_note(note, now, core),
            Action::Stopping { .. } => law!(self, self.stopped.is_some(), "stopping, and nobody said so"),
            Action::Finished(finish) => self.judge_finish(finish),
        }
    }

    fn judge_note(&mut self, note: &Note, now: Timestamp, core: &Core) {
        match note {
            Note::ReloadFinished { generation } => self.judge_reload(*generation),
            Note::RequestPoisoned { request, attempt, .. } => {
                self.judge_poison(*request, *attempt);
            }
            Note::ReloadFailed { generation, .. } => {
                let first = self.failed.insert(*generation);
                law!(self, first, "generation {generation} fails twice");
            }
            Note::ReloadAbandoned { generation } => {
                let over = self.stopped.is_some() || self.gave_up(core);
                law!(self, over, "generation {generation} is abandoned, and nobody said stop");
            }
            Note::TargetChanged { from, to, cause } => self.judge_target((*from, *to), cause, now, core),
            Note::WorkerLeft { place, reason, planned, respawn_after, telling, .. } => {
                self.judge_end(*place, reason, *planned);
                self.judge_wear(*place, reason);
                self.judge_death((*place, reason), *respawn_after, *telling, now);
            }
            Note::RequestTimedOut { request, place, attempt, size, .. } => {
                self.judge_time_out(*request, *place, (*attempt, *size));
            }
            Note::RequestEnded(ended) => self.judge_end_of_request(ended, now),
            Note::WorkerReady { place, .. } => {
                let adopted = self.posts.get(place).is_some_and(|post| post.adopted);
                self.measures.started += u64::from(!adopted);
            }
            Note::Degraded(_) => self.judge_degraded(),
            Note::Restored => self.judge_restored(now),
            _ => (),
        }
    }

    fn close(&mut self, request: RequestId) -> State {
        let asked = self.requests.remove(&request);
        law!(self, asked.is_some(), "{request} has had its last action before");
        self.line.retain(|waiting| *waiting != request);
        if let Some(asked) = &asked {
            self.measure_end(request, asked);
        }
        asked.map_or(State::Waiting, |asked| asked.state)
    }

    fn judge_answer(&mut self, request: RequestId, attempt: u32, (parts, body): (&[Body], &Body)) {
        let asked = self.requests.get(&request);
        let attempts = asked.map_or(0, |asked| asked.attempts);
        self.judge_kept(request, parts, asked.map_or(&[], |asked| asked.partly.kept()));
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
        let waited = self.may_have_waited(asked, now);
        let silent = asked.partly.silent_until.is_some_and(|until| until <= now);
        let overdue = late || asked.until.is_some_and(|until| until <= now);
        let (attempts, size, service) = (asked.attempts, asked.size, asked.service.clone());
        law!(self, attempt == attempts, "{request}: attempt {attempt}, not {attempts}");
        let (deadline, crowded) = (asked.deadline.is_some(), self.is_crowded(request, asked));
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
            (Status::Timeout, State::Held { until, .. }) => {
                late || silent || until.is_some_and(|until| until <= now)
            }
            (Status::Draining, _) => self.stopped.is_some(),
            (Status::Unavailable, State::Waiting) => {
                let failing = self.phase_before == Phase::Failing || core.phase() == Phase::Failing;
                let parting = is_parting && (arriving.is_some() || self.paused.is_some());
                let refusing = arriving.is_some() && self.paused == Some(PauseMode::Refuse);
                failing || gave_up || is_parting_time || parting || refusing
            }
            (Status::Unavailable, State::Held { .. }) => is_parting_time,
            (Status::Busy, State::Waiting) => arriving.is_some_and(|arrival| {
                let full =
                    arrival.waiting >= self.settings.backlog_limit && !(arrival.idle && arrival.waiting == 0);
                arrival.refused = true;
                let hurried = deadline && arrival.waiting > 0;
                full || crowded || hurried || arrival.bytes + size > self.settings.held_bytes_limit
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
        let Assignment { worker, token, ordinal, request, attempt, left, detailed, window, body } =
            assignment;
        law!(self, !matches!(core.phase(), Phase::Over), "work for {worker} after the end");
        let about = self.requests.get(request).map(|asked| asked.about);
        let flow = self.flow_of(*request, *window);
        law!(self, self.paused.is_none(), "{request} is handed out while paused");
        law!(self, about == Some(body.request) && body.number == 0, "{request} goes out with {body:?}");
        let own = self.judge_turn(*request, *worker, core);
        let exclusive = self.requests.get(request).and_then(|asked| asked.wants.exclusive.clone());
        let idle = self.desks.values().filter(|desk| desk.is_eligible() && !self.is_finishing(desk));
        // One that waits for this worker gets it, whoever else is idle.
        let best = idle.map(rank).min().filter(|_| !own);
        let ahead = self.judge_ahead(*request, *worker, core);
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
        let number = desk.sent;
        let sheet = Sheet {
            request: *request,
            ordinal: number,
            number,
            begun: false,
            ahead: true,
            forgotten: false,
            since: now,
            exclusive,
            flow,
        };
        let doubled = desk.held.insert(*token, sheet).is_some();
        law!(self, !doubled, "{worker} has {token:?} twice");
        law!(self, eligible || ahead, "{worker} is not idle");
        law!(self, number == *ordinal, "{request} is job {ordinal} of {worker}, not {number}");
        law!(self, ahead || best.is_none_or(|best| chosen <= best), "{worker} is not the next of the idle");
        law!(self, native == *detailed, "{worker} gets details: {detailed}");
        law!(self, *window == native.then_some(WINDOW), "{worker} may send {window:?} parts ahead");
        if let Home::Local(place) = place {
            let fit = self.posts.get(&place).is_some_and(|post| !post.is_leaving() && post.halted.is_none());
            let proven = self.posts.get(&place).is_none_or(|post| post.probe.is_none() || post.ready);
            law!(self, proven, "work for {place}, which has not answered its probe");
            law!(self, fit, "work for {place}, which is leaving or stopped");
            if !ahead {
                self.judge_share(place, own);
            }
        }
        let until = self.settings.timeout.map(|timeout| now.after(timeout));
        let Some(asked) = self.requests.get_mut(request) else { return };
        asked.tried = true;
        asked.state = State::Held { worker: *worker, token: *token, until: None };
        let end = [asked.deadline, until].into_iter().flatten().min();
        let attempts = asked.attempts + 1;
        law!(self, attempts == *attempt, "{request}: attempt {attempt}, not {attempts}");
        law!(self, end.map(|end| now.until(end)) == *left, "{request}: the time left is wrong");
        if !ahead {
            self.begins(*worker, *token, now);
        }
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
        // A probe is nobody's request.
        let busy = desk.held.values().any(|sheet| sheet.request != PROBE);
        let (native, home) = (desk.is_native(), desk.home);
        law!(self, native, "{worker} is dismissed, and knows no such word");
        // Nothing but a smaller pool asks anybody to leave in such a step.
        let only_shrinks =
            self.load.shrinks && !self.load.reload_in_step && self.settings.max_requests.is_none();
        law!(self, !(only_shrinks && busy), "{worker} is busy, and goes because others are idle");
        let Home::Local(place) = home else {
            law!(self, false, "{worker} is dismissed, and is not ours");
            return;
        };
        if let Some(post) = self.posts.get_mut(&place) {
            post.dismissed.get_or_insert(now);
        }
    }

    fn judge_spawn(&mut self, place: Place, generation: Generation, now: Timestamp, core: &Core) {
        self.measures.spawned += 1;
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
        self.judge_refill(place, now);
        let post = Post { born_at: self.step, era: self.era(), ..Post::new(generation, false, now) };
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

    /// What is said of a process's end is what happened, or what was wished before.
    fn judge_end(&self, place: Place, reason: &ExitReason, planned: bool) {
        let starved = self.ended_now == Some((place, Ending::OutOfMemory));
        let told = *reason == ExitReason::OutOfMemory;
        law!(self, starved || !told, "{place} had memory enough, and left for lack of it");
        let by_itself = matches!(reason, ExitReason::Code(_) | ExitReason::Signal(_));
        law!(self, !(starved && by_itself), "{place} was killed for lack of memory, not {reason}");
        law!(self, !(told && planned), "{place} was killed for lack of memory, and that was planned");
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
        let grace = self.eras.iter().map(|settings| settings.term_grace).min().unwrap_or_default();
        let Some(post) = self.posts.get_mut(&place) else {
            law!(self, false, "{place} has ended, and gets KILL");
            return;
        };
        post.killed.get_or_insert(now);
        let halted = post.halted.is_some_and(|since| since.after(HALT_GRACE) <= now);
        let asked = post.terminated.is_some_and(|since| since.after(grace) <= now);
        let asked = asked || (post.terminated.is_some() && self.stopped.is_some());
        let overrun = post.overrun;
        law!(self, halted || asked || at_once || overrun, "{place} gets KILL before it was asked to leave");
    }
}

/// Least loaded first, then least recently used.
fn rank(desk: &Desk) -> (usize, u64) {
    (desk.held.len(), desk.last_turn)
}
