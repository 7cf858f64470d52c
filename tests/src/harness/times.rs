//! Times that were measured, in a few figures.

use std::time::Duration;

/// The time that so many percent of these do not exceed; `None` if there are none.
pub fn rank(times: &[Duration], percent: usize) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

/// The same in a line.
pub fn in_words(times: &[Duration]) -> String {
    match (rank(times, 50), rank(times, 99), times.iter().max()) {
        (Some(half), Some(most), Some(longest)) => {
            format!("p50 {half:.1?}, p99 {most:.1?}, longest {longest:.1?}, of {}", times.len())
        }
        _ => "none".to_owned(),
    }
}
