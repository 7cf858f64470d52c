//! Where and as what to work. Who fills it in knows where the values come from.

use std::ffi::OsString;
use std::time::Duration;

use crate::{Framing, StopHandle};

/// Where and as what to work.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker's endpoint for workers: `ipc://...` or `tcp://...`.
    pub backend: String,
    /// The service to belong to; `None` is the broker's default.
    pub service: Option<String>,
    /// A name for the broker's logs.
    pub name: Option<String>,
    /// How long the last messages may take to leave when the worker ends.
    pub linger: Duration,
    /// How many requests an asynchronous worker runs at once, from 1 to 256. Others run one.
    pub credits: u32,
    /// Lets the program stop its worker; `None` leaves that to the broker.
    pub stop: Option<StopHandle>,
    /// How many bytes a message of the broker may have. More ends the connection, so let it be
    /// more than the broker's `--max-body`. Memory is taken only for what is really sent.
    pub message_limit: u64,
    /// How many bytes a program may answer with; more is an error, and the program is killed.
    pub output_limit: usize,
    /// How a program of [`crate::lines`] tells messages apart.
    pub framing: Framing,
    /// The environment of programs; `None` is this process's own.
    pub environment: Option<Vec<(OsString, OsString)>>,
    /// Where a program named without a slash is looked for: folders joined by `:`, as in `PATH`.
    pub search_path: OsString,
}

impl Settings {
    /// A worker of the default service at this endpoint: `tcp://HOST:PORT` is the backend port of a
    /// broker on any machine, and `HORNPIPE_BACKEND` in the environment of a broker's own worker says which
    /// it is.
    ///
    /// ```
    /// use hornpipe_worker::Settings;
    ///
    /// let backend = std::env::var("HORNPIPE_BACKEND").unwrap_or("tcp://broker.example:6661".into());
    /// let settings = Settings { service: Some("pages".into()), ..Settings::new(backend) };
    /// assert_eq!(settings.credits, 1);
    /// ```
    pub fn new(backend: impl Into<String>) -> Self {
        Self {
            backend: backend.into(),
            service: None,
            name: None,
            linger: Duration::from_secs(1),
            credits: 1,
            stop: None,
            message_limit: 1024 * 1024 * 1024,
            output_limit: 64 * 1024 * 1024,
            framing: Framing::Line,
            environment: None,
            search_path: OsString::from("/usr/local/bin:/usr/bin:/bin"),
        }
    }
}
