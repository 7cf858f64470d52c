//! Ends of processes in kinds that are counted apart: so few that each may be a label.

use super::action::{ExitReason, RecycleCause};

/// A kind of [`ExitReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitKind {
    Scale,
    Reload,
    MaxRequests,
    MaxAge,
    IdleTimeout,
    Memory,
    Operator,
    Fresh,
    Drain,
    Timeout,
    OutOfMemory,
    Signal,
    Exit,
    Announced,
    Boot,
    Probe,
    Malformed,
    Disconnected,
    Silent,
    Halted,
}

impl ExitKind {
    /// All there are, in the order of their counts.
    pub const ALL: [Self; 20] = [
        Self::Scale,
        Self::Reload,
        Self::MaxRequests,
        Self::MaxAge,
        Self::IdleTimeout,
        Self::Memory,
        Self::Operator,
        Self::Fresh,
        Self::Drain,
        Self::Timeout,
        Self::OutOfMemory,
        Self::Signal,
        Self::Exit,
        Self::Announced,
        Self::Boot,
        Self::Probe,
        Self::Malformed,
        Self::Disconnected,
        Self::Silent,
        Self::Halted,
    ];

    pub(super) const fn of(reason: &ExitReason) -> Self {
        match reason {
            ExitReason::Announced(_) => Self::Announced,
            ExitReason::Shrink => Self::Scale,
            ExitReason::Reload => Self::Reload,
            ExitReason::Recycle(RecycleCause::MaxRequests) => Self::MaxRequests,
            ExitReason::Recycle(RecycleCause::MaxAge) => Self::MaxAge,
            ExitReason::Recycle(RecycleCause::IdleTimeout) => Self::IdleTimeout,
            ExitReason::Recycle(RecycleCause::MaxMemory) | ExitReason::MemoryLimit => Self::Memory,
            ExitReason::Recycle(RecycleCause::Operator) => Self::Operator,
            ExitReason::Recycle(RecycleCause::Fresh) => Self::Fresh,
            ExitReason::Drain => Self::Drain,
            ExitReason::Timeout => Self::Timeout,
            ExitReason::BootTimeout | ExitReason::NotExecuted(_) | ExitReason::NotStarted(_) => Self::Boot,
            ExitReason::Unproven => Self::Probe,
            ExitReason::Malformed => Self::Malformed,
            ExitReason::Disconnected => Self::Disconnected,
            ExitReason::Silent => Self::Silent,
            ExitReason::Halted => Self::Halted,
            ExitReason::Code(_) => Self::Exit,
            ExitReason::Signal(_) => Self::Signal,
            ExitReason::OutOfMemory => Self::OutOfMemory,
        }
    }

    /// The word for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Reload => "reload",
            Self::MaxRequests => "max_requests",
            Self::MaxAge => "max_age",
            Self::IdleTimeout => "idle_timeout",
            Self::Memory => "memory",
            Self::Operator => "operator",
            Self::Fresh => "fresh",
            Self::Drain => "drain",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "oom",
            Self::Signal => "signal",
            Self::Exit => "exit",
            Self::Announced => "announced",
            Self::Boot => "boot",
            Self::Probe => "probe",
            Self::Malformed => "malformed",
            Self::Disconnected => "disconnected",
            Self::Silent => "silent",
            Self::Halted => "halted",
        }
    }
}
