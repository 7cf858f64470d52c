//! The way to locks: taking, extending, releasing, asking about them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, Claim, Inspected};
use crate::builder::Builder;
use crate::clock::{Clock, Timestamp};
use crate::doctor::{Examined, Finding, advise};
use crate::error::{LockError, SetupError};
use crate::guard::RestartGuard;
use crate::held::Held;
use crate::retry::{self, Retry};
use crate::scripts;
use crate::validity::{DriftFactor, validity};

/// What a resource's name may have, in bytes.
const NAME_LIMIT: usize = 255;

/// A way to locks. Clones share its connections.
///
/// Connections and threads begin with the first question, so that a program may fork
/// before; a fork that uses an inherited locker has connections of its own.
#[derive(Debug, Clone)]
pub struct Locker(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retry: Retry,
    pub(crate) drift: DriftFactor,
    pub(crate) guard: RestartGuard,
    pub(crate) longest_ttl: Duration,
    /// Whether anything relies on there being no longer one.
    pub(crate) is_ttl_limited: bool,
    /// What each value begins with.
    pub(crate) label: String,
}

/// What is different about one call.
#[derive(Debug, Clone, Default)]
pub struct LockOptions {
    /// Instead of the locker's own.
    pub retry: Option<Retry>,
    /// What the servers are to know the holder by, instead of a random value. Whoever has
    /// the same counts as the same holder.
    pub value: Option<String>,
}

/// What came of one try.
#[derive(Debug)]
pub enum Attempt {
    /// It is held.
    Held(Held),
    /// Not yet. The next try is due in so long.
    Wait {
        /// How long to wait.
        time: Duration,
        /// Why it was not to be had.
        why: LockError,
    },
    /// It is given up.
    Failed(LockError),
}

/// Tries for one lock, for whoever has to wait for other things as well.
#[derive(Debug)]
pub struct Attempts<'a> {
    locker: &'a Locker,
    resource: String,
    value: Option<String>,
    ttl: Duration,
    retry: Retry,
    tries: u32,
    contentions: u32,
    began: Option<Timestamp>,
}

impl Locker {
    /// A locker on Redis servers, each independent of the others: a majority decides. An
    /// URL is `redis://USER:PASSWORD@HOST:PORT/DATABASE`, `rediss://` for TLS (feature
    /// `tls`), or `unix:/PATH?db=N&user=NAME&pass=WORD`.
    ///
    /// # Errors
    /// If one is no URL, or two are the same.
    pub fn redis(urls: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, SetupError> {
        Self::builder().redis(urls).build()
    }

    /// A locker on files of a folder of this machine. It is made if it is not there.
    pub fn files(folder: impl Into<std::path::PathBuf>) -> Self {
        Self(Arc::new(Builder::default().files(folder).into_local()))
    }

    /// A locker that keeps locks in its memory, for tests: its clones share them.
    pub fn memory() -> Self {
        Self(Arc::new(Builder::default().memory().into_local()))
    }

    /// A locker that grants nothing, for tests.
    pub fn deny() -> Self {
        Self(Arc::new(Builder::default().deny().into_local()))
    }

    /// A locker that differs from the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn of(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// One try; more only while several ask at the same moment and nobody has a majority.
    ///
    /// # Errors
    /// If it is not to be had, see [`LockError`].
    pub fn try_lock(&self, resource: &str, ttl: Duration) -> Result<Held, LockError> {
        self.lock_with(resource, ttl, LockOptions { retry: Some(Retry::never()), value: None })
    }

    /// As many tries as the locker's [`Retry`] says, waiting in between.
    ///
    /// # Errors
    /// If it is not to be had, see [`LockError`]: what came of the last try.
    pub fn lock(&self, resource: &str, ttl: Duration) -> Result<Held, LockError> {
        self.lock_with(resource, ttl, LockOptions::default())
    }

    /// The same with options of its own.
    ///
    /// # Errors
    /// As [`Locker::lock`].
    pub fn lock_with(&self, resource: &str, ttl: Duration, options: LockOptions) -> Result<Held, LockError> {
        let mut attempts = self.attempts(resource, ttl, options);
        loop {
            match attempts.attempt() {
                Attempt::Held(held) => return Ok(held),
                Attempt::Wait { time, .. } => self.0.clock.pause(time),
                Attempt::Failed(error) => return Err(error),
            }
        }
    }

    /// The tries of [`Locker::lock_with`] one by one.
    pub fn attempts(&self, resource: &str, ttl: Duration, options: LockOptions) -> Attempts<'_> {
        Attempts {
            locker: self,
            resource: resource.to_owned(),
            value: options.value,
            ttl,
            retry: options.retry.unwrap_or_else(|| self.0.retry.clone()),
            tries: 0,
            contentions: 0,
            began: None,
        }
    }

