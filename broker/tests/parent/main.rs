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
    let (mut passes, mut failures) = (0, 0);
    for (name, case) in cases::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        if arguments.iter().any(|argument| argument == "--list") {
            println!("{name}: test");
        } else if catch_unwind(AssertUnwindSafe(case)).is_ok() {
            println!("test {name} ... ok");
            passes += 1;
        } else {
            println!("test {name} ... FAILED");
            failures += 1;
        }
    }
    // As the test runner of Rust says it, for whoever counts.
    let word = if failures == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {passes} passed; {failures} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
