//! `hornpipe serve`: from arguments to a running broker.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Args, Command};
use tracing::error;

use super::exit_code::{CONFIG_FILE, USAGE};
use super::output;
use crate::config::{
    self, Address, CommandLine, ConfigError, Configured, CrewOptions, RawConfig, Surroundings,
};
use crate::core::Settings;
use crate::launch;
use crate::logging;

/// Bind two ports, start workers, hand each request to an idle one
#[derive(Debug, Args)]
#[command(after_help = SHORT, after_long_help = LONG)]
pub(super) struct ServeArguments {
    #[command(flatten)]
    broker: BrokerArguments,
}

/// What a broker is told, also by the verbs that only look at it.
#[derive(Debug, Args)]
pub(super) struct BrokerArguments {
    /// Where clients connect: 6660 (this machine), 0 (any free one), HOST:PORT, *:6660 (all)
    frontend: Option<Address>,
    /// Where workers connect that this broker does not start
    backend: Option<Address>,
    /// A TOML file of settings, read again at HUP. The command line and variables go before it
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: RawConfig,
    /// A worker program and its arguments; without one, workers reply what they get
    #[arg(last = true)]
    program: Vec<OsString>,
}

impl BrokerArguments {
    /// What they mean, with the environment and the file.
    pub(super) fn resolve(self) -> Result<Configured, ConfigError> {
        self.resolve_as(None)
    }

    /// What they mean for a crew.
    pub(super) fn resolve_for_crew(self, crew: CrewOptions) -> Result<Configured, ConfigError> {
        self.options.check_for_crew()?;
        self.resolve_as(Some(crew))
    }

    fn resolve_as(self, crew: Option<CrewOptions>) -> Result<Configured, ConfigError> {
        let Self { frontend, backend, config, options, program } = self;
        let command_line =
            CommandLine { frontend, backend, program, file: config, options, crew, ..CommandLine::default() };
        Configured::read(command_line, Surroundings::read())
    }
}

/// Runs a broker or a crew, and gives the process's exit code.
pub(super) fn launch(configured: Result<Configured, ConfigError>) -> u8 {
    let configured = match configured {
        Ok(configured) => configured,
        Err(error) => {
            output::complain(format_args!("cannot start: {error}"));
            return exit_code(&error);
        }
    };
    let console = logging::console();
    launch::launch(configured, None).unwrap_or_else(|why| {
        match console {
            Ok(mut console) => output::complain_to(&mut console, format_args!("cannot start: {why}")),
            Err(_none_left) => error!(%why, "cannot start"),
        }
        why.exit_code()
    })
}

/// What the process exits with if there is no configuration.
pub(super) fn exit_code(error: &ConfigError) -> u8 {
    if error.is_of_file() { CONFIG_FILE } else { USAGE }
}

const SHORT: &str = "\
Signals: TERM, INT, QUIT finish and stop · HUP fresh workers · TTIN, TTOU one worker more, less
hornpipe serve --help has all options, their variables, and examples.";

const LONG: &str = "\
Examples:
  hornpipe serve 6660 6661                              echo, to try it
  hornpipe serve 6660 6661 -n 4 -- python3 worker.py    four workers that speak the protocol
  hornpipe serve 6660 6661 --each -- tr a-z A-Z         a program for each request
  hornpipe serve 6660 6661 --lines -- ./filter          a line in, a line out
  hornpipe serve 6660 6661 --lines --framing netstring -- ./filter     any body in, any out
  hornpipe serve 6660 6661 -n 0                         workers from elsewhere only
  hornpipe serve --config hornpipe.toml                 all of it from a file

Signals: TERM, INT finish and stop (twice: at once) · QUIT the same without a limit ·
         HUP fresh workers · TTIN, TTOU one worker more, less · USR1 reopen the log

Times are written 250ms, 30s, 5m or 1h, sizes 512B, 10kB or 64MiB.
--min-servers and --max-servers are --workers and --max; underscores are dashes.
The command line goes before the variables HORNPIPE_..., they before the file of --config,
and that before the defaults. hornpipe config show --origin tells what comes from where.

