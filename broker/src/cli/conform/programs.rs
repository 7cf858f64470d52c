//! What a program of `--lines` or `--each` is tried for, in order. The protocol is its adapter's
//! affair; what is left to it is when to read, when to write, and when to end.

use hornpipe_worker::Framing;
use nix::sys::signal::Signal;

use super::bench::Failed;
use super::checks::{LARGE, Passed, judge_rest, not_applicable, ok};
use super::stage::Stage;

/// How a program is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Lines(Framing),
    Each,
}

/// One line of the result.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) run: fn(&mut Stage, Way) -> Result<Passed, Failed>,
}

/// Those on which all others build: who fails one of them is tried no further.
pub(super) const FIRST: [&str; 3] = ["answer", "one answer", "next message"];

pub(super) const CHECKS: &[Check] = &[
    Check { name: "answer", run: answer },
    Check { name: "one answer", run: one_answer },
    Check { name: "next message", run: next_message },
    Check { name: "in pieces", run: in_pieces },
    Check { name: "empty body", run: |stage, way| asked(stage, way, b"") },
    Check { name: "binary body", run: binary_body },
    Check { name: "line breaks", run: line_breaks },
    Check { name: "large body", run: |stage, way| asked(stage, way, &vec![b'x'; LARGE]) },
    Check { name: "idle", run: idle },
    Check { name: "cancel", run: cancel },
    Check { name: "end of input", run: end_of_input },
    Check { name: "output after end", run: output_after_end },
    Check { name: "TERM", run: term },
];

const EACH: &str = "does not apply: it is run once for each request";

/// An answer, and how it came.
struct Answer {
    size: usize,
    /// How the program ended, if it is one that ends.
    ending: Option<String>,
}

fn answer(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    let body = stage.terms.body.clone();
    let answer = ask(stage, way, &body)?;
    let size = answer.size;
    match answer.ending {
        None => ok(format!("a message of {size} bytes for a message")),
        Some(ending) if ending == "with exit code 0" => ok(format!("{size} bytes, and it ends {ending}")),
        Some(ending) => {
            ok(format!("a failure for its client, because it ends {ending}: --body BODY is one it can do"))
        }
    }
}

fn one_answer(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    let Way::Lines(_) = way else { return not_applicable(EACH) };
    let body = stage.terms.body.clone();
    start(stage)?;
    ask(stage, way, &body)?;
    let watch = stage.terms.watch;
    if stage.within(watch, |stage| !stage.output.is_empty()) || !stage.output.is_empty() {
        let more = shown(&stage.output);
        return Err(format!(
            "it wrote {more} without being asked: one message for each, and nothing at the start"
        ));
    }
    ok("and nothing that nobody asked for")
}

fn next_message(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    let Way::Lines(framing) = way else { return not_applicable(EACH) };
    let question = framing.wrap(stage.terms.body.clone()).map_err(|failure| failure.to_string())?;
    start(stage)?;
    for number in 1..=3 {
        stage.write(&question);
        read(stage, framing).map_err(|why| format!("message {number} to the same process: {why}"))?;
    }
    ok("the same process answers one after another")
}

fn in_pieces(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    let Way::Lines(framing) = way else { return not_applicable(EACH) };
    let question = framing.wrap(stage.terms.body.clone()).map_err(|failure| failure.to_string())?;
    let (first, rest) = question.split_at(question.len() / 2);
    be_running(stage)?;
    stage.write(first);
    let watch = stage.terms.watch;
    if stage.within(watch, |stage| !stage.output.is_empty()) {
        return Err("it answered before the message was there to its end: read on until it is".into());
    }
    stage.write(rest);
    read(stage, framing)?;
    ok("it waits for the end of a message")
}

fn asked(stage: &mut Stage, way: Way, body: &[u8]) -> Result<Passed, Failed> {
    match ask(stage, way, body)?.ending {
        Some(ending) if ending != "with exit code 0" => {
            ok(format!("answered, with a failure: it ended {ending}"))
        }
        Some(_) | None => ok("answered"),
    }
}

fn binary_body(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    let is_sent = |byte: &u8| way != Way::Lines(Framing::Line) || *byte != b'\n';
    let body: Vec<u8> = (0..=u8::MAX).chain(*b"\r\0").filter(is_sent).collect();
    asked(stage, way, &body)
}

fn line_breaks(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    if way == Way::Lines(Framing::Line) {
        return not_applicable(
            "does not apply: a body with a line break is refused; --framing length or netstring takes any",
        );
    }
    asked(stage, way, b"one\ntwo\n\n")
}

fn idle(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    let Way::Lines(_) = way else { return not_applicable(EACH) };
    be_running(stage)?;
    judge_rest("with nothing to do", || stage.load_at_rest())
}

fn cancel(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    let Some(slow) = stage.terms.slow.clone() else {
        return not_applicable("--slow BODY names a request that takes long");
    };
    begin(stage, way, &slow)?;
    let watch = stage.terms.watch;
    stage.within(watch, |_stage| false);
    if !stage.is_alive() || !stage.output.is_empty() && matches!(way, Way::Lines(_)) {
        return not_applicable("it was done before it could be cancelled: --slow BODY is to take longer");
    }
    end_by_term(stage).map(|ending| Passed::Ok(format!("it is told by TERM, and ends {ending}")))
}

