//! How a request ended: one word, the same on the wire, in counters and logs.

use serde::{Deserialize, Serialize};

macro_rules! statuses {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+) => {
        /// How a request ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Status {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl Status {
            /// Every status, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

statuses! {
    /// The handler answered.
    Ok = "ok",
    /// The handler said that it failed.
    Error = "error",
    /// The queue is full; nothing was run.
    Busy = "busy",
    /// An attempt, or the request's own time, ran out while a worker had it.
    Timeout = "timeout",
    /// The request's time ran out in the queue; nothing was run.
    Expired = "expired",
    /// Every allowed attempt ended with the worker.
    Lost = "lost",
    /// The request killed each worker that tried it.
    Poison = "poison",
    /// Workers cannot start at present.
    Unavailable = "unavailable",
    /// Nobody serves the service that was asked for.
    NoService = "no_service",
    /// The broker is stopping.
    Draining = "draining",
    /// The request is not readable.
    Malformed = "malformed",
    /// The client may not do this.
    Denied = "denied",
    /// The body is larger than the broker takes.
    TooLarge = "too_large",
    /// The client took the request back.
    Cancelled = "cancelled",
}

impl Status {
    /// The status that a word names, if any does.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.as_str() == word)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn every_word_names_its_status() {
        for status in Status::ALL {
            assert_eq!(Status::from_word(status.as_str()), Some(*status));
        }
        assert_eq!(Status::from_word("fine"), None);
    }
}
