//! How a program stops its own worker.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::OFlag;
use nix::unistd::{pipe2, write};

use crate::connection::Watch;

/// Stops a worker from elsewhere in its program: from another thread, or from a signal's handler.
///
/// The worker finishes the request that it has in hand, says goodbye, and its function returns
/// [`Stopped::ByProgram`](crate::Stopped::ByProgram). What it does not have yet goes to other workers.
///
/// ```no_run
/// use hornpipe_worker::{Settings, StopHandle, echo, serve};
///
/// let stop = StopHandle::new()?;
/// let settings = Settings { stop: Some(stop.clone()), ..Settings::new("tcp://127.0.0.1:6661") };
/// // Whoever learns that it is time, for example of SIGTERM, calls `stop.stop()`.
/// serve(&settings, echo, |_state| ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct StopHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    requested: AtomicBool,
    /// Readable for ever once it is requested.
    reading: OwnedFd,
    writing: OwnedFd,
}

impl StopHandle {
    /// A handle for one worker or for several of them.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new() -> io::Result<Self> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { shared: Arc::new(Shared { requested: AtomicBool::new(false), reading, writing }) })
    }

    /// Asks for the stop. Once is enough. Makes one system call and takes no lock, so the handler of a
    /// signal may do it.
    pub fn stop(&self) {
        if !self.shared.requested.swap(true, Ordering::SeqCst) {
            // There is room for one byte in a pipe that nobody else writes to.
            write(&self.shared.writing, &[0]).ok();
        }
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.shared.requested.load(Ordering::SeqCst)
    }

    #[cfg(feature = "async")]
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.shared.reading.try_clone()
    }

    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch::readable(self.shared.reading.as_fd())
    }
}
