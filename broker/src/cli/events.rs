//! `hornpipe events`: what happens, as it happens.

use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::time::Duration;

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, EventKind, EventReport};
use serde_json::{Map, Value};

use super::exit_code::OperatorExit;
use super::operator::{self, Broker, OperatorError, Target};
use super::output;
use super::watch::Pace;

/// What happens, as it happens: workers, reloads, scaling, time-outs, refusals
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the broker has stopped, or nobody reads any more · 1 the broker says no · \
                        2 usage · 5 no broker answers"
)]
pub(super) struct EventsArguments {
    #[command(flatten)]
    target: Target,
    /// For programs: one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Between two tries to reach the next router.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// How one stream ended.
enum End {
    /// For good.
    Over(OperatorExit),
    /// With its router: the next one has another.
    Next,
}

pub(super) fn run(arguments: &EventsArguments) -> OperatorExit {
    let pace = match Pace::every(BETWEEN_TRIES) {
        Ok(pace) => pace,
        Err(error) => {
            output::complain(format_args!("cannot wait: {error}"));
            return OperatorExit::No;
        }
    };
    // The first try is not repeated: there may be no broker at all.
    let mut tries_left = 0;
    loop {
        match arguments.target.open(&ControlRequest::Events) {
            Ok((response, broker)) => {
                match follow(response, broker, arguments.json) {
                    End::Over(exit) => return exit,
                    End::Next => output::complain("the router has ended: waiting for the next one"),
                }
                tries_left = arguments.target.timeout().as_millis() / BETWEEN_TRIES.as_millis();
            }
            Err(OperatorError::Left) if 0 < tries_left => tries_left -= 1,
            Err(error) => {
                output::complain(error);
                return OperatorExit::Unreachable;
            }
        }
        pace.wait();
    }
}

/// Prints one stream, from its first event to its last.
fn follow(first: ControlResponse, mut broker: Broker, as_json: bool) -> End {
    let mut next = Ok(first);
    loop {
        let event = match next {
            Ok(ControlResponse::Event(event)) => event,
            Ok(ControlResponse::Refused { message }) => {
                output::complain(message);
                return End::Over(OperatorExit::No);
            }
            Ok(_other) => return End::Over(operator::misunderstood()),
            Err(OperatorError::Left) => return End::Next,
            Err(error) => {
                output::complain(error);
                return End::Over(OperatorExit::Unreachable);
            }
        };
        if let Some(exit) = print(&event, as_json) {
            return End::Over(exit);
        }
        match &event.what {
            EventKind::End { why } if why == "replaced" => return End::Next,
            EventKind::End { .. } => return End::Over(OperatorExit::Done),
            _ => (),
        }
        next = broker.wait_for_more();
    }
}

/// The exit code, if nothing more can be printed.
fn print(event: &EventReport, as_json: bool) -> Option<OperatorExit> {
    let line = if as_json { object(event) } else { text(event) };
    match output::write(line.as_bytes()) {
        Ok(()) => None,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Some(OperatorExit::Done),
        Err(error) => {
            complain_of(&error);
            Some(OperatorExit::No)
        }
    }
}

fn complain_of(error: &io::Error) {
    output::complain(format_args!("cannot write: {error}"));
}

/// What has happened, its name under `event`, and in which service.
fn fields(event: &EventReport) -> Map<String, Value> {
    let mut fields = match serde_json::to_value(&event.what) {
        Ok(Value::Object(fields)) => fields,
        // An event is a map by its type.
        Ok(_) | Err(_) => Map::new(),
    };
    fields.extend(event.service.as_ref().map(|service| ("service".to_owned(), service.as_str().into())));
    fields
}

fn object(event: &EventReport) -> String {
    let mut fields = fields(event);
    fields.insert("at_ms".into(), event.at_ms.into());
    fields.insert("router_life".into(), event.router_life.into());
    format!("{}\n", Value::Object(fields))
}

/// The time of the day (UTC), the event, and what is to be known of it.
fn text(event: &EventReport) -> String {
    let mut fields = fields(event);
    let name = fields.remove("event");
    let name = name.as_ref().and_then(Value::as_str).unwrap_or("unknown");
    let of_day = event.at_ms % 86_400_000;
    let (hours, minutes, rest) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day % 60_000);
    let mut line = format!("{hours:02}:{minutes:02}:{:02}.{:03}Z {name}", rest / 1000, rest % 1000);
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        // Writing to a `String` cannot fail.
        match value {
            Value::String(text) if is_bare(text) => write!(line, " {key}={text}"),
            Value::String(text) => write!(line, " {key}=\"{}\"", output::harmless(text)),
            other => write!(line, " {key}={other}"),
        }
        .ok();
    }
    line.push('\n');
    line
}

fn is_bare(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-:".contains(letter))
}

#[cfg(test)]
mod tests {
    use hornpipe_proto::Status;

    use super::*;

    fn event(what: EventKind) -> EventReport {
        EventReport { at_ms: 1_795_860_005_042, router_life: 2, service: None, what }
    }

    #[test]
    fn a_line_has_the_time_the_event_and_what_is_known() {
        let exited = event(EventKind::WorkerExited {
            slot: 3,
            incarnation: 2,
            generation: 0,
            pid: None,
            reason: "announced: \x1b[31m".into(),
            planned: false,
            respawn_ms: 100,
        });
        let expected = "10:00:05.042Z worker_exited generation=0 incarnation=2 planned=false \
                        reason=\"announced: \\u{1b}[31m\" respawn_ms=100 slot=3\n";
        assert_eq!(text(&exited), expected);
        assert_eq!(text(&event(EventKind::Restored)), "10:00:05.042Z restored\n");
        let refused = event(EventKind::Refused { refused: vec![(Status::Busy, 12)] });
        assert_eq!(text(&refused), "10:00:05.042Z refused refused=[[\"busy\",12]]\n");
    }

    #[test]
    fn an_object_is_flat() {
        let value: Value = serde_json::from_str(&object(&event(EventKind::Dropped { count: 7 }))).unwrap();
        let expected = serde_json::json!({
            "at_ms": 1_795_860_005_042_u64, "router_life": 2, "event": "dropped", "count": 7,
        });
        assert_eq!(value, expected);
    }
}
