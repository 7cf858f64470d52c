//! The words of memory in which our own workers claim their jobs (`hornpipe_proto::claim`): found
//! by the descriptor that a worker announces, in the process that the kernel says it is.
//!
//! A worker whose word cannot be had works as any other: it is handed nothing ahead of its time.

use hornpipe_proto::claim;

use super::ffi::SharedWord;
use crate::core::MAX_AHEAD;

/// One connection's.
#[derive(Debug, Default)]
pub(super) struct Claims {
    word: Option<Word>,
    /// Whether it was looked for.
    tried: bool,
}

#[derive(Debug)]
struct Word {
    shared: SharedWord,
    /// The last job that was sent over this connection: its number, and which it was.
    last: (u32, u64),
}

impl Claims {
    /// The worker has said where its word is.
    pub(super) fn learn(&mut self, descriptor: Option<u32>, pid: Option<i32>) {
        let (Some(descriptor), Some(pid), false) = (descriptor, pid, self.tried) else { return };
        self.tried = true;
        match SharedWord::open(pid, descriptor) {
            Ok(shared) => {
                // What an earlier router had sent ahead of its time, or this one over another
                // connection, is not begun any more.
                let sent = u32::try_from(MAX_AHEAD).unwrap_or(u32::MAX) + 1;
                let start = claim::take_over(shared.get(), sent);
                self.word = Some(Word { shared, last: (start, 0) });
            }
            Err(error) => {
                tracing::debug!(pid, %error, "its word is out of reach: it is handed nothing ahead of its time");
            }
        }
    }

    /// Whether its jobs can be taken back.
    pub(super) fn are_open(&self) -> bool {
        self.word.is_some()
    }

    /// The number of a job that is sent: which of its connection it is.
    pub(super) fn number(&mut self, ordinal: u64) -> Option<u32> {
        // A word that comes later would say nothing of the jobs before.
        self.tried = true;
        let word = self.word.as_mut()?;
        let (number, before) = word.last;
        // By how many it is more, and no number is ever used again.
        let further = u32::try_from(ordinal.saturating_sub(before)).unwrap_or(1);
        word.last = (number.wrapping_add(further), ordinal);
        Some(word.last.0)
    }

    /// Whether it has begun that job of its connection. `None` if it does not tell.
    pub(super) fn has_begun(&self, ordinal: u64) -> Option<bool> {
        let word = self.word.as_ref()?;
        let (number, last) = word.last;
        let number = number.wrapping_sub(u32::try_from(last.checked_sub(ordinal)?).ok()?);
        Some(!claim::is_after(number, claim::begun(word.shared.get())))
    }

    /// Takes back all that has not begun. Returns up to which job of the connection it has.
    pub(super) fn withdraw(&self) -> Option<u64> {
        let word = self.word.as_ref()?;
        let (number, ordinal) = word.last;
        let begun = claim::withdraw(word.shared.get(), number);
        Some(ordinal.saturating_sub(u64::from(number.wrapping_sub(begun))))
    }
}
