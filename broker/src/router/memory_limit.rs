//! A bound on what the router may allocate: many peers at once may each have sent most of
//! a large message. Beyond the bound an allocation fails, which costs one router's life, not the machine.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Setup;
use crate::config::External;

/// What our own tables need at most, besides bodies.
const BASE: u64 = 1024 * 1024 * 1024;

/// Bodies exist in more than one place for a moment: received, held, being sent.
const COPIES: u64 = 4;

/// So many connections may be sending a body of the largest size at once.
const SENDERS: u64 = 8;

/// Sets the bound, above what this process had when it was forked.
pub(super) fn apply(setup: &Setup) {
    let settings = || setup.services().map(|(_id, service)| &service.settings);
    // All services that workers may bring have room for as much as the default one.
    let brought = match setup.external {
        External::Nobody => 0,
        External::Loopback | External::Anybody => setup.default.settings.held_bytes_limit,
    };
    let held = settings().map(|settings| settings.held_bytes_limit).fold(brought, u64::saturating_add);
    let bodies = held.saturating_mul(COPIES);
    let largest = settings().map(|settings| settings.body_limit).max().unwrap_or_default();
    let arriving = largest.saturating_mul(2 * SENDERS);
    let limit = inherited().saturating_add(BASE).saturating_add(bodies).saturating_add(arriving);
    let hard = getrlimit(Resource::RLIMIT_DATA).map_or(limit, |(_soft, hard)| hard);
    if let Err(error) = setrlimit(Resource::RLIMIT_DATA, limit.min(hard), hard) {
        tracing::warn!(%error, "no bound on the router's memory");
    }
}

/// Bytes of private writable memory that came with the fork: a program that
/// brought its own handler may have loaded a lot. See proc_pid_status(5).
fn inherited() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_default() * 1024
}
