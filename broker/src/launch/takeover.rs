//! A program in the place of another, in the same process: what that one listened on is
//! served on. Nothing that is merely different may cost the pool its workers.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use tracing::warn;

use crate::config::Config;
use crate::logging::{self, LogChoices, LogError};
use crate::parent::inheritance::{Inheritance, InheritanceError};
use crate::parent::listeners::{Listeners, Port};
use crate::pid_file::PidFile;

/// Takes over what is described there.
///
/// # Errors
/// If it cannot be understood.
pub(super) fn take(description: i32, config: &Config) -> Result<Inheritance, InheritanceError> {
    let mut inheritance = Inheritance::take(description)?;
    compare(&inheritance.listeners, config);
    let http = &mut inheritance.listeners.http;
    match (config.http, http.is_some()) {
        (None, true) => *http = None,
        (Some(wanted), false) => *http = bind_http(wanted),
        (None, false) | (Some(_), true) => (),
    }
    Ok(inheritance)
}

/// A port that the program of before did not have. The pool goes on without it.
fn bind_http(wanted: SocketAddr) -> Option<Port> {
    let bound = Port::bind(&wanted.ip().to_string(), wanted.port());
    bound.map_err(|error| warn!(%error, "no metrics and no health over HTTP")).ok()
}

/// The command line is the same, but the program that reads it is not.
fn compare(listeners: &Listeners, config: &Config) {
    let pairs = [(config.frontend, &listeners.frontend), (config.backend, &listeners.backend)];
    let pairs = pairs.into_iter().filter_map(|(wanted, port)| Some((wanted, port.as_ref()?)));
    for (wanted, port) in pairs.chain(config.http.zip(listeners.http.as_ref())) {
        let any_port = wanted.port() == 0 && wanted.ip() == port.address.ip();
        if wanted != port.address && !any_port {
            warn!(open = %port.address, %wanted, "the open port is kept, though another is asked for");
        }
    }
    let wanted = config.control.socket(config.name(listeners.frontend.as_ref().map(|port| port.address)));
    if wanted != listeners.control.path {
        let open = listeners.control.path.display();
        warn!(%open, wanted = %wanted.display(), "the open control socket is kept, though another is asked for");
    }
}

/// Begins to log: where the program of before did, if the file cannot be opened any more.
pub(super) fn start_log(choices: &LogChoices) -> Result<(), LogError> {
    match logging::start(choices) {
        Err(error @ LogError::File { .. }) => {
            logging::start(&LogChoices { file: None, ..choices.clone() })?;
            warn!(%error, "cannot open the log file: the old one is used on");
            Ok(())
        }
        other => other,
    }
}

/// Keeps the pid file. One that cannot be written costs the file, and not the pool.
pub(super) fn hold_pid_file(path: &Path, descriptor: OwnedFd) -> Option<PidFile> {
    PidFile::take_over(path, descriptor).map_err(|error| warn!(%error, "the pid file is given up")).ok()
}
