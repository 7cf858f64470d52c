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
    /// Requests handed to workers that were still at others, and those of them taken back.
    pub handed_ahead: u64,
    pub taken_back: u64,
    /// Lives of the router.
    pub lives: u64,
}

impl std::ops::Add for Report {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            answered: self.answered + other.answered,
            refused: self.refused + other.refused,
            dropped: self.dropped + other.dropped,
            poison: self.poison + other.poison,
            spawned: self.spawned + other.spawned,
            handed_ahead: self.handed_ahead + other.handed_ahead,
            taken_back: self.taken_back + other.taken_back,
            lives: self.lives + other.lives,
        }
    }
}
