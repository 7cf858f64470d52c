//! `hornpipe req`: one request, one reply.
//!
//! Two shapes: ours names the broker and the body; the one of zmq-client names
//! the broker by `-e` and reads the body from files.

mod interrupt;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::Args;
use hornpipe_client::{AskError, Client, Priority, Reply, Request};

use super::exit_code::ReqExit;
use super::output;
use crate::config;

/// Send one request and print the reply
#[derive(Debug, Args)]
#[command(
    override_usage = "hornpipe req [OPTIONS] <ENDPOINT> [BODY|-]\n       hornpipe req [OPTIONS] -e <ENDPOINT> [FILE]...",
    after_help = AFTER
)]
pub(super) struct ReqArguments {
    /// Where to ask, as 6660 or HOST:PORT; then the body, or - to read it
    #[arg(value_name = "ENDPOINT BODY")]
    words: Vec<OsString>,
    /// Where to ask, or A,B; then the body is all FILEs
    #[arg(short, long, visible_alias = "broker", value_name = "ENDPOINT", value_delimiter = ',')]
    endpoint: Vec<String>,
    /// How long to wait in all; a bare number is seconds
    #[arg(short, long, value_name = "TIME", value_parser = config::duration_or_seconds, default_value = "30s")]
    timeout: Duration,
    /// How often to send it, at most
    #[arg(short, long, visible_alias = "tries", value_name = "TRIES", value_parser = clap::value_parser!(u32).range(1..), default_value = "3")]
    retries: u32,
    /// How many workers may try it, if they die
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true)]
    attempts: Option<u32>,
    /// The service to ask, if it is not the default one
    #[arg(short, long, value_name = "NAME")]
    service: Option<String>,
    /// Names the work: within the broker's window it runs once
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,
    /// high, normal or low
    #[arg(short, long, value_name = "PRIORITY", default_value = "normal")]
    priority: Priority,
    /// Requests with the same word go to the same worker, while it lives
    #[arg(long, value_name = "WORD", hide_short_help = true)]
    affinity: Option<String>,
    /// Wait for that worker, however long it is busy
    #[arg(long, requires = "affinity", hide_short_help = true)]
    strict: bool,
    /// Of the requests with the same word one runs at a time
    #[arg(long, value_name = "WORD", hide_short_help = true)]
    exclusive: Option<String>,
    /// W3C's traceparent, for the worker
    #[arg(long, value_name = "TRACEPARENT", hide_short_help = true)]
    trace: Option<String>,
    /// For the worker, beside the body; can be given again
    #[arg(short = 'H', long, value_name = "NAME=VALUE", value_parser = read_header)]
    header: Vec<(String, String)>,
    /// The ZeroMQ identity to ask under; two clients of one identity take each other's replies
    #[arg(short, long, value_name = "NAME", hide_short_help = true)]
    identity: Option<OsString>,
    /// Print the reply as it is, without line breaks
    #[arg(long)]
    raw: bool,
    /// Say who answered and how long it took
    #[arg(short, long)]
    verbose: bool,
}

const AFTER: &str = "\
A body that is read loses one line break at its end. A reply in parts is printed as they come.
Ctrl-C takes the request back and waits a second for the answer to that; twice, it just ends.

Exit codes: 0 the reply is on standard output · 1 the handler failed · 2 usage ·
            3 no answer in time · 4 refused, or taken back · 5 no broker there

Examples:
  hornpipe req 6660 hello
  hornpipe req 6660,backup:6660 --key pay-4711 'pay 4711'
  hornpipe req -t 10 -r 2 -e tcp://localhost:6660 one.txt two.txt";

fn read_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() {
        return Err("a header has a name".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// What is wrong with the arguments, or with what they name.
#[derive(Debug)]
enum ReqError {
    NoEndpoint,
    TooManyWords,
    Endpoint(OsString),
    Body { name: String, source: io::Error },
    Ask(AskError),
    Print(io::Error),
    Signals(io::Error),
}

impl ReqError {
    fn exit_code(&self) -> ReqExit {
        match self {
            Self::NoEndpoint
            | Self::TooManyWords
            | Self::Endpoint(_)
            | Self::Body { .. }
            | Self::Ask(AskError::Endpoint { .. } | AskError::Identity | AskError::Request { .. }) => {
                ReqExit::Usage
            }
            Self::Ask(AskError::NoAnswer { .. } | AskError::BrokenOff { .. }) => ReqExit::NoAnswer,
            Self::Ask(AskError::Refused { .. }) => ReqExit::Refused,
            Self::Ask(AskError::Unreachable { .. }) => ReqExit::Unreachable,
            // The handler's failure, and what fails on this side of the wire.
            Self::Ask(_) | Self::Print(_) | Self::Signals(_) => ReqExit::HandlerFailed,
        }
    }
}

impl std::fmt::Display for ReqError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("whom to ask? hornpipe req 6660 hello"),
            Self::TooManyWords => {
                f.write_str("one body is sent: quote it, or name files with -e ENDPOINT FILE...")
            }
            Self::Endpoint(word) => write!(f, "{} is no endpoint", word.display()),
            Self::Body { name, source } => write!(f, "cannot read the body from {name}: {source}"),
            Self::Ask(error @ AskError::Endpoint { source, .. }) => write!(f, "{error}: {source}"),
            Self::Ask(error @ AskError::NoAnswer { .. }) => {
                write!(f, "{error}, and may have been run. -t waits longer")
            }
            Self::Ask(error @ AskError::Unreachable { .. }) => {
                write!(f, "{error}, so nothing was sent: is it running, and on that port?")
            }
            Self::Ask(AskError::Zmq(error)) => write!(f, "libzmq refused: {error}"),
            Self::Ask(error) => error.fmt(f),
            Self::Print(error) => write!(f, "cannot write the reply: {error}"),
            Self::Signals(error) => write!(f, "cannot wait for signals: {error}"),
        }
    }
}

