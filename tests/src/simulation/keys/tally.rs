//! What one run of the world of keys has come to.

/// What one run has seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Requests answered with the reply of a run.
    pub answered: u64,
    /// Of those, how many had not run themselves.
    pub repeated: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// Clients that left something running.
    pub dropped: u64,
    /// Runs of keys.
    pub runs: u64,
    /// Routers that followed another.
    pub lives: u64,
    /// Replies that were for a router of before, and were read by a later one.
    pub inherited: u64,
    /// Requests handed to workers that were still at others.
    pub ahead: u64,
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            repeated: self.repeated + other.repeated,
            refused: self.refused + other.refused,
            dropped: self.dropped + other.dropped,
            runs: self.runs + other.runs,
            lives: self.lives + other.lives,
            inherited: self.inherited + other.inherited,
            ahead: self.ahead + other.ahead,
        }
    }
}
