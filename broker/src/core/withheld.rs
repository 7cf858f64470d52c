//! Why a worker is given nothing, whatever it says.

#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "reasons that come and go without regard to each other")]
pub(super) struct Withheld {
    /// It is being made to leave, or its process has ended.
    pub(super) leaving: bool,
    /// Somebody stopped its process.
    pub(super) halted: bool,
    /// It belongs to a service that is not served here.
    pub(super) elsewhere: bool,
    /// It has sent what no worker sends.
    pub(super) distrusted: bool,
    /// It has still to answer its probe.
    pub(super) unproven: bool,
}

impl Withheld {
    /// For longer than somebody's SIGSTOP lasts.
    pub(super) fn lastingly(self) -> bool {
        self.leaving || self.elsewhere || self.distrusted || self.unproven
    }
}
