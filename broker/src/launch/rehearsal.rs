//! A broker that is run for a moment beside the real one, and the ports of the real one.

use std::fmt;

use super::{LaunchError, launch};
use crate::config::{Config, Configured};
use crate::link::ExitStatus;
use crate::parent::ParentError;
use crate::parent::apart::{self, Apart};
use crate::parent::listeners::Port;

/// Whether both ports can be bound. They are let go at once.
///
/// # Errors
/// The first that cannot, and who has it.
pub(crate) fn try_ports(config: &Config) -> Result<(), LaunchError> {
    let bind = |address: std::net::SocketAddr| {
        Port::bind(&address.ip().to_string(), address.port()).map_err(LaunchError::Listen)
    };
    let _frontend = bind(config.frontend)?;
    bind(config.backend).map(|_backend| ())
}

/// A broker with these settings, in a process of its own.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    process: Apart,
}

impl Rehearsal {
    /// Starts it. What it logs goes to standard error.
    ///
    /// # Errors
    /// If there can be no other process.
    pub(crate) fn start(configured: Configured) -> Result<Self, ParentError> {
        let process = apart::start(move || match launch(configured, None) {
            Ok(code) => code,
            Err(error) => {
                tracing::error!(%error, "cannot start");
                error.exit_code()
            }
        })?;
        Ok(Self { process })
    }

    /// Waits for its first worker. Where clients connect; `None` if there will be no worker.
    pub(crate) fn wait_until_ready(&mut self) -> Option<String> {
        // The start-up screen is printed when the first worker is ready, and names the ports.
        let screen = self.process.next_line()?;
        let mut words = screen.split_whitespace().skip_while(|word| *word != "frontend");
        words.nth(1).map(ToOwned::to_owned)
    }

    /// Stops it, and says in words and by its exit code how it ended.
    pub(crate) fn stop(self) -> (String, u8) {
        let status = self.process.stop();
        let code = match &status {
            ExitStatus::Code(code) => u8::try_from(*code).unwrap_or(1),
            _ => 1,
        };
        (Ending(&status).to_string(), code)
    }
}

/// How the broker of a rehearsal ended.
struct Ending<'a>(&'a ExitStatus);

impl fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ExitStatus::Code(3) => f.write_str("workers cannot start, and the log above says why"),
            status => write!(f, "the broker ended with {status}"),
        }
    }
}
