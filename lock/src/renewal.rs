//! A lock that is extended again and again while somebody works, by a thread.
#![expect(clippy::disallowed_methods, reason = "this file is the door of the thread that renews")]

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::LockError;
use crate::held::Held;
use crate::locker::{LockOptions, Locker};

/// Who is told that a lock is renewed no more.
pub type Told = Box<dyn FnOnce(&Ended) + Send>;

/// What is renewed for how long, and who is told when it ends.
#[derive(Default)]
pub struct RenewOptions {
    /// It is renewed no more once it was renewed for so long; `None` for no such limit.
    pub limit: Option<Duration>,
    /// Called once, by the thread that renews, when it renews no more and was not told to
    /// stop. Until [`Renewal::until`] the lock may be relied on, except after
    /// [`Ended::Lost`].
    pub on_end: Option<Told>,
}

impl RenewOptions {
    /// Renewed no longer than this.
    pub fn limited(limit: Duration) -> Self {
        Self { limit: Some(limit), on_end: None }
    }

    /// With somebody to be told.
    #[must_use]
    pub fn on_end(mut self, told: impl FnOnce(&Ended) + Send + 'static) -> Self {
        self.on_end = Some(Box::new(told));
        self
    }
}

impl fmt::Debug for RenewOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenewOptions").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Why a lock is renewed no more.
#[derive(Debug)]
pub enum Ended {
    /// The limit was reached. It runs out at [`Renewal::until`].
    Limit,
    /// A majority of servers does not have it: somebody else may hold it by now.
    Lost,
    /// It ran out before enough servers could be reached.
    Unreachable(LockError),
}

/// A lock that a thread keeps. Dropping it releases the lock.
#[derive(Debug)]
pub struct Renewal {
    locker: Locker,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    held: Held,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Renewing,
    /// The thread is to end.
    Stopping,
    /// It has ended, and the lock runs out.
    Ended,
    /// The same, and it is lost already.
    Lost,
}

impl Locker {
    /// Keeps a lock by renewing it at each third of its time to live.
    ///
    /// # Errors
    /// If the system has no room for a thread. The lock is released then.
    pub fn renew(&self, held: Held, options: RenewOptions) -> Result<Renewal, std::io::Error> {
        let state = Mutex::new(State { held, phase: Phase::Renewing });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let mut renewal = Renewal { locker: self.clone(), shared: Arc::clone(&shared), thread: None };
        let locker = self.clone();
        let run = move || keep(&locker, &shared, options);
        renewal.thread = Some(thread::Builder::new().name("lock renewal".to_owned()).spawn(run)?);
        Ok(renewal)
    }

    /// Does the work while the lock is held and renewed, and releases it, also if the work
    /// panics. Long work looks at [`Renewal::left`] now and then, and stops when it is zero.
    ///
    /// # Errors
    /// As [`Locker::lock`].
    pub fn with_renewed_lock<T>(
        &self,
        resource: &str,
        ttl: Duration,
        options: RenewOptions,
        work: impl FnOnce(&Renewal) -> T,
    ) -> Result<T, LockError> {
        let held = self.lock_with(resource, ttl, LockOptions::default())?;
        let renewal = self.renew(held, options).map_err(|source| LockError::Thread { source })?;
        Ok(work(&renewal))
    }
}

impl Renewal {
    /// What is held, as it was renewed last.
    pub fn held(&self) -> Held {
        self.shared.state().held.clone()
    }

    /// Until when it may be relied on, as far as is known now.
    pub fn until(&self) -> Timestamp {
        self.shared.state().held.until
    }

    /// How long it may be relied on; zero if it has run out or is lost.
    pub fn left(&self) -> Duration {
        let state = self.shared.state();
        if state.phase == Phase::Lost { Duration::ZERO } else { self.locker.left(&state.held) }
    }

    /// Stops renewing and releases it.
    ///
    /// # Errors
    /// As [`Locker::unlock`].
    pub fn unlock(mut self) -> Result<(), LockError> {
        self.stop();
        self.locker.unlock(&self.held())
    }

    /// Afterwards nothing extends it any more.
    fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        {
            let mut state = self.shared.state();
            if state.phase == Phase::Renewing {
                state.phase = Phase::Stopping;
            }
        }
        self.shared.changed.notify_all();
        // It has nothing to say beyond what is in the state.
        thread.join().ok();
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.stop();
        // It ends with its time to live.
        self.locker.unlock(&self.held()).ok();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long; false if it was told to stop meanwhile.
    fn wait(&self, time: Duration) -> bool {
        let is_renewing = |state: &mut State| state.phase == Phase::Renewing;
        let waited = self.changed.wait_timeout_while(self.state(), time, is_renewing);
        let (state, _time) = waited.unwrap_or_else(PoisonError::into_inner);
        state.phase == Phase::Renewing
    }
}

fn keep(locker: &Locker, shared: &Shared, mut options: RenewOptions) {
    let began = locker.now();
    let mut pause = interval(shared.state().held.ttl);
    let mut latest_error = None;
    while shared.wait(pause) {
        let held = shared.state().held.clone();
        if options.limit.is_some_and(|limit| locker.now().since(began) >= limit) {
            return end(shared, Phase::Ended, &Ended::Limit, &mut options);
        }
        match locker.extend(&held, held.ttl) {
            Ok(renewed) => {
                pause = interval(renewed.ttl);
                latest_error = None;
                shared.state().held = renewed;
            }
            Err(LockError::Expired { .. }) => {
                // Unless the servers say so, it has run out while they could not be reached.
                let ended = latest_error.map_or(Ended::Lost, Ended::Unreachable);
                return end(shared, Phase::Lost, &ended, &mut options);
            }
            Err(error) => {
                latest_error = Some(error);
                pause = soon(held.ttl).min(locker.left(&held));
            }
        }
        pause =
            options.limit.map_or(pause, |limit| pause.min(limit.saturating_sub(locker.now().since(began))));
    }
}

fn end(shared: &Shared, phase: Phase, ended: &Ended, options: &mut RenewOptions) {
    {
        let mut state = shared.state();
        if state.phase == Phase::Stopping {
            return;
        }
        state.phase = phase;
    }
    if let Some(told) = options.on_end.take() {
        told(ended);
    }
}

/// Two may fail before it runs out.
fn interval(ttl: Duration) -> Duration {
    ttl / 3
}

/// After one that failed.
fn soon(ttl: Duration) -> Duration {
    (ttl / 20).max(Duration::from_millis(10))
}
