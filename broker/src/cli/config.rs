//! `hornpipe config`: what a broker or a crew would be told, before it is.

mod check;
mod show;

use clap::{Args, Subcommand};

use super::exit_code::OperatorExit;
use super::output;
use super::serve::{self, BrokerArguments};
use crate::config::{self, Address, ConfigError, Configured, CrewOptions};

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

/// What `serve` takes; or, with `--connect`, what `worker` takes.
#[derive(Debug, Args)]
struct SettingsArguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// It is a crew (`hornpipe worker`), for these brokers
    #[arg(
        long,
        value_name = "BROKER",
        value_delimiter = ',',
        conflicts_with_all = ["frontend", "backend"],
        help_heading = "Crew"
    )]
    connect: Vec<Address>,
    /// What operators call the crew [default: crew-PORT]
    #[arg(long, value_name = "NAME", requires = "connect", help_heading = "Crew")]
    name: Option<String>,
    /// The service that the crew works for [default: the default one]
    #[arg(long, value_name = "NAME", requires = "connect", help_heading = "Crew")]
    service: Option<String>,
}

impl SettingsArguments {
    fn resolve(self) -> Result<Configured, ConfigError> {
        let Self { broker, connect, name, service } = self;
        if connect.is_empty() {
            return broker.resolve();
        }
        broker.resolve_for_crew(CrewOptions { connect, name, service })
    }
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
