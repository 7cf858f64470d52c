//! Loads something large once, then answers from it in forked workers that share it.
//!
//! `cargo run --release --example preload` serves on ports 6660 and 6661: try
//! `hornpipe req 6660 "lookup 1000"`.
//! `cargo run --release --example preload -- --prove` serves on free ports, asks
//! every worker what memory it uses, prints the sum and stops.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use hornpipe::{Context, Failure, Job, Server};
use hornpipe_client::Client;

/// 20 million numbers: 160 MB.
const NUMBERS: u64 = 20_000_000;
const WORKERS: u32 = 4;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("--prove") => prove(),
        Some("--on-free-ports") => serve("0", "0"),
        _ => serve("6660", "6661"),
    }
}

fn serve(frontend: &str, backend: &str) -> Result<ExitCode, Box<dyn Error>> {
    let squares: Vec<u64> = (0..NUMBERS).map(|number| number * number).collect();
    let handler = move |job: &Job, _context: &mut Context<'_>| -> Result<String, Failure> {
        let question = String::from_utf8_lossy(&job.body()).into_owned();
        match question.split_once(' ') {
            Some(("lookup", number)) => {
                let place: usize =
                    number.parse().map_err(|error| Failure::new(format!("{number}: {error}")))?;
                let square = squares.get(place).ok_or_else(|| Failure::new("not that many"))?;
                Ok(square.to_string())
            }
            _ if question == "memory" => {
                // Reading every page shows that reading does not copy.
                let sum = squares.iter().copied().fold(0, u64::wrapping_add);
                let (pss, private) = memory("self").map_err(|error| Failure::new(error.to_string()))?;
                Ok(format!("{} {pss} {private} {sum}", std::process::id()))
            }
            _ => Err(Failure::new("ask: lookup NUMBER, or memory")),
        }
    };
    let code = Server::builder().frontend(frontend).backend(backend).workers(WORKERS).run(handler)?;
    Ok(code.into())
}

/// Proportional and private memory of a process, in KiB: see proc_pid_smaps_rollup(5).
fn memory(pid: &str) -> Result<(u64, u64), Box<dyn Error>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let private = field("Private_Dirty:").zip(field("Private_Clean:")).map(|(dirty, clean)| dirty + clean);
    Ok(field("Pss:").zip(private).ok_or("no such lines in smaps_rollup")?)
}

#[expect(clippy::disallowed_methods, reason = "the server is this program once more")]
fn prove() -> Result<ExitCode, Box<dyn Error>> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg("--on-free-ports")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let screen = server.stdout.take().ok_or("no screen")?;
    let line = BufReader::new(screen).lines().next().ok_or("the server did not start")??;
    let endpoint = line.split_whitespace().find(|word| word.starts_with("tcp://")).ok_or("no endpoint")?;
    let client = Client::connect(endpoint)?;
    let mut workers = std::collections::BTreeMap::new();
    while workers.len() < WORKERS as usize {
        let reply = client.ask("memory")?;
        let numbers = String::from_utf8(reply.bytes())?;
        let numbers: Vec<u64> = numbers.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        if let [pid, pss, private, _sum] = numbers.as_slice() {
            workers.insert(*pid, (*pss, *private));
        }
    }
    let (parent_pss, _private) = memory(&server.id().to_string())?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(server.id().cast_signed()),
        nix::sys::signal::Signal::SIGTERM,
    )?;
    server.wait()?;

    let one_copy = NUMBERS * 8 / 1024;
    let all: u64 = parent_pss + workers.values().map(|(pss, _private)| pss).sum::<u64>();
    let private: u64 = workers.values().map(|(_pss, private)| private).sum();
    let mut out = std::io::stdout().lock();
    writeln!(out, "loaded once:                     {:>6} MiB", one_copy / 1024)?;
    writeln!(out, "parent and {WORKERS} workers together:  {:>6} MiB (PSS)", all / 1024)?;
    writeln!(out, "of it private to the workers:    {:>6} MiB", private / 1024)?;
    writeln!(
        out,
        "{WORKERS} workers that load by themselves: {:>4} MiB",
        u64::from(WORKERS) * one_copy / 1024
    )?;
    let shared = all < 2 * one_copy;
    Ok(if shared { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
