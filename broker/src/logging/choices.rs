//! What an operator can choose about the log.

use std::path::PathBuf;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;

/// Where the log goes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChoices {
    /// The file; `None` is standard error.
    pub file: Option<PathBuf>,
    /// The user and group who must be able to open the file again.
    pub owner: Option<(u32, u32)>,
    /// How a line looks.
    pub format: LogFormat,
    /// What is told.
    pub level: Level,
    /// Whether levels have colours.
    pub colour: Colour,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object for each event.
    Json,
}

/// Whether levels have colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Where somebody looks at a terminal.
    OnTerminals,
    /// Nowhere.
    Never,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Somebody may want to know.
    Warn,
    /// The state of the service changed.
    Info,
    /// The path of each request.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The word an operator writes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    pub(super) fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl FromStr for Level {
    type Err = &'static str;

    /// Reads our words, and the numbers of Net::Server: error, warning, notice, info, debug.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "error" | "0" => Ok(Self::Error),
            "warn" | "1" => Ok(Self::Warn),
            "info" | "2" | "3" => Ok(Self::Info),
            "debug" | "4" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err("write error, warn, info, debug or trace, or a number from 0 to 4"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_and_the_numbers_of_net_server() {
        let levels: Vec<_> = ["0", "1", "2", "3", "4", "Trace"].map(str::parse::<Level>).into();
        let expected =
            [Level::Error, Level::Warn, Level::Info, Level::Info, Level::Debug, Level::Trace].map(Ok);
        assert_eq!(levels, expected);
        assert!("5".parse::<Level>().is_err());
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
    }
}
