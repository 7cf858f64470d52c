//! Counting votes: when a quorum is reached, when it cannot be any more, and what a
//! majority says about a remaining life. No I/O, no clock.

use std::time::Duration;

/// How many of `servers` are a majority. Any two majorities have a server in common.
pub(crate) const fn quorum(servers: usize) -> usize {
    servers / 2 + 1
}

/// What the answers so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority agrees.
    Reached,
    /// It depends on who has not answered yet.
    Open,
    /// Too many refuse, whatever the others say.
    Refused,
    /// Too many did not answer.
    Failed,
    /// Refusals and failures together are too many, and neither is by itself.
    Split,
}

/// The answers of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    servers: usize,
    granted: usize,
    refused: usize,
    failed: usize,
}

impl Tally {
    pub(crate) const fn of(servers: usize) -> Self {
        Self { servers, granted: 0, refused: 0, failed: 0 }
    }

    pub(crate) const fn grant(&mut self) {
        self.granted += 1;
    }

    pub(crate) const fn refuse(&mut self) {
        self.refused += 1;
    }

    pub(crate) const fn fail(&mut self) {
        self.failed += 1;
    }

    pub(crate) const fn granted(self) -> usize {
        self.granted
    }

    /// Whether nobody is waited for any more.
    pub(crate) const fn is_complete(self) -> bool {
        self.granted + self.refused + self.failed >= self.servers
    }

    pub(crate) const fn verdict(self) -> Verdict {
        let needed = quorum(self.servers);
        // As many may be missing without a majority becoming impossible.
        let spare = self.servers - needed;
        if self.granted >= needed {
            Verdict::Reached
        } else if self.refused > spare {
            Verdict::Refused
        } else if self.failed > spare {
            Verdict::Failed
        } else if self.refused + self.failed > spare {
            Verdict::Split
        } else {
            Verdict::Open
        }
    }
}

/// Whether one holder has a majority, or may have: of those that refused, so many named the
/// most frequent one, and of so many it is unknown whom they would name. If not, nobody
/// holds it: several have asked at the same moment.
pub(crate) const fn may_be_held(servers: usize, most_frequent: usize, unknown: usize) -> bool {
    most_frequent > 0 && most_frequent + unknown >= quorum(servers)
}

/// When a majority will be free, of the servers that are `free` and those whose key has so
/// long to live. `None` if that is not known, as for keys that live for ever.
pub(crate) fn free_in(servers: usize, free: usize, mut lives: Vec<Duration>) -> Option<Duration> {
    lives.sort_unstable();
    match quorum(servers).saturating_sub(free) {
        0 => Some(Duration::ZERO),
        missing => lives.get(missing - 1).copied(),
    }
}

/// How long a majority has the key: the least of the greatest lives that make a quorum.
/// `None` if fewer have it.
pub(crate) fn life_by_majority(servers: usize, mut lives: Vec<Duration>) -> Option<Duration> {
    lives.sort_unstable_by(|one, other| other.cmp(one));
    lives.get(quorum(servers) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(servers: usize, granted: usize, refused: usize, failed: usize) -> Verdict {
        Tally { servers, granted, refused, failed }.verdict()
    }

    fn seconds(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_secs).collect()
    }

    #[test]
    fn a_quorum_is_more_than_half() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(quorum), [1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn any_two_majorities_share_a_server() {
        for servers in 1..100 {
            assert!(2 * quorum(servers) > servers, "{servers}");
        }
    }

    #[test]
    fn every_complete_round_has_a_verdict_and_every_verdict_is_final() {
        for servers in 1..=7 {
            for granted in 0..=servers {
                for refused in 0..=servers - granted {
                    for failed in 0..=servers - granted - refused {
                        let now = tally(servers, granted, refused, failed);
                        if granted + refused + failed == servers {
                            assert_ne!(now, Verdict::Open, "{servers} {granted} {refused} {failed}");
                        } else if now == Verdict::Reached {
                            assert_eq!(tally(servers, granted, refused + 1, failed), now);
                            assert_eq!(tally(servers, granted, refused, failed + 1), now);
                        } else if now != Verdict::Open {
                            let missing = servers - granted - refused - failed;
                            assert_ne!(tally(servers, granted + missing, refused, failed), Verdict::Reached);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_majority_lacks_is_told() {
        assert_eq!(tally(3, 1, 1, 1), Verdict::Split);
        assert_eq!(tally(3, 1, 0, 2), Verdict::Failed);
        assert_eq!(tally(3, 0, 1, 2), Verdict::Failed);
        assert_eq!(tally(3, 0, 2, 0), Verdict::Refused);
        assert_eq!(tally(5, 3, 0, 2), Verdict::Reached);
        assert_eq!(tally(5, 2, 0, 2), Verdict::Open);
    }

    #[test]
    fn votes_that_are_split_are_nobodys_lock() {
        assert!(may_be_held(3, 2, 0) && may_be_held(3, 1, 1) && may_be_held(5, 3, 0));
        assert!(!may_be_held(3, 1, 0) && !may_be_held(5, 2, 0) && !may_be_held(3, 0, 3));
    }

    #[test]
    fn a_majority_is_free_when_enough_keys_have_ended() {
        assert_eq!(free_in(3, 0, seconds(&[20, 10, 15])), Some(Duration::from_secs(15)));
        assert_eq!(free_in(3, 1, seconds(&[20, 10])), Some(Duration::from_secs(10)));
        assert_eq!(free_in(3, 2, seconds(&[20])), Some(Duration::ZERO));
        assert_eq!(free_in(3, 0, seconds(&[20])), None);
    }

    #[test]
    fn the_life_is_the_least_of_the_greatest_that_make_a_quorum() {
        assert_eq!(life_by_majority(3, seconds(&[20, 15, 10])), Some(Duration::from_secs(15)));
        assert_eq!(life_by_majority(3, seconds(&[20, 15])), Some(Duration::from_secs(15)));
        assert_eq!(life_by_majority(3, seconds(&[20])), None);
        assert_eq!(life_by_majority(1, seconds(&[7])), Some(Duration::from_secs(7)));
    }
}
