//! `hornpipe worker`: a crew, which is a pool of workers for brokers elsewhere; or one worker
//! by hand.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Command, Subcommand};
use hornpipe_worker::{DEMO_VERBS, Stopped};

use super::exit_code::USAGE;
use super::{output, serve};
use crate::config::{
    Address, CommandLine, ConfigError, Configured, CrewOptions, Environment, RawConfig, Surroundings,
};
use crate::logging::{self, Colour, Level, LogChoices, LogFormat};

/// A supervised pool of workers for brokers elsewhere; `worker demo` is one by hand
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "hornpipe worker --connect BROKER [OPTIONS] [-- <PROGRAM>...]\n       hornpipe worker demo [OPTIONS]",
    after_help = SHORT,
    after_long_help = LONG
)]
pub(super) struct WorkerArguments {
    #[command(subcommand)]
    kind: Option<Kind>,
    #[command(flatten)]
    crew: CrewArguments,
}

#[derive(Debug, Args)]
struct CrewArguments {
    /// The backend of the broker to work for: 6661, HOST:6661. Several, with commas
    ///
    /// With several brokers, each worker serves one at a time, and another when that is gone.
    #[arg(long, value_name = "BROKER", required = true, value_delimiter = ',')]
    connect: Vec<Address>,
    /// What operators call the crew, as in `hornpipe status NAME` [default: crew-PORT]
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    name: Option<String>,
    /// The service to work for; one that the broker does not know is opened [default: the default one]
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    service: Option<String>,
    /// A TOML file of settings, read again at HUP. The command line and variables go before it
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: RawConfig,
    /// A worker program and its arguments; without one, workers reply what they get
    #[arg(last = true)]
    program: Vec<OsString>,
}

impl CrewArguments {
    fn resolve(self) -> Result<Configured, ConfigError> {
        let Self { connect, name, service, config, options, program } = self;
        options.check_for_crew()?;
        let crew = Some(CrewOptions { connect, name, service });
        let command_line = CommandLine { program, file: config, options, crew, ..CommandLine::default() };
        Configured::read(command_line, Surroundings::read())
    }
}

const SHORT: &str = "\
Signals: TERM, INT finish and stop · HUP fresh workers · TTIN, TTOU one worker more, less
hornpipe worker --help has all options, their variables, and examples.";

const LONG: &str = "\
Examples:
  hornpipe worker --connect 6661 -n 4 -- python3 worker.py            for a broker of this machine
  hornpipe worker --connect tcp://broker:6661 --insecure -n 8 -- python3 -m hornpipe app.py
  hornpipe worker --connect tcp://one:6661,tcp://two:6661 --insecure --each -- tr a-z A-Z
  hornpipe status crew-6661                                           and scale, reload, stop, ...

Between machines, what goes to and fro is neither encrypted nor authenticated, so --insecure
is needed where BROKER may be another machine. The broker's backend port must be open to this
one: hornpipe serve 6660 '*:6661' --insecure.

Signals: TERM, INT finish and stop (twice: at once) · QUIT the same without a limit ·
         HUP fresh workers · TTIN, TTOU one worker more, less · USR1 reopen the log

How often a request is tried, how long it may wait and how many may is the broker's to know.
The size of a crew is what it is told, or follows --min-spare-servers.

Exit codes: 0 stopped as asked · 1 failed while running · 2 usage · 3 workers cannot start ·
            4 another crew of this name runs · 78 the file of --config is wrong";

/// What `serve` has and a crew has no use for is not shown; all else has its default and its variable.
pub(super) fn explain(worker: Command) -> Command {
    let insecure = "The broker may be another machine: nothing is encrypted or authenticated";
    let worker = worker.mut_arg("insecure", |argument| argument.help(insecure));
    let worker = serve::explain(worker);
    RawConfig::OF_BROKERS.into_iter().fold(worker, |worker, option| {
        let option = option.replace('-', "_");
        worker.mut_arg(option, |argument| argument.hide(true))
    })
}

#[derive(Debug, Subcommand)]
enum Kind {
    Demo(DemoArguments),
}

/// A worker that does as the body of each request tells it: well, badly, or not at all
#[derive(Debug, Args)]
#[command(after_help = demo_help())]
struct DemoArguments {
    /// Where to work: a broker's backend port [default: $HORNPIPE_BACKEND, which a broker gives its workers]
    #[arg(long, value_name = "ENDPOINT")]
    backend: Option<String>,
    /// The service to work for; one that the broker does not know is opened [default: $HORNPIPE_SERVICE]
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

fn demo_help() -> String {
    format!(
        "The body of a request begins with a verb:\n{DEMO_VERBS}\n\nExamples:\n  \
         hornpipe serve 6660 6661 -- hornpipe worker demo\n  \
         hornpipe worker demo --backend 6661                   joins a running broker\n  \
         hornpipe req 6660 'upper ahoy'"
    )
}

pub(super) fn run(arguments: WorkerArguments) -> u8 {
    match &arguments.kind {
        Some(Kind::Demo(arguments)) => demo(arguments),
        None => serve::launch(arguments.crew.resolve()),
    }
}

fn demo(DemoArguments { backend, service }: &DemoArguments) -> u8 {
    let environment = Environment::read();
    let Some(backend) = backend.clone().or_else(|| environment.backend()) else {
        output::complain("where to? --backend ENDPOINT, or HORNPIPE_BACKEND in the environment");
        return USAGE;
    };
    let endpoint = match hornpipe_client::endpoint(&backend) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            output::complain(format_args!("cannot connect to {backend:?}: {error}"));
            return USAGE;
        }
    };
    let choices = LogChoices {
        file: None,
        owner: None,
        format: LogFormat::Text,
        level: Level::Info,
        colour: if environment.refuses_colour() { Colour::Never } else { Colour::OnTerminals },
    };
    if let Err(error) = logging::start(&choices) {
        output::complain(error);
        return 1;
    }
    let mut settings = hornpipe_worker::Settings::new(endpoint.to_string());
    settings.service = service.clone().or_else(|| environment.service());
    match hornpipe_worker::demo(&settings, |_state| ()) {
        Ok(Stopped::WithProgram { exit_code }) => exit_code,
        Ok(_) => 0,
        Err(error) => {
            output::complain(error);
            1
        }
    }
}
