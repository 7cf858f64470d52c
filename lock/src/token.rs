//! Fencing tokens: which number comes next. No I/O, no clock.
//!
//! In the first step each server that grants also tells its fence, the greatest token that
//! was ever confirmed there. The token is above the greatest of a majority. In the second
//! step it becomes the fence of a majority. The next holder's first majority and this one
//! have a server in common, so the next token is greater, whatever clocks do.

/// The next token: above every fence, and never below the wall clock in milliseconds, for
/// servers that have lost their fences. `None` if there is no greater number.
pub(crate) fn next(fences: impl IntoIterator<Item = u64>, unix_ms: u64) -> Option<u64> {
    let above = fences.into_iter().max().unwrap_or(0).checked_add(1)?;
    Some(above.max(unix_ms))
}

/// A fence as a server keeps it; `None` if that was never written by us.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_above_every_fence() {
        assert_eq!(next([3, 9, 4], 0), Some(10));
        assert_eq!(next([], 0), Some(1));
    }

    #[test]
    fn a_token_is_never_below_the_wall_clock() {
        assert_eq!(next([3], 1_000), Some(1_000));
        assert_eq!(next([1_000], 1_000), Some(1_001));
        assert_eq!(next([5_000], 1_000), Some(5_001));
    }

    #[test]
    fn after_the_greatest_number_there_is_none() {
        assert_eq!(next([u64::MAX], 0), None);
    }

    #[test]
    fn rubbish_is_no_fence() {
        assert_eq!(["0", "17", "18446744073709551615"].map(parse), [Some(0), Some(17), Some(u64::MAX)]);
        assert_eq!(["", "-1", "+1", "1.5", "007", " 1", "18446744073709551616", "x"].map(parse), [None; 8]);
    }
}
