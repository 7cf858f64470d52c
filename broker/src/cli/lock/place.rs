//! Where the locks are: servers, or a folder of this machine.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hornpipe_lock::{Builder, LockError, Locker, RestartGuard, SetupError};
use nix::unistd::Uid;

use crate::cli::exit_code::LockExit;
use crate::config::{self, ControlPlace, Environment, PlaceError};

/// Where to lock, and how to ask there.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Redis servers, with commas between them, or @FILE with a URL in each line, or
    /// file:FOLDER. Everybody must name the same ones [env: HORNPIPE_LOCK_SERVERS] [default: a
    /// folder of this user on this machine]
    #[arg(long, value_name = "URL,URL,URL")]
    servers: Option<String>,
    /// How long one server may take to answer
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds, default_value = "100ms")]
    server_timeout: Duration,
    /// The longest --ttl that anybody uses on these servers: restarted ones have no vote as long
    #[arg(long, value_name = "TIME", value_parser = config::duration_or_seconds, default_value = "60s")]
    longest_ttl: Duration,
    /// Let restarted servers vote at once, though they may have lost locks
    #[arg(long)]
    no_restart_guard: bool,
}

/// Why there is nowhere to lock.
#[derive(Debug)]
pub(super) enum NowhereError {
    Setup(SetupError),
    Folder(PlaceError),
    File { path: PathBuf, source: io::Error },
}

impl fmt::Display for NowhereError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => error.fmt(f),
            Self::Folder(error) => error.fmt(f),
            Self::File { path, source } => write!(f, "cannot read servers from {}: {source}", path.display()),
        }
    }
}

impl Place {
    /// Whether no lock can have so long to live.
    pub(super) fn is_too_long(&self, life_ms: Option<u64>) -> bool {
        life_ms.is_some_and(|life| u128::from(life) > self.longest_ttl.as_millis())
    }

    pub(super) fn locker(&self) -> Result<Locker, NowhereError> {
        let servers = self.servers.clone().or_else(|| Environment::read().lock_servers());
        let guard = if self.no_restart_guard { RestartGuard::Off } else { RestartGuard::LongestTtl };
        let builder = Locker::builder()
            .server_timeout(self.server_timeout)
            .longest_ttl(self.longest_ttl)
            .restart_guard(guard)
            .label(&label());
        let builder = match servers {
            Some(servers) => named(builder, &servers)?,
            None => builder.files(folder()?),
        };
        builder.build().map_err(NowhereError::Setup)
    }
}

fn named(builder: Builder, servers: &str) -> Result<Builder, NowhereError> {
    let Some(path) = servers.strip_prefix('@') else {
        return builder.place(servers).map_err(NowhereError::Setup);
    };
    let path = PathBuf::from(path);
    let text = std::fs::read_to_string(&path).map_err(|source| NowhereError::File { path, source })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    builder.place(&lines.collect::<Vec<_>>().join(",")).map_err(NowhereError::Setup)
}

/// One for each user, whatever the environment says: a job of cron has another one than a
/// login shell, and must find the same locks.
fn folder() -> Result<PathBuf, NowhereError> {
    let place = ControlPlace::choose(None, &Environment::of([]), Uid::effective());
    place.prepare().map_err(NowhereError::Folder)?;
    Ok(place.socket(0).with_file_name("locks"))
}

/// What people who look at the servers see of this holder.
fn label() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}/", host.trim(), std::process::id())
}

/// What a verb exits with that got no answer, or not the one that it wanted.
pub(super) fn exit_code(error: &LockError) -> LockExit {
    match error {
        LockError::Busy { .. } | LockError::Contended { .. } => LockExit::Busy,
        LockError::Name { .. } | LockError::TtlTooShort { .. } | LockError::TtlTooLong { .. } => {
            LockExit::Usage
        }
        _ => LockExit::Unavailable,
    }
}