fn end_of_input(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    let Way::Lines(_) = way else { return ok("it ends with its input, each time") };
    let body = stage.terms.body.clone();
    ask(stage, way, &body)?;
    stage.end_input();
    let patience = stage.terms.patience;
    stage.within(patience, |stage| !stage.is_alive());
    if stage.is_alive() {
        return Err("it did not end when its input did: a second later it would get TERM".into());
    }
    let is_over = stage.within(patience, |stage| stage.is_output_over());
    let ending = stage.ending().unwrap_or_default();
    if !stage.output.is_empty() {
        return Err(format!("at its end it wrote {}, which nobody reads", shown(&stage.output)));
    }
    if is_over {
        ok(format!("it ends {ending}"))
    } else {
        Err("a process that it has left behind holds its output".into())
    }
}

fn output_after_end(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    if way != Way::Each {
        return not_applicable("does not apply: nothing is read when its input has ended");
    }
    let body = stage.terms.body.clone();
    begin(stage, way, &body)?;
    let patience = stage.terms.patience;
    stage.within(patience, |stage| !stage.is_alive());
    if stage.within(patience, |stage| stage.is_output_over()) {
        return ok("its output ends with it");
    }
    Err("a process that it has left behind holds its output: what that writes is no part of the reply".into())
}

fn term(stage: &mut Stage, way: Way) -> Result<Passed, Failed> {
    let Way::Lines(_) = way else {
        return not_applicable("does not apply: only one that is cancelled gets it");
    };
    let body = stage.terms.body.clone();
    ask(stage, way, &body)?;
    end_by_term(stage).map(|ending| Passed::Ok(format!("it ends {ending}")))
}

fn end_by_term(stage: &mut Stage) -> Result<String, Failed> {
    stage.signal(Signal::SIGTERM);
    let patience = stage.terms.patience;
    stage.within(patience, |stage| !stage.is_alive());
    if stage.is_alive() {
        return Err("it did not end at SIGTERM, and would be killed".into());
    }
    Ok(stage.ending().unwrap_or_default())
}

/// Has a body answered.
fn ask(stage: &mut Stage, way: Way, body: &[u8]) -> Result<Answer, Failed> {
    begin(stage, way, body)?;
    match way {
        Way::Lines(framing) => read(stage, framing),
        Way::Each => finish(stage),
    }
}

/// A process that has this body to read.
fn begin(stage: &mut Stage, way: Way, body: &[u8]) -> Result<(), Failed> {
    match way {
        Way::Lines(framing) => {
            be_running(stage)?;
            let question = framing.wrap(body.to_vec()).map_err(|failure| failure.to_string())?;
            stage.write(&question);
        }
        Way::Each => {
            start(stage)?;
            stage.write(body);
            let patience = stage.terms.patience;
            stage.within(patience, |stage| stage.unwritten() == 0);
            stage.end_input();
        }
    }
    Ok(())
}

fn start(stage: &mut Stage) -> Result<(), Failed> {
    stage.start().map_err(|error| format!("it cannot be started: {error}"))
}

fn be_running(stage: &mut Stage) -> Result<(), Failed> {
    if stage.is_alive() && !stage.is_output_over() { Ok(()) } else { start(stage) }
}

/// Reads the answer of a program of `--lines`.
fn read(stage: &mut Stage, framing: Framing) -> Result<Answer, Failed> {
    let limit = 2 * LARGE + 1024;
    let find = |stage: &Stage, searched| framing.find(&stage.output, searched, limit);
    let mut searched = 0;
    let patience = stage.terms.patience;
    stage.within(patience, |stage| {
        let is_there = !matches!(find(stage, searched), Ok(None));
        searched = stage.output.len();
        is_there
    });
    match find(stage, 0) {
        Ok(Some(_)) if stage.unwritten() > 0 => {
            Err("it answered before it had read the message to its end".into())
        }
        Ok(Some(answer)) => {
            stage.output.drain(..answer.end);
            Ok(Answer { size: answer.body.len(), ending: None })
        }
        Err(bad) => Err(format!("its answer cannot be read: {bad}; it begins with {}", shown(&stage.output))),
        Ok(None) => {
            let late = stage.too_late("it did not answer");
            stage.end_input();
            stage.within(patience, |stage| !matches!(find(stage, 0), Ok(None)));
            match find(stage, 0) {
                Ok(Some(_)) => Err("it answered only when its input ended: flush after each message".into()),
                _ if stage.output.is_empty() => Err(late),
                _ => Err(format!("it wrote {}, which is {}", shown(&stage.output), no_message(framing))),
            }
        }
    }
}

const fn no_message(framing: Framing) -> &'static str {
    match framing {
        Framing::Line => "no line: a line break is missing",
        Framing::Length => "no whole message: four bytes of length, the highest first, and so many bytes",
        Framing::Netstring => "no whole netstring: 2:hi,",
    }
}

/// Waits for the end of a program of `--each`.
fn finish(stage: &mut Stage) -> Result<Answer, Failed> {
    let patience = stage.terms.patience;
    stage.within(patience, |stage| !stage.is_alive());
    if stage.is_alive() {
        return Err(stage.too_late("it did not end with its input"));
    }
    stage.within(patience, |stage| stage.is_output_over());
    Ok(Answer { size: stage.output.len(), ending: stage.ending() })
}

/// The beginning of some output, for a person.
fn shown(output: &[u8]) -> String {
    let beginning = output.get(..40).unwrap_or(output);
    let more = if beginning.len() < output.len() { "..." } else { "" };
    format!("{:?}{more}", String::from_utf8_lossy(beginning))
}