    /// A lock that is released when the guard is dropped, also by a panic.
    ///
    /// # Errors
    /// As [`Locker::lock`].
    pub fn guard(&self, resource: &str, ttl: Duration) -> Result<Guard, LockError> {
        let held = self.lock(resource, ttl)?;
        Ok(Guard { locker: self.clone(), held })
    }

    /// Does the work while the lock is held, and releases it, also if the work panics. The
    /// work is not done if there is no lock. It is not extended: see
    /// [`Locker::with_renewed_lock`].
    ///
    /// # Errors
    /// As [`Locker::lock`].
    pub fn with_lock<T>(
        &self,
        resource: &str,
        ttl: Duration,
        work: impl FnOnce(&Held) -> T,
    ) -> Result<T, LockError> {
        let guard = self.guard(resource, ttl)?;
        Ok(work(&guard.held))
    }

    /// Holds it for so long from this moment, if it is held still, under the same token.
    /// What is held stays held if that fails.
    ///
    /// # Errors
    /// [`LockError::Expired`] if it is not held any more.
    pub fn extend(&self, held: &Held, ttl: Duration) -> Result<Held, LockError> {
        // Whoever reads `until` has stopped by now, and must not be made to go on.
        if self.0.clock.now() >= held.until {
            return Err(LockError::Expired { resource: held.resource.clone() });
        }
        self.check(&held.resource, ttl)?;
        let claim = Claim { resource: &held.resource, value: &held.value, ttl };
        let lease = self.0.backend.extend(claim)?;
        Ok(Held { ttl, validity: lease.validity, until: lease.until, ..held.clone() })
    }

    /// The same, and if it is not held any more it is taken, where it is free: with the same
    /// value and under a new token, because others may have had it meanwhile.
    ///
    /// # Errors
    /// [`LockError::Busy`] if somebody else has it by now; other kinds as for any lock.
    pub fn extend_or_take(&self, held: &Held, ttl: Duration) -> Result<Held, LockError> {
        match self.extend(held, ttl) {
            Err(LockError::Expired { .. }) => {
                let options = LockOptions { retry: Some(Retry::never()), value: Some(held.value.clone()) };
                self.lock_with(&held.resource, ttl, options)
            }
            result => result,
        }
    }

    /// Releases it. No error if it is not held any more.
    ///
    /// # Errors
    /// If too few servers confirm it. It then ends with its time to live, at the latest.
    pub fn unlock(&self, held: &Held) -> Result<(), LockError> {
        self.0.backend.release(&held.resource, &held.value)
    }

    /// Takes a lock away from whoever holds it. The holder is not told.
    ///
    /// # Errors
    /// If too few servers confirm it, or it is a file that a living process holds.
    pub fn force_unlock(&self, resource: &str) -> Result<(), LockError> {
        check_name(resource)?;
        self.0.backend.free(resource)
    }

    /// How long a majority of servers has this locked, by whomever; `None` if it is free.
    /// `Duration::MAX` if it has no end by itself, as a locked file.
    ///
    /// # Errors
    /// If too few servers answer.
    pub fn remaining_life(&self, resource: &str) -> Result<Option<Duration>, LockError> {
        check_name(resource)?;
        self.0.backend.life(resource, None)
    }

    /// How long a majority of servers has this lock; `None` if it is not held any more.
    ///
    /// # Errors
    /// If too few servers answer.
    pub fn remaining_life_of(&self, held: &Held) -> Result<Option<Duration>, LockError> {
        self.0.backend.life(&held.resource, Some(&held.value))
    }

    /// Whether somebody holds it.
    ///
    /// # Errors
    /// If too few servers answer.
    pub fn is_locked(&self, resource: &str) -> Result<bool, LockError> {
        self.remaining_life(resource).map(|life| life.is_some())
    }

    /// Whether a majority of servers has this lock. [`Locker::left`] asks nobody.
    ///
    /// # Errors
    /// If too few servers answer.
    pub fn is_valid(&self, held: &Held) -> Result<bool, LockError> {
        self.remaining_life_of(held).map(|life| life.is_some())
    }

    /// How long this lock may be relied on from now, by the clock alone; zero if no longer.
    pub fn left(&self, held: &Held) -> Duration {
        held.until.since(self.0.clock.now())
    }

    /// How each server has a resource, by the server's name.
    ///
    /// # Errors
    /// If the name is none.
    pub fn inspect(&self, resource: &str) -> Result<Vec<Inspected>, LockError> {
        check_name(resource)?;
        Ok(self.0.backend.look(resource))
    }

