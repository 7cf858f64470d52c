//! Asking the same thing again and again: `--watch`.

use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::OwnedFd;
#[cfg(feature = "tui")]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use hornpipe_proto::control::{ControlRequest, ControlResponse};
use rustix::termios::tcgetwinsize;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::exit_code::OperatorExit;
use super::operator::Target;
use super::output;

/// Nobody reads faster, and the broker has other work.
const SHORTEST: Duration = Duration::from_millis(10);

/// Where the pictures go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paper {
    /// A terminal, where each takes the place of the last.
    Screen,
    /// Anything else: one block after another.
    Roll,
    /// The same without a line between them.
    Lines,
}

impl Paper {
    /// For pictures of several lines.
    pub(super) fn of_stdout() -> Self {
        if io::stdout().is_terminal() { Self::Screen } else { Self::Roll }
    }

    fn print(self, text: &str) -> io::Result<()> {
        match self {
            Self::Screen => output::write(redrawn(text, size_of_stdout()).as_bytes()),
            Self::Roll => output::write(format!("{text}\n").as_bytes()),
            Self::Lines => output::write(text.as_bytes()),
        }
    }
}

/// Shows what `picture` makes of the answer, again and again, until nobody looks or no
/// broker has answered for the time that `--timeout` gives.
pub(super) fn watch(
    (target, request): (&Target, &ControlRequest),
    interval: Duration,
    paper: Paper,
    picture: impl Fn(ControlResponse) -> Result<String, OperatorExit>,
) -> OperatorExit {
    let interval = interval.max(SHORTEST);
    let pace = match Pace::every(interval) {
        Ok(pace) => pace,
        Err(error) => {
            output::complain(format_args!("cannot wait: {error}"));
            return OperatorExit::No;
        }
    };
    let mut unanswered = Duration::ZERO;
    loop {
        match target.ask_quietly(request) {
            Ok(ControlResponse::Refused { message }) => {
                output::complain(message);
                return OperatorExit::No;
            }
            Ok(response) => {
                unanswered = Duration::ZERO;
                let text = match picture(response) {
                    Ok(text) => text,
                    Err(exit) => return exit,
                };
                match paper.print(&text) {
                    Ok(()) => (),
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return OperatorExit::Done,
                    Err(error) => {
                        output::complain(format_args!("cannot write: {error}"));
                        return OperatorExit::No;
                    }
                }
            }
            Err(error) => {
                unanswered = unanswered.saturating_add(interval);
                if target.timeout() <= unanswered {
                    output::complain(error);
                    return OperatorExit::Unreachable;
                }
            }
        }
        pace.wait();
    }
}

/// A beat that the kernel gives.
#[derive(Debug)]
pub(super) struct Pace(OwnedFd);

impl Pace {
    pub(super) fn every(interval: Duration) -> rustix::io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let time = Timespec::try_from(interval).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let beat = Itimerspec { it_interval: time, it_value: time };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &beat)?;
        Ok(Self(timer))
    }

    /// Readable at each beat.
    #[cfg(feature = "tui")]
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Until the next beat; at once if it has been missed.
    pub(super) fn wait(&self) {
        let mut beats = [0; 8];
        while rustix::io::read(&self.0, &mut beats) == Err(rustix::io::Errno::INTR) {}
    }
}

/// Rows and columns.
fn size_of_stdout() -> (usize, usize) {
    let size = tcgetwinsize(io::stdout()).ok().filter(|size| 0 < size.ws_row && 0 < size.ws_col);
    size.map_or((24, 80), |size| (size.ws_row.into(), size.ws_col.into()))
}

/// The text from the terminal's first line on, and nothing that was there before. Cut to
/// its size, for a line too many would push the first ones out.
fn redrawn(text: &str, (rows, columns): (usize, usize)) -> String {
    let mut drawn = String::from("\x1b[H");
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.iter().take(rows.saturating_sub(1)) {
        drawn.extend(line.chars().take(columns));
        drawn.push_str("\x1b[K\n");
    }
    drawn.push_str("\x1b[J");
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_cut_to_the_terminal() {
        let drawn = redrawn("hornpipe\nworkers 3\nqueue 0\nmore\n", (4, 5));
        assert_eq!(drawn, "\x1b[Hhornp\x1b[K\nworke\x1b[K\nqueue\x1b[K\n\x1b[J");
    }
}
