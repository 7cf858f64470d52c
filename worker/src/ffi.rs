//! Every call of this crate that the compiler cannot check: what happens around `fork`.
#![expect(unsafe_code, reason = "this file is the door to C")]

use std::ffi::c_int;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{Pid, getpid, getppid};

/// How many forks lie between the first process and this one, counted from the first call on.
///
/// Asking for the pid would cost a system call for each message.
pub(crate) fn forks() -> u32 {
    COUNT_FORKS.call_once(|| {
        // SAFETY: the function that a forked child calls touches one atomic number.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        if failed != 0 {
            tracing::warn!("forks cannot be counted, so do not fork from a handler");
        }
    });
    FORKS.load(Ordering::Relaxed)
}

static COUNT_FORKS: Once = Once::new();
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Lets the programs of this command start with default signals, and die with this process.
pub(crate) fn prepare_in_child(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure runs between fork and exec, where only calls that are safe
    // in a signal handler are allowed. It makes system calls on copied numbers, and
    // neither allocates nor locks.
    unsafe { command.pre_exec(move || prepare(parent)) };
}

fn prepare(parent: Pid) -> io::Result<()> {
    // A worker ignores the signals that are for the parent of the pool, and an
    // adapter blocks SIGCHLD: exec would hand both down.
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        default_action(number)?;
    }
    SigSet::empty().thread_set_mask()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // Whoever died before the line above sends no death signal any more.
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

/// Gives a signal its default action.
pub(crate) fn default_action(number: Signal) -> nix::Result<()> {
    // SAFETY: no handler of ours is installed that anybody could rely on, and the
    // default action runs no code.
    unsafe { signal(number, SigHandler::SigDfl) }.map(drop)
}

/// Reaps one ended child of this process, whichever it is; `None` if there is none.
///
/// The safe wrapper of `nix` loses the status of a process ended by a real-time signal.
pub(crate) fn reap_any() -> Option<(Pid, ExitStatus)> {
    let mut status: c_int = 0;
    // SAFETY: `status` is a number of the type that the kernel writes.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (Pid::from_raw(pid), ExitStatus::from_raw(status)))
}

/// Ends this process at once: nothing is flushed, sent or closed in order.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: `_exit` ends the process and runs none of its code.
    unsafe { libc::_exit(code) }
}
