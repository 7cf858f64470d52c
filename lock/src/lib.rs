//! Locks on several Redis servers, or on files of one machine, with fencing tokens.
//!
//! ```
//! use std::time::Duration;
//!
//! use hornpipe_lock::Locker;
//!
//! let locker = Locker::memory(); // or Locker::redis(["redis://a", "redis://b", "redis://c"])?
//! let written = locker.with_lock("report", Duration::from_secs(10), |held| {
//!     // Whatever is written to refuses a token that is smaller than one it has seen.
//!     format!("write with token {}", held.token())
//! })?;
//! # assert!(written.starts_with("write with token "));
//! # Ok::<(), hornpipe_lock::LockError>(())
//! ```
//!
//! The servers know nothing of each other. All are asked at once, a majority decides
//! (Redlock), and one that is down or stopped costs nothing while a majority is there.
//!
//! At most one holds a lock while server clocks do not jump, servers do not lose keys
//! (`appendfsync always`, or the restart guard) and the holder stops at [`Held::until`].
//! Independent of all that, tokens only grow. The README says more.
//!
//! Calls block. Threads are one for each server and one for each lock that is renewed.

#![deny(missing_docs)]

/// Its program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod held;
mod error;
mod locker;
mod builder;
mod renewal;

mod retry;
mod validity;
mod quorum;
mod token;
mod guard;

mod backend;
mod majority;
mod server;
mod scripts;
mod address;
mod files;
mod memory;

mod info;
mod doctor;

mod clock;

pub use backend::Inspected;
pub use builder::Builder;
pub use clock::{BootClock, Clock, Timestamp};
pub use doctor::{Examined, Finding, ServerReport, Weight, advise};
pub use error::{LockError, ServerError, SetupError};
pub use guard::RestartGuard;
pub use held::Held;
pub use locker::{Attempt, Attempts, Guard, LockOptions, Locker};
pub use renewal::{Ended, RenewOptions, Renewal, Told};
pub use retry::{Delay, Retry};
pub use server::Seen;
