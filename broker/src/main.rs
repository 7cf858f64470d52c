//! The one binary. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(hornpipe::cli::run(std::env::args_os()))
}
