//! What a program does with its requests.

use crate::{Context, Failure, Job, Reply};

/// What a program does with its requests. Closures and functions of the same
/// shape are handlers too, with anything that becomes a [`Reply`].
pub trait Handler {
    /// Runs one request.
    ///
    /// A panic is told to the client as an error, and the handler is called
    /// again for the next request: it must bear being left in the middle.
    ///
    /// # Errors
    /// The [`Failure`] is what the client gets instead of a reply.
    fn handle(&mut self, job: &Job, context: &mut Context<'_>) -> Result<Reply, Failure>;
}

impl<F, R> Handler for F
where
    F: FnMut(&Job, &mut Context<'_>) -> Result<R, Failure>,
    R: Into<Reply>,
{
    fn handle(&mut self, job: &Job, context: &mut Context<'_>) -> Result<Reply, Failure> {
        self(job, context).map(Into::into)
    }
}

/// The handler that replies with what it got, frame for frame.
///
/// # Errors
/// None.
pub fn echo(job: &Job, _context: &mut Context<'_>) -> Result<Reply, Failure> {
    Ok(job.frames().to_vec().into())
}
