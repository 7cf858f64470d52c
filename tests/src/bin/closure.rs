//! A program that brings its own handler, for the tests: it loads something, then serves
//! from forked workers on free ports.
//!
//! Bodies: `number N`, `memory` (private KiB of the worker), `pid`, `fail`, `panic`,
//! `abort`, `connection` (what was made after the fork), `nap MS` (hears nothing meanwhile). With the arguments `callbacks FILE`
//! it writes a line there for each call in the parent. With the argument `thread` it starts a thread first, which it may not.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use hornpipe::{Context, Failure, Job, Server};

/// 8 million numbers: 64 MB.
const NUMBERS: u64 = 8_000_000;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|word| word == "thread") {
        #[expect(clippy::disallowed_methods, reason = "this one is to be refused")]
        let parked = std::thread::Builder::new().name("busybody".into()).spawn(std::thread::park);
        assert!(parked.is_ok(), "no thread can be started");
    }
    let numbers: Vec<u64> = (0..NUMBERS).map(|number| number * 3).collect();
    let connection = Rc::new(RefCell::new(String::from("none")));
    let server = Server::builder().frontend("0").backend("0");
    let server = match std::env::args().nth(1).as_deref() {
        Some("callbacks") => with_callbacks(server, &connection),
        _ => server,
    };
    let handler = move |job: &Job, _context: &mut Context<'_>| match &*job.body() {
        b"connection" => Ok(connection.borrow().clone()),
        body => handle(&numbers, body),
    };
    match server.run(handler) {
        Ok(code) => code.into(),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn with_callbacks(server: Server, connection: &Rc<RefCell<String>>) -> Server {
    let file = PathBuf::from(std::env::args_os().nth(2).unwrap_or_default());
    let note = move |line: String| {
        let opened = OpenOptions::new().create(true).append(true).open(&file);
        assert!(opened.and_then(|mut file| file.write_all(line.as_bytes())).is_ok(), "nothing can be noted");
    };
    let (note_fork, note_exit) = (note.clone(), note);
    let connection = Rc::clone(connection);
    let parent = std::process::id();
    server
        .before_fork(move |worker| {
            let here = std::process::id() == parent;
            note_fork(format!("fork {}.{} {here}\n", worker.slot, worker.incarnation));
            assert_ne!(worker.incarnation, 2, "a panic in the parent");
        })
        .after_fork(move |worker| {
            let own = format!("{}.{} of {}", worker.slot, worker.incarnation, std::process::id());
            connection.replace(own);
        })
        .on_worker_exit(move |worker| {
            note_exit(format!(
                "exit {}.{} {} {}\n",
                worker.slot, worker.incarnation, worker.pid, worker.reason
            ));
        })
}

#[expect(clippy::print_stderr, reason = "a program tells its user why it cannot run")]
fn complain(error: &hornpipe::ServerError) {
    eprintln!("{error}");
}

#[expect(clippy::panic, reason = "that is what a test asks for")]
fn handle(numbers: &[u64], body: &[u8]) -> Result<String, Failure> {
    let body = String::from_utf8_lossy(body);
    match body.split_once(' ').unwrap_or((&body, "")) {
        ("number", place) => {
            let place: usize = place.parse().map_err(|_error| Failure::new("a number is expected"))?;
            numbers.get(place).map(u64::to_string).ok_or_else(|| Failure::new("not that many"))
        }
        ("memory", _) => {
            // To read a page is not to copy it.
            let sum = numbers.iter().copied().fold(0, u64::wrapping_add);
            Ok(format!("{} {sum}", private_kib().ok_or("no smaps_rollup")?))
        }
        ("pid", _) => Ok(std::process::id().to_string()),
        ("fail", why) => Err(Failure::new(why)),
        ("panic", why) => panic!("{why}"),
        ("abort", _) => std::process::abort(),
        ("nap", time) => {
            let milliseconds = time.parse().map_err(|_error| Failure::new("a number is expected"))?;
            nap(milliseconds);
            Ok(format!("napped {milliseconds}"))
        }
        _ => Err(Failure::new("no such verb")),
    }
}

#[expect(clippy::disallowed_methods, reason = "a handler that neither ends nor asks anything")]
fn nap(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

fn private_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    private.map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}
