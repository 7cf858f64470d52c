//! Why the parent could not do its work.

use std::fmt;

use nix::errno::Errno;

use super::inheritance::InheritanceError;

/// Why [`run`](super::run) gave up. The messages fit after "cannot start: " or "stopped: ".
#[derive(Debug)]
pub enum ParentError {
    /// The process has more than one thread, and a fork would copy only one of them
    /// with all the locks of the others.
    Threads {
        /// The name of each thread, the main one included.
        names: Vec<String>,
    },
    /// The kernel refused what the parent cannot do without.
    System {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: Errno,
    },
    /// What the program of before has left is of no use.
    Inheritance(InheritanceError),
    /// Each router died soon after its start.
    RouterKeepsDying {
        /// How often within the window.
        deaths: usize,
        /// How the last one ended.
        ending: String,
    },
}

impl fmt::Display for ParentError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads { names } => write!(
                out,
                "this process has {} threads ({}) and only one can be forked: start the server before anything \
                 that starts threads",
                names.len(),
                names.join(", ")
            ),
            Self::System { doing, source } => write!(out, "cannot {doing}: {}", source.desc().to_lowercase()),
            Self::Inheritance(error) => error.fmt(out),
            Self::RouterKeepsDying { deaths, ending } => write!(
                out,
                "the router died {deaths} times within {} s, the last time with {ending}: its log lines above say why",
                super::router_life::WINDOW.as_secs()
            ),
        }
    }
}

impl std::error::Error for ParentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            Self::Inheritance(error) => Some(error),
            Self::Threads { .. } | Self::RouterKeepsDying { .. } => None,
        }
    }
}
