//! What must hold after each step. Every request, connection and process is looked at once in a step, by all the laws
//! there are for it; what each law is about stands with its books.

use std::time::Duration;

use hornpipe::core::{AFFINITY_KEYS, PauseMode, Tables, Timestamp};

use super::Core;
use super::books::{Arrival, Parting, State, Stopped};
use super::laws::HALT_GRACE;
use super::model::Model;

/// After the last answer, before the router parts.
const LAST_CALL: Duration = Duration::from_millis(100);

/// What all open requests come to.
#[derive(Debug, Default)]
pub(super) struct Open {
    held: usize,
    waiting: usize,
    /// Of those that wait, whom no worker has had.
    pub(super) untried: usize,
    pub(super) bytes: u64,
}

impl Model {
    pub(super) fn check(&mut self, now: Timestamp, core: &Core) {
        let tables = core.tables();
        let open = self.check_requests(now);
        let in_hand = self.check_hands(now);
        self.check_accounts(&open, core);
        self.note_turns(core);
        if self.parting != Some(Parting::Done) {
            self.check_measures(core);
        }
        self.check_parts(&open, &tables, core);
        self.check_idle(core);
        if self.parting != Some(Parting::Done) {
            // Else they are the next router's.
            self.check_posts(now);
        }
        self.check_reload(core);
        self.check_bounds(&open, in_hand, &tables);
        self.check_quarantine(core);
        self.check_load(now, core);
        self.check_health(now, core);
        law!(self, core.target() == self.target, "target {}, not {}", core.target(), self.target);
        self.check_pause();
        let late = |stopped: &Stopped| stopped.over_by.is_some_and(|end| end < now) && !self.finished;
        law!(self, !self.stopped.as_ref().is_some_and(late), "stopping takes too long");
        if let Some(Parting::Until(end)) = self.parting {
            law!(self, now < end || self.requests.is_empty(), "requests are open after their time");
            // The tick that ends the time may be late, and the last call is counted from it.
            law!(self, now < end.after(2 * LAST_CALL), "handing over takes too long");
        }
        let over = self.stopped.is_some_and(|stopped| stopped.now);
        law!(self, !over || self.requests.is_empty(), "stopped, and requests are open");
    }

    /// Nothing is owed, and nothing is late.
    fn check_requests(&self, now: Timestamp) -> Open {
        let mut open = Open::default();
        for (request, asked) in &self.requests {
            let partly = &asked.partly;
            law!(self, !partly.is_due(), "a part did not come: {request}, {asked:?}");
            let until = match &asked.state {
                State::Due(_) => {
                    law!(self, false, "{request} did not come: {asked:?}");
                    None
                }
                State::Waiting => {
                    open.waiting += 1;
                    open.untried += usize::from(!asked.tried);
                    let end = self.limits.queue_timeout.map(|longest| asked.since.after(longest));
                    law!(self, end.is_none_or(|end| end > now), "{request} has waited for too long");
                    None
                }
                State::Held { until, .. } => {
                    open.held += 1;
                    let silent = partly.silent_until.is_some_and(|end| end <= now);
                    law!(self, !silent, "{request} waits too long for a part");
                    *until
                }
            };
            let late = [asked.deadline, until].into_iter().flatten().any(|end| end <= now);
            law!(self, !late || self.is_being_withdrawn(asked), "{request} is past its deadline");
            open.bytes += asked.size + partly.kept_bytes();
        }
        open
    }

    /// What workers have in hand, all together.
    fn check_hands(&mut self, now: Timestamp) -> usize {
        let (mut in_hand, mut busy) = (0, 0);
        for (worker, desk) in self.desks.iter().filter(|(_, desk)| !desk.held.is_empty()) {
            busy += 1;
            in_hand += desk.held.len();
            for (token, sheet) in &desk.held {
                self.check_ahead((*worker, desk), sheet, now);
                self.check_flow((*worker, desk), (*token, sheet));
            }
        }
        self.measures.in_hand = busy;
        in_hand
    }

