//! The command under a lock: started as the leader of a group of its own, signalled with all
//! that it has started, and reaped.
#![expect(clippy::disallowed_methods, reason = "this file starts the command of `lock run`")]
#![expect(unsafe_code, reason = "the end of a child is made something that is told")]

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};

use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::cli::child::bind_to_us;

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    group: Pid,
    has_terminal: bool,
}

impl Running {
    /// Starts it with these further variables. It has our input and output, and the terminal
    /// if we have. It dies with us, however we end.
    pub(super) fn start(command: &[OsString], variables: &[(&str, String)]) -> io::Result<Self> {
        let [program, arguments @ ..] = command else { return Err(io::ErrorKind::NotFound.into()) };
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value))).process_group(0);
        // Ours are blocked because we read them; the command shall have them.
        bind_to_us(&mut command, Signal::SIGKILL);
        let child = command.spawn()?;
        let group = Pid::from_raw(child.id().cast_signed());
        let mut running = Self { child, group, has_terminal: false };
        running.hand_over_terminal();
        Ok(running)
    }

    /// To all of its group.
    pub(super) fn signal(&self, signal: Signal) {
        // It may have ended already.
        killpg(self.group, signal).ok();
    }

    /// Whether it has ended. It is not reaped yet, so that its group's number is nobody else's.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let pid = rustix::process::Pid::from_child(&self.child);
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// Whether the terminal's user has stopped it since this was asked last.
    pub(super) fn was_stopped_by_the_terminal(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let pid = rustix::process::Pid::from_child(&self.child);
        let status = waitid(WaitId::Pid(pid), options).ok().flatten();
        let by = status.and_then(|status| status.stopping_signal());
        self.has_terminal && by == Some(Signal::SIGTSTP as i32)
    }

    /// Reaps it and gives what a shell would exit with.
    pub(super) fn reap(mut self) -> u8 {
        let status = self.child.wait();
        if self.has_terminal {
            tcsetpgrp(io::stdin(), getpgrp()).ok();
        }
        let code = status
            .ok()
            .and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
    }

    /// A command that is not in the terminal's foreground could not read from it, and would
    /// not be reached by Ctrl-C.
    fn hand_over_terminal(&mut self) {
        let has_terminal = tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == getpgrp());
        if has_terminal && tcsetpgrp(io::stdin(), self.group).is_ok() {
            self.has_terminal = true;
            // It may have tried to read already, and then stands still.
            self.signal(Signal::SIGCONT);
        }
    }
}

/// Makes the end of a child something that is told. Whoever started us may have ignored it,
/// and then the kernel reaps in our place.
pub(super) fn expect_children() {
    // SAFETY: no handler of ours is installed that anybody could rely on, and the default
    // action runs no code.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.ok();
}
