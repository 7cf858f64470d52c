//! A worker that runs anywhere, for a broker on this or another machine: copy it and change `shout`.
//!
//! `remote tcp://BROKER:6661 [SERVICE]`. It works until the broker tells it to stop, or SIGTERM or Ctrl-C do: then it
//! finishes what it has in hand. If the broker goes away it waits for the next one. A broker that is to take
//! workers from other machines says so with `--insecure` and a backend like `0.0.0.0:6661`.

use hornpipe_worker::{Context, Failure, Job, Settings, StopHandle, serve};
use nix::sys::signal::{SigSet, Signal};

/// What the worker does with one request.
fn shout(job: &Job, context: &mut Context<'_>) -> Result<String, Failure> {
    let body = job.body();
    let text = std::str::from_utf8(&body).map_err(|_error| Failure::new("the body is not UTF-8"))?;
    // Long work asks now and then whether anybody still waits.
    if context.cancelled() {
        return Err("cancelled".into());
    }
    Ok(format!("{} (attempt {})", text.to_uppercase(), job.attempt()))
}

#[expect(clippy::disallowed_methods, reason = "a thread is the simplest way to wait for signals")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let backend = arguments.next().unwrap_or_else(|| "tcp://127.0.0.1:6661".to_owned());
    let stop = StopHandle::new()?;
    let settings = Settings { service: arguments.next(), stop: Some(stop.clone()), ..Settings::new(backend) };

    // Blocked for all threads, and waited for by one.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            stop.stop();
        }
    });

    serve(&settings, shout, |_state| ())?;
    Ok(())
}
