//! How much is told, which can change while the process runs.

use std::sync::atomic::{AtomicU8, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::Level;

const LEVELS: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

/// Which of the levels is the last one told.
static LAST: AtomicU8 = AtomicU8::new(2);

/// From here on so much is told, by this process.
pub fn set(level: Level) {
    let place = LEVELS.iter().position(|known| *known == level).and_then(|place| u8::try_from(place).ok());
    LAST.store(place.unwrap_or_default(), Ordering::Relaxed);
    // What each place in the code was told of its own level is forgotten.
    tracing::callsite::rebuild_interest_cache();
}

fn last() -> LevelFilter {
    LEVELS.get(usize::from(LAST.load(Ordering::Relaxed))).copied().unwrap_or(Level::Info).filter()
}

/// Lets through what is to be told.
#[derive(Debug)]
pub(super) struct LevelGate;

impl<S: Subscriber> Layer<S> for LevelGate {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= last() { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        *metadata.level() <= last()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(last())
    }
}
