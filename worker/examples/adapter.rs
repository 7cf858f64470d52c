//! A worker of any kind as a process of its own:
//! `adapter (each|lines|length|netstring|demo) OUTPUT_LIMIT BACKEND [PROGRAM [ARGUMENT...]]`.

use std::process::ExitCode;

use hornpipe_worker::{Framing, ServeError, Settings, Stopped, demo, each, lines};

fn main() -> Result<ExitCode, String> {
    let mut arguments = std::env::args_os().skip(1);
    let mut text = |what: &str| {
        let argument = arguments.next().and_then(|argument| argument.into_string().ok());
        argument.ok_or_else(|| format!("{what} is missing"))
    };
    let kind = text("the kind of worker")?;
    let limit = text("the output limit")?.parse().map_err(|_error| "the output limit is a number")?;
    let framing = match kind.as_str() {
        "length" => Framing::Length,
        "netstring" => Framing::Netstring,
        _ => Framing::Line,
    };
    let settings = Settings { output_limit: limit, framing, ..Settings::new(text("the backend")?) };
    let program: Vec<_> = arguments.collect();

    let stopped = match kind.as_str() {
        "each" => each(&settings, &program, |_state| ()),
        "lines" | "length" | "netstring" => lines(&settings, &program, |_state| ()),
        "demo" => demo(&settings, |_state| ()),
        _ => return Err(format!("{kind:?} is no kind of worker")),
    };
    match stopped {
        Ok(Stopped::WithProgram { exit_code }) => Ok(exit_code.into()),
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(ServeError::NotExecutable { .. }) => Ok(3.into()),
        Err(error) => Err(error.to_string()),
    }
}
