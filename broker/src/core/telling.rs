//! Which deaths are told, and which only counted: slots that keep failing have one
//! line a second among them, whatever their number.

use std::time::Duration;

use super::ids::Timestamp;

/// Between two lines about slots that keep failing.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether a death is worth a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// It is, and it stands for so many others since the last that was told.
    Aloud { untold: u64 },
    /// It is counted, and told of with the next.
    Counted,
}

#[derive(Debug, Default)]
pub(super) struct Teller {
    not_before: Timestamp,
    untold: u64,
}

impl Teller {
    /// Of a process whose slot has now had `failures` early deaths in a row.
    pub(super) fn tell(&mut self, failures: u32, now: Timestamp) -> Telling {
        if failures == 0 {
            return Telling::Aloud { untold: 0 };
        }
        if failures > 1 && now < self.not_before {
            self.untold += 1;
            return Telling::Counted;
        }
        self.not_before = now.after(PAUSE);
        Telling::Aloud { untold: std::mem::take(&mut self.untold) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_keep_failing_have_one_line_a_second() {
        let mut teller = Teller::default();
        let mut tell =
            |failures, millisecond| teller.tell(failures, Timestamp::new(Duration::from_millis(millisecond)));
        assert_eq!(tell(1, 0), Telling::Aloud { untold: 0 });
        assert_eq!(tell(2, 100), Telling::Counted);
        assert_eq!(tell(0, 200), Telling::Aloud { untold: 0 });
        assert_eq!(tell(3, 999), Telling::Counted);
        assert_eq!(tell(4, 1000), Telling::Aloud { untold: 2 });
        assert_eq!(tell(5, 1001), Telling::Counted);
        // A slot that fails for the first time says how.
        assert_eq!(tell(1, 1002), Telling::Aloud { untold: 1 });
    }
}
