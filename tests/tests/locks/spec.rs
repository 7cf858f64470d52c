//! The cases of redlock 0.2.0's specification, by its names. What it asks of a `Hash` or a
//! raised error is asked here of a type; the words stay.

mod initialize {
    use hornpipe_lock::{Locker, RestartGuard};
    use hornpipe_tests::harness::{RedisServer, RedisServers};

    use crate::common::{TTL, locker, settle};

    /// There are no client objects here: what can be given is how to reach a server, in
    /// each of the ways there are.
    #[test]
    fn accepts_both_redis_urls_and_redis_objects() {
        let servers = RedisServers::start(2);
        let local = RedisServer::with(&["--unixsocket", "r.sock"], &[]);
        let path = local.folder().file("r.sock");
        let urls =
            [servers.0[0].url(), format!("{}/3", servers.0[1].url()), format!("unix:{}", path.display())];
        let locker = Locker::builder().redis(urls).restart_guard(RestartGuard::Off).build().unwrap();
        let held = locker.try_lock("resource", TTL).unwrap();
        settle(&locker);
        assert_eq!(local.get("resource").as_deref(), Some(held.value()));
        assert_eq!(servers.0[0].get("resource").as_deref(), Some(held.value()));
        assert_eq!(servers.0[1].get("resource"), None, "it is in database 3");
        assert!(crate::common::locker(&servers).try_lock("other", TTL).is_ok());
    }

    #[test]
    fn users_passwords_and_databases_of_an_url_are_used() {
        let servers = RedisServers::start(1);
        servers.ask(&["ACL", "SETUSER", "ann", "on", ">secret", "~*", "+@all"]);
        servers.ask(&["ACL", "SETUSER", "default", "off"]);
        let url = servers.0[0].url().replace("redis://", "redis://ann:secret@") + "/2";
        let of =
            |url: String| Locker::builder().redis([url]).restart_guard(RestartGuard::Off).build().unwrap();
        assert!(of(url).try_lock("resource", TTL).is_ok());
        let error = locker(&servers).try_lock("resource", TTL).unwrap_err().to_string();
        assert!(error.contains("NOAUTH"), "{error}");
        let wrong = servers.0[0].url().replace("redis://", "redis://ann:guess@");
        let error = of(wrong).try_lock("resource", TTL).unwrap_err().to_string();
        assert!(error.contains("WRONGPASS") || error.contains("authentication"), "{error}");
        assert!(!error.contains("guess"), "{error}");
    }
}

mod lock_when_available {
    use hornpipe_lock::LockError;

    use crate::common::{TTL, ms, settle, three};

    #[test]
    fn locks() {
        let (servers, locker, other) = three();
        let held = locker.lock("resource", TTL).unwrap();
        assert!(matches!(other.try_lock("resource", TTL), Err(LockError::Busy { .. })));
        assert!(servers.having("resource") >= 2);
        locker.unlock(&held).unwrap();
    }

    #[test]
    fn returns_lock_information() {
        let (servers, locker, _) = three();
        let held = locker.lock("resource", TTL).unwrap();
        assert_eq!(held.resource(), "resource");
        assert!(held.value().len() >= 32);
        // 1 % and 2 ms are the drift; the rest is the time it took.
        assert!(ms(28_000) < held.validity() && held.validity() <= ms(29_698), "{:?}", held.validity());
        assert!(
            servers.0.iter().filter(|server| server.get("resource").as_deref() == Some(held.value())).count()
                >= 2
        );
    }

    #[test]
    fn can_extend_its_own_lock() {
        let (_servers, locker, _) = three();
        let held = locker.lock("resource", ms(5000)).unwrap();
        let extended = locker.extend(&held, TTL).unwrap();
        assert_eq!((extended.value(), extended.token()), (held.value(), held.token()));
        assert!(extended.until() > held.until() + ms(20_000));
        assert!(locker.remaining_life_of(&extended).unwrap().unwrap() > ms(20_000));
    }

    #[test]
    fn extend_only_if_life_given_does_not_extend_a_non_existent_lock() {
        let (servers, locker, _) = three();
        let held = locker.lock("resource", TTL).unwrap();
        locker.unlock(&held).unwrap();
        assert!(matches!(locker.extend(&held, TTL), Err(LockError::Expired { .. })));
        settle(&locker);
        assert_eq!(servers.having("resource"), 0);
    }

