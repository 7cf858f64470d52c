//! `hornpipe conform`: is this program a worker as PROTOCOL.md has it? It plays the broker on a
//! private socket and looks at what the worker does.

mod ahead;
mod bench;
mod checks;
mod programs;
mod record;
mod stage;
mod subject;
mod word;

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::exit_code::ConformExit;
use super::output::{self, harmless};
use super::table;
use crate::config::{self, Environment};
use crate::launch;
use bench::{Bench, Failed, Terms};
use checks::{CHECKS, Needs, Passed};
use programs::Way;
use stage::Stage;

/// Try a worker program: does it keep to the protocol?
#[derive(Debug, Args)]
#[command(after_help = AFTER, after_long_help = LONG)]
pub(super) struct ConformArguments {
    /// How long it may take to do what it should
    #[arg(long, value_name = "TIME", value_parser = config::duration, default_value = "5s")]
    timeout: Duration,
    /// How long it is watched doing nothing, with a broker and without one
    #[arg(long, value_name = "TIME", value_parser = config::duration, default_value = "1s")]
    watch: Duration,
    /// The body of a request that it can answer
    #[arg(long, value_name = "BODY", default_value = "hello")]
    body: String,
    /// The body of one that takes long, so that it can be cancelled
    #[arg(long, value_name = "BODY")]
    slow: Option<String>,
    /// The body of one that is answered in parts
    #[arg(long, value_name = "BODY")]
    parts: Option<String>,
    /// It is a program of --each: run once for each request, body in and reply out
    #[arg(long, conflicts_with = "lines")]
    each: bool,
    /// It is a program of --lines: a message in, a message out
    #[arg(long)]
    lines: bool,
    /// How --lines tells messages apart: line; length (4 bytes, big-endian) or netstring, for any body
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true, requires = "lines")]
    framing: Option<config::Framing>,
    /// For programs: one JSON object
    #[arg(long)]
    json: bool,
    /// The worker and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

const AFTER: &str = "\
Exit codes: 0 nothing failed · 1 something did · 2 usage, or the program cannot be executed
hornpipe conform --help says what is tried, and has examples.";

const LONG: &str = "\
The program is started as a broker starts its workers, with HORNPIPE_BACKEND in its environment, and
again after each failure and at the end. It is given some 20 jobs, so it should do no harm with the
bodies that it gets: --body, and made-up ones (empty, binary, 1 MiB, several frames). An answer that is
a failure is an answer. What it writes appears on standard error.

A program of --each or --lines does not speak the protocol. It is tried for what is left to it: that it
answers once, at once and whole, waits for the end of a message, and ends when it should.

Exit codes: 0 nothing failed · 1 something did · 2 usage, or the program cannot be executed

Examples:
  hornpipe conform -- python3 worker.py
  hornpipe conform --slow 'sleep 60000' --parts 'parts 20 0' -- hornpipe worker demo
  hornpipe conform --lines --framing netstring -- ./filter
  hornpipe conform --each --slow 100 -- sh -c 'sleep \"$(cat)\"'
  hornpipe conform --json -- ./worker | jq '.checks[] | select(.result == \"failed\")'";

/// How one check went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    check: &'static str,
    result: Verdict,
    why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Failed,
    NotApplicable,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::NotApplicable => "-",
        }
    }
}

pub(super) fn run(arguments: &ConformArguments) -> ConformExit {
    if arguments.timeout.is_zero() || arguments.watch.is_zero() {
        output::complain("--timeout and --watch must be more than 0");
        return ConformExit::Usage;
    }
    let bytes = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
    let terms = Terms {
        program: arguments.program.clone(),
        environment: Environment::read().for_workers(),
        patience: arguments.timeout,
        watch: arguments.watch,
        body: arguments.body.clone().into_bytes(),
        slow: bytes(&arguments.slow),
        parts: bytes(&arguments.parts),
    };
    let tried = match arguments.way() {
        None => try_worker(terms),
        Some(way) => try_program(terms, way),
    };
    let lines = match tried {
        Ok(lines) => lines,
        Err(untried) => return untried,
    };
    let failed = lines.iter().any(|line| line.result == Verdict::Failed);
    let text = if arguments.json { as_json(&arguments.program, &lines) } else { as_table(&lines) };
    if let Err(error) = output::print(text.as_bytes()) {
        output::complain(format_args!("cannot write: {error}"));
        return ConformExit::Failed;
    }
    if failed { ConformExit::Failed } else { ConformExit::Ok }
}

impl ConformArguments {
    /// How the program is talked to, if it is no worker by itself.
    fn way(&self) -> Option<Way> {
        let framing = self.framing.unwrap_or_default();
        match (self.lines, self.each) {
            (true, _) => Some(Way::Lines(launch::framing(framing))),
            (false, true) => Some(Way::Each),
            (false, false) => None,
        }
    }
}

