//! Which of three lines a request waits in.

use serde::{Deserialize, Serialize};

/// Which of three lines a request waits in. Before the others, but not instead of them: a
/// lower line is not kept waiting for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others: somebody looks at a screen.
    High,
    /// Of whoever says nothing.
    #[default]
    Normal,
    /// After all others: nobody looks.
    Low,
}

impl Priority {
    /// All of them, the first to be served first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Whether it is the one of whoever says nothing.
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        matches!(self, Self::Normal)
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(word: &str) -> Result<Self, UnknownPriority> {
        Self::ALL.into_iter().find(|one| one.as_str() == word).ok_or(UnknownPriority)
    }
}

/// The word is none of `high`, `normal`, `low`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownPriority;

impl std::fmt::Display for UnknownPriority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("expected high, normal or low")
    }
}

impl std::error::Error for UnknownPriority {}
