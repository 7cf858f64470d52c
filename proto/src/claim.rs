//! The word of memory that a worker shares with its broker's router, and in which it claims
//! each job before it begins it.
//!
//! A broker that hands a worker several jobs can so take back what has not begun, at once and
//! without the worker's help, however long the one is that it is at. Each job comes with a
//! number, each one more than the last, in serial arithmetic. The word holds two of them:
//!
//! ```text
//! bits 32..63   the number of the last job that was begun
//! bits 0..31    up to this number, what has not been begun never will be
//! ```
//!
//! Both sides change it with compare-and-swap alone, so that of a claim and a withdrawal of
//! the same job exactly one succeeds.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the file behind the word is called, as `memfd_create` takes it.
pub const FILE_NAME: &str = "hornpipe-claims";

/// Begins the job of this number. `false` if it was taken back: it must not be begun, and no
/// reply to it is sent.
#[must_use]
pub fn claim(word: &AtomicU64, number: u32) -> bool {
    let begin = |value: u64| {
        let (_begun, withdrawn) = parts(value);
        is_after(number, withdrawn).then(|| join(number, withdrawn))
    };
    word.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin).is_ok()
}

/// Takes back all jobs up to this number that have not been begun. Returns the number of the
/// last job that was.
pub fn withdraw(word: &AtomicU64, last: u32) -> u32 {
    let withdraw = |value: u64| {
        let (begun, withdrawn) = parts(value);
        is_after(last, withdrawn).then(|| join(begun, last))
    };
    let before = match word.fetch_update(Ordering::AcqRel, Ordering::Acquire, withdraw) {
        Ok(value) | Err(value) => value,
    };
    parts(before).0
}

/// The number of the last job that was begun.
pub fn begun(word: &AtomicU64) -> u32 {
    parts(word.load(Ordering::Acquire)).0
}

/// Whether one number comes after another, as serial numbers do (RFC 1982).
#[must_use]
pub const fn is_after(number: u32, other: u32) -> bool {
    let distance = number.wrapping_sub(other);
    0 < distance && distance < 1 << 31
}

/// A number behind which a broker may begin to count: nothing that was sent before it, and is
/// at most `sent` jobs behind what was last begun or taken back, is begun any more.
pub fn take_over(word: &AtomicU64, sent: u32) -> u32 {
    let mut start = 0;
    let take_over = |value: u64| {
        let (begun, withdrawn) = parts(value);
        let latest = if is_after(begun, withdrawn) { begun } else { withdrawn };
        start = latest.wrapping_add(sent);
        Some(join(begun, start))
    };
    let _before = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, take_over);
    start
}

/// The number that was begun, and up to which number what was not begun is taken back.
#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
const fn parts(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

fn join(begun: u32, withdrawn: u32) -> u64 {
    u64::from(begun) << 32 | u64::from(withdrawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_begun_or_taken_back_and_never_both() {
        let word = AtomicU64::new(0);
        assert!(claim(&word, 1));
        assert!(claim(&word, 2));
        assert_eq!(begun(&word), 2);
        // 3 and 4 are on their way.
        assert_eq!(withdraw(&word, 4), 2);
        assert!(!claim(&word, 3));
        assert!(!claim(&word, 4));
        assert!(claim(&word, 5));
        assert_eq!(withdraw(&word, 5), 5, "nothing is taken back");
        assert_eq!(word.load(Ordering::Relaxed), 5 << 32 | 5, "as PROTOCOL.md draws it");
    }

    #[test]
    fn the_numbers_go_round() {
        let word = AtomicU64::new(join(u32::MAX - 1, u32::MAX - 1));
        assert!(claim(&word, u32::MAX));
        assert!(claim(&word, 0));
        assert_eq!(withdraw(&word, 2), 0);
        assert!(!claim(&word, 1));
        assert!(claim(&word, 3));
    }

    #[test]
    fn a_broker_that_comes_anew_has_nothing_begun_that_the_last_one_sent() {
        let word = AtomicU64::new(0);
        assert!(claim(&word, 7));
        let start = take_over(&word, 64);
        assert_eq!(start, 71);
        assert!((8..=71).all(|number| !claim(&word, number)));
        assert!(claim(&word, 72));
        assert_eq!(take_over(&word, 64), 136);
    }

    #[test]
    fn of_two_who_want_the_same_job_one_gets_it() {
        const JOBS: u32 = 100_000;
        let word = AtomicU64::new(0);
        let (mut returned, mut withdrawn) = (0, 0);
        let begun = std::thread::scope(|scope| {
            let worker = scope.spawn(|| (1..=JOBS).filter(|number| claim(&word, *number)).count());
            for last in (1..JOBS).step_by(7).chain([JOBS]) {
                let kept = withdraw(&word, last).max(withdrawn);
                returned += last.saturating_sub(kept);
                withdrawn = last;
            }
            worker.join().unwrap()
        });
        assert_eq!(begun + returned as usize, JOBS as usize, "a job was had by both or by neither");
    }
}
