//! The laws: what must hold after each step.

use std::collections::BTreeMap;
use std::time::Duration;

use hornpipe::core::{Home, Phase, RequestId, Timestamp};

use super::Core;
use super::books::{Arrival, Desk, Kept, Parting, Post, State, Stopped};
use super::laws::{HALT_GRACE, law};
use super::model::Model;

/// After the last answer, before the router parts.
const LAST_CALL: Duration = Duration::from_millis(100);

/// What must hold after each step.
impl Model {
    pub(super) fn check(&mut self, now: Timestamp, core: &Core) {
        self.check_accounts(core);
        self.check_deadlines(now);
        self.check_idle(core);
        self.check_posts(now);
        self.check_reload(core);
        self.check_bounds(core);
        self.check_quarantine(core);
        law!(self, core.target() == self.target, "target {}, not {}", core.target(), self.target);
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

    fn check_accounts(&self, core: &Core) {
        let due = self.requests.iter().find(|(_, asked)| matches!(asked.state, State::Due(_)));
        law!(self, due.is_none(), "{due:?} did not come");
        let (waiting, held) = (self.line.len(), self.in_flight());
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
        let all = answered + refused + counters.dropped + (held + waiting) as u64;
        law!(self, all == self.received, "a request was lost or doubled");
    }

    fn check_deadlines(&self, now: Timestamp) {
        for (request, asked) in &self.requests {
            let until = if let State::Held { until, .. } = asked.state { until } else { None };
            let end = [asked.deadline, until].into_iter().flatten().min();
            law!(self, end.is_none_or(|end| end > now), "{request} is past its deadline");
            let queued = self.settings.queue_timeout.filter(|_| asked.state == State::Waiting);
            let end = queued.map(|timeout| asked.since.after(timeout));
            law!(self, end.is_none_or(|end| end > now), "{request} has waited for too long");
        }
    }

    fn check_idle(&self, core: &Core) {
        let idle = self.desks.iter().find(|(_, desk)| desk.is_eligible() && !self.is_finishing(desk));
        let Some((worker, _)) = idle else { return };
        let serving = matches!(
            core.phase(),
            Phase::Starting | Phase::Serving | Phase::HandingOver | Phase::Draining { .. }
        );
        law!(self, !serving || self.line.is_empty(), "{worker} is idle while {:?} wait", self.line);
        law!(self, core.phase() != Phase::Failing, "{worker} is idle, and requests are refused");
    }

    /// A process with two connections may be on its way out by the other one.
    pub(super) fn is_finishing(&self, desk: &Desk) -> bool {
        self.desks
            .values()
            .any(|other| other.home == desk.home && other.home != Home::External && !other.held.is_empty())
    }

    fn check_posts(&self, now: Timestamp) {
        let grace = self.settings.term_grace;
        for (place, post) in &self.posts {
            let overdue =
                |since: Option<Timestamp>, grace| since.is_some_and(|since| since.after(grace) < now);
            let killed = post.killed.is_some();
            law!(self, killed || !post.overrun, "{place} holds too much memory, and lives");
            law!(self, killed || !overdue(post.terminated, grace), "{place} outlives TERM");
            law!(self, killed || !overdue(post.halted, HALT_GRACE), "{place} is stopped for too long");
            let booting = !post.ready && !post.adopted && !post.is_leaving() && post.probe.is_none();
            let boot = overdue(Some(post.since), self.settings.boot_timeout);
            law!(self, !booting || !boot, "{place} may boot for too long");
            if let (Some((token, since)), false, false) = (post.probe, post.ready, post.is_leaving()) {
                let late = self.settings.probe_timeout.is_none_or(|time| overdue(Some(since), time));
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

    fn check_quarantine(&self, core: &Core) {
        let quarantine = core.quarantine();
        let theirs = quarantine.iter().map(|(number, entry)| {
            let bytes = if entry.body.is_some() { entry.size } else { 0 };
            let about = entry.body.map_or(entry.request, |body| body.request);
            law!(self, about == entry.request, "{number} in quarantine has the body of {about}");
            (number, Kept { about, bytes, size: entry.size, retry: entry.retry })
        });
        let theirs: BTreeMap<u64, Kept> = theirs.collect();
        law!(self, theirs == self.quarantine, "in quarantine are {theirs:?}, not {:?}", self.quarantine);
        law!(self, quarantine.bytes() == self.quarantine_bytes(), "{} bytes kept", quarantine.bytes());
        law!(self, quarantine.len() <= self.settings.quarantine_limit, "{} are kept", quarantine.len());
        law!(self, quarantine.bytes() <= self.settings.quarantine_bytes_limit, "too much poison is kept");
        law!(self, quarantine.evicted() == self.evicted, "{} had to go", quarantine.evicted());
    }

    fn check_reload(&self, core: &Core) {
        let Some(reload) = core.reload_under_way() else { return };
        let renewed = |post: &Post| post.generation == reload.to && post.ready && !post.is_leaving();
        let most = self.posts.values().filter(|post| renewed(post)).count();
        law!(self, reload.renewed as usize <= most, "{} are renewed, not {most}", reload.renewed);
        law!(self, reload.from < reload.to, "a reload from {} to {}", reload.from, reload.to);
    }

    fn check_bounds(&mut self, core: &Core) {
        let untried = |request: &&RequestId| self.requests.get(request).is_some_and(|asked| !asked.tried);
        let untried = self.line.iter().filter(untried).count();
        let limit = self.settings.backlog_limit;
        law!(self, untried <= limit, "{untried} wait, at most {limit} may");
        law!(self, self.bytes() <= self.settings.held_bytes_limit, "too many bytes are held");
        if let Some(Arrival { request, waiting, idle, refused, .. }) = self.arrival.take() {
            let admitted = !refused && self.requests.contains_key(&request);
            let room = waiting < limit || (idle && waiting == 0);
            law!(
                self,
                !admitted || self.parting.is_none(),
                "{request} is admitted, and nobody is to serve it"
            );
            law!(self, !admitted || room, "{request} is admitted to a full queue");
        }
        let tables = core.tables();
        let held: usize = self.desks.values().map(|desk| desk.held.len()).sum();
        law!(self, tables.requests == self.requests.len(), "{} requests are kept", tables.requests);
        law!(self, tables.held == held, "{} held, not {held}", tables.held);
        law!(self, tables.connections == self.desks.len(), "{} connections are kept", tables.connections);
        law!(self, tables.processes == self.posts.len(), "{} processes are kept", tables.processes);
        let (recorders, flights) = (tables.recorders, tables.flights);
        law!(self, recorders <= tables.slots + 16, "{recorders} slots are recorded, of {}", tables.slots);
        law!(self, flights <= 64, "{flights} requests are recorded of one slot");
        let timers = 2 * tables.requests + 2 * held + tables.connections + 11 * tables.processes + 16;
        law!(self, tables.timers <= timers, "{} timers are kept", tables.timers);
    }
}
