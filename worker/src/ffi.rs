//! Every call of this crate that the compiler cannot check: what happens around `fork`.
#![expect(unsafe_code, reason = "this file is the door to C")]

use std::ffi::{c_int, c_void};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};
use nix::unistd::{Pid, ftruncate, getpid, getppid, gettid};

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

/// What `F_SETOWN_EX` is given: a kind of owner, and which one.
#[repr(C)]
struct Owner {
    kind: c_int,
    id: libc::pid_t,
}

const F_SETSIG: c_int = 10;
const F_SETOWN_EX: c_int = 15;
const THREAD: c_int = 0;

/// Lets the kernel send SIGURG to this thread for whatever happens on the socket. Safe in a signal handler.
pub(crate) fn signal_events(socket: RawFd) -> nix::Result<()> {
    let owner = Owner { kind: THREAD, id: gettid().as_raw() };
    // SAFETY: the kernel reads a structure of this shape.
    Errno::result(unsafe { libc::fcntl(socket, F_SETOWN_EX, &raw const owner) })?;
    // SAFETY: the call takes a number.
    Errno::result(unsafe { libc::fcntl(socket, F_SETSIG, libc::SIGURG) })?;
    set_async(socket, |flags| flags | libc::O_ASYNC)
}

/// Undoes [`signal_events`].
pub(crate) fn do_not_signal(socket: RawFd) -> nix::Result<()> {
    set_async(socket, |flags| flags & !libc::O_ASYNC)
}

fn set_async(socket: RawFd, change: impl Fn(c_int) -> c_int) -> nix::Result<()> {
    // SAFETY: the call takes no argument.
    let flags = Errno::result(unsafe { libc::fcntl(socket, libc::F_GETFL) })?;
    // SAFETY: the call takes a number.
    Errno::result(unsafe { libc::fcntl(socket, libc::F_SETFL, change(flags)) }).map(drop)
}

/// Has this function called for a signal, unless the program has another one for it. System calls
/// that it interrupts go on where that is possible.
pub(crate) fn take_signal(number: Signal, handler: extern "C" fn(c_int)) -> nix::Result<bool> {
    let ours = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the function is one that may run between any two instructions, as it says itself.
    let earlier = unsafe { sigaction(number, &ours) }?;
    match earlier.handler() {
        SigHandler::SigDfl | SigHandler::SigIgn => Ok(true),
        SigHandler::Handler(earlier) if std::ptr::fn_addr_eq(earlier, handler) => Ok(true),
        _ => {
            // SAFETY: this is what was there before.
            unsafe { sigaction(number, &earlier) }.map(|_ours| false)
        }
    }
}

/// Takes charge of a descriptor that was released from its owner as a number.
pub(crate) fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: each of these numbers was released once, and is taken once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Has tokio watch a descriptor.
#[cfg(feature = "async")]
pub(crate) fn watched_by_tokio(
    descriptor: OwnedFd,
    interest: tokio::io::Interest,
) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: the value owns the descriptor and nobody can take it out, so it is open for as long as it is watched.
    Ok(unsafe { tokio::io::unix::AsyncFd::register_with_interest(descriptor, interest) }?)
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

/// A word of memory in a file of its own, which the broker's router finds by its descriptor.
#[derive(Debug)]
pub(crate) struct SharedWord {
    address: NonNull<c_void>,
    file: OwnedFd,
}

const WORD: NonZeroUsize = NonZeroUsize::new(size_of::<AtomicU64>()).unwrap();

impl SharedWord {
    pub(crate) fn new() -> nix::Result<Self> {
        // Programs that this process executes have no use for it.
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = memfd_create(hornpipe_proto::claim::FILE_NAME, flags)?;
        ftruncate(&file, i64::try_from(WORD.get()).unwrap_or(i64::MAX))?;
        let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(size))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a place where nothing is mapped.
        let address = unsafe { mmap(None, WORD, access, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self { address, file })
    }

    /// Its number in this process.
    pub(crate) fn descriptor(&self) -> Option<u32> {
        u32::try_from(self.file.as_raw_fd()).ok()
    }

    pub(crate) fn get(&self) -> &AtomicU64 {
        // SAFETY: the mapping begins at a page, holds a word, cannot become shorter and lives as
        // long as `self`. Whoever else has it changes it by atomic operations.
        unsafe { self.address.cast::<AtomicU64>().as_ref() }
    }
}

impl Drop for SharedWord {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new`, with this size, and nothing that borrowed it is left.
        if let Err(error) = unsafe { munmap(self.address, WORD.get()) } {
            tracing::debug!(%error, "a word stays mapped");
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::session::Session;
    use crate::{Settings, clock};

    #[test]
    fn a_forked_copy_of_a_session_refuses_and_the_original_goes_on() {
        let mut session = Session::open(&Settings::new("ipc://@hornpipe-nobody-is-here")).unwrap();
        session.poll(&[], Some(clock::now())).unwrap();
        // SAFETY: the child calls what it tests, and ends.
        if let ForkResult::Parent { child } = unsafe { fork() }.unwrap() {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 7));
            session.poll(&[], Some(clock::now())).unwrap();
        } else {
            let refused = session.poll(&[], Some(clock::now())).is_err() && session.leave("x").is_err();
            let own = Session::open(&Settings::new("ipc://@hornpipe-nobody-is-here"));
            let works = own.is_ok_and(|mut own| own.poll(&[], Some(clock::now())).is_ok());
            exit_at_once(if refused && works { 7 } else { 8 });
        }
    }
}
