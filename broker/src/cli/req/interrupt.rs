//! Ctrl-C takes a request back. Twice, it ends the program as ever.
#![expect(
    clippy::disallowed_methods,
    reason = "this process neither forks nor routes, and waits for two things at once"
)]

use std::io;

use hornpipe_client::Canceller;
use nix::sys::signal::{SigSet, Signal};

/// The signals that mean this, kept from their usual effect.
pub(super) struct Signals(SigSet);

impl Signals {
    /// Keeps them from this thread and from those that it will start.
    ///
    /// # Errors
    /// None that the kernel documents.
    pub(super) fn block() -> io::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        signals.thread_block()?;
        Ok(Self(signals))
    }

    /// Takes the request back when the first of them comes, from a thread that waits for it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn cancel(self, canceller: Canceller) -> io::Result<()> {
        let wait = move || {
            if self.0.wait().is_ok() {
                canceller.cancel();
            }
            // The second one finds a thread that it may end the process by.
            self.0.thread_unblock().ok();
            std::thread::park();
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(|_thread| ())
    }
}
