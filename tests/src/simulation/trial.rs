//! Which processes have shown that they work, in the model's books.

use std::time::Duration;

use hornpipe::core::{Home, Place, Timestamp, WorkerId};
use hornpipe_proto::Token;
use hornpipe_proto::worker::ReplyStatus;

use super::model::Model;

/// A process that has been ready for so long works.
const YOUNG: Duration = Duration::from_secs(1);

impl Model {
    /// Whether the worker's process gets nothing before it has answered its probe.
    pub(super) fn is_to_prove_itself(&self, worker: WorkerId) -> bool {
        let Some(Home::Local(place)) = self.desks.get(&worker).map(|desk| desk.home) else { return false };
        let Some(post) = self.posts.get(&place).filter(|post| !post.ready && !post.is_leaving()) else {
            return false;
        };
        let due = !post.adopted && self.reloading == Some(post.generation);
        post.probe.is_some() || (due && self.settings.probe_timeout.is_some())
    }

    /// It is ready, for the first time.
    pub(super) fn became_ready(&mut self, place: Place, now: Timestamp) {
        if let Some(post) = self.posts.get_mut(&place)
            && post.ready_since.is_none()
        {
            post.ready_since = Some(now);
            self.young.push_back((now, place));
        }
    }

    /// Those that have been ready for a second.
    pub(super) fn note_survivors(&mut self, now: Timestamp) {
        while let Some((_, place)) = self.young.pop_front_if(|(since, _)| since.after(YOUNG) <= now) {
            self.worked.extend(self.posts.get(&place).map(|post| post.generation));
        }
    }

    pub(super) fn note_success(
        &mut self,
        worker: WorkerId,
        token: Token,
        status: ReplyStatus,
        now: Timestamp,
    ) {
        let Some(Home::Local(place)) = self.desks.get(&worker).map(|desk| desk.home) else { return };
        let Some(post) = self.posts.get_mut(&place) else { return };
        let passed = status == ReplyStatus::Ok && !post.is_leaving();
        if passed && post.probe.is_some_and(|(probe, _)| probe == token) {
            post.ready = true;
            self.became_ready(place, now);
            for desk in self.desks.values_mut().filter(|desk| desk.home == Home::Local(place)) {
                desk.unproven = false;
            }
        }
        let shown = self.posts.get(&place).filter(|post| post.ready).map(|post| post.generation);
        self.worked.extend(shown);
    }
}
