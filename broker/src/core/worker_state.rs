//! The states of a worker's connection, and which may follow which.

/// What a worker does, as far as it has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerState {
    /// Connected, not yet ready.
    Starting,
    /// It holds nothing and would take a request.
    Waiting,
    /// It has something in hand.
    Processing,
    /// It takes nothing more.
    Exiting,
}

impl WorkerState {
    pub(super) const fn may_become(self, next: Self) -> bool {
        use WorkerState::{Exiting, Processing, Starting, Waiting};
        matches!(
            (self, next),
            (Starting | Processing, Waiting)
                | (Starting | Waiting, Processing)
                | (Starting | Waiting | Processing, Exiting)
        )
    }

    /// The word for it in status and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Processing => "processing",
            Self::Exiting => "exiting",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WorkerState::{Exiting, Processing, Starting, Waiting};

    #[test]
    fn the_table_of_transitions() {
        let all = [Starting, Waiting, Processing, Exiting];
        let row = |from: super::WorkerState| -> String {
            all.iter().map(|to| if from.may_become(*to) { 'x' } else { '.' }).collect()
        };
        let drawn: Vec<String> = all.iter().map(|from| row(*from)).collect();
        //                  S W P E     rows: from, columns: to
        assert_eq!(drawn, [".xxx", "..xx", ".x.x", "...."]);
    }
}