    #[test]
    fn extend_only_if_life_not_given_sets_the_given_value_when_trying_to_extend_a_non_existent_lock() {
        let (_servers, locker, _) = three();
        let held = locker.lock("resource", TTL).unwrap();
        locker.unlock(&held).unwrap();
        let again = locker.extend_or_take(&held, TTL).unwrap();
        assert_eq!(again.value(), held.value());
        assert!(again.token() > held.token(), "others may have had it meanwhile");
        assert!(locker.is_valid(&again).unwrap());
    }

    #[test]
    fn does_not_extend_somebody_elses_lock() {
        let (_servers, locker, other) = three();
        let mine = locker.lock("resource", TTL).unwrap();
        locker.unlock(&mine).unwrap();
        let theirs = other.lock("resource", TTL).unwrap();
        assert!(matches!(locker.extend_or_take(&mine, TTL), Err(LockError::Busy { .. })));
        assert!(other.is_valid(&theirs).unwrap());
    }
}

mod lock_when_not_available {
    use std::sync::Arc;

    use hornpipe_lock::{LockError, LockOptions, Retry};

    use crate::common::{Hasty, TTL, builder, ms, three};

    #[test]
    fn returns_false() {
        let (_servers, locker, other) = three();
        let _theirs = other.lock("resource", ms(9000)).unwrap();
        let Err(LockError::Busy { resource, free_in }) = locker.try_lock("resource", TTL) else {
            panic!("it is not busy")
        };
        assert_eq!(resource, "resource");
        let free_in = free_in.unwrap();
        assert!(ms(5000) < free_in && free_in <= ms(9000), "{free_in:?}");
    }

    #[test]
    fn cannot_extend_somebody_elses_lock() {
        let (_servers, locker, other) = three();
        let mine = locker.lock("resource", TTL).unwrap();
        locker.unlock(&mine).unwrap();
        let theirs = other.lock("resource", TTL).unwrap();
        assert!(matches!(locker.extend(&mine, TTL), Err(LockError::Expired { .. })));
        locker.unlock(&mine).unwrap();
        assert!(other.is_valid(&theirs).unwrap());
    }

    /// How long the waits of a lock were that is not to be had.
    fn pauses(retry: Retry) -> Vec<std::time::Duration> {
        let (servers, _, other) = three();
        let _theirs = other.lock("resource", TTL).unwrap();
        let clock = Hasty::new();
        let locker = builder(&servers).retry(retry).clock(Arc::clone(&clock) as Arc<_>).build().unwrap();
        let options = LockOptions { value: Some("mine".to_owned()), ..LockOptions::default() };
        assert!(matches!(locker.lock_with("resource", TTL, options), Err(LockError::Busy { .. })));
        clock.pauses()
    }

    /// Each wait is followed by one try.
    #[test]
    fn retries_up_to_retry_count_times() {
        assert_eq!(pauses(Retry { count: Some(5), ..Retry::default() }).len(), 5);
    }

    #[test]
    fn sleeps_in_between_retries() {
        assert_eq!(pauses(Retry::default()).len(), 3);
    }

    #[test]
    fn sleeps_at_least_retry_delay_and_less_than_retry_delay_and_retry_jitter() {
        let retry = Retry { count: Some(20), ..Retry::default() };
        let pauses = pauses(retry);
        assert!(pauses.iter().all(|pause| ms(200) <= *pause && *pause < ms(250)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "there is no jitter: {pauses:?}");
    }
}

mod when_the_script_cache_is_flushed {
    use hornpipe_tests::harness::{RedisServers, Value};

    use crate::common::{TTL, locker, settle, three};

    /// How often a server was told a script, also where it refused to be.
    fn loads(servers: &RedisServers) -> usize {
        let count = |line: &str, field: &str| -> usize {
            let value = line.split_once(field).unwrap().1.split([',', '\r']).next().unwrap();
            value.parse().unwrap()
        };
        let Value::Text(info) = servers.0[0].ask(&["INFO", "commandstats"]) else { panic!("no INFO") };
        let of = info.lines().filter(|line| line.starts_with("cmdstat_script|load"));
        of.map(|line| count(line, "calls=") + count(line, "rejected_calls=")).sum()
    }

