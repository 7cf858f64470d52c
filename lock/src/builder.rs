//! What a locker is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::backend::Backend;
use crate::clock::{BootClock, Clock};
use crate::error::{MOST_SERVERS, SetupError};
use crate::files::Files;
use crate::guard::RestartGuard;
use crate::locker::{Inner, Locker};
use crate::majority::Majority;
use crate::memory::{Deny, Memory};
use crate::retry::Retry;
use crate::server::Manner;
use crate::validity::{DRIFT_FACTOR, DriftFactor};

/// A server of the same network answers in less than a millisecond.
const SERVER_TIMEOUT: Duration = Duration::from_millis(100);

/// A new connection takes several round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// For how long restarted servers wait unless somebody says otherwise.
const LONGEST_TTL: Duration = Duration::from_mins(1);

/// Makes a [`Locker`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    place: Place,
    server_timeout: Duration,
    connect_timeout: Duration,
    retry: Retry,
    drift_factor: f64,
    guard: RestartGuard,
    longest_ttl: Duration,
    label: String,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone)]
enum Place {
    Redis(Vec<String>),
    Files(PathBuf),
    Memory,
    Deny,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            place: Place::Redis(Vec::new()),
            server_timeout: SERVER_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            retry: Retry::default(),
            drift_factor: 0.01,
            guard: RestartGuard::default(),
            longest_ttl: LONGEST_TTL,
            label: String::new(),
            clock: Arc::new(BootClock),
        }
    }
}

impl Builder {
    /// On these servers, see [`Locker::redis`]. Everybody must name the same ones.
    pub fn redis(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.place = Place::Redis(urls.into_iter().map(Into::into).collect());
        self
    }

    /// On files of a folder, see [`Locker::files`].
    pub fn files(mut self, folder: impl Into<PathBuf>) -> Self {
        self.place = Place::Files(folder.into());
        self
    }

    /// In memory, see [`Locker::memory`].
    pub fn memory(mut self) -> Self {
        self.place = Place::Memory;
        self
    }

    /// Nowhere, see [`Locker::deny`].
    pub fn deny(mut self) -> Self {
        self.place = Place::Deny;
        self
    }

    /// Where a text says: URLs with commas between them, `file:FOLDER`, `memory:` or `deny:`.
    ///
    /// # Errors
    /// If it says nothing.
    pub fn place(self, text: &str) -> Result<Self, SetupError> {
        match text.split_once(':') {
            Some(("file", folder)) if !folder.is_empty() => Ok(self.files(folder)),
            Some(("memory", "")) => Ok(self.memory()),
            Some(("deny", "")) => Ok(self.deny()),
            Some(("file" | "memory" | "deny", _)) | None => Err(SetupError::Place { text: text.to_owned() }),
            Some(_) => {
                let urls = text.split([',', ' ', '\n']).map(str::trim).filter(|url| !url.is_empty());
                Ok(self.redis(urls))
            }
        }
    }

