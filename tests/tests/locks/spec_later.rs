//! The cases that redlock's specification had added by 2.0.6, by its names.

use std::sync::Arc;

use hornpipe_lock::{BootClock, Clock, Delay, LockError, LockOptions, Locker, RestartGuard, Retry};
use hornpipe_tests::harness::{RedisServers, Value, eventually};

use crate::common::{Hasty, TTL, builder, locker, ms, settle, three};

/// Pools are for what is not safe to share; a locker is, and so are its connections.
#[test]
fn accepts_connection_pools() {
    let (_servers, locker, _) = three();
    let total: usize = std::thread::scope(|scope| {
        let held = |number: usize| locker.lock(&format!("resource {number}"), TTL).is_ok();
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || held(number))).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    });
    assert_eq!(total, 8);
}

#[test]
fn accepts_configuration_hashes() {
    let servers = RedisServers::start(1);
    let builder = Locker::builder().place(&servers.list()).unwrap();
    let locker = builder.restart_guard(RestartGuard::Off).server_timeout(ms(1000)).build().unwrap();
    assert!(locker.try_lock("resource", TTL).is_ok());
}

#[test]
fn does_not_load_scripts_on_construction() {
    let mut servers = RedisServers::start(3);
    let Value::Text(before) = servers.0[0].ask(&["INFO", "clients"]) else { panic!("no INFO") };
    let locker = locker(&servers);
    let Value::Text(after) = servers.0[0].ask(&["INFO", "clients"]) else { panic!("no INFO") };
    let clients =
        |info: &str| info.lines().find(|line| line.starts_with("connected_clients")).unwrap().to_owned();
    assert_eq!(clients(&before), clients(&after));
    // Nor does it need any of them to be there.
    servers.0[0].kill();
    assert!(locker.try_lock("resource", TTL).is_ok());
    assert!(Locker::redis(["redis://127.0.0.1:1"]).is_ok());
}

#[test]
fn locks_if_a_majority_of_servers_is_available() {
    let (mut servers, locker, other) = three();
    servers.0[1].kill();
    let held = locker.try_lock("resource", TTL).unwrap();
    assert!(matches!(other.try_lock("resource", TTL), Err(LockError::Busy { .. })));
    locker.unlock(&held).unwrap();
    let held = other.try_lock("resource", TTL).unwrap();
    other.extend(&held, TTL).unwrap();
}

#[test]
fn fails_if_a_majority_is_not_available_and_lists_each_error() {
    let (mut servers, locker, _) = three();
    servers.0[0].kill();
    servers.0[2].kill();
    let error = locker.try_lock("resource", TTL).unwrap_err();
    let text = error.to_string();
    let LockError::NoQuorum { quorum: 2, servers: 3, errors } = error else { panic!("{text}") };
    let mut named: Vec<&str> = errors.iter().map(|error| error.server.as_str()).collect();
    named.sort_unstable();
    let mut dead = [servers.0[0].name(), servers.0[2].name()];
    dead.sort_unstable();
    assert_eq!(named, dead);
    assert!(dead.iter().all(|name| text.contains(name.as_str())), "{text}");
    assert!(text.contains("nobody listens there"), "{text}");
    eventually("the one that granted has it back", || servers.0[1].get("resource").is_none());
}

#[test]
fn interprets_lock_time_as_milliseconds() {
    let (servers, locker, _) = three();
    locker.lock("resource", ms(5000)).unwrap();
    settle(&locker);
    let Value::Number(life) = servers.0[0].ask(&["PTTL", "resource"]) else { panic!("no number") };
    assert!((1000..=5000).contains(&life), "{life}");
}

#[test]
fn when_extending_resets_the_ttl_rather_than_adding_to_it() {
    let (_servers, locker, _) = three();
    let held = locker.lock("resource", TTL).unwrap();
    let extended = locker.extend(&held, ms(5000)).unwrap();
    assert!(locker.remaining_life_of(&extended).unwrap().unwrap() <= ms(5000));
}

