//! The proof that this process may fork: it has one thread.

use nix::errno::Errno;

use super::ParentError;

/// Refuses a process with more than one thread: a fork would copy one of them, and the
/// locks of all.
pub(super) fn refuse() -> Result<(), ParentError> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(|error| ParentError::System {
        doing: "list the threads of this process in /proc/self/task",
        source: error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw),
    })?;
    let name =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let names: Vec<String> = tasks.flatten().map(|task| name(task).trim_end().to_owned()).collect();
    if 1 < names.len() { Err(ParentError::Threads { names }) } else { Ok(()) }
}
