//! Saying something to whoever started this.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::exit_code::OperatorExit;

/// Writes what was asked for. A reader that has seen enough is no error.
///
/// # Errors
/// If it cannot be written, as to a full disk.
pub(super) fn print(bytes: &[u8]) -> io::Result<()> {
    match write(bytes) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes one of many, and tells also that nobody reads any more.
///
/// # Errors
/// If it cannot be written, or the reader is gone.
pub(super) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush())
}

/// Writes what was asked for, and gives the exit code that this has.
pub(super) fn say(text: &str) -> OperatorExit {
    match print(text.as_bytes()) {
        Ok(()) => OperatorExit::Done,
        Err(error) => {
            complain(format_args!("cannot write: {error}"));
            OperatorExit::No
        }
    }
}

/// Says on standard error what happens, or why nothing does.
pub(super) fn complain(message: impl Display) {
    complain_to(&mut io::stderr().lock(), message);
}

/// The same, on what was standard error.
pub(super) fn complain_to(console: &mut impl Write, message: impl Display) {
    // Nobody is left to be told if this fails.
    writeln!(console, "hornpipe: {message}").ok();
}

/// Names and reasons come from other processes, and must not draw on this terminal.
pub(super) fn harmless(text: &str) -> String {
    let mut harmless = String::new();
    for letter in text.chars() {
        if letter.is_control() { harmless.extend(letter.escape_default()) } else { harmless.push(letter) }
    }
    harmless
}
