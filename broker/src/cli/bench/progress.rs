//! One line on a terminal that tells how far it is.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use hornpipe_client::load::Progress;

/// A line that changes faster cannot be read.
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Screen {
    is_there: bool,
    last: Duration,
    last_ok: u64,
    width: usize,
}

impl Screen {
    /// On standard error, if that is a terminal and no program reads along.
    pub(super) fn new(is_for_programs: bool) -> Self {
        let is_there = !is_for_programs && io::stderr().is_terminal();
        Self { is_there, last: Duration::ZERO, last_ok: 0, width: 0 }
    }

    pub(super) fn show(&mut self, progress: &Progress<'_>, killed: Option<u64>) {
        let since = progress.elapsed.saturating_sub(self.last);
        if !self.is_there || since < INTERVAL {
            return;
        }
        let new = progress.counts.ok.saturating_sub(self.last_ok);
        self.last = progress.elapsed;
        self.last_ok = progress.counts.ok;
        self.write(&line(progress, new, since, killed));
    }

    pub(super) fn clear(&mut self) {
        if self.width > 0 {
            self.write("");
            self.write_bytes(b"\r");
        }
    }

    fn write(&mut self, line: &str) {
        let padded = format!("\r{line:<width$}", width = self.width);
        self.width = line.len();
        self.write_bytes(padded.as_bytes());
    }

    fn write_bytes(&mut self, bytes: &[u8]) {
        let mut stderr = io::stderr().lock();
        // A terminal that has gone away is no reason to end the run.
        self.is_there &= stderr.write_all(bytes).and_then(|()| stderr.flush()).is_ok();
    }
}

/// `new` right replies came in the time `since` the last line.
fn line(progress: &Progress<'_>, new: u64, since: Duration, killed: Option<u64>) -> String {
    let counts = progress.counts;
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = new.saturating_mul(1000) / milliseconds;
    let mut line = format!(
        "{:5.1} s   {} right   {rate} a second   {} out",
        progress.elapsed.as_secs_f64(),
        counts.ok,
        progress.out
    );
    let bad = [
        ("wrong", counts.wrong),
        ("lost", counts.lost),
        ("doubled", counts.doubled),
        ("errors", counts.errors_total()),
    ];
    let killed = killed.map(|killed| ("killed", killed));
    for (what, count) in bad.into_iter().filter(|(_, count)| *count > 0).chain(killed) {
        // Writing to a `String` cannot fail.
        write!(line, "   {count} {what}").ok();
    }
    line
}

#[cfg(test)]
mod tests {
    use hornpipe_client::load::Counts;

    use super::*;

    #[test]
    fn the_line_tells_what_goes_well_and_what_does_not() {
        let counts = Counts { sent: 20, ok: 12, lost: 1, ..Counts::default() };
        let progress = Progress { elapsed: Duration::from_millis(2500), counts: &counts, out: 7 };
        let told = line(&progress, 10, Duration::from_millis(500), Some(3));
        assert_eq!(told, "  2.5 s   12 right   20 a second   7 out   1 lost   3 killed");
    }
}
