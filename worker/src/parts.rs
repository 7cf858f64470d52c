//! A reply in parts, as far as the broker takes it so.

/// The parts of the reply to the job in hand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// The broker takes parts: so many at this moment.
    Sent { left: u32 },
    /// It takes one message: these frames come first in it.
    Joined { frames: Vec<Vec<u8>> },
}

impl Parts {
    /// What the job's meta says.
    pub(crate) fn within(window: Option<u32>) -> Self {
        window.map_or(Self::Joined { frames: Vec::new() }, |left| Self::Sent { left })
    }

    /// So many more may be sent.
    pub(crate) fn allow(&mut self, parts: u32) {
        if let Self::Sent { left } = self {
            *left = left.saturating_add(parts);
        }
    }

    /// What has to come before the end of the reply.
    pub(crate) fn take_joined(&mut self) -> Vec<Vec<u8>> {
        match self {
            Self::Sent { .. } => Vec::new(),
            Self::Joined { frames } => std::mem::take(frames),
        }
    }
}

/// Nobody waits for the reply any more: its client has taken the request back or is gone, its
/// time is over, or the broker has lost sight of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl std::fmt::Display for Cancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Cancelled {}
