//! `hornpipe config check`: would a broker with these settings serve? Its ports are bound and
//! let go, and each of its services is run for a moment, with one worker, on ports of its own.
//! A crew has no ports; its brokers are called on.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use hornpipe_client::Client;
use serde_json::json;

use super::super::output;
use super::super::serve;
use super::SettingsArguments;
use crate::config::{Configured, CrewPlan, ProgramKind, ServiceConfig};
use crate::launch::rehearsal::{self, Rehearsal};

/// What the exit code is if workers do not start, or do not answer the probe.
const CANNOT_START: u8 = 3;

/// Would it serve? Binds the ports, starts a worker of each service, asks the probe, stops
#[derive(Debug, Args)]
#[command(
    after_help = "A broker that runs is not touched, but has its ports: --ports-in-use leaves them out.
With --connect it is a crew that is checked: it may be started before its brokers, so one that
does not answer is told and is no failure.

Exit codes: 0 it would serve · 2 usage, or the environment · 3 workers cannot start ·
            4 a port is in use · 78 the file of --config is wrong"
)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    settings: SettingsArguments,
    /// Do not try the ports, because the broker that has them is running
    #[arg(long, conflicts_with = "connect", help_heading = "Check")]
    ports_in_use: bool,
    /// For programs: one JSON object with every step
    #[arg(long, help_heading = "Check")]
    json: bool,
}

/// What it is if a port is in use.
const PORT_TAKEN: u8 = 4;

/// How long a broker is given to take a connection.
const TIME_TO_ANSWER: Duration = Duration::from_secs(2);

/// One thing that was tried.
#[derive(Debug)]
struct Step {
    what: String,
    /// What came of it, and the exit code if that is the end.
    outcome: Result<String, (String, u8)>,
}

pub(super) fn run(arguments: CheckArguments) -> u8 {
    let CheckArguments { settings, ports_in_use, json } = arguments;
    let mut report = Report { steps: Vec::new(), json };
    let told = match settings.resolve() {
        Ok(configured) => {
            check(&configured, if ports_in_use { Ports::LeaveOut } else { Ports::Try }, &mut report)
        }
        Err(error) => {
            let code = serve::exit_code(&error);
            report.add("settings", Err((error.to_string(), code)))
        }
    };
    let code = told.err().unwrap_or(0);
    report.end(code);
    code
}

/// What is done about the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    Try,
    LeaveOut,
}

/// All steps, told as they are taken.
struct Report {
    steps: Vec<Step>,
    json: bool,
}

impl Report {
    /// Returns the exit code if this was the end.
    fn add(&mut self, what: impl Into<String>, outcome: Result<String, (String, u8)>) -> Result<(), u8> {
        let what = what.into();
        if !self.json {
            match &outcome {
                Ok(told) => {
                    output::print(format!("{what}: {}\n", output::harmless(told)).as_bytes()).ok();
                }
                Err((why, _code)) => output::complain(format_args!("{what}: {}", output::harmless(why))),
            }
        }
        let end = outcome.as_ref().err().map_or(Ok(()), |(_why, code)| Err(*code));
        self.steps.push(Step { what, outcome });
        end
    }

    fn end(&self, code: u8) {
        if !self.json {
            return;
        }
        let steps: Vec<_> = self
            .steps
            .iter()
            .map(|Step { what, outcome }| match outcome {
                Ok(told) => json!({ "step": what, "ok": true, "message": told }),
                Err((why, _code)) => json!({ "step": what, "ok": false, "message": why }),
            })
            .collect();
        let report = json!({ "ok": code == 0, "exit_code": code, "steps": steps });
        output::print(format!("{report:#}\n").as_bytes()).ok();
    }
}

fn check(configured: &Configured, ports: Ports, report: &mut Report) -> Result<(), u8> {
    let file = configured.file().map(|path| format!("{} can be used", path.display()));
    let told = file.unwrap_or_else(|| "they can be used, and there is no file".to_owned());
    let told = match configured.unused_by_crew().join(", ").as_str() {
        "" => told,
        unused => format!("{told}; for a broker only, and without effect here: {unused}"),
    };
    report.add("settings", Ok(told))?;
    let config = &configured.config;
    if let Some(crew) = &config.crew {
        call_on_brokers(crew, report)?;
    } else if ports == Ports::Try {
        let tried = rehearsal::try_ports(config).map_err(|error| match error.exit_code() {
            PORT_TAKEN => (format!("{error}; --ports-in-use if it is the broker in question"), PORT_TAKEN),
            code => (error.to_string(), code),
        });
        report
            .add("ports", tried.map(|()| format!("{} and {} can be had", config.frontend, config.backend)))?;
    }
    let services = std::iter::once(&config.default).chain(&config.further);
    services.into_iter().try_for_each(|service| {
        let outcome = rehearse(configured, service);
        report.add(format!("service {}", service.name), outcome)
    })
}

/// Whether anybody answers where the brokers should be.
fn call_on_brokers(crew: &CrewPlan, report: &mut Report) -> Result<(), u8> {
    crew.brokers.iter().try_for_each(|broker| {
        let place = broker.strip_prefix("tcp://").unwrap_or(broker);
        let told = match call_on(place) {
            Ok(()) => "somebody answers there".to_owned(),
            Err(error) => format!("nobody answers there ({error}), and the crew would wait"),
        };
        report.add(format!("broker {broker}"), Ok(told))
    })
}

/// Whether any of its addresses takes a connection. The error is that of the last.
fn call_on(place: &str) -> io::Result<()> {
    let mut called = Err(io::Error::other("the name has no address"));
    for address in place.to_socket_addrs()? {
        called = TcpStream::connect_timeout(&address, TIME_TO_ANSWER).map(drop);
        if called.is_ok() {
            break;
        }
    }
    called
}

fn rehearse(configured: &Configured, service: &ServiceConfig) -> Result<String, (String, u8)> {
    if service.program == ProgramKind::None || service.core.max == 0 {
        return Ok("it has no workers of its own, so none was started".to_owned());
    }
    let failed = |why: String| (why, CANNOT_START);
    let rehearsal =
        Rehearsal::start(configured.rehearsal_of(service)).map_err(|error| failed(error.to_string()))?;
    let mut rehearsal = rehearsal;
    let Some(frontend) = rehearsal.wait_until_ready() else {
        let (why, code) = rehearsal.stop();
        let code = if code == 0 { CANNOT_START } else { code };
        return Err((format!("no worker is ready: {why}"), code));
    };
    let asked = service.probe.as_ref().map(|probe| ask(&frontend, probe, service.core.probe_timeout));
    let (why, code) = rehearsal.stop();
    let told = match asked {
        Some(Err(why)) => return Err(failed(format!("a worker is ready, and fails the probe: {why}"))),
        Some(Ok(())) => "a worker is ready, and answers the probe",
        None => "a worker is ready",
    };
    if code == 0 { Ok(told.to_owned()) } else { Err((format!("{told}, and cannot be stopped: {why}"), code)) }
}

fn ask(frontend: &str, probe: &[u8], timeout: Option<Duration>) -> Result<(), String> {
    let timeout = timeout.unwrap_or(Duration::from_secs(10));
    let client = Client::builder().endpoint(frontend.to_owned()).timeout(timeout).tries(1).build();
    client.and_then(|client| client.ask(probe.to_vec())).map(|_reply| ()).map_err(|error| error.to_string())
}