    fn check_accounts(&self, open: &Open, core: &Core) {
        let Open { held, waiting, .. } = *open;
        law!(self, self.line.len() == waiting, "{waiting} wait, and {:?} are in line", self.line);
        law!(self, core.backlog_len() == waiting, "{} wait, not {waiting}", core.backlog_len());
        law!(self, core.in_flight_len() == held, "{} in flight, not {held}", core.in_flight_len());
        let counters = core.counters();
        let (answered, refused) = (counters.answered, counters.refused_total());
        law!(
            self,
            counters.received == self.received,
            "received {}, not {}",
            counters.received,
            self.received
        );
        law!(self, answered == self.answered, "answered {answered}, not {}", self.answered);
        law!(self, refused == self.refused, "refused {refused}, not {}", self.refused);
        law!(self, counters.probed == self.probed, "probed {}, not {}", counters.probed, self.probed);
        law!(self, counters.dropped == self.dropped, "dropped {}, not {}", counters.dropped, self.dropped);
        let ends = if self.settings.tell_ends { answered + refused + counters.dropped } else { 0 };
        law!(self, self.ends_told == ends, "{} ends are told, of {ends}", self.ends_told);
        let all = answered + refused + counters.dropped + (held + waiting) as u64;
        law!(self, all == self.received, "a request was lost or doubled");
    }

    fn check_posts(&self, now: Timestamp) {
        let (grace, boot_timeout) = (self.limits.term_grace, self.limits.boot_timeout);
        for (place, post) in &self.posts {
            if post.ready && !post.is_leaving() && post.halted.is_none() && !post.overrun {
                // It serves, and may do so for ever.
                continue;
            }
            let overdue =
                |since: Option<Timestamp>, grace| since.is_some_and(|since| since.after(grace) < now);
            let killed = post.killed.is_some();
            law!(self, killed || !post.overrun, "{place} holds too much memory, and lives");
            law!(self, killed || !overdue(post.terminated, grace), "{place} outlives TERM");
            law!(self, killed || !overdue(post.halted, HALT_GRACE), "{place} is stopped for too long");
            let booting = !post.ready && !post.adopted && !post.is_leaving() && post.probe.is_none();
            let boot = overdue(Some(post.since), boot_timeout);
            law!(self, !booting || !boot, "{place} may boot for too long");
            if let (Some((token, since)), false, false) = (post.probe, post.ready, post.is_leaving()) {
                let late = !self
                    .once(|settings| settings.probe_timeout.is_some_and(|time| !overdue(Some(since), time)));
                law!(self, !late, "{place} may be silent for too long");
                let held = self.desks.values().any(|desk| desk.held.contains_key(&token));
                law!(self, held, "{place} has let go of its probe, and stays");
            }
            let desk = post.desk.and_then(|worker| self.desks.get(&worker));
            // Since when it holds nothing, on none of its connections.
            let idle = desk.filter(|desk| desk.held.is_empty() && !self.is_finishing(desk));
            let idle = idle.map(|desk| desk.free_since);
            if let (Some(dismissed), Some(idle)) = (post.dismissed, idle) {
                let ignored = overdue(Some(dismissed.max(idle)), grace);
                law!(self, killed || post.terminated.is_some() || !ignored, "{place} ignores its dismissal");
            }
        }
    }

    fn check_bounds(&mut self, open: &Open, in_hand: usize, tables: &Tables) {
        self.check_room(open);
        let limit = self.settings.backlog_limit;
        if let Some(Arrival { request, waiting, idle, refused, .. }) = self.arrival.take() {
            let admitted = !refused && self.requests.contains_key(&request);
            let room = waiting < limit || (idle && waiting == 0);
            law!(
                self,
                !admitted || self.parting.is_none(),
                "{request} is admitted, and nobody is to serve it"
            );
            law!(self, !admitted || room, "{request} is admitted to a full queue");
            let refusing = self.paused == Some(PauseMode::Refuse);
            law!(self, !admitted || !refusing, "{request} is admitted, and new ones are refused");
        }
        if self.parting == Some(Parting::Done) {
            // What it keeps, it keeps for good: nothing is waited for any more.
            return;
        }
        law!(self, tables.requests == self.requests.len(), "{} requests are kept", tables.requests);
        law!(self, tables.held == in_hand, "{} held, not {in_hand}", tables.held);
        law!(self, tables.affinities <= AFFINITY_KEYS, "{} affinity keys are kept", tables.affinities);
        law!(self, tables.connections == self.desks.len(), "{} connections are kept", tables.connections);
        law!(self, tables.processes == self.posts.len(), "{} processes are kept", tables.processes);
        let (recorders, flights) = (tables.recorders, tables.flights);
        law!(self, recorders <= tables.slots + 16, "{recorders} slots are recorded, of {}", tables.slots);
        law!(self, flights <= 64, "{flights} requests are recorded of one slot");
        let timers = 2 * tables.requests + 3 * in_hand + 2 * tables.connections + 11 * tables.processes + 24;
        law!(self, tables.timers <= timers, "{} timers are kept", tables.timers);
    }
}