pub(super) fn run(arguments: &ReqArguments) -> ReqExit {
    match ask(arguments) {
        Ok(()) => ReqExit::Reply,
        Err(error) => {
            output::complain(&error);
            error.exit_code()
        }
    }
}

fn ask(arguments: &ReqArguments) -> Result<(), ReqError> {
    let (endpoints, body) = match (arguments.endpoint.as_slice(), arguments.words.as_slice()) {
        ([], []) => return Err(ReqError::NoEndpoint),
        ([], [endpoint]) => (spelled(endpoint)?, read_files(&[])?),
        ([], [endpoint, body]) if body == "-" => (spelled(endpoint)?, read_files(&[])?),
        ([], [endpoint, body]) => (spelled(endpoint)?, body.as_bytes().to_vec()),
        ([], _) => return Err(ReqError::TooManyWords),
        (endpoints, files) => (endpoints.to_vec(), read_files(files)?),
    };
    let mut builder =
        Client::builder().endpoints(endpoints).timeout(arguments.timeout).tries(arguments.retries);
    if let Some(identity) = &arguments.identity {
        builder = builder.identity(identity.as_bytes());
    }
    let request = described(arguments, body);
    // Before there are threads: they are to leave these signals alone too.
    let signals = interrupt::Signals::block().map_err(ReqError::Signals)?;
    let client = builder.build().map_err(ReqError::Ask)?;
    let mut parts = client.parts(request).map_err(ReqError::Ask)?;
    signals.cancel(parts.canceller()).map_err(ReqError::Signals)?;
    let mut count = 0;
    while let Some(part) = parts.next() {
        if print(arguments, &part.map_err(ReqError::Ask)?)? == Reader::Gone {
            // Nobody wants the rest. The broker is told, and heard, before this ends.
            parts.cancel();
            parts.for_each(drop);
            return Ok(());
        }
        count += 1;
    }
    if count == 0 {
        print(arguments, &[])?;
    }
    if let Some(reply) = parts.reply().filter(|_| arguments.verbose) {
        output::complain(told(reply));
    }
    Ok(())
}

fn described(arguments: &ReqArguments, body: Vec<u8>) -> Request {
    let mut request = Request::new(body).priority(arguments.priority);
    if let Some(service) = &arguments.service {
        request = request.service(service);
    }
    if let Some(key) = &arguments.key {
        request = request.key(key);
    }
    if let Some(word) = &arguments.affinity {
        request = request.affinity(word);
    }
    if let Some(word) = &arguments.exclusive {
        request = request.exclusive(word);
    }
    if let Some(trace) = &arguments.trace {
        request = request.trace(trace);
    }
    if arguments.strict {
        request = request.strict();
    }
    if let Some(attempts) = arguments.attempts {
        request = request.attempts(attempts);
    }
    arguments.header.iter().fold(request, |request, (name, value)| request.header(name, value.as_bytes()))
}

/// Who answered, and how long it took.
fn told(reply: &Reply) -> String {
    let time = |what: &str, time: Option<Duration>| {
        time.map_or_else(String::new, |time| format!(", {what} {:.3} ms", time.as_secs_f64() * 1e3))
    };
    let (waited, ran) = (time("waited", reply.waited), time("ran", reply.ran));
    format!("answered by {} at attempt {}{waited}{ran}", reply.broker, reply.attempt)
}

/// Whether anybody reads what is printed.
#[derive(Debug, PartialEq, Eq)]
enum Reader {
    There,
    Gone,
}

fn print(arguments: &ReqArguments, frames: &[Vec<u8>]) -> Result<Reader, ReqError> {
    let mut bytes = frames.concat();
    if !arguments.raw {
        bytes.push(b'\n');
    }
    match output::write(&bytes) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(ReqError::Print(error)),
    }
}

/// One endpoint, or a list of them with commas in between.
fn spelled(word: &OsStr) -> Result<Vec<String>, ReqError> {
    let text = word.to_str().ok_or_else(|| ReqError::Endpoint(word.to_owned()))?;
    Ok(text.split(',').map(ToOwned::to_owned).collect())
}

/// All files in one piece, or standard input; `-` among files is standard input too.
fn read_files(files: &[OsString]) -> Result<Vec<u8>, ReqError> {
    let mut body = Vec::new();
    let from_stdin = [OsString::from("-")];
    for file in if files.is_empty() { &from_stdin } else { files } {
        let read = if file == "-" {
            io::stdin().lock().read_to_end(&mut body)
        } else {
            File::open(file).and_then(|mut file| file.read_to_end(&mut body))
        };
        read.map_err(|source| ReqError::Body { name: file.display().to_string(), source })?;
    }
    if body.last() == Some(&b'\n') {
        body.pop();
    }
    Ok(body)
}
