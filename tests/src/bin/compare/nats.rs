//! The protocol of NATS, as far as requests to a queue group and their replies need it: lines of text,
//! and bodies behind the line that announces their size (its document "Client Protocol").

use std::io::Write as _;

use super::wire::{Heard, Inbox};
use crate::Result;

/// What this side says first: nothing is confirmed, and what it is told of itself is not.
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false}\r\n";

/// No line of control is longer.
const LINE: usize = 64 * 1024;

/// One word of the server's.
enum Word<'a> {
    Ping,
    Pong,
    Message {
        reply_to: &'a str,
        body: &'a [u8],
    },
    /// It says what it is, and so on.
    Other,
}

/// The first word and its length, if it is all there.
fn read(bytes: &[u8]) -> Result<Option<(usize, Word<'_>)>> {
    let window = bytes.get(..LINE).unwrap_or(bytes);
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE { Ok(None) } else { Err("nats-server sent a line without end".into()) };
    };
    let (line, rest) = bytes.split_at(end + 2);
    let line = std::str::from_utf8(line)?.trim_end();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (reply_to, size) = match words.as_slice() {
        ["PING"] => return Ok(Some((end + 2, Word::Ping))),
        ["PONG"] => return Ok(Some((end + 2, Word::Pong))),
        ["MSG", _subject, _number, size] => ("", size),
        ["MSG", _subject, _number, reply_to, size] => (*reply_to, size),
        ["-ERR", ..] => return Err(format!("nats-server says {line}").into()),
        _ => return Ok(Some((end + 2, Word::Other))),
    };
    let size: usize = size.parse()?;
    if rest.len() < size + 2 {
        return Ok(None);
    }
    let body = rest.get(..size).unwrap_or_default();
    Ok(Some((end + 2 + size + 2, Word::Message { reply_to, body })))
}

fn publish(out: &mut Vec<u8>, head: std::fmt::Arguments<'_>, body: &[u8]) -> Result<()> {
    write!(out, "PUB {head} {}\r\n", body.len())?;
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// What opens a connection: its own inbox.
pub(super) fn hello(connection: usize, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(CONNECT);
    Ok(write!(out, "SUB inbox.{connection} 1\r\n")?)
}

/// A request to one of the workers, to be answered to the connection's inbox.
pub(super) fn ask(connection: usize, body: &[u8], out: &mut Vec<u8>) -> Result<()> {
    publish(out, format_args!("echo inbox.{connection}"), body)
}

pub(super) fn hear(bytes: &[u8]) -> Result<Option<(usize, Heard<'_>)>> {
    Ok(read(bytes)?.map(|(size, word)| match word {
        Word::Message { body, .. } => (size, Heard::Reply(body)),
        Word::Ping => (size, Heard::Answer(b"PONG\r\n")),
        Word::Pong | Word::Other => (size, Heard::Nothing),
    }))
}

/// A worker: one of the queue group that gets every request once.
pub(super) fn worker(address: &str) -> Result<()> {
    let mut inbox = Inbox::connect(address)?;
    let mut out = [CONNECT, b"SUB echo workers 1\r\nPING\r\n"].concat();
    inbox.send(&mut out)?;
    loop {
        // What came together is answered together.
        while let Some((size, word)) = read(inbox.bytes())? {
            match word {
                Word::Message { reply_to, body } => publish(&mut out, format_args!("{reply_to}"), body)?,
                Word::Ping => out.extend_from_slice(b"PONG\r\n"),
                // The server has read what stood before the PING.
                Word::Pong => crate::say_ready()?,
                Word::Other => (),
            }
            inbox.take(size);
        }
        inbox.send(&mut out)?;
        inbox.fill()?;
    }
}
