//! What a forked child does before it is a worker or the router.
//! Everything here runs in the child; it owns nothing but what it is handed by name.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::FdFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal as Number;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, execve, getppid, write};

use crate::link::{ExitStatus, HookEvent};

use super::conditions::Conditions;
use super::gate::Threshold;
use super::identity::Identity;
use super::{HttpBody, HttpProcess, Listeners, Program, WorkerProcess, process, signals};

/// The code of a child that never ran. What matters is its report; a shell says 127 too.
pub(super) const NEVER_RAN: u8 = 127;
/// Where programs are looked for if the environment says nothing: what `execvp` does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// A name in a report is not longer, whatever the command line held.
const NAME_LIMIT: usize = 256;

/// What a worker's child is handed.
#[derive(Debug)]
pub(super) struct WorkerChild<'a> {
    pub(super) worker: WorkerProcess,
    pub(super) identity: &'a Identity,
    pub(super) conditions: &'a Conditions,
    pub(super) environment: &'a [(OsString, OsString)],
    /// Both stdout and stderr.
    pub(super) output: OwnedFd,
    pub(super) threshold: Threshold,
    pub(super) parent: Pid,
}

impl WorkerChild<'_> {
    /// Becomes the worker and runs it. Gives its exit code, unless it is another program by then.
    pub(super) fn run(self, program: &mut Program) -> u8 {
        let kind = match program {
            Program::Exec { .. } | Program::None => signals::Child::Program,
            Program::Fork(_) => signals::Child::Handler,
        };
        if let Err(why) = self.prepare(kind) {
            return self.give_up(&ExitStatus::NotPrepared { why });
        }
        // It may not connect before the router can know its pid, and not outlive the parent.
        if !self.threshold.wait() || getppid() != self.parent {
            return NEVER_RAN;
        }
        match program {
            Program::Exec { argv } => {
                let why = execute(argv, &self.complete_environment());
                let program = argv.first().map(|name| shorten(name)).unwrap_or_default();
                self.give_up(&ExitStatus::NotExecuted { program, why })
            }
            Program::Fork(handler) => {
                let Self { worker, threshold, output, .. } = self;
                drop(threshold);
                drop(output);
                handler(worker)
            }
            Program::None => self.give_up(&ExitStatus::NotPrepared { why: "there is no program".to_owned() }),
        }
    }

    fn prepare(&self, kind: signals::Child) -> Result<(), String> {
        read_nothing()?;
        dup2_stdout(&self.output).map_err(|errno| refused("connect its output", errno))?;
        dup2_stderr(&self.output).map_err(|errno| refused("connect its output", errno))?;
        process::close_all_but(&[self.threshold.number(), self.output.as_raw_fd()]);
        signals::reset(kind);
        // Before the change of user, who may be allowed less.
        self.conditions.assume()?;
        self.identity.assume()?;
        // After the change of user, which clears it.
        prctl::set_pdeathsig(Number::SIGKILL).map_err(|errno| refused("tie its life to the parent", errno))
    }

    fn give_up(&self, failure: &ExitStatus) -> u8 {
        self.threshold.report(failure);
        NEVER_RAN
    }

    fn complete_environment(&self) -> Vec<(OsString, OsString)> {
        let Self { worker: WorkerProcess { place, service, generation, backend }, .. } = self;
        let own = [
            ("HORNPIPE_BACKEND", backend.clone()),
            ("HORNPIPE_SERVICE", service.clone()),
            ("HORNPIPE_SLOT", place.slot.to_string()),
            ("HORNPIPE_INCARNATION", place.incarnation.to_string()),
            ("HORNPIPE_GENERATION", generation.to_string()),
        ];
        let foreign = self.environment.iter().filter(|(name, _)| own.iter().all(|(known, _)| name != known));
        let mut environment: Vec<(OsString, OsString)> = foreign.cloned().collect();
        environment.extend(own.into_iter().map(|(name, value)| (name.into(), value.into())));
        environment
    }
}

/// What a mold's child is handed.
#[derive(Debug)]
pub(super) struct MoldChild<'a> {
    pub(super) service: &'a str,
    pub(super) generation: u32,
    pub(super) identity: &'a Identity,
    pub(super) conditions: &'a Conditions,
    pub(super) environment: &'a [(OsString, OsString)],
    /// Both stdout and stderr.
    pub(super) output: OwnedFd,
    /// Where it tells why it cannot run.
    pub(super) threshold: Threshold,
    /// Where it is given orders.
    pub(super) line: OwnedFd,
    pub(super) parent: Pid,
}