#[test]
fn extending_nothing_is_a_new_lock() {
    let (_servers, locker, _) = three();
    let options = LockOptions { value: Some("mine".to_owned()), ..LockOptions::default() };
    let held = locker.lock_with("resource", TTL, options.clone()).unwrap();
    assert_eq!(held.value(), "mine");
    // Whoever names the same value is the same holder, and gets a token of its own.
    let again = locker.lock_with("resource", TTL, options).unwrap();
    assert!(again.token() > held.token());
}

/// There are no old names to warn of: an extension takes nothing that is free unless the
/// method says so, so the guarantee that 2.0.6 lost for `extend_only_if_life` cannot be.
#[test]
fn extend_life_warns_extend_only_if_life_warns() {
    let (servers, locker, _) = three();
    let held = locker.lock("resource", TTL).unwrap();
    settle(&locker);
    servers.ask(&["DEL", "resource"]);
    assert!(matches!(locker.extend(&held, TTL), Err(LockError::Expired { .. })));
    assert_eq!(servers.having("resource"), 0);
}

fn pauses(retry: &Retry, options: LockOptions) -> Vec<std::time::Duration> {
    let (servers, _, other) = three();
    let _theirs = other.lock("resource", TTL).unwrap();
    let clock = Hasty::new();
    let builder = builder(&servers).retry(retry.clone()).clock(Arc::clone(&clock) as Arc<_>);
    builder.build().unwrap().lock_with("resource", TTL, options).unwrap_err();
    clock.pauses()
}

#[test]
fn tries_retry_count_and_one_times() {
    let retry = Retry { count: Some(2), ..Retry::default() };
    assert_eq!(pauses(&retry, LockOptions::default()).len(), 2);
    assert_eq!(pauses(&Retry::never(), LockOptions::default()).len(), 0);
}

#[test]
fn accepts_retry_delay_as_a_function_of_the_attempt() {
    let delay = Delay::by_attempt(|attempt| ms(u64::from(attempt) * 100));
    let retry = Retry { delay, jitter: ms(0), ..Retry::default() };
    assert_eq!(pauses(&retry, LockOptions::default()), [ms(100), ms(200), ms(300)]);
}

#[test]
fn retry_settings_of_a_call_take_priority() {
    let of_the_call = Retry { count: Some(1), delay: ms(7).into(), jitter: ms(0), wait: None };
    let options = LockOptions { retry: Some(of_the_call), value: None };
    assert_eq!(pauses(&Retry::default(), options), [ms(7)]);
}

#[test]
fn a_busy_lock_is_waited_for_no_longer_than_it_lives() {
    let (servers, _, other) = three();
    let _theirs = other.lock("resource", ms(300)).unwrap();
    let retry = Retry { count: Some(1), delay: ms(60_000).into(), jitter: ms(0), wait: None };
    let held = builder(&servers).retry(retry).build().unwrap().lock("resource", TTL);
    assert!(held.is_ok());
}

#[test]
fn when_a_server_goes_away_it_raises_and_when_it_comes_back_it_recovers() {
    let mut servers = RedisServers::start(1);
    let locker = locker(&servers);
    let held = locker.try_lock("resource", TTL).unwrap();
    servers.0[0].kill();
    assert!(matches!(locker.try_lock("other", TTL), Err(LockError::NoQuorum { .. })));
    assert!(matches!(locker.extend(&held, TTL), Err(LockError::NoQuorum { .. })));
    assert!(matches!(locker.unlock(&held), Err(LockError::NoQuorum { .. })));
    servers.0[0].restart();
    assert!(locker.try_lock("other", TTL).is_ok());
    assert!(matches!(locker.extend(&held, TTL), Err(LockError::Expired { .. })));
}

