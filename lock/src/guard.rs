//! The restart guard: whether a server has been up long enough to be asked. No I/O, no clock.
//!
//! A server that restarts may have lost the keys of locks that are still held. None of them
//! lives longer than the longest time to live, so a server that waits as long before it
//! grants anything has lost nothing that counts. Redlock asks the operator to delay the
//! restart; here the client waits instead.

use std::time::Duration;

/// Servers count their uptime in whole seconds, of which the first may be none.
const RESOLUTION: Duration = Duration::from_secs(1);

/// Whether and how long a restarted server is not asked to grant anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartGuard {
    /// It waits for the longest time to live of any lock, unless it writes every change to
    /// its disk before it answers (`appendfsync always`).
    #[default]
    LongestTtl,
    /// It is asked at once. A lock that it has lost can then be held by two at a time.
    Off,
}

/// What a server says of itself that tells whether it can have lost keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boot {
    pub(crate) uptime: Duration,
    /// It writes every change to its disk before it answers.
    pub(crate) is_durable: bool,
}

/// How long the server has to wait still; zero if it votes.
pub(crate) fn silence(guard: RestartGuard, longest_ttl: Duration, boot: Boot) -> Duration {
    match guard {
        RestartGuard::Off => Duration::ZERO,
        RestartGuard::LongestTtl if boot.is_durable => Duration::ZERO,
        RestartGuard::LongestTtl => longest_ttl.saturating_add(RESOLUTION).saturating_sub(boot.uptime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_server_waits_until_every_lock_it_may_have_lost_has_ended() {
        let boot = |uptime| Boot { uptime: seconds(uptime), is_durable: false };
        let left = |uptime| silence(RestartGuard::LongestTtl, seconds(60), boot(uptime));
        assert_eq!([0, 1, 60, 61, 999].map(left), [61, 60, 1, 0, 0].map(seconds));
    }

    #[test]
    fn one_that_loses_nothing_need_not_wait() {
        let durable = Boot { uptime: seconds(0), is_durable: true };
        assert_eq!(silence(RestartGuard::LongestTtl, seconds(60), durable), Duration::ZERO);
        let forgetful = Boot { uptime: seconds(0), is_durable: false };
        assert_eq!(silence(RestartGuard::Off, seconds(60), forgetful), Duration::ZERO);
    }
}
