//! How an attempt ends without a reply, and whether its worker ended by itself.
//! What follows for the request: another attempt, `lost`, or `poison`.

use hornpipe_proto::Status;

use super::action::{ExitReason, Note};
use super::event::Ending;
use super::flight::Outcome;
use super::ids::Place;
use super::parts::Partial;
use super::requests::{Held, Record};
use super::{Core, Turn};

/// One attempt at a request that brought no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The process that had it; `None` for a worker from elsewhere.
    pub place: Option<Place>,
    pub loss: Loss,
}

/// What became of a worker while it had a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Its process ended.
    Ended(Fate),
    /// It said that it ends.
    Announced,
    /// Its connection is gone. Its process lives, or is none of ours.
    Disconnected,
    /// It said that it is ready for another, and has not replied.
    Forgotten,
    /// It sent what no worker sends.
    Malformed,
    /// It wants another to try.
    Declined,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    pub pid: Option<i32>,
    pub reason: ExitReason,
    pub cause: DeathCause,
}

impl Fate {
    /// That of a process of another machine, which nobody told to leave.
    pub(super) fn elsewhere(ending: Ending) -> Self {
        let reason = ExitReason::from(ending);
        Self { pid: None, cause: DeathCause::of(&reason), reason }
    }

    /// How the process ended, if nobody told it to leave.
    pub fn ending(&self) -> Option<Ending> {
        match self.reason {
            ExitReason::Code(code) => Some(Ending::Code(code)),
            ExitReason::Signal(signal) => Some(Ending::Signal(signal)),
            ExitReason::OutOfMemory => Some(Ending::OutOfMemory),
            ExitReason::Announced(_)
            | ExitReason::Shrink
            | ExitReason::Reload
            | ExitReason::Recycle(_)
            | ExitReason::Drain
            | ExitReason::Timeout
            | ExitReason::BootTimeout
            | ExitReason::Unproven
            | ExitReason::MemoryLimit
            | ExitReason::Malformed
            | ExitReason::Disconnected
            | ExitReason::Silent
            | ExitReason::Halted
            | ExitReason::NotExecuted(_)
            | ExitReason::NotStarted(_) => None,
        }
    }
}

/// Whose doing the end of a process was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeathCause {
    /// Its own: what it ran ended it.
    Itself,
    /// Ours, an operator's, or anybody's who can send a signal.
    Others,
}

impl DeathCause {
    /// The one place where it is decided, for a process that nobody told to leave.
    pub(super) fn of(reason: &ExitReason) -> Self {
        match reason {
            ExitReason::Code(_) | ExitReason::OutOfMemory => Self::Itself,
            ExitReason::Signal(signal) if SIGNALS_OF_ITS_OWN.contains(signal) => Self::Itself,
            ExitReason::Signal(_)
            | ExitReason::Announced(_)
            | ExitReason::Shrink
            | ExitReason::Reload
            | ExitReason::Recycle(_)
            | ExitReason::Drain
            | ExitReason::Timeout
            | ExitReason::BootTimeout
            | ExitReason::Unproven
            | ExitReason::MemoryLimit
            | ExitReason::Malformed
            | ExitReason::Disconnected
            | ExitReason::Silent
            | ExitReason::Halted
            | ExitReason::NotExecuted(_)
            | ExitReason::NotStarted(_) => Self::Others,
        }
    }
}

/// ILL, TRAP, ABRT, BUS, FPE, SEGV, PIPE, XCPU, XFSZ and SYS: what a process brings upon
/// itself. Every other signal is sent by somebody, as far as anybody can tell.
const SIGNALS_OF_ITS_OWN: [i32; 10] = [4, 5, 6, 7, 8, 11, 13, 24, 25, 31];

impl Loss {
    fn is_by_itself(&self) -> bool {
        matches!(self, Self::Ended(Fate { cause: DeathCause::Itself, .. }))
    }
}

/// How the last of several workers ended, or the only one, in words that continue a sentence.
pub(super) fn last_end(attempts: u32, losses: &[Attempt]) -> String {
    let loss = losses.last().map(|attempt| &attempt.loss);
    match loss.filter(|loss| matches!(loss, Loss::Ended(_) | Loss::Disconnected)) {
        Some(loss) if attempts > 1 => format!(", the last: {loss}"),
        Some(loss) => format!(": {loss}"),
        None => String::new(),
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(fate) => fate.reason.fmt(f),
            Self::Announced => f.write_str("announced its end"),
            Self::Disconnected => f.write_str("connection lost"),
            Self::Forgotten => f.write_str("ready again without a reply"),
            Self::Malformed => f.write_str("malformed message"),
            Self::Declined => f.write_str("asked for another worker"),
        }
    }
}

/// One death may be chance, or another's request on the same worker: two in a row, with
/// nobody's help, are taken for the request's doing.
fn is_poison<B>(record: &Record<B>) -> bool {
    let deaths = record.losses().iter().filter(|attempt| attempt.loss.is_by_itself()).count();
    record.attempt >= 2 && deaths == record.attempt as usize
}

impl<B: Clone> Core<B> {
    /// A worker ended, or let go of the request, without a reply.
    pub(super) fn lose(&mut self, held: &Held, loss: Loss, turn: &mut Turn<'_, B>) {
        self.record_flight(held, Outcome::Lost(loss.clone()), None, turn.now);
        let place = self.crew.place_of(held.worker);
        let Some(request) = held.request else { return self.lose_unclaimed(held, turn) };
        let Some(record) = self.requests.record_mut(request) else { return };
        record.past_mut().losses.push(Attempt { place, loss });
        let attempt = record.attempt;
        // What it has of a reply cannot be taken back from a client.
        let may_go_on = record.worker().is_none() && !record.has_gone_out();
        if attempt < record.attempts && may_go_on {
            self.counters.returned += 1;
            turn.note(Note::RequestRetried { request, attempt });
            self.put_back(request, turn.now);
            if let Some((status, why)) = self.closed_to_retries_because() {
                self.refuse(request, status, why.into(), turn);
            }
            return;
        }
        if is_poison(record) {
            self.quarantine_request(request, turn);
            return;
        }
        let cut_short = record.partial().and_then(Partial::lost_message);
        let end = last_end(attempt, record.losses());
        let last = record.losses().last().map(|attempt| attempt.loss.clone());
        turn.note(Note::RequestLost { request, attempt, last });
        let message = cut_short.unwrap_or_else(|| match attempt {
            1 => format!("its worker ended without a reply{end}"),
            attempts => format!("{attempts} workers ended without a reply{end}"),
        });
        self.refuse(request, Status::Lost, message, turn);
    }

    /// The worker wants another to try it.
    pub(super) fn retry(&mut self, held: &Held, message: String, turn: &mut Turn<'_, B>) {
        let place = self.crew.place_of(held.worker);
        let Some(request) = held.request else { return self.lose_unclaimed(held, turn) };
        match self.requests.record_mut(request) {
            // Whoever has chosen the worker chooses another, if it likes.
            Some(record) if record.worker().is_some() => {
                self.refuse(request, Status::Lost, message, turn);
            }
            Some(record) if record.attempt < record.attempts && !record.has_gone_out() => {
                record.past_mut().losses.push(Attempt { place, loss: Loss::Declined });
                self.counters.returned += 1;
                self.put_back(request, turn.now);
            }
            _ => self.refuse(request, Status::Error, message, turn),
        }
    }
}