/// An error in one try says nothing about the next.
#[test]
fn an_error_of_an_earlier_try_is_forgotten() {
    let (mut servers, _, other) = three();
    let _theirs = other.lock("resource", TTL).unwrap();
    servers.0[0].kill();
    servers.0[1].kill();
    let retry = Retry { count: Some(1), delay: ms(0).into(), jitter: ms(0), wait: None };
    let locker = builder(&servers).retry(retry.clone()).build().unwrap();
    let options = LockOptions { retry: Some(retry), value: None };
    let mut attempts = locker.attempts("resource", TTL, options);
    assert!(matches!(
        attempts.attempt(),
        hornpipe_lock::Attempt::Wait { why: LockError::NoQuorum { .. }, .. }
    ));
    servers.0[0].restart();
    servers.0[1].restart();
    // Nothing is left of their lock on two of them, which is what restarts without a guard do.
    assert!(matches!(attempts.attempt(), hornpipe_lock::Attempt::Held(_)));
}

mod get_remaining_ttl_for_resource {
    use super::*;

    #[test]
    fn gets_the_remaining_ttl() {
        let (_servers, locker, other) = three();
        locker.lock("resource", ms(9000)).unwrap();
        let life = other.remaining_life("resource").unwrap().unwrap();
        assert!(ms(5000) < life && life <= ms(9000), "{life:?}");
    }

    #[test]
    fn is_the_minimum_of_the_largest_that_make_a_quorum() {
        let (servers, locker, _) = three();
        for (server, life) in servers.0.iter().zip(["20000", "15000", "10000"]) {
            server.ask(&["SET", "resource", "theirs", "PX", life]);
        }
        let life = locker.remaining_life("resource").unwrap().unwrap();
        assert!(ms(10_000) < life && life <= ms(15_000), "{life:?}");
    }

    #[test]
    fn is_none_when_it_is_free_or_no_majority_has_it() {
        let (servers, locker, _) = three();
        assert_eq!(locker.remaining_life("resource").unwrap(), None);
        servers.0[0].ask(&["SET", "resource", "theirs", "PX", "20000"]);
        servers.0[1].ask(&["SET", "resource", "somebody's", "PX", "20000"]);
        assert_eq!(locker.remaining_life("resource").unwrap(), None);
    }

    /// Not `nil`, which would read as "free".
    #[test]
    fn when_servers_are_away_it_is_an_error_and_recovers() {
        let (mut servers, locker, _) = three();
        servers.0[0].kill();
        assert_eq!(locker.remaining_life("resource").unwrap(), None);
        servers.0[1].kill();
        assert!(matches!(locker.remaining_life("resource"), Err(LockError::NoQuorum { .. })));
        servers.0[1].restart();
        assert_eq!(locker.remaining_life("resource").unwrap(), None);
    }
}

#[test]
fn get_remaining_ttl_for_lock() {
    let (_servers, locker, other) = three();
    let mine = locker.lock("resource", ms(9000)).unwrap();
    let life = other.remaining_life_of(&mine).unwrap().unwrap();
    assert!(ms(5000) < life && life <= ms(9000), "{life:?}");
    locker.unlock(&mine).unwrap();
    other.lock("resource", TTL).unwrap();
    assert_eq!(locker.remaining_life_of(&mine).unwrap(), None);
}

#[test]
fn locked() {
    let (_servers, locker, other) = three();
    assert!(!locker.is_locked("resource").unwrap());
    other.lock("resource", TTL).unwrap();
    assert!(locker.is_locked("resource").unwrap());
}

#[test]
fn valid_lock() {
    let (servers, locker, _) = three();
    let held = locker.lock("resource", TTL).unwrap();
    assert!(locker.is_valid(&held).unwrap());
    settle(&locker);
    servers.ask(&["DEL", "resource"]);
    assert!(!locker.is_valid(&held).unwrap());
}

/// A clock that also goes on while the machine is suspended.
#[test]
fn default_time_source_uses_clock_boottime() {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = text.split(' ').next().unwrap().parse().unwrap();
    let ours = BootClock.now().since_origin().as_secs_f64();
    assert!((ours - uptime).abs() < 5.0, "{ours} {uptime}");
}
