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

pub(super) const NONE: &str = "none";

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

/// Says that something was not tried because this variable says `none`.
pub(super) fn skip(variable: &str) {
    tell(format_args!("{variable} is {NONE}"));
}

#[allow(clippy::print_stderr, reason = "whoever reads the result must know what was not tried")]
pub(super) fn tell(why: std::fmt::Arguments<'_>) {
    eprintln!("skipped: {why}");
}