    /// What each server says of itself. None where there are no servers.
    pub fn examine(&self) -> Vec<Examined> {
        self.0.backend.examine()
    }

    /// What is to be said about these servers, as this locker uses them.
    pub fn advise(&self, servers: &[Examined]) -> Vec<Finding> {
        advise(servers, self.0.guard, self.0.longest_ttl)
    }

    /// Where the locks are, without passwords.
    pub fn place(&self) -> String {
        self.0.backend.describe()
    }

    /// What time it is, on the clock of [`Held::until`].
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn check(&self, resource: &str, ttl: Duration) -> Result<(), LockError> {
        check_name(resource)?;
        // Servers count milliseconds, and what is less than one is no time for them.
        if ttl.as_millis() == 0 || validity(ttl, Duration::ZERO, self.0.drift).is_none() {
            return Err(LockError::TtlTooShort { ttl });
        }
        if self.0.is_ttl_limited && ttl > self.0.longest_ttl {
            return Err(LockError::TtlTooLong { ttl, longest: self.0.longest_ttl });
        }
        Ok(())
    }

    fn value(&self) -> Result<String, LockError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_none| LockError::Randomness)?;
        let mut value = self.0.label.clone();
        for byte in bytes {
            // Writing to a string cannot fail.
            write!(value, "{byte:02x}").ok();
        }
        Ok(value)
    }
}

impl Attempts<'_> {
    /// One try.
    pub fn attempt(&mut self) -> Attempt {
        let began = *self.began.get_or_insert_with(|| self.locker.now());
        let error = match self.take() {
            Ok(held) => return Attempt::Held(held),
            Err(error) => error,
        };
        if matches!(error, LockError::Contended { .. }) {
            // A draw is decided at once, and is no try: somebody shall have it.
            self.contentions += 1;
            if let Some(time) = retry::after_contention(self.contentions, chance()) {
                return Attempt::Wait { time, why: error };
            }
        }
        self.tries = self.tries.saturating_add(1);
        let free_in = match error {
            LockError::Busy { free_in, .. } => free_in,
            LockError::Contended { .. } | LockError::NoQuorum { .. } | LockError::Expired { .. } => None,
            _ => return Attempt::Failed(error),
        };
        let elapsed = self.locker.now().since(began);
        match self.retry.pause(self.tries, elapsed, free_in, chance()) {
            Some(time) => Attempt::Wait { time, why: error },
            None => Attempt::Failed(error),
        }
    }

    fn take(&self) -> Result<Held, LockError> {
        self.locker.check(&self.resource, self.ttl)?;
        let value = match &self.value {
            Some(value) if value.is_empty() || value.contains(['\n', ' ']) => {
                let why = "its holder's value is empty, or has a space or line break in it";
                return Err(LockError::Name { resource: self.resource.clone(), why });
            }
            Some(value) => value.clone(),
            None => self.locker.value()?,
        };
        let claim = Claim { resource: &self.resource, value: &value, ttl: self.ttl };
        let (lease, token) = self.locker.0.backend.take(claim)?;
        Ok(Held {
            resource: self.resource.clone(),
            value,
            token,
            validity: lease.validity,
            until: lease.until,
            ttl: self.ttl,
        })
    }
}

/// A lock that is released when this is dropped.
#[derive(Debug)]
pub struct Guard {
    locker: Locker,
    held: Held,
}

impl Guard {
    /// What is held.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Holds it for so long from this moment, if it is held still.
    ///
    /// # Errors
    /// As [`Locker::extend`].
    pub fn extend(&mut self, ttl: Duration) -> Result<(), LockError> {
        self.held = self.locker.extend(&self.held, ttl)?;
        Ok(())
    }

    /// Releases it, and tells if that fails.
    ///
    /// # Errors
    /// As [`Locker::unlock`].
    pub fn unlock(self) -> Result<(), LockError> {
        self.locker.unlock(&self.held)
        // Dropping it asks once more, which does nothing.
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It ends with its time to live.
        self.locker.unlock(&self.held).ok();
    }
}

fn check_name(resource: &str) -> Result<(), LockError> {
    let why = match resource {
        "" => "it has no name",
        name if name.len() > NAME_LIMIT => "its name is longer than 255 bytes",
        name if name.ends_with(scripts::FENCE) => "a name that ends in :fence is where tokens are kept",
        name if name.contains('\0') => "its name has a NUL in it",
        _ => return Ok(()),
    };
    Err(LockError::Name { resource: resource.to_owned(), why })
}

/// At least 0, less than 1. Nothing depends on its being hard to guess, or on there being any.
fn chance() -> f64 {
    let number = getrandom::u32().unwrap_or(0);
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}