    #[test]
    fn does_not_raise_a_no_script_error() {
        let (servers, locker, _) = three();
        let held = locker.lock("resource", TTL).unwrap();
        servers.ask(&["SCRIPT", "FLUSH"]);
        let extended = locker.extend(&held, TTL).unwrap();
        servers.ask(&["SCRIPT", "FLUSH"]);
        locker.unlock(&extended).unwrap();
        settle(&locker);
        assert_eq!(servers.having("resource"), 0);
    }

    #[test]
    fn loads_the_scripts_again() {
        let servers = RedisServers::start(1);
        let locker = locker(&servers);
        let held = locker.lock("resource", TTL).unwrap();
        let before = loads(&servers);
        servers.ask(&["SCRIPT", "FLUSH"]);
        locker.extend(&held, TTL).unwrap();
        assert_eq!(loads(&servers), before + 1);
        locker.extend(&held, TTL).unwrap();
        assert_eq!(loads(&servers), before + 1);
    }

    #[test]
    fn when_the_re_load_fails_does_not_load_twice() {
        let servers = RedisServers::start(1);
        let locker = locker(&servers);
        servers.ask(&["ACL", "SETUSER", "default", "-script|load"]);
        // It needs one script, and asks each server once.
        let error = locker.inspect("resource").unwrap().remove(0).1.unwrap_err();
        assert!(error.contains("NOPERM") || error.contains("permissions"), "{error}");
        assert_eq!(loads(&servers), 1);
    }

    #[test]
    fn when_the_re_load_succeeds_locks() {
        let (servers, locker, _) = three();
        let first = locker.lock("resource", TTL).unwrap();
        locker.unlock(&first).unwrap();
        servers.ask(&["SCRIPT", "FLUSH"]);
        let held = locker.lock("resource", TTL).unwrap();
        assert!(locker.is_valid(&held).unwrap());
    }
}

mod block_syntax {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use hornpipe_lock::{Guard, LockError};

    use crate::common::{TTL, settle, three};

    #[test]
    fn when_available_locks() {
        let (_servers, locker, other) = three();
        let inside = locker.with_lock("resource", TTL, |_| other.is_locked("resource").unwrap());
        assert!(inside.unwrap());
    }

    #[test]
    fn when_available_passes_lock_information_to_the_block() {
        let (_servers, locker, other) = three();
        let valid = locker.with_lock("resource", TTL, |held| {
            assert!(held.token() > 0);
            other.is_valid(held).unwrap()
        });
        assert!(valid.unwrap());
    }

    #[test]
    fn when_available_returns_true() {
        let (_servers, locker, _) = three();
        let guard: Result<Guard, LockError> = locker.guard("resource", TTL);
        assert!(guard.is_ok());
    }

    #[test]
    fn when_available_automatically_unlocks() {
        let (servers, locker, other) = three();
        drop(locker.guard("resource", TTL).unwrap());
        assert!(other.try_lock("resource", TTL).is_ok());
        locker.with_lock("another", TTL, |_| ()).unwrap();
        settle(&locker);
        assert_eq!(servers.having("another"), 0);
    }

    #[test]
    fn when_available_automatically_unlocks_when_the_block_raises() {
        let (_servers, locker, other) = three();
        let work = || locker.with_lock("resource", TTL, |_| panic!("the work fails"));
        assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
        assert!(other.try_lock("resource", TTL).is_ok());
    }

    #[test]
    fn when_not_available_passes_false_and_returns_false() {
        let (_servers, locker, other) = three();
        let _theirs = other.lock("resource", TTL).unwrap();
        assert!(matches!(locker.guard("resource", TTL), Err(LockError::Busy { .. })));
    }
}

mod unlock {
    use crate::common::{TTL, settle, three};

    #[test]
    fn unlocks() {
        let (servers, locker, other) = three();
        let held = locker.lock("resource", TTL).unwrap();
        locker.unlock(&held).unwrap();
        settle(&locker);
        assert_eq!(servers.having("resource"), 0);
        assert!(other.try_lock("resource", TTL).is_ok());
    }

