//! A flood of one kind of line costs a bounded number of them: what peers and workers can
//! bring about, they can bring about without end.
//!
//! A kind is a message. Of each, so many lines a second are written; the next one that is
//! written says how many were left out, or a line of its own does once the flood is over.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Level;

use super::line::Line;

/// Lines of one kind in one second.
const LINES: u32 = 50;

/// Messages are constants, and there are not so many. If there were, they would be one kind.
const KINDS: usize = 256;

#[derive(Debug)]
pub(super) struct Floods {
    kinds: Mutex<BTreeMap<String, Kind>>,
    /// Whether any kind has left lines out that nobody has been told of.
    untold: AtomicBool,
}

#[derive(Debug)]
struct Kind {
    level: Level,
    second: String,
    written: u32,
    left_out: u64,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written, and stands for so many others since the last.
    Write {
        left_out: u64,
    },
    LeaveOut,
}

impl Floods {
    pub(super) const fn new() -> Self {
        Self { kinds: Mutex::new(BTreeMap::new()), untold: AtomicBool::new(false) }
    }

    pub(super) fn judge(&self, line: &Line) -> Verdict {
        // Whoever has panicked with the lock in hand: the line is worth more than the count.
        let Ok(mut kinds) = self.kinds.lock() else { return Verdict::Write { left_out: 0 } };
        let message =
            if kinds.len() < KINDS || kinds.contains_key(line.message()) { line.message() } else { "" };
        if !kinds.contains_key(message) {
            kinds.insert(message.to_owned(), Kind::new(line));
        }
        let Some(kind) = kinds.get_mut(message) else { return Verdict::Write { left_out: 0 } };
        if kind.second != line.second() {
            let left_out = std::mem::replace(kind, Kind::new(line)).left_out;
            kind.written = 1;
            return Verdict::Write { left_out };
        }
        if kind.written < LINES {
            kind.written += 1;
            return Verdict::Write { left_out: 0 };
        }
        kind.left_out += 1;
        self.untold.store(true, Ordering::Relaxed);
        Verdict::LeaveOut
    }

    /// The news of lines that were left out before this second, as far as no other line
    /// has brought it.
    pub(super) fn news(&self) -> Vec<Line> {
        if !self.untold.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let Ok(mut kinds) = self.kinds.lock() else { return Vec::new() };
        let mut news = Vec::new();
        let mut later = false;
        for (message, kind) in kinds.iter_mut().filter(|(_, kind)| 0 < kind.left_out) {
            let line = Line::left_out(kind.level, message, kind.left_out);
            if line.second() == kind.second {
                later = true;
            } else {
                kind.left_out = 0;
                news.push(line);
            }
        }
        self.untold.store(later, Ordering::Relaxed);
        news
    }
}

impl Kind {
    fn new(line: &Line) -> Self {
        Self { level: line.level(), second: line.second().to_owned(), written: 0, left_out: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str, second: u32) -> Line {
        Line::at(&format!("2026-11-22T10:00:{second:02}.123Z"), Level::WARN, message)
    }

    fn judge(floods: &Floods, message: &str, second: u32) -> Verdict {
        floods.judge(&line(message, second))
    }

    #[test]
    fn a_flood_of_one_kind_leaves_the_others_alone_and_is_counted() {
        let floods = Floods::new();
        for _ in 0..LINES {
            assert_eq!(judge(&floods, "worker died", 1), Verdict::Write { left_out: 0 });
        }
        for _ in 0..1000 {
            assert_eq!(judge(&floods, "worker died", 1), Verdict::LeaveOut);
        }
        assert_eq!(judge(&floods, "request lost", 1), Verdict::Write { left_out: 0 });
        assert_eq!(judge(&floods, "worker died", 2), Verdict::Write { left_out: 1000 });
        assert_eq!(judge(&floods, "worker died", 2), Verdict::Write { left_out: 0 });
        assert_eq!(judge(&floods, "worker died", 5), Verdict::Write { left_out: 0 });
    }

    #[test]
    fn a_flood_that_is_over_is_told_once() {
        let floods = Floods::new();
        for _ in 0..LINES + 7 {
            judge(&floods, "worker died", 1);
        }
        let news = floods.news();
        assert_eq!(news.len(), 1);
        let text = news[0].render(super::super::LogFormat::Text, super::super::Colour::Never);
        assert!(text.contains(" WARN lines left out of=\"worker died\" left_out=7\n"), "{text}");
        assert!(floods.news().is_empty());
        assert_eq!(judge(&floods, "worker died", 2), Verdict::Write { left_out: 0 });
    }

    #[test]
    fn messages_without_number_are_one_kind() {
        let floods = Floods::new();
        let written =
            (0..10_000).filter(|number| judge(&floods, &format!("message {number}"), 1) != Verdict::LeaveOut);
        assert_eq!(written.count(), KINDS + LINES as usize);
        assert!(floods.kinds.lock().unwrap().len() <= KINDS + 1);
    }
}