Exit codes: 0 stopped as asked · 1 failed while running · 2 usage · 3 workers cannot start ·
            4 a port is in use · 78 the file of --config is wrong";

/// Runs the broker, and gives the process's exit code.
pub(super) fn run(arguments: ServeArguments) -> u8 {
    launch(arguments.broker.resolve())
}

/// Adds to the help of each option its default and its variable.
pub(super) fn explain(serve: Command) -> Command {
    let defaults = defaults();
    serve.mut_args(|argument| {
        let Some(long) = argument.get_long().map(ToOwned::to_owned) else { return argument };
        // What makes a crew is said on its command line and nowhere else.
        if matches!(long.as_str(), "connect" | "name" | "service") {
            return argument;
        }
        // `--help` and `--version` explain themselves.
        let Some(help) = argument.get_help().map(ToString::to_string) else { return argument };
        let default = defaults.iter().find(|(option, _)| *option == long);
        let help = match default {
            Some((_, default)) => format!("{help} [default: {default}]"),
            None => help,
        };
        let variable = config::env::variable_of(&long);
        Arg::long_help(argument.help(help.clone()), format!("{help}\n[env: {variable}]"))
    })
}

/// What holds for an option that nobody gives.
fn defaults() -> Vec<(&'static str, String)> {
    let settings = Settings::default();
    vec![
        ("framing", "line".into()),
        ("workers", "its CPUs".into()),
        ("min", settings.min.to_string()),
        ("max", settings.max.to_string()),
        ("boot-timeout", config::show_duration(settings.boot_timeout)),
        ("max-requests", "none".into()),
        ("surge", settings.surge.to_string()),
        ("probe-timeout", "10s".into()),
        ("timeout", "none".into()),
        ("queue-timeout", "none".into()),
        ("part-timeout", "none".into()),
        ("cancel-grace", config::show_duration(settings.cancel_grace)),
        ("term-grace", config::show_duration(settings.term_grace)),
        ("attempts", settings.attempts.to_string()),
        ("queue", settings.backlog_limit.to_string()),
        ("queue-bytes", config::show_size(settings.held_bytes_limit)),
        ("max-body", config::show_size(settings.body_limit)),
        ("plain-errors", "text".into()),
        ("drain", config::show_duration(settings.drain)),
        ("log-file", "standard error".into()),
        ("log-format", "text".into()),
        ("log-level", "info".into()),
        ("control", "$XDG_RUNTIME_DIR/hornpipe/PORT.sock".into()),
    ]
}

#[cfg(test)]
mod tests {
    use nix::unistd::Uid;

    use super::*;
    use crate::config::{Config, Environment};

    fn resolved(variables: [(&str, &str); 1]) -> Result<Config, ConfigError> {
        let environment = Environment::of(variables);
        let raw = environment.settings()?;
        let surroundings =
            Surroundings { processors: 2, user: Uid::from_raw(1000), environment: Environment::of([]) };
        raw.resolve((&"1".parse().unwrap(), &"2".parse().unwrap()), Vec::new(), &surroundings)
    }

    #[test]
    fn a_default_that_help_shows_is_the_default() {
        let nothing = resolved([("HOME", "/")]);
        for (option, default) in defaults() {
            // These are no values that could be given.
            if !matches!(
                option,
                "workers"
                    | "max-requests"
                    | "timeout"
                    | "queue-timeout"
                    | "part-timeout"
                    | "log-file"
                    | "control"
            ) {
                let variable = config::env::variable_of(option);
                assert_eq!(resolved([(&variable, &default)]), nothing, "--{option} {default}");
            }
        }
    }

    #[test]
    fn every_default_belongs_to_an_option() {
        let options = RawConfig::augment_args(Command::new("options"));
        for (option, _) in defaults() {
            assert!(
                options.get_arguments().any(|argument| argument.get_long() == Some(option)),
                "--{option}"
            );
        }
    }
}
