//! A worker that does as it is told, for trying out a broker: well, badly, or not at all.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use crate::serve::{self, Work};
use crate::session::Session;
use crate::{Context, Failure, Handler, Job, Reply, ServeError, Settings, State, Stopped, ffi};

/// What the demo worker understands: one verb in the body of each request.
pub const DEMO_VERBS: &str = "\
echo TEXT    replies TEXT
upper TEXT   replies TEXT in capitals
pid          replies the worker's process id
sleep MS     replies after so many milliseconds, or when cancelled
fail TEXT    fails with TEXT
exit N       ends the worker at once with exit code N
kill9        the worker kills itself with SIGKILL
stop         the worker stops itself with SIGSTOP
alloc MIB    allocates so many MiB and keeps them
junk         sends a malformed message in place of a reply
twice TEXT   replies TEXT two times
parts N MS   replies in N parts and an end, so many milliseconds between them
count FILE   appends a line to FILE and replies how many it has";

/// Serves the verbs of [`DEMO_VERBS`] until the broker says stop.
///
/// # Errors
/// As for [`crate::serve`].
pub fn demo(settings: &Settings, observer: impl FnMut(State)) -> Result<Stopped, ServeError> {
    serve::run(&mut Session::open(settings)?, &mut Demo::default(), observer)
}

#[derive(Debug, Default)]
struct Demo {
    kept: Vec<Vec<u8>>,
}

impl Work for Demo {
    fn perform(&mut self, session: &mut Session, job: &Job) -> Result<(), ServeError> {
        let body = job.body();
        match split(&body) {
            (b"junk", _) => session.put_down([b"rubbish".to_vec()]),
            (b"twice", text) => {
                session.reply(job, Ok(text.into()))?;
                session.reply(job, Ok(text.into()))
            }
            _ => {
                let outcome = serve::attempt(self, job, session)?;
                session.reply(job, outcome)
            }
        }
    }
}

impl Handler for Demo {
    fn handle(&mut self, job: &Job, context: &mut Context<'_>) -> Result<Reply, Failure> {
        let body = job.body();
        let (verb, text) = split(&body);
        match verb {
            b"echo" => Ok(text.into()),
            b"upper" => Ok(text.to_ascii_uppercase().into()),
            b"pid" => Ok(getpid().to_string().into()),
            b"sleep" => sleep(number(text)?, context),
            b"fail" => Err(String::from_utf8_lossy(text).into_owned().into()),
            b"exit" => ffi::exit_at_once(number(text)?),
            b"kill9" => raise(Signal::SIGKILL),
            b"stop" => raise(Signal::SIGSTOP),
            b"alloc" => self.allocate(number(text)?),
            b"parts" => parts(text, context),
            b"count" => count(text),
            _ => Err(Failure::new(format!("no such verb; there are:\n{DEMO_VERBS}"))),
        }
    }
}

impl Demo {
    fn allocate(&mut self, mib: usize) -> Result<Reply, Failure> {
        let size = mib.checked_mul(1024 * 1024).ok_or("no machine has so much memory")?;
        // Written to, because untouched pages would cost nothing.
        self.kept.push(vec![1; size]);
        Ok(format!("allocated {mib} MiB").into())
    }
}

fn split(body: &[u8]) -> (&[u8], &[u8]) {
    let length = body.iter().position(|byte| *byte == b' ').unwrap_or(body.len());
    let (verb, rest) = body.split_at(length);
    (verb, rest.strip_prefix(b" ").unwrap_or(rest))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T, Failure> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| Failure::new("a number is expected"))
}

fn sleep(milliseconds: u64, context: &mut Context<'_>) -> Result<Reply, Failure> {
    if context.wait(Duration::from_millis(milliseconds)) {
        return Err("cancelled".into());
    }
    Ok(format!("slept {milliseconds}").into())
}

fn parts(text: &[u8], context: &mut Context<'_>) -> Result<Reply, Failure> {
    let (count, pause) = split(text);
    let (count, pause): (u64, _) = (number(count)?, Duration::from_millis(number(pause)?));
    for part in 1..=count {
        context.send_part(format!("part {part}"))?;
        if context.wait(pause) {
            return Err("cancelled".into());
        }
    }
    Ok(format!("{count} parts").into())
}

fn raise(signal: Signal) -> Result<Reply, Failure> {
    kill(getpid(), signal).map_err(|error| error.to_string())?;
    // Only a stopped process gets here, when somebody lets it go on.
    Ok("continued".into())
}

fn count(file: &[u8]) -> Result<Reply, Failure> {
    let file = std::str::from_utf8(file).map_err(|error| error.to_string())?;
    let append = |file| OpenOptions::new().create(true).append(true).open(file)?.write_all(b"x\n");
    append(file).map_err(|error| error.to_string())?;
    let lines = fs::read_to_string(file).map_err(|error| error.to_string())?;
    Ok(lines.lines().count().to_string().into())
}
