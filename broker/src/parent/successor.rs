//! The program that takes this one's place: found under the name it was started by, so
//! that a link which a deployment has switched leads to the new file. It is tried in a
//! child first; only one that understands what it would inherit is let in.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{Signal as Number, kill, killpg};
use nix::unistd::{AccessFlags, Pid, access, dup2_stderr, dup2_stdout, execve, pipe2};
use serde::{Deserialize, Serialize};

use crate::link::{ExitStatus, Link, Received};

use super::errand::{Errand, VARIABLE};
use super::output::Output;
use super::{ParentError, child, inheritance, process, signals, threads};

/// A program that says nothing for so long is not let in.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to be executed again.
#[derive(Clone)]
pub struct Successor {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// Without the environment: secrets live there.
impl std::fmt::Debug for Successor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Successor").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Successor {
    /// This process's own program, arguments and `environment`, with `search_path` as its
    /// PATH. `None` if its name leads nowhere.
    ///
    /// The first call must come before a title is set, which is written over the arguments.
    pub fn of_this_process(environment: Vec<(OsString, OsString)>, search_path: &OsStr) -> Option<Self> {
        static ARGUMENTS: OnceLock<Vec<OsString>> = OnceLock::new();
        let arguments = ARGUMENTS.get_or_init(|| std::env::args_os().collect());
        let program = find(arguments.first()?, search_path)?;
        Some(Self { program, arguments: arguments.clone(), environment })
    }

    /// Where it is looked for.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Becomes it, with an errand. Gives the reason if that fails.
    pub(super) fn execute(&self, errand: &Errand) -> String {
        let c_string = |bytes: &[u8]| CString::new(bytes).ok();
        let own = (VARIABLE.into(), errand.to_text().into());
        let foreign = self.environment.iter().filter(|(name, _value)| name != VARIABLE);
        let variables: Option<Vec<CString>> = foreign
            .chain(std::iter::once(&own))
            .map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect();
        let arguments: Option<Vec<CString>> =
            self.arguments.iter().map(|argument| c_string(argument.as_bytes())).collect();
        let program = c_string(self.program.as_os_str().as_bytes());
        let (Some(program), Some(arguments), Some(variables)) = (program, arguments, variables) else {
            return "its name, arguments or environment contain a NUL byte".to_owned();
        };
        let Err(errno) = execve(&program, &arguments, &variables);
        child::explain(errno)
    }
}

/// As it was written if that is a path, made absolute but not resolved; else the first of
/// that name in PATH; else, for one that was given another name, the file itself.
fn find(name: &OsStr, search_path: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return std::path::absolute(name).ok();
    }
    let is_program = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    let mut candidates = std::env::split_paths(search_path).map(|directory| directory.join(name));
    let found = candidates.find(is_program).and_then(|path| std::path::absolute(path).ok());
    found.or_else(|| std::env::current_exe().ok())
}

/// What a program says that would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) version: String,
}

/// Says that this program would do, where somebody tries it.
///
/// # Errors
/// If it would not; the words are for whoever tries it.
pub fn be_tried(inheritance: RawFd, verdict: RawFd) -> Result<(), ParentError> {
    threads::refuse()?;
    inheritance::check(inheritance).map_err(ParentError::Inheritance)?;
    let refused = |source| ParentError::System { doing: "say that this program would do", source };
    let verdict = Link::new(process::adopt(verdict).map_err(refused)?);
    verdict.send(&Verdict { version: env!("CARGO_PKG_VERSION").to_owned() }).map_err(refused)
}

/// The program as a child, until it has shown that it would do.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) pid: Pid,
    pub(super) deadline: Duration,
    verdict: Link,
    output: Output,
    is_overdue: bool,
}

impl Trial {
    /// Runs the program on a description of what it would inherit.
    pub(super) fn start(successor: &Successor, inheritance: &OwnedFd, now: Duration) -> nix::Result<Self> {
        let (verdict, theirs) = Link::pair()?;
        let (output, written) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let errand =
            Errand::Try { inheritance: inheritance.as_raw_fd(), verdict: theirs.as_fd().as_raw_fd() };
        let pid = process::fork(move || {
            let why = match prepare(&written, &[inheritance.as_raw_fd(), theirs.as_fd().as_raw_fd()]) {
                Ok(()) => successor.execute(&errand),
                Err(why) => why,
            };
            nix::unistd::write(std::io::stderr(), why.as_bytes()).ok();
            child::NEVER_RAN
        })?;
        let output = Output::new(output);
        Ok(Self { pid, deadline: now.saturating_add(PATIENCE), verdict, output, is_overdue: false })
    }

    /// What it writes, for polling.
    pub(super) fn pipe(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.output.pipe()
    }

    /// Its lines are kept for the case that it will not do.
    pub(super) fn read_output(&mut self) {
        self.output.read_turn(&mut |_line| {});
    }

    /// It has had its time.
    pub(super) fn give_up(&mut self) {
        self.is_overdue = true;
        self.deadline = Duration::MAX;
        self.kill();
    }

    fn kill(&self) {
        killpg(self.pid, Number::SIGKILL).ok();
        kill(self.pid, Number::SIGKILL).ok();
    }

    /// What became of it, now that it has ended and its pid is still its own.
    pub(super) fn finish(mut self) -> Result<Verdict, String> {
        let verdict = self.verdict.receive();
        // What it has started goes with it.
        self.kill();
        let status = process::reap(self.pid).map(|remains| remains.status);
        let lines = self.output.finish(&mut |_line| {}).join("; ");
        let words =
            if lines.is_empty() { "and wrote nothing".to_owned() } else { format!("and wrote: {lines}") };
        match (verdict, status) {
            (Ok(Received::Message(verdict)), Some(ExitStatus::Code(0))) => Ok(verdict),
            _ if self.is_overdue => Err(format!("it did not answer within {} s {words}", PATIENCE.as_secs())),
            (_, Some(ExitStatus::Code(0))) => Err(format!("it ended without an answer {words}")),
            (_, Some(status)) => Err(format!("it ended with {status} {words}")),
            (_, None) => Err("it is gone".to_owned()),
        }
    }
}

fn prepare(output: &OwnedFd, kept: &[RawFd]) -> Result<(), String> {
    let refused = |errno: Errno| errno.desc().to_lowercase();
    child::read_nothing()?;
    dup2_stdout(output).map_err(refused)?;
    dup2_stderr(output).map_err(refused)?;
    process::close_all_but(kept);
    signals::reset(signals::Child::Program);
    for descriptor in kept {
        process::set_flags(*descriptor, FdFlag::empty()).map_err(refused)?;
    }
    prctl::set_pdeathsig(Number::SIGKILL).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_as_it_was_written_and_a_name_is_looked_for() {
        assert_eq!(
            find(OsStr::new("/opt/now/hornpipe"), OsStr::new("/bin")),
            Some("/opt/now/hornpipe".into())
        );
        let here = std::env::current_dir().unwrap();
        assert_eq!(find(OsStr::new("./hornpipe"), OsStr::new("/bin")), Some(here.join("hornpipe")));
        assert_eq!(find(OsStr::new("sh"), OsStr::new("/nowhere:/bin")), Some("/bin/sh".into()));
        assert_eq!(find(OsStr::new("-no-such"), OsStr::new("/bin")), std::env::current_exe().ok());
    }
}