    /// How long a server may take for an answer: 100 ms unless said. Small beside the time
    /// to live.
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.server_timeout = timeout;
        self
    }

    /// How long a connection may take to come about, beside that: 500 ms unless said.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often and how fast to ask again; 3 times after 200 to 250 ms unless said.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How much servers' clocks may differ in speed, as a share; 0.01 unless said.
    pub fn drift_factor(mut self, factor: f64) -> Self {
        self.drift_factor = factor;
        self
    }

    /// Whether restarted servers wait; they do unless said.
    pub fn restart_guard(mut self, guard: RestartGuard) -> Self {
        self.guard = guard;
        self
    }

    /// The longest time to live of any lock on these servers, of whatever program: 60 s
    /// unless said. Longer ones are refused while the restart guard is on.
    pub fn longest_ttl(mut self, ttl: Duration) -> Self {
        self.longest_ttl = ttl;
        self
    }

    /// What each holder's value begins with, for people who look at the servers. A random
    /// part follows. Spaces and line breaks become dashes.
    pub fn label(mut self, label: &str) -> Self {
        self.label = label.chars().map(|letter| if letter.is_whitespace() { '-' } else { letter }).collect();
        self
    }

    /// Another clock, for tests of time.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes it. No server is asked yet, so none needs to be up.
    ///
    /// # Errors
    /// If something said cannot be meant.
    pub fn build(self) -> Result<Locker, SetupError> {
        let drift = DriftFactor::new(self.drift_factor)
            .ok_or(SetupError::DriftFactor { factor: self.drift_factor })?;
        let Place::Redis(urls) = &self.place else { return Ok(Locker::of(self.into_local())) };
        let addresses = addresses(urls)?;
        let manner = Manner {
            server_timeout: self.server_timeout,
            connect_timeout: self.connect_timeout,
            guard: self.guard,
            longest_ttl: self.longest_ttl,
        };
        let backend = Majority::new(addresses, manner, drift, Arc::clone(&self.clock));
        let is_ttl_limited = self.guard == RestartGuard::LongestTtl;
        Ok(Locker::of(self.with(Box::new(backend), drift, is_ttl_limited)))
    }

    /// One that has no servers.
    pub(crate) fn into_local(self) -> Inner {
        let drift = DriftFactor::new(self.drift_factor).unwrap_or(DRIFT_FACTOR);
        let clock = Arc::clone(&self.clock);
        let backend: Box<dyn Backend> = match &self.place {
            Place::Files(folder) => Box::new(Files::new(folder.clone(), clock, drift)),
            Place::Memory => Box::new(Memory::new(clock, drift)),
            Place::Deny | Place::Redis(_) => Box::new(Deny),
        };
        self.with(backend, drift, false)
    }

    fn with(self, backend: Box<dyn Backend>, drift: DriftFactor, is_ttl_limited: bool) -> Inner {
        Inner {
            backend,
            clock: self.clock,
            retry: self.retry,
            drift,
            guard: self.guard,
            longest_ttl: self.longest_ttl,
            is_ttl_limited,
            label: self.label,
        }
    }
}

fn addresses(urls: &[String]) -> Result<Vec<Address>, SetupError> {
    if urls.is_empty() {
        return Err(SetupError::Place { text: String::new() });
    }
    if urls.len() > MOST_SERVERS {
        return Err(SetupError::TooMany { servers: urls.len() });
    }
    let mut addresses: Vec<Address> = Vec::new();
    for url in urls {
        let address = Address::parse(url)?;
        if addresses.iter().any(|other| other.name == address.name) {
            return Err(SetupError::Twice { server: address.name });
        }
        addresses.push(address);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<String, String> {
        let builder = Builder::default().place(text).map_err(|error| error.to_string())?;
        builder.build().map(|locker| locker.place()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_place_is_servers_or_a_folder() {
        assert_eq!(place("redis://a,redis://b:7000").unwrap(), "a:6379, b:7000");
        assert_eq!(place("file:/run/locks").unwrap(), "file:/run/locks");
        assert_eq!(place("memory:").unwrap(), "memory");
        assert_eq!(place("deny:").unwrap(), "deny");
    }

    #[test]
    fn what_is_no_place_is_told() {
        for text in ["", "file:", "memory:x", "a", "ftp://a", "redis://a,redis://a:6379", ","] {
            let error = place(text).unwrap_err();
            assert!(
                error.contains("no place") || error.contains("no server") || error.contains("twice"),
                "{error}"
            );
        }
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let error = Builder::default().memory().drift_factor(1.5).build().unwrap_err();
        assert!(matches!(error, SetupError::DriftFactor { .. }), "{error}");
        let many = (0..40).map(|number| format!("redis://host{number}"));
        assert!(matches!(Locker::redis(many), Err(SetupError::TooMany { servers: 40 })));
    }
}