impl MoldChild<'_> {
    /// Becomes the program that is a mold. Gives an exit code if that fails.
    pub(super) fn run(self, argv: &[OsString]) -> u8 {
        if let Err(why) = self.prepare() {
            self.threshold.report(&ExitStatus::NotPrepared { why });
            return NEVER_RAN;
        }
        let own = [
            ("HORNPIPE_MOLD_FD", self.line.as_raw_fd().to_string()),
            ("HORNPIPE_SERVICE", self.service.to_owned()),
            ("HORNPIPE_GENERATION", self.generation.to_string()),
        ];
        let foreign = self.environment.iter().filter(|(name, _)| own.iter().all(|(known, _)| name != known));
        let mut environment: Vec<(OsString, OsString)> = foreign.cloned().collect();
        environment.extend(own.into_iter().map(|(name, value)| (name.into(), value.into())));
        let why = execute(argv, &environment);
        let program = argv.first().map(|name| shorten(name)).unwrap_or_default();
        self.threshold.report(&ExitStatus::NotExecuted { program, why });
        NEVER_RAN
    }

    /// Its workers inherit all of this but the tie to the parent, which they make themselves.
    fn prepare(&self) -> Result<(), String> {
        read_nothing()?;
        dup2_stdout(&self.output).map_err(|errno| refused("connect its output", errno))?;
        dup2_stderr(&self.output).map_err(|errno| refused("connect its output", errno))?;
        let line = self.line.as_raw_fd();
        process::close_all_but(&[self.threshold.number(), line, self.output.as_raw_fd()]);
        process::set_flags(line, FdFlag::empty()).map_err(|errno| refused("keep its line", errno))?;
        signals::reset(signals::Child::Program);
        self.conditions.assume()?;
        self.identity.assume()?;
        prctl::set_pdeathsig(Number::SIGKILL)
            .map_err(|errno| refused("tie its life to the parent", errno))?;
        if getppid() == self.parent { Ok(()) } else { Err("the parent has died".to_owned()) }
    }
}

/// What a hook's child is handed.
#[derive(Debug)]
pub(super) struct HookChild<'a> {
    /// For the shell.
    pub(super) command: String,
    pub(super) identity: &'a Identity,
    /// The complete one but for the event.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Both stdout and stderr.
    pub(super) output: OwnedFd,
    pub(super) parent: Pid,
}

impl HookChild<'_> {
    /// Becomes the shell that runs the command. Gives an exit code if that fails.
    pub(super) fn run(mut self, event: HookEvent) -> u8 {
        self.environment.push(("HORNPIPE_EVENT".into(), event.as_str().into()));
        let argv = ["sh".into(), "-c".into(), OsString::from(&self.command)];
        let why = match self.prepare() {
            Ok(()) => execute(&argv, &self.environment),
            Err(why) => why,
        };
        // The parent reads it as it reads everything that a hook says.
        write(&self.output, format!("not run: {why}\n").as_bytes()).ok();
        NEVER_RAN
    }

    fn prepare(&self) -> Result<(), String> {
        read_nothing()?;
        dup2_stdout(&self.output).map_err(|errno| refused("connect its output", errno))?;
        dup2_stderr(&self.output).map_err(|errno| refused("connect its output", errno))?;
        process::close_all_but(&[self.output.as_raw_fd()]);
        signals::reset(signals::Child::Program);
        self.identity.assume()?;
        prctl::set_pdeathsig(Number::SIGKILL)
            .map_err(|errno| refused("tie its life to the parent", errno))?;
        if getppid() == self.parent { Ok(()) } else { Err("the parent has died".to_owned()) }
    }
}

/// What the child is handed that is asked over HTTP.
#[derive(Debug)]
pub(super) struct HttpChild<'a> {
    pub(super) listeners: &'a Listeners,
    pub(super) identity: &'a Identity,
    /// Both stdout and stderr.
    pub(super) output: OwnedFd,
    pub(super) parent: Pid,
}

impl HttpChild<'_> {
    /// Becomes it, and gives its exit code.
    pub(super) fn run(self, body: &mut HttpBody) -> u8 {
        match self.prepare().and_then(body) {
            Ok(()) => 0,
            Err(why) => {
                // The parent reads it as it reads everything that this one says.
                write(std::io::stderr(), format!("{why}\n").as_bytes()).ok();
                NEVER_RAN
            }
        }
    }

    fn prepare(self) -> Result<HttpProcess, String> {
        let Self { listeners, identity, output, parent } = self;
        dup2_stdout(&output).map_err(|errno| refused("connect its output", errno))?;
        dup2_stderr(&output).map_err(|errno| refused("connect its output", errno))?;
        let listener = listeners.http.as_ref().map(|port| port.descriptor.try_clone());
        let listener = listener.ok_or("there is no port for it")?;
        let listener = listener.map_err(|error| format!("cannot have its port: {error}"))?;
        // Before the change of user and of the root directory, behind which the router's
        // socket may be out of reach.
        let line = listeners.control.connect().map_err(|errno| refused("reach the router", errno))?;
        read_nothing()?;
        process::close_all_but(&[listener.as_raw_fd(), line.as_raw_fd(), output.as_raw_fd()]);
        signals::reset(signals::Child::Router);
        identity.assume()?;
        prctl::set_pdeathsig(Number::SIGKILL)
            .map_err(|errno| refused("tie its life to the parent", errno))?;
        if getppid() != parent {
            return Err("the parent has died".to_owned());
        }
        drop(output);
        Ok(HttpProcess { listener, line })
    }
}

