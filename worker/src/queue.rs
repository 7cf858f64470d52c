//! Jobs that have come and are not begun: one, or several if the broker can take them back.

use std::collections::VecDeque;

use hornpipe_proto::claim;
use tracing::debug;

use crate::Job;
use crate::ffi::SharedWord;

/// So many jobs are taken off the socket ahead of their time: more than a broker sends.
const LIMIT: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    jobs: VecDeque<Job>,
    /// Where jobs are claimed, if there is such a place.
    word: Option<SharedWord>,
}

impl Queue {
    /// Makes a place where jobs are claimed. Returns the descriptor by which a broker finds it.
    pub(crate) fn share(&mut self) -> Option<u32> {
        match SharedWord::new() {
            Ok(word) => self.word = Some(word),
            Err(error) => debug!(%error, "no memory to claim jobs in: none comes ahead of its time"),
        }
        self.word.as_ref().and_then(SharedWord::descriptor)
    }

    pub(crate) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// The next job that the broker has not taken back, which is begun by this.
    pub(crate) fn begin(&mut self) -> Option<Job> {
        loop {
            let job = self.jobs.pop_front()?;
            match (&self.word, job.claim()) {
                (Some(word), Some(number)) if !claim::claim(word.get(), number) => {
                    debug!(id = job.id(), "taken back");
                }
                _begun => return Some(job),
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether more may be read. A broker that takes nothing back sends one at a time.
    pub(crate) fn has_room(&self) -> bool {
        let limit = if self.word.is_some() { LIMIT } else { 1 };
        self.jobs.len() < limit
    }

    /// Whether one that is here while another is in hand was sent in its place.
    pub(crate) fn supersedes(&self) -> bool {
        self.jobs.front().is_some_and(|job| job.claim().is_none())
    }

    /// Those who sent them are gone, and with them whoever waited.
    pub(crate) fn clear(&mut self) {
        self.jobs.clear();
    }
}
