//! Arguments before clap sees them: Net::Server's underscores are dashes here.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The same arguments, with `--log_level` as `--log-level`. What follows `--` is
/// a program's, and so is every value.
pub(super) fn with_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut ours = true;
    let spell = |argument: OsString| {
        ours = ours && argument != "--";
        if ours && argument.as_bytes().starts_with(b"--") { spell_option(argument) } else { argument }
    };
    arguments.into_iter().map(spell).collect()
}

fn spell_option(argument: OsString) -> OsString {
    let mut bytes = argument.into_vec();
    for byte in bytes.iter_mut().take_while(|byte| **byte != b'=') {
        if *byte == b'_' {
            *byte = b'-';
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_of_an_options_name_are_dashes() {
        let given = ["hornpipe", "--max_body=a_b", "--log_level", "x_y", "-n", "_", "--", "--a_b", "c_d"];
        let read = ["hornpipe", "--max-body=a_b", "--log-level", "x_y", "-n", "_", "--", "--a_b", "c_d"];
        assert_eq!(with_dashes(given.map(OsString::from)), read);
    }
}
