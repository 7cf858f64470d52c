//! `hornpipe config`: what a broker would be told, before it is.

mod check;
mod show;

use clap::{Args, Subcommand};

use super::exit_code::OperatorExit;
use super::output;
use super::serve;
use crate::config;

/// What settings would mean, and whether they work
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 fine · 2 usage, or the environment · 3 workers cannot start ·
            4 a port is in use · 78 the file of --config is wrong")]
pub(super) struct ConfigArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Show(Box<show::ShowArguments>),
    Check(Box<check::CheckArguments>),
    /// Print the JSON Schema of the file, for editors
    Schema,
}

pub(super) fn run(arguments: ConfigArguments) -> u8 {
    match arguments.what {
        What::Show(arguments) => show::run(*arguments),
        What::Check(arguments) => check::run(*arguments),
        What::Schema => print(&format!("{:#}\n", config::schema())),
    }
}

/// Prints what was asked for.
fn print(text: &str) -> u8 {
    match output::print(text.as_bytes()) {
        Ok(()) => 0,
        Err(error) => {
            output::complain(format_args!("cannot write: {error}"));
            OperatorExit::No.into()
        }
    }
}

/// Adds to the help of each option its default and its variable, as `serve` has it.
pub(super) fn explain(verb: clap::Command) -> clap::Command {
    verb.mut_subcommand("show", serve::explain).mut_subcommand("check", serve::explain)
}
