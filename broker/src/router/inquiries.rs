//! What is said of a request that timed out and of a worker that is stuck: all that can be
//! known of that worker at that moment.
//!
//! What it wrote last is with the parent, which is asked; the line is logged with the reply.
//! When such things come in crowds, most of them are told briefly, and at once.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::warn;

use super::process_state;
use crate::core::{Place, Timestamp};

/// So many full lines...
const FULL_LINES: u32 = 5;
/// ...within this time.
const WINDOW: Duration = Duration::from_secs(1);
/// Questions that the parent has not answered yet.
const OPEN_LIMIT: usize = 16;
/// A client names its requests as it likes; the log does not need more of it.
const NAME_LIMIT: usize = 128;

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// A request timed out while the worker had it.
    Request { name: String, attempt: u32, after: Duration, size: u64 },
    /// The worker does not do what it should.
    Worker { why: &'static str },
}

/// Those that the parent has been asked about, oldest first.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    open: VecDeque<Inquiry>,
    window_began: Timestamp,
    opened: u32,
    /// Told briefly since the last full line.
    shortened: u64,
}

#[derive(Debug)]
struct Inquiry {
    place: Place,
    pid: Option<i32>,
    state: String,
    subject: Subject,
    shortened: Option<u64>,
}

/// Whether the parent is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Ask,
    /// It has been asked about this worker, or is not.
    Nothing,
}

impl Inquiries {
    /// Looks at the worker, and takes the subject up; or tells it briefly.
    pub(super) fn open(
        &mut self,
        (place, pid): (Place, Option<i32>),
        subject: Subject,
        now: Timestamp,
    ) -> Next {
        if self.window_began.after(WINDOW) <= now {
            self.window_began = now;
            self.opened = 0;
        }
        if FULL_LINES <= self.opened || OPEN_LIMIT <= self.open.len() {
            self.shortened += 1;
            tell_briefly(Some(place), &subject);
            return Next::Nothing;
        }
        self.opened += 1;
        let shortened = Some(std::mem::take(&mut self.shortened)).filter(|shortened| 0 < *shortened);
        let state = pid.map_or_else(|| "gone".to_owned(), process_state::in_words);
        let asked = self.open.iter().any(|inquiry| inquiry.place == place);
        self.open.push_back(Inquiry { place, pid, state, subject, shortened });
        if asked { Next::Nothing } else { Next::Ask }
    }

    /// The parent has replied, or told that the worker has ended.
    pub(super) fn close(&mut self, place: Place, last_lines: &[String]) {
        let (closed, open): (VecDeque<Inquiry>, _) =
            std::mem::take(&mut self.open).into_iter().partition(|inquiry| inquiry.place == place);
        self.open = open;
        for inquiry in closed {
            inquiry.tell(last_lines);
        }
    }
}

impl Inquiry {
    fn tell(self, last_lines: &[String]) {
        let Self { place, pid, state, subject, shortened } = self;
        let (slot, incarnation, last_words) = (place.slot.0, place.incarnation.0, last_lines.join("\n"));
        match subject {
            Subject::Request { name, attempt, after, size } => {
                let (request, after_ms) = (bounded(&name), after.as_millis());
                warn!(
                    request,
                    attempt,
                    after_ms,
                    size,
                    slot,
                    incarnation,
                    pid,
                    state,
                    last_words,
                    shortened,
                    "request timed out"
                );
            }
            Subject::Worker { why } => {
                warn!(slot, incarnation, pid, why, state, last_words, shortened, "worker is stuck");
            }
        }
    }
}

/// In a line that needs nobody's help.
pub(super) fn tell_briefly(place: Option<Place>, subject: &Subject) {
    let (slot, incarnation) = (place.map(|place| place.slot.0), place.map(|place| place.incarnation.0));
    match subject {
        Subject::Request { name, attempt, after, size } => {
            let (request, after_ms) = (bounded(name), after.as_millis());
            warn!(request, attempt, after_ms, size, slot, incarnation, "request timed out");
        }
        Subject::Worker { why } => warn!(slot, incarnation, why, "worker is stuck"),
    }
}

fn bounded(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_LIMIT)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Incarnation, Slot};

    const STUCK: Subject = Subject::Worker { why: "no reply in time" };

    fn place(slot: u32) -> Place {
        Place { slot: Slot(slot), incarnation: Incarnation(1) }
    }

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::new(Duration::from_millis(milliseconds))
    }

    #[test]
    fn the_parent_is_asked_once_for_each_worker() {
        let mut inquiries = Inquiries::default();
        assert_eq!(inquiries.open((place(0), None), STUCK, at(5000)), Next::Ask);
        assert_eq!(inquiries.open((place(0), None), STUCK, at(5000)), Next::Nothing);
        assert_eq!(inquiries.open((place(1), None), STUCK, at(5000)), Next::Ask);
        inquiries.close(place(0), &[]);
        assert_eq!(inquiries.open.len(), 1);
        assert_eq!(inquiries.open((place(0), None), STUCK, at(5000)), Next::Ask);
    }

    #[test]
    fn a_crowd_is_told_briefly_and_counted() {
        let mut inquiries = Inquiries::default();
        for slot in 0..20 {
            inquiries.open((place(slot), None), STUCK, at(5000));
        }
        assert_eq!((inquiries.open.len(), inquiries.shortened), (5, 15));
        inquiries.open((place(0), None), STUCK, at(6000));
        assert_eq!((inquiries.open.len(), inquiries.shortened), (6, 0));
        assert_eq!(inquiries.open.back().unwrap().shortened, Some(15));
    }

    #[test]
    fn a_parent_that_does_not_answer_costs_little() {
        let mut inquiries = Inquiries::default();
        for second in 1..100 {
            inquiries.open((place(7), None), STUCK, at(second * 1000));
        }
        assert_eq!(inquiries.open.len(), OPEN_LIMIT);
    }

    #[test]
    fn a_long_name_is_cut_between_letters() {
        assert_eq!(bounded(&"ä".repeat(100)).len(), NAME_LIMIT);
        assert_eq!(bounded(&format!("x{}", "ä".repeat(100))).len(), NAME_LIMIT - 1);
    }
}
