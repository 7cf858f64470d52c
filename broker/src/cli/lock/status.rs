//! `hornpipe lock status`: who holds a lock, as each server has it.

use std::time::Duration;

use clap::Args;
use hornpipe_lock::{Inspected, LockError};
use serde::Serialize;

use super::place::{self, Place};
use crate::cli::exit_code::LockExit;
use crate::cli::output::{self, harmless};
use crate::cli::table::{age, json, table};

/// Who holds a lock, and for how long, as each server has it
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is told, held or not · 2 usage · 69 too few servers answer")]
pub(super) struct StatusArguments {
    /// What is locked
    #[arg(value_name = "NAME")]
    name: String,
    /// For programs: one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// As `--json` prints it.
#[derive(Debug, Serialize)]
struct Status {
    name: String,
    /// By a majority of servers; `null` if too few answer.
    held: Option<bool>,
    /// Until it runs out; `null` if it is free, or has no end by itself, as a locked file.
    life_ms: Option<u64>,
    servers: Vec<Server>,
}

#[derive(Debug, Serialize)]
struct Server {
    name: String,
    error: Option<String>,
    holder: Option<String>,
    life_ms: Option<u64>,
    /// The greatest token that was confirmed here.
    token: u64,
}

pub(super) fn run(arguments: &StatusArguments) -> LockExit {
    let locker = match arguments.place.locker() {
        Ok(locker) => locker,
        Err(error) => {
            output::complain(error);
            return LockExit::Usage;
        }
    };
    let life = locker.remaining_life(&arguments.name);
    let inspected = match locker.inspect(&arguments.name) {
        Ok(inspected) => inspected,
        Err(error) => {
            output::complain(harmless(&error.to_string()));
            return place::exit_code(&error);
        }
    };
    let status = Status {
        name: arguments.name.clone(),
        held: life.as_ref().ok().map(Option::is_some),
        life_ms: life.as_ref().ok().copied().flatten().and_then(milliseconds),
        servers: inspected.into_iter().map(Server::of).collect(),
    };
    let text = if arguments.json { json(&status) } else { status.show() };
    if let Err(error) = output::print(text.as_bytes()) {
        output::complain(format_args!("cannot write: {error}"));
        return LockExit::Unavailable;
    }
    for server in status.servers.iter().filter(|server| arguments.place.is_too_long(server.life_ms)) {
        output::complain(format_args!(
            "{} keeps it longer than any lock lives (--longest-ttl): was its clock set back?",
            harmless(&server.name)
        ));
    }
    match life {
        Ok(_) => LockExit::Done,
        Err(LockError::NoQuorum { quorum, servers, .. }) => {
            output::complain(format_args!(
                "too few of {servers} servers answer: {quorum} are needed to tell"
            ));
            LockExit::Unavailable
        }
        Err(error) => {
            output::complain(harmless(&error.to_string()));
            place::exit_code(&error)
        }
    }
}

impl Server {
    fn of((name, answer): Inspected) -> Self {
        match answer {
            Ok(seen) => {
                let life_ms = seen.life.and_then(milliseconds);
                Self { name, error: None, holder: seen.value, life_ms, token: seen.fence }
            }
            Err(error) => Self { name, error: Some(error), holder: None, life_ms: None, token: 0 },
        }
    }

    fn row(&self) -> [String; 4] {
        let state = match (&self.error, &self.holder) {
            (Some(error), _) => harmless(error),
            (None, Some(holder)) => harmless(holder),
            (None, None) => "free".to_owned(),
        };
        let life = self.life_ms.map(age).unwrap_or_default();
        let token = if self.token == 0 { String::new() } else { self.token.to_string() };
        [harmless(&self.name), life, token, state]
    }
}

impl Status {
    fn show(&self) -> String {
        let name = harmless(&self.name);
        let head = match (self.held, self.life_ms) {
            (Some(true), Some(life)) => format!("{name} is held, for {} more unless renewed", age(life)),
            (Some(true), None) => format!("{name} is held"),
            (Some(false), _) => format!("{name} is free"),
            (None, _) => format!("{name}: not known"),
        };
        let rows = self.servers.iter().map(Server::row).collect();
        let lines = table(["SERVER", "LIFE", "TOKEN", "HOLDER"], rows);
        let lines = lines.iter().map(|line| line.trim_end());
        let lines: Vec<&str> = [head.as_str()].into_iter().chain(lines).collect();
        lines.join("\n") + "\n"
    }
}

fn milliseconds(life: Duration) -> Option<u64> {
    (life != Duration::MAX).then_some(u64::try_from(life.as_millis()).ok()).flatten()
}