    #[test]
    fn leaves_somebody_elses_lock_alone() {
        let (_servers, locker, other) = three();
        let mine = locker.lock("resource", TTL).unwrap();
        locker.unlock(&mine).unwrap();
        let theirs = other.lock("resource", TTL).unwrap();
        locker.unlock(&mine).unwrap();
        assert!(other.is_valid(&theirs).unwrap());
    }
}

/// `lock!` is [`hornpipe_lock::Locker::with_lock`].
mod lock_or_raise {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use hornpipe_lock::LockError;

    use crate::common::{TTL, ms, three};

    #[test]
    fn when_available_locks() {
        let (servers, locker, _) = three();
        let having = locker.with_lock("resource", TTL, |_| servers.having("resource"));
        assert!(having.unwrap() >= 2);
    }

    #[test]
    fn when_available_returns_the_received_blocks_return_value() {
        let (_servers, locker, _) = three();
        assert_eq!(locker.with_lock("resource", TTL, |_| 42).unwrap(), 42);
    }

    #[test]
    fn when_available_automatically_unlocks() {
        let (_servers, locker, other) = three();
        locker.with_lock("resource", TTL, |_| ()).unwrap();
        assert!(other.try_lock("resource", TTL).is_ok());
    }

    #[test]
    fn when_available_automatically_unlocks_when_the_block_raises_an_exception() {
        let (_servers, locker, other) = three();
        let failed: Result<(), String> = locker.with_lock("resource", TTL, |_| Err("no".to_owned())).unwrap();
        assert_eq!(failed, Err("no".to_owned()));
        assert!(!other.is_locked("resource").unwrap());
        let panics = || locker.with_lock("resource", TTL, |_| panic!("the work fails"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(!other.is_locked("resource").unwrap());
    }

    #[test]
    fn when_available_passes_the_extension_parameter() {
        let (_servers, locker, other) = three();
        let mut guard = locker.guard("resource", ms(2000)).unwrap();
        let before = guard.held().until();
        guard.extend(TTL).unwrap();
        assert!(guard.held().until() > before + ms(20_000));
        guard.unlock().unwrap();
        assert!(!other.is_locked("resource").unwrap());
    }

    #[test]
    fn when_not_available_raises_a_lock_error() {
        let (_servers, locker, other) = three();
        let _theirs = other.lock("resource", TTL).unwrap();
        let error = locker.with_lock("resource", TTL, |_| ()).unwrap_err();
        assert!(matches!(&error, LockError::Busy { resource, .. } if resource == "resource"), "{error}");
        assert!(error.to_string().contains("resource"), "{error}");
    }

    #[test]
    fn when_not_available_does_not_execute_the_block() {
        let (_servers, locker, other) = three();
        let _theirs = other.lock("resource", TTL).unwrap();
        let mut ran = false;
        locker.with_lock("resource", TTL, |_| ran = true).unwrap_err();
        assert!(!ran);
    }
}

mod testing_mode {
    use hornpipe_lock::{LockError, Locker};
    use hornpipe_tests::harness::RedisServers;

    use crate::common::{TTL, locker};

    /// Locks are kept in memory, as real as any other.
    #[test]
    fn bypass_bypasses_the_redis_servers() {
        let locker = Locker::memory();
        let held = locker.lock("resource", TTL).unwrap();
        assert!(locker.is_valid(&held).unwrap());
        assert!(matches!(locker.try_lock("resource", TTL), Err(LockError::Busy { .. })));
        locker.unlock(&held).unwrap();
        assert!(locker.try_lock("resource", TTL).unwrap().token() > held.token());
    }

    #[test]
    fn fail_fails() {
        assert!(matches!(Locker::deny().try_lock("resource", TTL), Err(LockError::Busy { .. })));
        assert!(Locker::deny().is_locked("resource").unwrap());
    }

    #[test]
    fn disabled_works_as_usual() {
        let servers = RedisServers::start(1);
        assert!(locker(&servers).try_lock("resource", TTL).is_ok());
        assert_eq!(servers.having("resource"), 1);
    }
}
