//! Every call of this crate that the compiler cannot check: socket options that
//! the `zmq` crate lacks, and what happens around `fork`.
#![expect(unsafe_code, reason = "this file is the door to C")]

use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{Pid, ftruncate, getpid, getppid};

/// A draft option of libzmq whose value is bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BytesOption {
    /// Sent by the I/O thread at the start of every connection.
    Hello,
    /// Put among the received messages when a connection is lost.
    Hiccup,
}

/// Sets an option that the `zmq` crate does not know.
///
/// # Errors
/// `EINVAL` from a libzmq that was built without drafts.
pub(crate) fn set_bytes(socket: &mut zmq::Socket, option: BytesOption, value: &[u8]) -> Result<(), Errno> {
    let option = match option {
        BytesOption::Hello => zmq_sys::ZMQ_HELLO_MSG,
        BytesOption::Hiccup => zmq_sys::ZMQ_HICCUP_MSG,
    };
    // SAFETY: the socket is open as long as `socket` is borrowed, and libzmq copies
    // `value.len()` bytes from a slice that has as many.
    let result =
        unsafe { zmq_sys::zmq_setsockopt(socket.as_mut_ptr(), option, value.as_ptr().cast(), value.len()) };
    // libzmq leaves its reason in `errno`.
    Errno::result(result).map(drop)
}

/// Seeds `rand` from the kernel.
///
/// libzmq draws its reconnect delays from it. Forked workers share their parent's
/// state of `rand`, so without this all would come back in the same millisecond.
pub(crate) fn seed_rand() {
    let mut seed: c_uint = 0;
    // SAFETY: the kernel writes at most as many bytes as `seed` has.
    let size = unsafe { libc::getrandom((&raw mut seed).cast(), size_of::<c_uint>(), libc::GRND_NONBLOCK) };
    if size < 0 {
        // Early in a boot there is no randomness yet; pids at least differ.
        seed = getpid().as_raw().unsigned_abs();
    }
    // SAFETY: `srand` takes any number.
    unsafe { libc::srand(seed) };
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
