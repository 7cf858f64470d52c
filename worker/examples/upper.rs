//! A worker that replies in capitals. Its argument is the broker's endpoint for workers.

use hornpipe_worker::{Context, Failure, Job, ServeError, Settings, serve};

fn upper(job: &Job, _context: &mut Context<'_>) -> Result<String, Failure> {
    let body = job.body();
    let text = std::str::from_utf8(&body).map_err(|error| error.to_string())?;
    Ok(text.to_uppercase())
}

fn main() -> Result<(), ServeError> {
    let backend = std::env::args().nth(1).unwrap_or_else(|| "tcp://127.0.0.1:6661".to_owned());
    serve(&Settings::new(backend), upper, |_state| ())?;
    Ok(())
}
