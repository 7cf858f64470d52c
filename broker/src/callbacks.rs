//! What a program with a handler of its own has called around its workers' lives.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::error;

/// A worker that is about to be, or to work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewWorker {
    /// Its stable number.
    pub slot: u32,
    /// How often that slot has been filled, this time included.
    pub incarnation: u32,
    /// How often the pool had been reloaded when it was asked for.
    pub generation: u32,
}

/// A worker that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedWorker {
    /// Its stable number.
    pub slot: u32,
    /// How often that slot had been filled, with it.
    pub incarnation: u32,
    /// How often the pool had been reloaded when it was asked for.
    pub generation: u32,
    /// The process it was. The number may soon be another's.
    pub pid: i32,
    /// How it ended: `exit code 0`, `signal SIGKILL`.
    pub reason: String,
}

/// A function that is called with what has happened.
pub(crate) type Callback<T> = Option<Box<dyn FnMut(&T)>>;

/// Those of one server. A panic in one is logged, and ends nothing but itself.
#[derive(Default)]
pub(crate) struct Callbacks {
    pub(crate) before_fork: Callback<NewWorker>,
    pub(crate) after_fork: Callback<NewWorker>,
    pub(crate) on_worker_exit: Callback<EndedWorker>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("before_fork", &self.before_fork.is_some())
            .field("after_fork", &self.after_fork.is_some())
            .field("on_worker_exit", &self.on_worker_exit.is_some())
            .finish()
    }
}

/// Calls it, if there is one. False if it panicked.
pub(crate) fn call<T>(name: &'static str, callback: &mut Callback<T>, argument: &T) -> bool {
    let Some(callback) = callback else { return true };
    let outcome = catch_unwind(AssertUnwindSafe(|| callback(argument)));
    if outcome.is_err() {
        error!(callback = name, "callback panicked");
    }
    outcome.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_nothing_but_its_call() {
        let mut callback: Callback<u32> = Some(Box::new(|number| assert_eq!(*number, 1, "on purpose")));
        assert!(!call("test", &mut callback, &2));
        assert!(call("test", &mut callback, &1));
        assert!(call("test", &mut None, &2));
    }
}
