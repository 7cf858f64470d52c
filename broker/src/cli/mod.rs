//! The command line: one file a verb.
//!
//! A verb reads its arguments, asks the library or a running broker, and says
//! what came of it: what was asked for on standard output, everything else on
//! standard error, and an exit code.

mod arguments;
mod bench;
mod check;
mod child;
mod clock;
mod completions;
mod conform;
mod demo;
mod events;
mod config;
pub mod exit_code;
mod lock;
mod man;
mod operator;
mod output;
mod pause;
mod poison;
mod recycle;
mod reload;
mod req;
mod resume;
mod scale;
mod serve;
mod slot;
mod status;
mod stop;
mod table;
#[cfg(feature = "tui")]
mod top;
mod upgrade;
mod watch;
mod worker;
mod workers;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{FromArgMatches, Parser, Subcommand};

const VERBS: &str = "\
Run
  demo    a tour of one minute: search, grow, kill, reload
  serve   bind two ports, start workers, hand each request to an idle one
  worker  the same workers for a broker elsewhere      hornpipe worker --connect broker:6661 -n 8
  conform try a worker program: does it keep to the protocol?
  config  show what settings mean and where they come from, or check them
  lock    a command under a lock, of this machine or many   hornpipe lock run NAME -- ./backup
Ask
  req     send one request and print the reply          hornpipe req 6660 hello
  bench   make load and check every reply               hornpipe bench 6660 -c 16 -d 10s
Operate the running broker of a frontend port
  status  one screen of truth, --json, --watch
  workers its table of workers alone
  events  what happens, as it happens
  scale   set or change the number of workers           hornpipe scale 6660 +2
  reload  fresh workers; if the new ones fail, the old ones stay
  recycle another process for one slot
  pause   hand out no request; what runs goes on
  resume  hand them out again
  check   exit code 0 if it is ready, for probes
  poison  requests that ended every worker: list, show, retry, drop
  upgrade another program in its place, under the same workers
  stop    finish what runs, then stop (--now: at once)

hornpipe VERB -h is one screen, --help everything. For packagers: completions, man.";

/// After this line of the first screen stands the one below, if there is such a verb.
#[cfg(feature = "tui")]
const EVENTS: &str = "  events  what happens, as it happens\n";
#[cfg(feature = "tui")]
const TOP: &str = "  top     a live view, with keys to scale, recycle, reload, pause\n";

/// Share work among a pool of processes, over ZeroMQ
#[derive(Debug, Parser)]
#[command(
    name = "hornpipe",
    version,
    args_override_self = true,
    disable_help_subcommand = true,
    help_template = "{about}\n\n{usage-heading} {usage}{after-help}",
    after_help = VERBS,
    override_usage = "hornpipe <VERB> [OPTIONS]"
)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(Box<serve::ServeArguments>),
    Worker(Box<worker::WorkerArguments>),
    Conform(conform::ConformArguments),
    Demo(demo::DemoArguments),
    Config(config::ConfigArguments),
    Req(req::ReqArguments),
    Bench(bench::BenchArguments),
    Lock(lock::LockArguments),
    Status(status::StatusArguments),
    Workers(workers::WorkersArguments),
    Events(events::EventsArguments),
    #[cfg(feature = "tui")]
    Top(top::TopArguments),
    Scale(scale::ScaleArguments),
    Poison(poison::PoisonArguments),
    Reload(reload::ReloadArguments),
    Recycle(recycle::RecycleArguments),
    Pause(pause::PauseArguments),
    Resume(resume::ResumeArguments),
    Check(check::CheckArguments),
    Stop(stop::StopArguments),
    Upgrade(upgrade::UpgradeArguments),
    #[command(hide = true)]
    Completions(completions::CompletionsArguments),
    #[command(hide = true)]
    Man(man::ManArguments),
}

