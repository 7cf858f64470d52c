//! How long workers have been busy, ours and others'.

use std::time::Duration;

use super::event::Home;

/// How long workers have held at least one request each: spells of several workers add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BusyTime {
    pub local: Duration,
    pub external: Duration,
}

impl BusyTime {
    pub(super) fn add(&mut self, home: Home, spell: Duration) {
        let sum = match home {
            Home::Local(_) => &mut self.local,
            Home::External => &mut self.external,
        };
        *sum = sum.saturating_add(spell);
    }
}
