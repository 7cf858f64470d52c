//! Slots whose last process died early share a number of forks a second, besides
//! the back-off that each has of its own: a thousand slots with a program that ends
//! at once must not keep the machine busy with starting it.

use std::collections::VecDeque;
use std::time::Duration;

use super::ids::Timestamp;

/// In any time of this length there are no more forks than the limit.
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct ForkRoom {
    /// When the last forks were, as many as the limit allows in one window.
    recent: VecDeque<Timestamp>,
}

impl ForkRoom {
    /// Takes the room for one fork, or says when there will be some.
    pub(super) fn take(&mut self, limit: usize, now: Timestamp) -> Result<(), Timestamp> {
        while self.recent.front().is_some_and(|fork| fork.after(WINDOW) <= now) {
            self.recent.pop_front();
        }
        match self.recent.front() {
            Some(first) if self.recent.len() >= limit => Err(first.after(WINDOW)),
            Some(_) | None => {
                self.recent.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_forks_than_the_limit() {
        let mut room = ForkRoom::default();
        let mut forks = Vec::new();
        for millisecond in 0..5000 {
            let now = Timestamp::new(Duration::from_millis(millisecond));
            match room.take(3, now) {
                Ok(()) => forks.push(millisecond),
                Err(later) => assert!(now < later),
            }
        }
        assert_eq!(forks.len(), 15);
        assert!(forks.iter().zip(forks.iter().skip(3)).all(|(first, fourth)| first + 1000 <= *fourth));
    }
}