/// Prepares the child that becomes the router, which keeps the descriptors `kept`,
/// stdout and stderr.
///
/// # Errors
/// What was refused and why, as a sentence.
pub(super) fn prepare_router(kept: &[RawFd], identity: &Identity, parent: Pid) -> Result<(), String> {
    read_nothing()?;
    process::close_all_but(kept);
    signals::reset(signals::Child::Router);
    identity.assume()?;
    // When the parent dies, the router kills the workers that are left, and ends. It
    // learns of it by the end of the link, unless it is stopped: this wakes it.
    prctl::set_pdeathsig(Number::SIGCONT).map_err(|errno| refused("be woken at the parent's end", errno))?;
    if getppid() == parent { Ok(()) } else { Err("the parent has died".to_owned()) }
}

pub(super) fn read_nothing() -> Result<(), String> {
    let nothing = File::open("/dev/null").map_err(|error| format!("cannot open /dev/null: {error}"))?;
    dup2_stdin(nothing.as_fd()).map_err(|errno| refused("connect its input", errno))
}

/// Becomes the program. Gives the reason if that fails.
fn execute(argv: &[OsString], environment: &[(OsString, OsString)]) -> String {
    let Some(name) = argv.first() else { return "the command line is empty".to_owned() };
    let Some(arguments) =
        argv.iter().map(|argument| c_string(argument.as_bytes())).collect::<Option<Vec<_>>>()
    else {
        return "an argument contains a NUL byte".to_owned();
    };
    let variable =
        |(name, value): &(OsString, OsString)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat());
    let Some(variables) = environment.iter().map(variable).collect::<Option<Vec<_>>>() else {
        return "an environment variable contains a NUL byte".to_owned();
    };
    let mut worst = Errno::ENOENT;
    for candidate in candidates(name, environment) {
        let Some(path) = c_string(&candidate) else { continue };
        let Err(errno) = execve(&path, &arguments, &variables);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // Another directory may hold one that may be executed.
            Errno::EACCES => worst = errno,
            _final => return explain(errno),
        }
    }
    explain(worst)
}

/// Where a program may be: at its path, or in the directories of PATH, which is the
/// worker's own and not the parent's.
fn candidates(name: &OsStr, environment: &[(OsString, OsString)]) -> Vec<Vec<u8>> {
    let name = name.as_bytes();
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    let path = environment.iter().find(|(variable, _)| variable == "PATH").map(|(_, path)| path.as_os_str());
    let directories = path.unwrap_or(OsStr::new(DEFAULT_PATH)).as_bytes().split(|byte| *byte == b':');
    let inside = |directory: &[u8]| match directory {
        b"" => [b"./", name].concat(),
        directory => [directory, b"/", name].concat(),
    };
    directories.map(inside).collect()
}

pub(super) fn explain(errno: Errno) -> String {
    let reason = errno.desc().to_lowercase();
    match errno {
        Errno::ENOEXEC => format!("{reason}: a script needs a first line like #!/bin/sh"),
        Errno::EACCES => format!("{reason}: it must be a file with the right to execute"),
        _self_explaining => reason,
    }
}

fn refused(what: &str, errno: Errno) -> String {
    format!("cannot {what}: {}", errno.desc().to_lowercase())
}

fn c_string(bytes: &[u8]) -> Option<CString> {
    CString::new(bytes).ok()
}

fn shorten(name: &OsStr) -> String {
    let bytes = name.as_bytes();
    let beginning = bytes.get(..NAME_LIMIT).unwrap_or(bytes).to_vec();
    OsString::from_vec(beginning).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(path: &str) -> Vec<(OsString, OsString)> {
        vec![("HOME".into(), "/".into()), ("PATH".into(), path.into())]
    }

    #[test]
    fn a_name_is_looked_for_in_the_workers_own_path() {
        let found = candidates(OsStr::new("perl"), &environment("/opt/bin::/usr/bin"));
        assert_eq!(found, [b"/opt/bin/perl".to_vec(), b"./perl".to_vec(), b"/usr/bin/perl".to_vec()]);
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(candidates(OsStr::new("./perl"), &environment("/bin")), [b"./perl".to_vec()]);
    }

    #[test]
    fn without_path_the_usual_directories_are_searched() {
        assert_eq!(candidates(OsStr::new("sh"), &[]), [b"/bin/sh".to_vec(), b"/usr/bin/sh".to_vec()]);
    }

    #[test]
    fn an_empty_name_is_nowhere() {
        assert!(candidates(OsStr::new(""), &environment("/bin")).is_empty());
    }
}
