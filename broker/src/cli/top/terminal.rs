//! The terminal: its state while `top` uses it, and what wakes it. Whatever ends the
//! process, but a KILL, leaves the terminal as it was.

use std::io::{self, Stdout};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::event::{PollFd, PollFlags, poll};

use super::super::watch::Pace;
use super::keys::Key;

/// Why there is something to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// It is time to look at the broker again.
    Look,
    /// The terminal has another size.
    Redraw,
    Keys(Vec<Key>),
    /// The process is told to end.
    End,
}

#[derive(Debug)]
pub(super) struct Terminal {
    screen: ratatui::Terminal<CrosstermBackend<Stdout>>,
    pace: Pace,
    signals: SignalFd,
    // Last, so that it is restored after everything else.
    _mode: Mode,
}

impl Terminal {
    pub(super) fn open(between_looks: Duration) -> io::Result<Self> {
        let mut ends = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            ends.add(signal);
        }
        ends.thread_block()?;
        let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let pace = Pace::every(between_looks)?;
        let mode = Mode::enter()?;
        // From here on a change of the size is heard of.
        event::poll(Duration::ZERO)?;
        let screen = ratatui::Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(Self { screen, pace, signals, _mode: mode })
    }

    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.screen.draw(picture).map(|_drawn| ())
    }

    /// Until something happens.
    pub(super) fn wait(&mut self) -> io::Result<Wake> {
        let stdin = io::stdin();
        let mut watch = [
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.pace.descriptor(), PollFlags::IN),
        ];
        match poll(&mut watch, None) {
            // A change of the size is a signal to what reads the keys.
            Ok(_) | Err(rustix::io::Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        let [ended, typed, due] = watch.map(|one| !one.revents().is_empty());
        if ended {
            return Ok(Wake::End);
        }
        let keys = typed_keys()?;
        Ok(if !keys.is_empty() {
            Wake::Keys(keys)
        } else if typed && hung_up(&stdin) {
            // Nobody is at the other end of the terminal any more.
            Wake::End
        } else if due {
            self.pace.wait();
            Wake::Look
        } else {
            Wake::Redraw
        })
    }
}

/// Everything that has been typed.
fn typed_keys() -> io::Result<Vec<Key>> {
    let mut keys = Vec::new();
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            keys.push(Key::from(key));
        }
    }
    Ok(keys)
}

fn hung_up(stdin: &io::Stdin) -> bool {
    let mut watch = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut watch, Some(&now)).is_ok()
        && watch.iter().any(|one| one.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// Keys one by one, on a screen that is not the usual one; until it is dropped.
#[derive(Debug)]
struct Mode;

impl Mode {
    fn enter() -> io::Result<Self> {
        let before = std::panic::take_hook();
        // What a panic says must not be drawn over.
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
        enable_raw_mode()?;
        let mode = Self;
        execute!(io::stdout(), EnterAlternateScreen)?;
        Ok(mode)
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        restore();
    }
}

/// Nobody is left to be told if this fails. Twice does no harm.
fn restore() {
    execute!(io::stdout(), LeaveAlternateScreen, ratatui::crossterm::cursor::Show).ok();
    disable_raw_mode().ok();
}
