//! What a machine may lack without the tests being worth less: `tests/run` decides that
//! it is so and says why; a test by itself never does.
#![allow(clippy::disallowed_methods, reason = "this file knows what the machine has")]

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The variable that names libfaketime's library, or says `none`.
const FAKETIME: &str = "HPTEST_FAKETIME";

/// The variable that says `none` where there are no pid namespaces.
const NAMESPACES: &str = "HPTEST_NAMESPACES";

const NONE: &str = "none";

/// Where Debian and its like install it.
const LIBRARIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
];

/// The words before a program that give it a pid namespace of its own, for root and for
/// everybody else.
const UNSHARE: [&[&str]; 2] = [
    &["--pid", "--fork", "--mount-proc", "--kill-child"],
    &["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"],
];

/// libfaketime; `None` if the run was told to do without.
pub fn faketime() -> Option<PathBuf> {
    match env::var_os(FAKETIME) {
        Some(word) if word == NONE => {
            skip(FAKETIME);
            None
        }
        Some(path) => Some(path.into()),
        None => {
            let found = LIBRARIES.iter().map(PathBuf::from).find(|path| path.is_file());
            Some(found.unwrap_or_else(|| {
                panic!("no libfaketime (Debian: libfaketime); name it in {FAKETIME}, or say {NONE}")
            }))
        }
    }
}

/// What `unshare` is to be told for a pid namespace; `None` if the run was told to do without.
pub fn unshare() -> Option<&'static [&'static str]> {
    if env::var_os(NAMESPACES).is_some_and(|word| word == NONE) {
        skip(NAMESPACES);
        return None;
    }
    let works = |words: &&&[&str]| {
        let output = Command::new("unshare").args(**words).arg("true").output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = UNSHARE.iter().find(works).copied();
    Some(found.unwrap_or_else(|| panic!("no pid namespaces here; say {NAMESPACES}={NONE} to do without")))
}

/// Whether a program is there that not every machine has; if not, that is told.
pub fn has(program: &str) -> bool {
    let found = env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !found {
        tell(format_args!("there is no {program} here"));
    }
    found
}

fn skip(variable: &str) {
    tell(format_args!("{variable} is {NONE}"));
}

#[allow(clippy::print_stderr, reason = "whoever reads the result must know what was not tried")]
fn tell(why: std::fmt::Arguments<'_>) {
    eprintln!("skipped: {why}");
}

/// The variable that says `none` where no control group can be made.
const CGROUPS: &str = "HPTEST_CGROUPS";

/// Where control groups with a processor quota are: of version 1, and of version 2.
const CPU_GROUPS: [&str; 3] = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"];

/// A control group with a processor quota, removed when this is dropped.
#[derive(Debug)]
pub struct ControlGroup(PathBuf);

impl ControlGroup {
    /// One that may use so many processors; `None` if the run was told to do without.
    pub fn with_processors(processors: u32) -> Option<Self> {
        if env::var_os(CGROUPS).is_some_and(|word| word == NONE) {
            skip(CGROUPS);
            return None;
        }
        let name = format!("hptest-{}-{processors}", std::process::id());
        let made =
            CPU_GROUPS.iter().find_map(|place| Self::make(&PathBuf::from(place).join(&name), processors));
        Some(made.unwrap_or_else(|| {
            panic!("no control group can be made here; say {CGROUPS}={NONE} to do without")
        }))
    }

    fn make(folder: &std::path::Path, processors: u32) -> Option<Self> {
        std::fs::create_dir(folder).ok()?;
        let group = Self(folder.to_owned());
        let quota = processors * 100_000;
        let (file, text) = if folder.join("cpu.max").exists() {
            ("cpu.max", format!("{quota} 100000"))
        } else {
            ("cpu.cfs_quota_us", quota.to_string())
        };
        // Version 1 has this file and the next; version 2 the first, if its parent lets it.
        std::fs::write(folder.join(file), text).ok()?;
        Some(group)
    }

    /// Where a process writes its pid to be in it.
    pub fn entrance(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        super::wait::until("the control group is empty", super::wait::DEADLINE, || {
            std::fs::remove_dir(&self.0).ok()
        });
    }
}
