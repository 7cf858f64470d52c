//! Locks that a thread renews.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::time::Duration;

use hornpipe_lock::{Ended, LockError, RenewOptions};
use hornpipe_tests::harness::{DEADLINE, eventually};

use crate::common::{ms, settle, three};

#[test]
fn a_renewed_lock_outlives_its_time_and_is_released() {
    let (_servers, locker, other) = three();
    let held = locker.lock("resource", ms(1000)).unwrap();
    let first = held.until();
    let renewal = locker.renew(held, RenewOptions::default()).unwrap();
    eventually("it is renewed beyond its time", || renewal.until() > first + ms(1000));
    assert!(matches!(other.try_lock("resource", ms(400)), Err(LockError::Busy { .. })));
    renewal.unlock().unwrap();
    assert!(other.try_lock("resource", ms(400)).is_ok());
}

#[test]
fn a_renewed_lock_is_released_when_the_work_panics() {
    let (_servers, locker, other) = three();
    let work = || {
        locker.with_renewed_lock("resource", ms(9000), RenewOptions::default(), |renewal| {
            assert!(!renewal.left().is_zero());
            panic!("the work fails")
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
    assert!(other.try_lock("resource", ms(9000)).is_ok());
}

#[test]
fn renewing_has_a_limit_after_which_the_lock_runs_out() {
    let (_servers, locker, other) = three();
    let held = locker.lock("resource", ms(1500)).unwrap();
    let (sender, ends) = channel();
    let options = RenewOptions::limited(ms(700)).on_end(move |ended| {
        sender.send(matches!(ended, Ended::Limit)).unwrap();
    });
    let renewal = locker.renew(held.clone(), options).unwrap();
    assert!(ends.recv_timeout(DEADLINE).unwrap());
    let until = renewal.until();
    assert!(until > held.until());
    eventually("it runs out", || renewal.left().is_zero());
    eventually("others get it", || other.try_lock("resource", ms(1500)).is_ok());
    assert_eq!(renewal.until(), until);
}

#[test]
fn a_lock_that_is_lost_is_told_at_once() {
    let (servers, locker, _) = three();
    let held = locker.lock("resource", ms(1500)).unwrap();
    settle(&locker);
    let (sender, ends) = channel();
    let options = RenewOptions::default().on_end(move |ended| {
        sender.send(matches!(ended, Ended::Lost)).unwrap();
    });
    let renewal = locker.renew(held, options).unwrap();
    servers.ask(&["SET", "resource", "theirs", "PX", "60000"]);
    assert!(ends.recv_timeout(DEADLINE).unwrap());
    assert_eq!(renewal.left(), Duration::ZERO);
    drop(renewal);
    assert_eq!(servers.having("resource"), 3, "somebody else's lock was released");
}

#[test]
fn a_lock_whose_servers_cannot_be_reached_is_told_when_it_runs_out() {
    let (mut servers, locker, _) = three();
    let held = locker.lock("resource", ms(600)).unwrap();
    let (sender, ends) = channel();
    let options = RenewOptions::default().on_end(move |ended| {
        sender.send(matches!(ended, Ended::Unreachable(LockError::NoQuorum { .. }))).unwrap();
    });
    let renewal = locker.renew(held, options).unwrap();
    servers.0[0].kill();
    servers.0[1].kill();
    assert!(ends.recv_timeout(DEADLINE).unwrap());
    assert!(renewal.left().is_zero());
}

#[test]
fn a_renewal_survives_servers_that_are_away_for_a_moment() {
    let (servers, locker, _) = three();
    let held = locker.lock("resource", ms(2000)).unwrap();
    let first = held.until();
    settle(&locker);
    let renewal = locker.renew(held, RenewOptions::default()).unwrap();
    servers.0[0].stop();
    servers.0[1].stop();
    eventually("a renewal was due", || renewal.left() < ms(1000));
    servers.0[0].go_on();
    servers.0[1].go_on();
    eventually("it is renewed", || renewal.until() > first);
}
