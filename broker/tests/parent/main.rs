//! The parent with real processes: each case starts this binary again as a parent that
//! plays a scenario, one after the other. There is no test harness, because a parent
//! refuses to fork where there are threads.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

mod cases;
mod driver;
mod scenario;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, directory] = arguments.as_slice()
        && word == "scenario"
    {
        return ExitCode::from(scenario::play(name, Path::new(directory)));
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut failures = 0;
    for (name, case) in cases::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        if arguments.iter().any(|argument| argument == "--list") {
            println!("{name}: test");
        } else if catch_unwind(AssertUnwindSafe(case)).is_ok() {
            println!("ok {name}");
        } else {
            println!("FAILED {name}");
            failures += 1;
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
