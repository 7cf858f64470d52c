//! What every process has in common that a verb starts for itself: nothing of ours is blocked
//! for it, and it does not outlive us.
#![expect(unsafe_code, reason = "what a child does between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpid, getppid};

/// Has its process get this signal when we die, however that comes.
pub(super) fn bind_to_us(command: &mut Command, at_our_death: Signal) {
    let parent = getpid();
    // SAFETY: the closure runs between fork and exec, where only calls that are safe in a
    // signal handler are allowed. It makes system calls on copied numbers, and neither
    // allocates nor locks.
    unsafe { command.pre_exec(move || prepare(parent, at_our_death)) };
}

fn prepare(parent: Pid, at_our_death: Signal) -> io::Result<()> {
    SigSet::empty().thread_set_mask()?;
    prctl::set_pdeathsig(at_our_death)?;
    // Whoever died before the line above sends no death signal any more.
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
}
