//! `hornpipe req`: one request, one reply.
//!
//! Two shapes: ours names the broker and the body; the one of zmq-client names
//! the broker by `-e` and reads the body from files.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::Args;
use hornpipe_client::{AskError, Client, Reply, Request};

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
    /// Where to ask, as 6660 or HOST:PORT; then the body, or - to read it from standard input
    #[arg(value_name = "ENDPOINT BODY")]
    words: Vec<OsString>,
    /// Where to ask; then the body is all FILEs, or standard input
    #[arg(short, long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// How long to wait for the reply in all, over every try; a bare number is seconds
    #[arg(short, long, value_name = "TIME", value_parser = config::duration_or_seconds, default_value = "30s")]
    timeout: Duration,
    /// How often to send it before giving up. It may then run more than once
    #[arg(short, long, value_name = "TRIES", value_parser = clap::value_parser!(u32).range(1..), default_value = "3")]
    retries: u32,
    /// The service to ask, if it is not the default one
    #[arg(short, long, value_name = "NAME")]
    service: Option<String>,
    /// The ZeroMQ identity to ask under; two clients of one identity take each other's replies
    #[arg(short, long, value_name = "NAME")]
    identity: Option<OsString>,
    /// Print the reply as it is, without a line break after it
    #[arg(long)]
    raw: bool,
}

const AFTER: &str = "\
A body that is read loses one line break at its end; a BODY on the command line is sent as it is.

Exit codes: 0 the reply is on standard output · 1 the handler failed · 2 usage ·
            3 no answer in time · 4 refused by the broker · 5 no broker there

Examples:
  hornpipe req 6660 hello
  date | hornpipe req 6660 -
  hornpipe req -t 10 -r 2 -e tcp://localhost:6660 one.txt two.txt";

/// What is wrong with the arguments, or with what they name.
#[derive(Debug)]
enum ReqError {
    NoEndpoint,
    TooManyWords,
    Endpoint(OsString),
    Body { name: String, source: io::Error },
    Ask(AskError),
    Print(io::Error),
}

impl ReqError {
    fn exit_code(&self) -> ReqExit {
        match self {
            Self::NoEndpoint
            | Self::TooManyWords
            | Self::Endpoint(_)
            | Self::Body { .. }
            | Self::Ask(AskError::Endpoint { .. } | AskError::Identity) => ReqExit::Usage,
            Self::Ask(AskError::NoAnswer { .. }) => ReqExit::NoAnswer,
            Self::Ask(AskError::Refused { .. }) => ReqExit::Refused,
            Self::Ask(AskError::Unreachable { .. }) => ReqExit::Unreachable,
            // The handler's failure, and what fails on this side of the wire.
            Self::Ask(_) | Self::Print(_) => ReqExit::HandlerFailed,
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
        }
    }
}

pub(super) fn run(arguments: &ReqArguments) -> ReqExit {
    let result = ask(arguments).and_then(|reply| print(arguments, &reply));
    match result {
        Ok(()) => ReqExit::Reply,
        Err(error) => {
            output::complain(&error);
            error.exit_code()
        }
    }
}

fn ask(arguments: &ReqArguments) -> Result<Reply, ReqError> {
    let (endpoint, body) = match (&arguments.endpoint, arguments.words.as_slice()) {
        (Some(endpoint), files) => (endpoint.clone(), read_files(files)?),
        (None, []) => return Err(ReqError::NoEndpoint),
        (None, [endpoint]) => (spelled(endpoint)?, read_files(&[])?),
        (None, [endpoint, body]) if body == "-" => (spelled(endpoint)?, read_files(&[])?),
        (None, [endpoint, body]) => (spelled(endpoint)?, body.as_bytes().to_vec()),
        (None, _) => return Err(ReqError::TooManyWords),
    };
    let mut builder =
        Client::builder().endpoint(endpoint).timeout(arguments.timeout).tries(arguments.retries);
    if let Some(identity) = &arguments.identity {
        builder = builder.identity(identity.as_bytes());
    }
    let mut request = Request::new(body);
    if let Some(service) = &arguments.service {
        request = request.service(service);
    }
    builder.build().and_then(|mut client| client.request(request)).map_err(ReqError::Ask)
}

fn print(arguments: &ReqArguments, reply: &Reply) -> Result<(), ReqError> {
    let mut bytes = reply.bytes();
    if !arguments.raw {
        bytes.push(b'\n');
    }
    output::print(&bytes).map_err(ReqError::Print)
}

fn spelled(word: &OsStr) -> Result<String, ReqError> {
    word.to_str().map(ToOwned::to_owned).ok_or_else(|| ReqError::Endpoint(word.to_owned()))
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
