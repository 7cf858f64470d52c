//! Settings that change in the middle of everything, in the model's books. What began under
//! earlier ones may end under them; what begins, begins under the last.

use std::time::Duration;

use hornpipe::core::{Generation, Memory, Place, RequestId, Settings, Timestamp};

use super::books::{Asked, Post};
use super::checks::Open;
use super::model::Model;

/// How much may be held although less is allowed by now: what was there when that changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) waiting: usize,
    pub(super) bytes: u64,
}

impl Room {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { waiting: settings.backlog_limit, bytes: settings.held_bytes_limit }
    }

    /// So much is held: it may become less, and not more again.
    pub(super) fn narrow(&mut self, settings: &Settings, waiting: usize, bytes: u64) {
        self.waiting = settings.backlog_limit.max(self.waiting.min(waiting));
        self.bytes = settings.held_bytes_limit.max(self.bytes.min(bytes));
    }
}

/// The longest times that any settings of this life gave.
#[derive(Debug)]
pub(super) struct Limits {
    /// `None` if there was a time in which a request could wait for ever.
    pub(super) queue_timeout: Option<Duration>,
    pub(super) term_grace: Duration,
    pub(super) boot_timeout: Duration,
}

impl Limits {
    pub(super) fn of(eras: &[Settings]) -> Self {
        let longest = |time: fn(&Settings) -> Duration| eras.iter().map(time).max().unwrap_or_default();
        let endless = eras.iter().any(|settings| settings.queue_timeout.is_none());
        Self {
            queue_timeout: (!endless).then(|| longest(|settings| settings.queue_timeout.unwrap_or_default())),
            term_grace: longest(|settings| settings.term_grace),
            boot_timeout: longest(|settings| settings.boot_timeout),
        }
    }
}

impl Model {
    /// A process of an earlier router's: its share is drawn anew.
    pub(super) fn adopted(&mut self, place: Place, generation: Generation, now: Timestamp) {
        let post = Post { era: self.era(), ..Post::new(generation, true, now) };
        self.posts.insert(place, post);
    }

    /// An operator has changed the settings.
    pub(super) fn configured(&mut self, settings: &Settings, now: Timestamp) {
        let held = Room { waiting: self.untried(), bytes: self.bytes() };
        self.room = Room {
            waiting: settings.backlog_limit.max(held.waiting),
            bytes: settings.held_bytes_limit.max(held.bytes),
        };
        let target = if settings.workers == self.settings.workers { self.target } else { settings.workers };
        if settings.autoscale != self.settings.autoscale {
            self.load.forget_steps();
        }
        self.load.changed = now;
        if settings.prefetch != self.settings.prefetch {
            self.desks.values_mut().for_each(|desk| desk.tempo = super::ahead::Tempo::default());
        }
        self.settings = settings.clone();
        self.eras.push(settings.clone());
        self.limits = Limits::of(&self.eras);
        self.scale(target);
    }

    /// How many wait whom no worker has had.
    pub(super) fn untried(&self) -> usize {
        let untried = |request: &&RequestId| self.requests.get(request).is_some_and(|asked| !asked.tried);
        self.line.iter().filter(untried).count()
    }

    /// No more is held than may be, or than there was when less was allowed.
    pub(super) fn check_room(&mut self, open: &Open) {
        let Open { untried, bytes, .. } = *open;
        law!(self, untried <= self.room.waiting, "{untried} wait, at most {:?} may", self.room);
        law!(self, bytes <= self.room.bytes, "{bytes} bytes are held, at most {:?} may", self.room);
        self.room.narrow(&self.settings, untried, bytes);
    }

    /// What a router begins with that finds this.
    pub(super) fn first_target(settings: &Settings, memory: Option<&Memory>) -> u32 {
        let Some(memory) = memory else { return settings.workers };
        let target = if memory.size == Some(settings.workers) { memory.target } else { settings.workers };
        target.max(settings.min).min(settings.max)
    }

    /// Whether it has waited as long as it may at least.
    pub(super) fn may_have_waited(&self, asked: &Asked, now: Timestamp) -> bool {
        self.once(|settings| settings.queue_timeout.is_some_and(|timeout| asked.since.after(timeout) <= now))
    }

    /// Whether that was so under any settings of this life.
    pub(super) fn once(&self, so: impl Fn(&Settings) -> bool) -> bool {
        self.eras.iter().any(so)
    }

    /// The settings that a process was made under.
    pub(super) fn settings_of(&self, post: &Post) -> &Settings {
        self.eras.get(post.era).unwrap_or(&self.settings)
    }

    pub(super) fn era(&self) -> usize {
        self.eras.len() - 1
    }
}
