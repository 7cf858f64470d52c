//! The laws of reloads: who is probed, how many newcomers there may be beside those
//! they replace, and when a reload is done.

use hornpipe::core::{Generation, Home, Place, Probe, Timestamp};

use super::books::{Desk, Post, Sheet};
use super::model::Model;
use super::{Core, PROBE};

impl Model {
    pub(super) fn judge_probe(&mut self, probe: &Probe, now: Timestamp) {
        let Probe { worker, token, ordinal, left, detailed } = *probe;
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
        desk.held.insert(
            token,
            Sheet {
                request: PROBE,
                ordinal: desk.sent,
                number: desk.sent,
                begun: false,
                ahead: false,
                forgotten: false,
                since: now,
                exclusive: None,
                flow: None,
            },
        );
        law!(self, desk.sent == ordinal, "the probe is job {ordinal} of {worker}");
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

    pub(super) fn judge_reload(&self, generation: Generation) {
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
    pub(super) fn newcomers_len(&self) -> usize {
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

    pub(super) fn check_reload(&self, core: &Core) {
        let Some(reload) = core.reload_under_way() else { return };
        let renewed = |post: &Post| post.generation == reload.to && post.ready && !post.is_leaving();
        let most = self.posts.values().filter(|post| renewed(post)).count();
        law!(self, reload.renewed as usize <= most, "{} are renewed, not {most}", reload.renewed);
        law!(self, reload.from < reload.to, "a reload from {} to {}", reload.from, reload.to);
    }
}