fn not_executable(program: &[OsString], error: &io::Error) -> ConformExit {
    let name = program.first().map(|name| name.to_string_lossy().into_owned());
    output::complain(format_args!("cannot execute {:?}: {error}", name.unwrap_or_default()));
    ConformExit::Usage
}

fn interrupted() -> ConformExit {
    output::complain("ended by a signal");
    ConformExit::Interrupted
}

fn try_worker(terms: Terms) -> Result<Vec<Line>, ConformExit> {
    let mut bench = Bench::open(terms).map_err(|error| {
        output::complain(format_args!("cannot make a socket for the worker: {error}"));
        ConformExit::Failed
    })?;
    bench.start().map_err(|error| not_executable(&bench.terms.program, &error))?;
    let lines = try_all(&mut bench);
    if bench.is_interrupted() { Err(interrupted()) } else { Ok(lines) }
}

fn try_program(terms: Terms, way: Way) -> Result<Vec<Line>, ConformExit> {
    let mut stage = Stage::open(terms).map_err(|error| {
        output::complain(format_args!("cannot wait for signals: {error}"));
        ConformExit::Failed
    })?;
    stage.start().map_err(|error| not_executable(&stage.terms.program, &error))?;
    let mut lines: Vec<Line> = Vec::new();
    for check in programs::CHECKS {
        if stage.is_interrupted() {
            return Err(interrupted());
        }
        let is_base = |line: &Line| programs::FIRST.contains(&line.check) && line.result == Verdict::Failed;
        if let Some(base) = lines.iter().find(|line| is_base(line)) {
            let why = format!("not tried: it fails at `{}`", base.check);
            lines.push(Line { check: check.name, result: Verdict::NotApplicable, why });
            continue;
        }
        lines.push(Line::of(check.name, (check.run)(&mut stage, way)));
        if lines.last().is_some_and(|line| line.result == Verdict::Failed) {
            stage.discard();
        }
    }
    let is_tried = |name: &str| programs::CHECKS.iter().any(|check| check.name == name);
    for check in CHECKS.iter().filter(|check| !is_tried(check.name)) {
        let why = "does not apply: its adapter sees to that".to_owned();
        lines.push(Line { check: check.name, result: Verdict::NotApplicable, why });
    }
    if stage.is_interrupted() { Err(interrupted()) } else { Ok(lines) }
}

impl Line {
    fn of(check: &'static str, tried: Result<Passed, Failed>) -> Self {
        let (result, why) = match tried {
            Ok(Passed::Ok(why)) => (Verdict::Ok, why),
            Ok(Passed::NotApplicable(why)) => (Verdict::NotApplicable, why),
            Err(why) => (Verdict::Failed, why),
        };
        Self { check, result, why: harmless(&why) }
    }
}

fn try_all(bench: &mut Bench) -> Vec<Line> {
    let mut reached = Needs::Replies;
    let mut lines = Vec::new();
    for check in CHECKS {
        if bench.is_interrupted() {
            break;
        }
        if reached < check.needs {
            let why = match reached {
                Needs::Nothing => "not tried: it never said `waiting`",
                Needs::Registered | Needs::Replies => "not tried: its replies cannot be told apart",
            };
            lines.push(Line { check: check.name, result: Verdict::NotApplicable, why: why.to_owned() });
            continue;
        }
        let line = Line::of(check.name, (check.run)(bench));
        if line.result == Verdict::Failed {
            bench.discard();
            reached = match check.name {
                "register" => Needs::Nothing,
                "token" => Needs::Registered,
                _ => reached,
            };
        }
        lines.push(line);
    }
    lines
}

fn count(lines: &[Line], result: Verdict) -> usize {
    lines.iter().filter(|line| line.result == result).count()
}

fn as_table(lines: &[Line]) -> String {
    let rows =
        lines.iter().map(|line| [line.check.to_owned(), line.result.word().to_owned(), line.why.clone()]);
    let mut text = String::new();
    for row in table::table(["CHECK", "RESULT", ""], rows.collect()) {
        text.push_str(row.trim_end());
        text.push('\n');
    }
    let [ok, failed, others] =
        [Verdict::Ok, Verdict::Failed, Verdict::NotApplicable].map(|result| count(lines, result));
    text + &format!("{ok} ok, {failed} failed, {others} not applicable\n")
}

fn as_json(program: &[OsString], lines: &[Line]) -> String {
    let program: Vec<_> = program.iter().map(|word| word.to_string_lossy()).collect();
    table::json(&json!({
        "program": program,
        "checks": lines,
        "ok": count(lines, Verdict::Ok),
        "failed": count(lines, Verdict::Failed),
        "not_applicable": count(lines, Verdict::NotApplicable),
    }))
}
