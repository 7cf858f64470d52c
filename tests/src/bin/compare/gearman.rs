//! gearmand's protocol, as far as clients and workers of one function need it: packets of a head of
//! 12 bytes and arguments between NULs (its document PROTOCOL). All jobs are of the function `echo`.

use super::wire::{Heard, Inbox};
use crate::Result;

const HEAD: usize = 12;

const CAN_DO: u32 = 1;
const PRE_SLEEP: u32 = 4;
const NOOP: u32 = 6;
const SUBMIT_JOB: u32 = 7;
const JOB_CREATED: u32 = 8;
const GRAB_JOB: u32 = 9;
const NO_JOB: u32 = 10;
const JOB_ASSIGN: u32 = 11;
const WORK_COMPLETE: u32 = 13;

/// One packet of the server's: of which kind, its arguments, and how long it was.
type Packet<'a> = (u32, &'a [u8], usize);

fn write(out: &mut Vec<u8>, kind: u32, arguments: &[&[u8]]) {
    let arguments = arguments.join(&0);
    out.extend_from_slice(b"\0REQ");
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u32::try_from(arguments.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&arguments);
}

/// The first packet, if it is all there.
fn read(bytes: &[u8]) -> Result<Option<Packet<'_>>> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
    let (b"\0RES", numbers) = head.split_at(4) else {
        return Err("gearmand sent what is no packet".into());
    };
    let (kind, size) = numbers.split_at(4);
    let size = usize::try_from(u32::from_be_bytes(size.try_into()?))?;
    let kind = u32::from_be_bytes(kind.try_into()?);
    Ok(rest.get(..size).map(|arguments| (kind, arguments, HEAD + size)))
}

/// A job, which the server runs once and whose end it tells.
pub(super) fn ask(body: &[u8], out: &mut Vec<u8>) {
    write(out, SUBMIT_JOB, &[b"echo", b"", body]);
}

pub(super) fn hear(bytes: &[u8]) -> Result<Option<(usize, Heard<'_>)>> {
    let Some((kind, arguments, size)) = read(bytes)? else { return Ok(None) };
    match kind {
        JOB_CREATED => Ok(Some((size, Heard::Nothing))),
        WORK_COMPLETE => {
            let handle = arguments.iter().position(|byte| *byte == 0).ok_or("a reply without a handle")?;
            Ok(Some((size, Heard::Reply(arguments.get(handle + 1..).unwrap_or_default()))))
        }
        other => Err(format!("gearmand sent a packet of kind {other} to a client").into()),
    }
}

/// A worker: it asks for a job, and sleeps when there is none until it is woken.
pub(super) fn worker(address: &str) -> Result<()> {
    let mut inbox = Inbox::connect(address)?;
    let mut out = Vec::new();
    write(&mut out, CAN_DO, &[b"echo"]);
    write(&mut out, GRAB_JOB, &[]);
    inbox.send(&mut out)?;
    crate::say_ready()?;
    loop {
        let Some((kind, arguments, size)) = read(inbox.bytes())? else {
            inbox.fill()?;
            continue;
        };
        match kind {
            NO_JOB => write(&mut out, PRE_SLEEP, &[]),
            NOOP => write(&mut out, GRAB_JOB, &[]),
            JOB_ASSIGN => {
                let mut parts = arguments.splitn(3, |byte| *byte == 0);
                let (handle, body) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
                write(&mut out, WORK_COMPLETE, &[handle, body]);
                write(&mut out, GRAB_JOB, &[]);
            }
            other => return Err(format!("gearmand sent a packet of kind {other} to a worker").into()),
        }
        inbox.take(size);
        inbox.send(&mut out)?;
    }
}
