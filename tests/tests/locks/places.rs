//! Locks on files of one machine, and in memory.

use std::fs;

use hornpipe_lock::{LockError, Locker, RenewOptions};
use hornpipe_tests::harness::Folder;

use crate::common::{Still, TTL, ms};

#[test]
fn a_file_is_held_by_one_and_tokens_grow() {
    let folder = Folder::new();
    let (locker, other) = (Locker::files(folder.path()), Locker::files(folder.path()));
    let held = locker.try_lock("a/b", TTL).unwrap();
    assert!(matches!(other.try_lock("a/b", TTL), Err(LockError::Busy { free_in: None, .. })));
    assert!(matches!(locker.try_lock("a/b", TTL), Err(LockError::Busy { .. })), "also within one locker");
    assert!(other.try_lock("b", TTL).is_ok());
    assert!(other.is_locked("a/b").unwrap() && other.is_valid(&held).unwrap());
    let seen = other.inspect("a/b").unwrap().remove(0).1.unwrap();
    assert_eq!((seen.value.as_deref(), seen.fence), (Some(held.value()), held.token()));
    locker.unlock(&held).unwrap();
    assert!(!other.is_locked("a/b").unwrap());
    assert!(other.try_lock("a/b", TTL).unwrap().token() > held.token());
}

#[test]
fn a_file_is_extended_only_while_it_is_held() {
    let folder = Folder::new();
    let locker = Locker::files(folder.path());
    let held = locker.try_lock("a", ms(5000)).unwrap();
    let extended = locker.extend(&held, TTL).unwrap();
    assert!(extended.until() > held.until() && extended.token() == held.token());
    locker.unlock(&held).unwrap();
    assert!(matches!(locker.extend(&extended, TTL), Err(LockError::Expired { .. })));
    let again = locker.extend_or_take(&extended, TTL).unwrap();
    assert!(again.token() > held.token());
}

#[test]
fn a_file_that_is_held_is_taken_from_nobody() {
    let folder = Folder::new();
    let (locker, other) = (Locker::files(folder.path()), Locker::files(folder.path()));
    let held = locker.try_lock("a", TTL).unwrap();
    let error = other.force_unlock("a").unwrap_err().to_string();
    assert!(error.contains(held.value()), "{error}");
    assert!(locker.is_valid(&held).unwrap());
    drop(locker);
    other.force_unlock("a").unwrap();
    other.force_unlock("never there").unwrap();
}

#[test]
fn a_file_of_somebody_else_is_left_as_it_is() {
    let folder = Folder::new();
    let precious = folder.file("a.lock");
    fs::write(&precious, "precious").unwrap();
    let locker = Locker::files(folder.path());
    let error = locker.try_lock("a", TTL).unwrap_err().to_string();
    assert!(error.contains("no lock file of hornpipe's"), "{error}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    std::os::unix::fs::symlink(&precious, folder.file("b.lock")).unwrap();
    assert!(matches!(locker.try_lock("b", TTL), Err(LockError::File { .. })));
}

#[test]
fn a_lock_in_memory_runs_out_and_is_extended_like_any_other() {
    let clock = Still::new();
    let locker = Locker::builder().memory().clock(clock.clone()).build().unwrap();
    let held = locker.try_lock("a", ms(1000)).unwrap();
    clock.advance(ms(900));
    let held = locker.extend(&held, ms(1000)).unwrap();
    clock.advance(ms(900));
    assert!(locker.is_valid(&held).unwrap());
    assert_eq!(locker.left(&held), ms(88));
    clock.advance(ms(100));
    assert!(!locker.is_locked("a").unwrap());
    assert!(matches!(locker.extend(&held, ms(1000)), Err(LockError::Expired { .. })));
    assert!(locker.clone().try_lock("a", ms(1000)).unwrap().token() > held.token());
}

#[test]
fn a_busy_lock_is_waited_for_until_it_runs_out() {
    let clock = Still::new();
    let locker = Locker::builder().memory().clock(clock).build().unwrap();
    let first = locker.try_lock("a", ms(150)).unwrap();
    let before = locker.now();
    let second = locker.lock("a", ms(1000)).unwrap();
    assert!(second.token() > first.token());
    assert_eq!(locker.now().since(before), ms(152), "no longer than it lived");
}

#[test]
fn names_and_times_that_cannot_be_meant_are_refused() {
    let locker = Locker::memory();
    for name in ["", "a:fence", "a\0b", &"x".repeat(256)] {
        assert!(matches!(locker.try_lock(name, TTL), Err(LockError::Name { .. })), "{name:?}");
    }
    assert!(matches!(locker.try_lock("a", ms(2)), Err(LockError::TtlTooShort { .. })));
    let servers = Locker::redis(["redis://127.0.0.1:1"]).unwrap();
    let error = servers.try_lock("a", std::time::Duration::from_mins(2)).unwrap_err();
    assert!(
        matches!(error, LockError::TtlTooLong { .. }) && error.to_string().contains("60000 ms"),
        "{error}"
    );
    let folder = Folder::new();
    let long = "ä".repeat(100);
    assert!(matches!(Locker::files(folder.path()).try_lock(&long, TTL), Err(LockError::Name { .. })));
}

#[test]
fn a_denied_lock_is_never_renewed() {
    let result = Locker::deny().with_renewed_lock("a", ms(100), RenewOptions::default(), |_| ());
    assert!(matches!(result, Err(LockError::Busy { .. })));
}
