//! The signals of `lock run`, as data from a descriptor, and what else it waits for.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Those that are handed on to the command, as far as this process does not ignore them.
const FORWARDED: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// Signals, and a timer that goes on while the machine is suspended, as locks do.
#[derive(Debug)]
pub(super) struct Signals {
    signals: SignalFd,
    timer: TimerFd,
}

/// What has ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something is to be read from `wake`, and stays so.
    ByWake,
    /// The time, a signal, or nothing.
    ByOther,
}

/// One signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Something happened to a child. One may stand for many.
    Child,
    /// For the command.
    Signal(Signal),
}

impl Taken {
    /// A signal that ends what has not begun yet.
    pub(super) fn ends(self) -> Option<Signal> {
        match self {
            Self::Signal(signal) if !matches!(signal, Signal::SIGUSR1 | Signal::SIGUSR2) => Some(signal),
            Self::Signal(_) | Self::Child => None,
        }
    }
}

impl Signals {
    /// Blocks them for good, also for threads that are started from here on.
    pub(super) fn take() -> nix::Result<Self> {
        let ignored = ignored();
        let mut mask: SigSet = FORWARDED.into_iter().filter(|signal| !is_in(ignored, *signal)).collect();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        // To give the terminal back from the background must not stop us.
        SigSet::from_iter([Signal::SIGTTOU]).thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let timer =
            TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Self { signals, timer })
    }

    /// The next one that came, if any.
    pub(super) fn next(&self) -> Option<Taken> {
        loop {
            let number = match self.signals.read_signal() {
                Ok(Some(info)) => i32::try_from(info.ssi_signo).ok()?,
                Err(Errno::EINTR) => continue,
                Ok(None) | Err(_) => return None,
            };
            return match Signal::try_from(number).ok()? {
                Signal::SIGCHLD => Some(Taken::Child),
                signal => Some(Taken::Signal(signal)),
            };
        }
    }

    /// Waits until one comes, something is written into `wake`, or the time has passed;
    /// without a time as long as it takes.
    pub(super) fn wait(&self, time: Option<Duration>, wake: Option<&UnixStream>) -> Woken {
        match time {
            // A timer of no time at all is one that never ends.
            Some(time) => {
                let end = TimeSpec::from(time.max(Duration::from_micros(1)));
                if self.timer.set(Expiration::OneShot(end), TimerSetTimeFlags::empty()).is_err() {
                    return Woken::ByOther;
                }
            }
            None => {
                self.timer.unset().ok();
            }
        }
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(wake.map(|wake| PollFd::new(wake.as_fd(), PollFlags::POLLIN)));
        // Interrupted or not: whoever waits looks again.
        poll(&mut fds, PollTimeout::NONE).ok();
        match fds.get(2) {
            Some(wake) if wake.any() == Some(true) => Woken::ByWake,
            _ => Woken::ByOther,
        }
    }
}

/// What was ignored when this process began, as HUP is under `nohup`: that stays so.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn is_in(mask: u64, signal: Signal) -> bool {
    u32::try_from(signal as i32 - 1).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|rest| rest & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bit_of_a_mask_is_signal_one() {
        assert!(is_in(1, Signal::SIGHUP) && !is_in(1, Signal::SIGINT));
        assert!(is_in(0x4000, Signal::SIGTERM) && !is_in(0x4000, Signal::SIGQUIT));
    }
}
