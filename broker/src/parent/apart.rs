//! Another whole broker as a child, for a process that is none itself: a rehearsal. What it
//! says on standard output comes back; it ends with whoever started it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::{Signal as Number, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, dup2_stdout, getpid, getppid, pipe2};

use crate::link::ExitStatus;

use super::{ParentError, process, threads};

/// Started, and not yet waited for.
#[derive(Debug)]
pub struct Apart {
    pid: Pid,
    output: BufReader<File>,
}

/// Runs that in a child, whose exit code it gives.
///
/// # Errors
/// If the process has threads, or there can be no other process.
pub fn start(body: impl FnOnce() -> u8) -> Result<Apart, ParentError> {
    threads::refuse()?;
    let refused = |source| ParentError::System { doing: "start another broker", source };
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(refused)?;
    let parent = getpid();
    let pid = process::fork(move || {
        // It finishes what it has begun, and takes its workers along.
        let tied = prctl::set_pdeathsig(Number::SIGTERM).and_then(|()| dup2_stdout(&theirs));
        drop::<OwnedFd>(theirs);
        if tied.is_err() || getppid() != parent { super::child::NEVER_RAN } else { body() }
    });
    let pid = pid.map_err(refused)?;
    Ok(Apart { pid, output: BufReader::new(File::from(ours)) })
}

impl Apart {
    /// The next line that it writes; `None` when there will be no more.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap_or_default();
        (read > 0).then_some(line)
    }

    /// Ends it as an operator would, and waits for that.
    pub fn stop(self) -> ExitStatus {
        kill(self.pid, Number::SIGTERM).ok();
        match waitpid(self.pid, None) {
            Ok(nix::sys::wait::WaitStatus::Exited(_pid, code)) => ExitStatus::Code(code),
            Ok(nix::sys::wait::WaitStatus::Signaled(_pid, signal, _core)) => {
                ExitStatus::Signal(signal as i32)
            }
            _ => ExitStatus::NotPrepared { why: "it is gone".to_owned() },
        }
    }
}
