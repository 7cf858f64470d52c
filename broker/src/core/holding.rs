//! Requests on their way into a worker's hands, begun there, and out again.

use std::time::Duration;

use hornpipe_proto::Token;

use super::Core;
use super::backlog::End;
use super::flight::{self, Plan};
use super::held::{Held, OnceBegun};
use super::ids::{RequestId, Timestamp, WorkerId};
use super::record::Whereabouts;
use super::timers::Timer;

impl<B: Clone> Core<B> {
    /// A waiting request, now held by `worker` under `token`, which begins it.
    pub(super) fn hand_over(
        &mut self,
        request: RequestId,
        (worker, token, ordinal): (WorkerId, Token, u64),
        now: Timestamp,
    ) -> Option<(RequestId, u32, Option<Duration>, B)> {
        let handed = self.hold_ahead(request, (worker, token, ordinal), now)?;
        self.begin(token, now);
        Some(handed)
    }

    /// A waiting request, now held by `worker` under `token`, which is still at another. The
    /// attempt that is returned is the one that it will be.
    pub(super) fn hold_ahead(
        &mut self,
        request: RequestId,
        (worker, token, ordinal): (WorkerId, Token, u64),
        now: Timestamp,
    ) -> Option<(RequestId, u32, Option<Duration>, B)> {
        self.requests.take(request, worker);
        let window = self.window_for(worker, self.requests.record(request)?);
        let record = self.requests.table.get_mut(&request)?;
        self.timers.disarm(Timer::Queue(request));
        self.timers.disarm(Timer::Affinity(request));
        if record.orphan {
            self.requests.orphans_waiting -= 1;
            self.requests.orphans_in_flight += 1;
        } else {
            self.requests.askers.waits_no_more(record.client);
        }
        let plan = Plan {
            request,
            name: record.name.clone(),
            client: record.client,
            size: record.size,
            wait: Duration::ZERO,
            memory: None,
        };
        record.whereabouts = Whereabouts::Ahead { token };
        let deadline = self.settings.timeout.map(|timeout| now.after(timeout));
        let left = [record.deadline(), deadline].into_iter().flatten().min().map(|end| now.until(end));
        let attempt = record.attempt + 1;
        let handed = (request, attempt, left, record.body.clone());
        let held = Held {
            worker,
            request: Some(request),
            since: now,
            attempt,
            ordinal,
            number: ordinal,
            begun: false,
            ahead: true,
            once_begun: OnceBegun::Runs,
            outcome: None,
            exclusive: record.exclusive().cloned(),
            key: record.key().cloned(),
            unclaimed: false,
            plan: Some(plan),
            window,
        };
        self.requests.held.insert(token, Box::new(held));
        self.requests.in_flight += 1;
        Some(handed)
    }

    /// The worker is at this one from here on: the attempt counts, and its time runs.
    pub(super) fn begin(&mut self, token: Token, now: Timestamp) {
        let Some(held) = self.requests.held.get_mut(&token).filter(|held| held.ahead) else { return };
        (held.ahead, held.since) = (false, now);
        let place = self.crew.place_of(held.worker);
        let record = held.request.and_then(|request| self.requests.table.get_mut(&request));
        if let Some(record) = record {
            if let Some(plan) = &mut held.plan {
                plan.wait = now.since(record.waiting_since);
                plan.memory = place.and_then(|place| flight::memory_of(&self.roster, place));
                self.counters.times.queue_wait.observe(plan.wait);
            }
            record.attempt += 1;
            record.hand_over(token, place, now);
            if record.attempt > 1 {
                self.counters.retried += 1;
            }
        }
        if let Some(timeout) = self.settings.timeout {
            self.timers.arm(now.after(timeout), Timer::Attempt(token));
        }
    }

    /// The worker no longer holds `token`. What it held must be answered or
    /// put back by the caller.
    pub(super) fn take_back(&mut self, token: Token) -> Option<Box<Held>> {
        let mut held = self.requests.held.remove(&token)?;
        if let Some(request) = held.request {
            self.requests.in_flight -= 1;
            let orphan = self.requests.record(request).is_some_and(|record| record.orphan);
            self.requests.orphans_in_flight -= usize::from(orphan);
        }
        if let Some(key) = &held.key {
            held.unclaimed = self.keys.let_go(key, token);
        }
        self.found(token);
        self.timers.disarm(Timer::Attempt(token));
        self.timers.disarm(Timer::Part(token));
        self.timers.disarm(Timer::Cancelled(token));
        if let Some(exclusive) = &held.exclusive {
            self.requests.release(exclusive);
        }
        Some(held)
    }

    /// Puts a request that `take_back` returned at the head of the line, where it has
    /// waited since then.
    pub(super) fn put_back(&mut self, request: RequestId, since: Timestamp) {
        if let Some(record) = self.requests.table.get_mut(&request) {
            self.requests.held_bytes -= record.take_partial().kept_bytes();
            record.put_back(since);
            if record.orphan {
                self.requests.orphans_waiting += 1;
            } else {
                self.requests.askers.waits(record.client);
            }
            self.requests.join_backlog(request, End::Head);
            self.limit_wait(request, since);
        }
    }

    /// The worker never got it: as if it had not been tried.
    pub(super) fn untry(&mut self, held: &Held) {
        let Some(request) = held.request else { return };
        if let Some(record) = self.requests.table.get_mut(&request) {
            // One that was handed over ahead of its time has not been counted.
            if record.ahead().is_none() {
                // What an earlier router has given was not counted here.
                if record.attempt > 1 && !held.is_inherited() {
                    self.counters.retried -= 1;
                }
                record.attempt -= 1;
            }
            let since = record.waiting_since;
            self.put_back(request, since);
        }
    }
}
