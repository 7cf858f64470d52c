//! `hornpipe lock release`: take a lock away from whoever holds it.

use clap::Args;

use super::place::{self, Place};
use crate::cli::exit_code::LockExit;
use crate::cli::output::{self, harmless};

/// Take a lock away from whoever holds it
#[derive(Debug, Args)]
#[command(after_help = "\
A lock is released by its holder, or runs out. This is for a holder that is known to be gone. One
that is not notices within a third of its --ttl, and works on until then. Its token is remembered, so
what it writes can be refused.
A lock on a file cannot be taken away: end the process that holds it.

Exit codes: 0 nobody holds it · 2 usage · 69 too few servers answer, or a file's holder lives")]
pub(super) struct ReleaseArguments {
    /// What is locked
    #[arg(value_name = "NAME")]
    name: String,
    /// Yes, though its holder may work on
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &ReleaseArguments) -> LockExit {
    if !arguments.force {
        output::complain(
            "its holder releases it; --force takes it away from whoever that is, though it may work on",
        );
        return LockExit::Usage;
    }
    let locker = match arguments.place.locker() {
        Ok(locker) => locker,
        Err(error) => {
            output::complain(error);
            return LockExit::Usage;
        }
    };
    match locker.force_unlock(&arguments.name) {
        Ok(()) => LockExit::Done,
        Err(error) => {
            output::complain(harmless(&error.to_string()));
            place::exit_code(&error)
        }
    }
}
