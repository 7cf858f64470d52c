//! `hornpipe lock`: locks for the shell, on this machine or on several servers.

mod child;
mod doctor;
mod place;
mod release;
mod run;
mod signals;
mod status;

use clap::{Args, Subcommand};

/// A command under a lock; who holds it; whether its servers are fit for it
#[derive(Debug, Args)]
pub(super) struct LockArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Run(Box<run::RunArguments>),
    Status(status::StatusArguments),
    Release(release::ReleaseArguments),
    Doctor(doctor::DoctorArguments),
}

pub(super) fn run(arguments: &LockArguments) -> u8 {
    match &arguments.what {
        What::Run(arguments) => run::run(arguments),
        What::Status(arguments) => status::run(arguments).into(),
        What::Release(arguments) => release::run(arguments).into(),
        What::Doctor(arguments) => doctor::run(arguments).into(),
    }
}
