//! The door to signals: which the parent takes, and what a child does about which.
//! Everyone else sees [`Signal`] and [`WorkerSignal`], never a number.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::link::{Signal, WorkerSignal};

use super::process::{self, Disposition};

/// What the parent reads from its signal descriptor, and nothing else does anything in it.
const TAKEN: [Number; 9] = [
    Number::SIGTERM,
    Number::SIGINT,
    Number::SIGQUIT,
    Number::SIGHUP,
    Number::SIGTTIN,
    Number::SIGTTOU,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGCHLD,
];

/// The signals of this process, as something that can be polled.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

/// One signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Something happened to a child. One may stand for many.
    Child,
    /// Somebody wants something.
    Signal(Signal),
}

/// Keeps the signals until [`run`](super::run) reads them: whoever stops a broker
/// that is just starting wants it to end as it should. Lasts until `let_go`.
pub fn hold() {
    SigSet::from_iter(TAKEN).thread_block().ok();
}

/// Undoes `hold`, where nothing is run after all.
pub fn let_go() {
    SigSet::from_iter(TAKEN).thread_unblock().ok();
}

impl Signals {
    /// Blocks them for good and collects them. They stay blocked when this is dropped:
    /// a second TERM must not end the process while it returns its exit code.
    pub(super) fn take() -> nix::Result<Self> {
        // Whoever started us may have ignored it, and then the kernel reaps in our place.
        process::set_disposition(libc::SIGCHLD, Disposition::Default);
        let mask = SigSet::from_iter(TAKEN);
        mask.thread_block()?;
        SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// The next one that came, if any. Equal signals that come together count once.
    pub(super) fn next(&self) -> Option<Taken> {
        loop {
            let number = match self.0.read_signal() {
                Ok(Some(info)) => i32::try_from(info.ssi_signo).ok()?,
                Err(Errno::EINTR) => continue,
                Ok(None) | Err(_) => return None,
            };
            return match Number::try_from(number).ok()? {
                Number::SIGCHLD => Some(Taken::Child),
                Number::SIGTERM => Some(Taken::Signal(Signal::Term)),
                Number::SIGINT => Some(Taken::Signal(Signal::Int)),
                Number::SIGQUIT => Some(Taken::Signal(Signal::Quit)),
                Number::SIGHUP => Some(Taken::Signal(Signal::Hup)),
                Number::SIGTTIN => Some(Taken::Signal(Signal::Ttin)),
                Number::SIGTTOU => Some(Taken::Signal(Signal::Ttou)),
                Number::SIGUSR1 => Some(Taken::Signal(Signal::Usr1)),
                Number::SIGUSR2 => Some(Taken::Signal(Signal::Usr2)),
                _not_taken => None,
            };
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What kind of child is to have its signals set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    /// A program that is about to be executed.
    Program,
    /// A handler that goes on in the forked process.
    Handler,
    /// The router, or who is asked over HTTP: both end on the parent's word.
    Router,
}

impl Child {
    /// `pkill hornpipe` and Ctrl-C reach every process of that name, but only the
    /// parent's logic may answer. An executed program is its own master.
    fn ignores(self, number: Number) -> bool {
        let everyones = matches!(
            number,
            Number::SIGHUP
                | Number::SIGINT
                | Number::SIGQUIT
                | Number::SIGUSR1
                | Number::SIGUSR2
                | Number::SIGTTIN
                | Number::SIGTTOU
                // Rust code expects a failed write, not death.
                | Number::SIGPIPE
        );
        match self {
            Self::Program => false,
            Self::Handler => everyones,
            // The router stops on the parent's word.
            Self::Router => everyones || number == Number::SIGTERM,
        }
    }

    /// Rust's own handlers tell a stack overflow from other faults. They are the
    /// last words of a forked child; an exec removes them anyway.
    const fn keeps(self, number: Number) -> bool {
        !matches!(self, Self::Program) && matches!(number, Number::SIGSEGV | Number::SIGBUS)
    }
}

/// Forgets, in a child, what the parent did to its signals: dispositions first, so that
/// nothing which came between fork and here meets the wrong one when the mask opens.
pub(super) fn reset(child: Child) {
    for number in 1..=libc::SIGRTMAX() {
        let disposition = match Number::try_from(number) {
            Ok(known) if child.keeps(known) => continue,
            Ok(known) if child.ignores(known) => Disposition::Ignored,
            Ok(_) | Err(_) => Disposition::Default,
        };
        process::set_disposition(number, disposition);
    }
    SigSet::empty().thread_set_mask().ok();
}

/// The number of an order.
pub(super) const fn number(signal: WorkerSignal) -> Number {
    match signal {
        WorkerSignal::Term => Number::SIGTERM,
        WorkerSignal::Kill => Number::SIGKILL,
    }
}

/// The name of a signal; its number where it has none.
pub(super) fn name(number: i32) -> String {
    Number::try_from(number).map_or_else(|_nameless| number.to_string(), |known| known.as_str().to_owned())
}
