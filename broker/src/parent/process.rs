//! The door to processes: fork, wait, a child's signal dispositions and descriptors.
//! What a child is made for is not known here; see `child.rs`.
#![expect(unsafe_code, reason = "fork, waitid, wait4, sigaction, close_range and _exit have no safe form")]

use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::fcntl::FdFlag;
use nix::unistd::{ForkResult, Pid, setpgid};

use crate::link::ExitStatus;

/// The code of a Rust program that panicked.
const PANICKED: u8 = 101;

/// Forks, and runs `child` in the new process, which leads a process group of its own
/// and ends with what `child` returns. Nothing of the parent's is dropped or flushed there.
pub(super) fn fork(child: impl FnOnce() -> u8) -> nix::Result<Pid> {
    let own_group = Pid::from_raw(0);
    // SAFETY: this process has one thread (`run` refuses to start otherwise), so no lock
    // can be held by a thread that the child lacks, and the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            setpgid(own_group, own_group).ok();
            leave(catch_unwind(AssertUnwindSafe(child)).unwrap_or(PANICKED))
        }
        ForkResult::Parent { child } => {
            // Both do this, for whoever comes first: a signal to the group must find it.
            // The second to come gets an error, which means it is done.
            setpgid(child, child).ok();
            Ok(child)
        }
    }
}

fn leave(code: u8) -> ! {
    // SAFETY: `_exit` has no preconditions, and runs no destructors or exit handlers,
    // which would act on what belongs to the parent.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Something that happened to a child and is not acknowledged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) pid: Pid,
    pub(super) kind: ChangeKind,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeKind {
    /// It has ended; its pid stays taken until it is reaped.
    Ended,
    /// It was stopped.
    Halted,
    /// It goes on.
    Continued,
}

/// Looks for a child to which something happened, and leaves it as it is.
pub(super) fn peek() -> Option<Change> {
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT;
    let info = wait_for(libc::P_ALL, 0, flags)?;
    // SAFETY: `waitid` filled this in for a child, so the pid is a valid part of the union.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return None;
    }
    let kind = match info.si_code {
        libc::CLD_STOPPED | libc::CLD_TRAPPED => ChangeKind::Halted,
        libc::CLD_CONTINUED => ChangeKind::Continued,
        _exited_killed_or_dumped => ChangeKind::Ended,
    };
    Some(Change { pid: Pid::from_raw(pid), kind })
}

/// Whether it is a child of this process, also one that has ended and is not reaped.
pub(super) fn is_child(pid: Pid) -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let id = libc::id_t::try_from(pid.as_raw()).ok().filter(|id| *id != 0);
    id.is_some_and(|id| wait_for(libc::P_PID, id, flags).is_some())
}

/// Acknowledges that a child stopped or went on, so that `peek` finds the next thing.
pub(super) fn acknowledge(pid: Pid) {
    if let Ok(id) = libc::id_t::try_from(pid.as_raw()) {
        wait_for(libc::P_PID, id, libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG);
    }
}

fn wait_for(kind: libc::idtype_t, id: libc::id_t, flags: i32) -> Option<libc::siginfo_t> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is valid for a write of this type for the time of the call.
    let result = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), flags) };
    if result != 0 {
        return None;
    }
    // SAFETY: it is plain integers, zeroed above, and written by the call if a child was found.
    Some(unsafe { info.assume_init() })
}

/// What is left of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remains {
    pub(super) status: ExitStatus,
    pub(super) cpu_ms: u64,
    pub(super) max_rss_kib: u64,
}

/// Reaps a child that has ended. From here on its pid may name somebody else.
pub(super) fn reap(pid: Pid) -> Option<Remains> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writes of their types for the time of the call.
    let reaped = unsafe { libc::wait4(pid.as_raw(), &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if reaped != pid.as_raw() {
        return None;
    }
    // SAFETY: it is plain integers, zeroed above, and written by the call.
    let usage = unsafe { usage.assume_init() };
    let cpu_ms = milliseconds(usage.ru_utime).saturating_add(milliseconds(usage.ru_stime));
    let max_rss_kib = u64::try_from(usage.ru_maxrss).unwrap_or_default();
    Some(Remains { status: ExitStatus::from_wait(status), cpu_ms, max_rss_kib })
}

fn milliseconds(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let microseconds = u64::try_from(time.tv_usec).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(microseconds / 1000)
}

/// What a signal without a handler does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    Default,
    Ignored,
}

/// Sets what a signal does in this process. Those that cannot be changed stay.
pub(super) fn set_disposition(number: i32, disposition: Disposition) {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignored => libc::SIG_IGN,
    };
    // SAFETY: neither value is a handler, so no code of ours can run at a signal.
    unsafe { libc::signal(number, handler) };
}

/// Takes a descriptor that was open when this program began, by its number.
pub(super) fn adopt(number: RawFd) -> nix::Result<OwnedFd> {
    flags(number)?;
    // SAFETY: it is open, as was just asked, and only whoever was handed the number by the
    // program of before knows it: nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sets the flags of a descriptor of this process: whether it is closed on exec.
pub(super) fn set_flags(number: RawFd, flags: FdFlag) -> nix::Result<()> {
    // SAFETY: the call changes a flag of a number, and fails if that is not open.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, flags.bits()) }).map(|_done| ())
}

fn flags(number: RawFd) -> nix::Result<i32> {
    // SAFETY: the call reads a flag of a number, and fails if that is not open.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })
}

/// Closes every descriptor from 3 up that is not among `kept`, in a child: also those
/// that libraries opened without O_CLOEXEC, and those that a fork without exec inherits.
pub(super) fn close_all_but(kept: &[RawFd]) {
    let mut kept: Vec<RawFd> = kept.iter().copied().filter(|descriptor| 2 < *descriptor).collect();
    kept.sort_unstable();
    let mut first = 3;
    for descriptor in kept {
        close_range(first, descriptor.saturating_sub(1));
        first = descriptor.saturating_add(1);
    }
    close_range(first, RawFd::MAX);
}

fn close_range(first: RawFd, last: RawFd) {
    if last < first {
        return;
    }
    // SAFETY: this is a forked child that never touches the owners of these descriptors
    // again: it leaves by exec or `_exit`, and what it goes on to use is kept by number.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if Errno::result(result) != Err(Errno::ENOSYS) {
        return;
    }
    // Kernels before 5.9.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| first <= *descriptor && *descriptor <= last)
        .collect();
    for descriptor in open {
        // SAFETY: as above; the descriptor of the listing itself is closed already, which does no harm.
        unsafe { libc::close(descriptor) };
    }
}
