//! `hornpipe top`: a live view for people, with keys to look after the pool.

mod keys;
mod picture;
mod rates;
mod terminal;

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, StatusReport};

use super::exit_code::OperatorExit;
use super::operator::{self, Target};
use super::{output, status};
use keys::{Key, Order};
use rates::Rates;
use terminal::{Terminal, Wake};

/// What `--timeout` is for this verb: keys are heard again after it.
pub(super) const TIMEOUT: &str = "1s";

/// The help of `--timeout` for this verb.
pub(super) const TIMEOUT_HELP: &str = "How long to wait for each answer of the broker";

/// A live view, with keys to scale, recycle, reload and pause
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done · 1 no terminal can be used · 2 usage · 5 no broker answers at the start"
)]
pub(super) struct TopArguments {
    #[command(flatten)]
    target: Target,
}

/// What is on the screen.
#[derive(Debug)]
struct View {
    name: String,
    report: StatusReport,
    rates: Rates,
    /// A row of the table of workers.
    selected: usize,
    line: Line,
    /// Why nobody answers, if so.
    lost: Option<String>,
}

/// What the last line of the screen says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Keys,
    /// Every key is explained, over the table.
    Help,
    /// It is asked whether this is meant.
    Sure(Order),
    /// What came of the last order.
    Told(String),
}

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    Go,
    Send(ControlRequest),
    Quit,
}

pub(super) fn run(arguments: &TopArguments) -> OperatorExit {
    let target = &arguments.target;
    target.ask(&ControlRequest::Status, |response, _| match response {
        ControlResponse::Status(report) if io::stdin().is_terminal() && io::stdout().is_terminal() => {
            let view = View::new(target.name(), *report);
            match watch(target, view) {
                Ok(()) => OperatorExit::Done,
                Err(error) => {
                    output::complain(format_args!("cannot use this terminal: {error}"));
                    OperatorExit::No
                }
            }
        }
        ControlResponse::Status(report) => output::say(&status::screen(&report)),
        _ => operator::misunderstood(),
    })
}

/// Until somebody quits, or the process is told to end.
fn watch(target: &Target, mut view: View) -> io::Result<()> {
    let mut terminal = Terminal::open(BETWEEN_LOOKS)?;
    loop {
        terminal.draw(|frame| picture::draw(frame, &view))?;
        match terminal.wait()? {
            Wake::End => return Ok(()),
            Wake::Look => view.look(target),
            Wake::Redraw => (),
            Wake::Keys(keys) => {
                for key in keys {
                    match view.press(key) {
                        Next::Go => (),
                        Next::Quit => return Ok(()),
                        Next::Send(request) => {
                            view.line = Line::Told(sent(target, &request));
                            view.look(target);
                        }
                    }
                }
            }
        }
    }
}

/// Between two looks at the broker; a column of the graph.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

impl View {
    fn new(name: String, report: StatusReport) -> Self {
        let rates = Rates::new(&report);
        Self { name, report, rates, selected: 0, line: Line::Keys, lost: None }
    }

    fn look(&mut self, target: &Target) {
        match target.ask_quietly(&ControlRequest::Status) {
            Ok(ControlResponse::Status(report)) => self.take(*report),
            Ok(ControlResponse::Refused { message }) => self.lost = Some(message),
            Ok(_) => self.lost = Some("the broker answers something unreadable".into()),
            Err(error) => self.lost = Some(error.to_string()),
        }
    }

    fn take(&mut self, report: StatusReport) {
        self.rates.take(&report);
        self.report = report;
        self.lost = None;
        self.selected = self.selected.min(self.report.workers.len().saturating_sub(1));
    }

    /// What a key means here. Whatever changes something is asked about first.
    fn press(&mut self, key: Key) -> Next {
        if let Line::Sure(order) = self.line.clone() {
            self.line = Line::Keys;
            return if key == Key::Yes { Next::Send(order.request()) } else { Next::Go };
        }
        let last = self.report.workers.len().saturating_sub(1);
        match key {
            Key::Quit => return Next::Quit,
            Key::Up => self.selected = self.selected.saturating_sub(1),
            Key::Down => self.selected = (self.selected + 1).min(last),
            Key::Help => self.line = if self.line == Line::Help { Line::Keys } else { Line::Help },
            Key::Yes | Key::Other => self.line = Line::Keys,
            Key::More => self.ask(Order::Scale(1)),
            Key::Less => self.ask(Order::Scale(-1)),
            Key::Reload => self.ask(Order::Reload),
            Key::Pause if self.report.pool.paused.is_some() => self.ask(Order::Resume),
            Key::Pause => self.ask(Order::Pause),
            Key::Recycle => match self.report.workers.get(self.selected) {
                Some(worker) => self.ask(Order::Recycle(worker.slot)),
                None => self.line = Line::Told("there is no worker to recycle".into()),
            },
        }
        Next::Go
    }

    fn ask(&mut self, order: Order) {
        self.line = Line::Sure(order);
    }
}

/// Gives the order, and says what came of it.
fn sent(target: &Target, request: &ControlRequest) -> String {
    match target.ask_quietly(request) {
        Ok(ControlResponse::Scaled { from, to }) => format!("workers: {from} -> {to}"),
        Ok(ControlResponse::Reload(report)) => format!("reload: generation {} has begun", report.generation),
        Ok(ControlResponse::Recycle(report)) => {
            format!(
                "slot {}: incarnation {} goes when its replacement is ready",
                report.slot, report.incarnation
            )
        }
        Ok(ControlResponse::Paused { waiting, in_flight }) => {
            format!("paused: {in_flight} running, {waiting} waiting")
        }
        Ok(ControlResponse::Resumed { waiting, .. }) => format!("resumed: {waiting} were waiting"),
        Ok(ControlResponse::Refused { message }) => message,
        Ok(_) => "the broker answers something unreadable".into(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
