//! `hornpipe worker`: be a worker by hand.

use clap::{Args, Subcommand};
use hornpipe_worker::{DEMO_VERBS, Stopped};

use super::exit_code::USAGE;
use super::output;
use crate::config::Environment;
use crate::logging::{self, Colour, Level, LogChoices, LogFormat};

/// Be a worker by hand
#[derive(Debug, Args)]
pub(super) struct WorkerArguments {
    #[command(subcommand)]
    kind: Kind,
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

pub(super) fn run(arguments: &WorkerArguments) -> u8 {
    let Kind::Demo(DemoArguments { backend, service }) = &arguments.kind;
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
