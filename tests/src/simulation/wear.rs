//! The laws of workers that are worn out: how much each may be given, when it is measured,
//! for what it goes, and that nobody stays who should have gone.

use std::time::Duration;

use hornpipe::core::{ExitReason, Home, Place, RecycleCause, Timestamp};

use super::books::{Desk, Post};
use super::model::Model;

const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may take, one at a time and in calm, until whoever is spent is replaced.
const REPLACED_WITHIN: Duration = Duration::from_secs(20);

impl Model {
    /// Another request for this process, which may be one that waits for this worker alone: may it have one more?
    pub(super) fn judge_share(&mut self, place: Place, own: bool) {
        let Some(post) = self.posts.get_mut(&place) else { return };
        post.given += 1;
        post.given_at = self.step;
        let (given, served, born_at, era) = (post.given, post.served, post.born_at, post.era);
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
        // One on trial serves beside the process that it is to replace. And while the next router is waited for,
        // nobody is dismissed who has somebody waiting for him.
        let most = self.eras.get(era).and_then(|settings| settings.max_requests);
        let spared = self.reloading.is_some() || (own && self.parting.is_some());
        if most.is_some_and(|most| most <= served) && !spared {
            // One that holds a request may itself be about to leave, without a word of it.
            let idle = |post: &Post| post.desk.and_then(|worker| self.desks.get(&worker));
            let better = neighbours().find(|(other, post)| {
                place.incarnation < other.incarnation && idle(post).is_some_and(Desk::is_eligible)
            });
            law!(self, better.is_none(), "{place} has served {served}, and gets more beside {better:?}");
        }
    }

    /// Only who works or has just worked is measured, and nobody all the time.
    pub(super) fn judge_measuring(&mut self, place: Place, now: Timestamp) {
        let busy = self.desks.values().any(|desk| desk.home == Home::Local(place) && !desk.held.is_empty());
        // A late tick finds that it was due before its connection was given up.
        let busy = busy || self.freed_now.contains(&place);
        let due = self.replied_now == Some(place)
            || (busy && self.once(|settings| settings.max_memory_hard.is_some()));
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
    pub(super) fn judge_wear(&mut self, place: Place, reason: &ExitReason) {
        let Some((_, post)) = self.buried_now.take().filter(|(ended, _)| *ended == place) else {
            law!(self, false, "{place} has not ended");
            return;
        };
        let made_under = self.settings_of(&post);
        let fits = match reason {
            ExitReason::Recycle(RecycleCause::MaxRequests) => {
                made_under.max_requests.is_some_and(|most| most - most / 10 <= post.served)
            }
            ExitReason::Recycle(RecycleCause::MaxAge) => made_under.max_age.is_some(),
            ExitReason::Recycle(RecycleCause::IdleTimeout) => made_under.idle_timeout.is_some(),
            ExitReason::Recycle(RecycleCause::MaxMemory) => {
                self.once(|settings| settings.max_memory.is_some())
            }
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
        let beyond = |since: Timestamp, most: Option<Duration>| {
            most.is_some_and(|most| since.after(most).after(REPLACED_WITHIN) < now)
        };
        for (place, post) in self.posts.iter().filter(|(_, post)| post.ready && !post.is_leaving()) {
            let settings = self.settings_of(post);
            let spent = settings.max_requests.is_some_and(|most| most <= post.served);
            law!(self, !spent, "{place} has served {}, and stays", post.served);
            law!(self, !beyond(post.since, settings.max_age), "{place} is too old");
            let Some(desk) = post.desk.and_then(|worker| self.desks.get(&worker)) else { continue };
            let idle = desk.held.is_empty() && beyond(desk.free_since, settings.idle_timeout);
            law!(self, !idle, "{place} is idle for too long");
        }
    }
}