/// Runs the verb that these arguments name, and gives the process's exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let verb = match parse(arguments) {
        Ok(verb) => verb,
        Err(error) => {
            // Nobody is left to be told if this fails.
            error.print().ok();
            return u8::try_from(error.exit_code()).unwrap_or(exit_code::USAGE);
        }
    };
    match verb {
        Verb::Serve(arguments) => serve::run(*arguments),
        Verb::Worker(arguments) => worker::run(*arguments),
        Verb::Conform(arguments) => conform::run(&arguments).into(),
        Verb::Demo(arguments) => demo::run(&arguments).into(),
        Verb::Config(arguments) => config::run(arguments),
        Verb::Req(arguments) => req::run(&arguments).into(),
        Verb::Bench(arguments) => bench::run(&arguments).into(),
        Verb::Lock(arguments) => lock::run(&arguments),
        Verb::Status(arguments) => status::run(&arguments).into(),
        Verb::Workers(arguments) => workers::run(&arguments).into(),
        Verb::Events(arguments) => events::run(&arguments).into(),
        #[cfg(feature = "tui")]
        Verb::Top(arguments) => top::run(&arguments).into(),
        Verb::Scale(arguments) => scale::run(&arguments).into(),
        Verb::Poison(arguments) => poison::run(&arguments),
        Verb::Reload(arguments) => reload::run(&arguments).into(),
        Verb::Recycle(arguments) => recycle::run(&arguments).into(),
        Verb::Pause(arguments) => pause::run(&arguments).into(),
        Verb::Resume(arguments) => resume::run(&arguments).into(),
        Verb::Check(arguments) => check::run(&arguments).into(),
        Verb::Stop(arguments) => stop::run(&arguments).into(),
        Verb::Upgrade(arguments) => upgrade::run(&arguments).into(),
        Verb::Completions(arguments) => completions::run(&arguments).into(),
        Verb::Man(arguments) => man::run(&arguments).into(),
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Verb, clap::Error> {
    let arguments = arguments::with_dashes(arguments);
    let mut found = command().try_get_matches_from(arguments).map_err(with_dashes_explained)?;
    CommandLine::from_arg_matches_mut(&mut found).map(|line| line.verb)
}

/// The usual slip: a program without the `--` in front of it.
fn with_dashes_explained(mut error: clap::Error) -> clap::Error {
    let is_word =
        |value: &ContextValue| matches!(value, ContextValue::String(word) if !word.starts_with('-'));
    if error.kind() == ErrorKind::UnknownArgument && error.get(ContextKind::InvalidArg).is_some_and(is_word) {
        let tip = "a program and its arguments stand after --, as in: hornpipe serve 6660 6661 -- ./worker";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn command() -> clap::Command {
    let command = <CommandLine as clap::CommandFactory>::command().mut_subcommand("serve", serve::explain);
    let command = command.mut_subcommand("worker", worker::explain);
    let command = command.mut_subcommand("config", config::explain);
    let command =
        command.mut_subcommand("upgrade", |verb| with_timeout(verb, upgrade::TIMEOUT, upgrade::TIMEOUT_HELP));
    #[cfg(feature = "tui")]
    let command = command
        .mut_subcommand("top", |verb| with_timeout(verb, top::TIMEOUT, top::TIMEOUT_HELP))
        .after_help(VERBS.replace(EVENTS, &format!("{EVENTS}{TOP}")));
    command
}

fn with_timeout(verb: clap::Command, default: &'static str, help: &'static str) -> clap::Command {
    verb.mut_arg("timeout", |argument| argument.default_value(default).help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(arguments: &[&str]) -> String {
        let arguments = ["hornpipe"].iter().chain(arguments).map(OsString::from);
        parse(arguments).unwrap_err().render().to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_first_screen_names_every_verb() {
        let screen = help(&["--help"]);
        for verb in command().get_subcommands() {
            if verb.is_hide_set() {
                assert!(screen.trim_end().lines().last().unwrap().contains(verb.get_name()), "{screen}");
                continue;
            }
            assert!(screen.contains(&format!("\n  {}", verb.get_name())), "{}:\n{screen}", verb.get_name());
        }
        assert!(screen.lines().count() <= 31, "{screen}");
    }

    #[test]
    fn a_program_without_its_dashes_is_explained() {
        assert!(help(&["serve", "6660", "6661", "python3", "w.py"]).contains("stand after --"));
        assert!(!help(&["serve", "6660", "6661", "--wrokers", "3"]).contains("stand after --"));
    }

    #[test]
    fn the_short_help_of_each_verb_is_one_screen() {
        for verb in command().get_subcommands() {
            let screen = help(&[verb.get_name(), "-h"]);
            assert!(screen.lines().count() <= 33, "{}:\n{screen}", verb.get_name());
        }
    }

    #[test]
    fn the_long_help_of_serve_has_the_variable_of_every_option() {
        let screen = help(&["serve", "--help"]);
        let mut command = command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        for option in serve.get_arguments().filter(|option| !option.is_hide_set()) {
            let Some(long) = option.get_long().filter(|long| !matches!(*long, "help" | "version")) else {
                continue;
            };
            let variable = crate::config::env::variable_of(long);
            assert!(screen.contains(&format!("[env: {variable}]")), "{variable} is missing:\n{screen}");
        }
    }
}
