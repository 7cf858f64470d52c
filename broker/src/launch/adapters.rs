//! What the programs of `--each` and `--lines` are told, in the words of the crate that runs them.

use std::ffi::OsString;

use crate::config::Framing;
use crate::parent::WorkerProcess;

/// The environment of an adapter's programs: they are told whose they are.
pub(super) fn environment(
    environment: &[(OsString, OsString)],
    process: &WorkerProcess,
) -> Vec<(OsString, OsString)> {
    let own = [
        ("HORNPIPE_SERVICE", process.service.clone()),
        ("HORNPIPE_SLOT", process.place.slot.to_string()),
        ("HORNPIPE_INCARNATION", process.place.incarnation.to_string()),
        ("HORNPIPE_GENERATION", process.generation.to_string()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
    environment.iter().cloned().chain(own).collect()
}

/// How messages are told apart, as the adapter calls it.
pub(crate) const fn framing(framing: Framing) -> hornpipe_worker::Framing {
    match framing {
        Framing::Line => hornpipe_worker::Framing::Line,
        Framing::Length => hornpipe_worker::Framing::Length,
        Framing::Netstring => hornpipe_worker::Framing::Netstring,
    }
}
