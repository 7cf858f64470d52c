//! What one run has come to.

/// What one run has seen.
#[derive(Debug, Default, Clone, Copy)]
pub struct Report {
    /// Events that the core took in.
    pub events: u64,
    pub answered: u64,
    pub refused: u64,
    pub dropped: u64,
    /// Of those refused: they ended every worker that had them.
    pub poison: u64,
    pub spawned: u64,
    /// Lives of the router.
    pub lives: u64,
}
