//! Servers that are killed, stopped, restarted empty, or have another time of day. The long
//! forms are in `tests/src/bin/lock_chaos.rs`.

use std::time::Duration;

use hornpipe_lock::{LockError, RestartGuard};
use hornpipe_tests::harness::{
    Deadline, LockChaos, RedisServer, RedisServers, ShiftedTime, eventually, until,
};

use crate::common::{TTL, builder, locker, ms, settle, three};

#[test]
fn one_stopped_server_of_three_costs_nothing() {
    let (servers, locker, other) = three();
    let held = locker.try_lock("warm", TTL).unwrap();
    locker.unlock(&held).unwrap();
    settle(&locker);
    servers.0[1].stop();
    // Each of these would take the server's time-out, if it were waited for.
    let time = Deadline::after(Duration::from_secs(20));
    for _ in 0..100 {
        let held = locker.try_lock("resource", ms(2000)).unwrap();
        locker.unlock(&held).unwrap();
    }
    assert!(time.elapsed() < ms(5000), "{:?}: 100 times the time-out are 10 s", time.elapsed());
    servers.0[1].go_on();
    eventually("all that it was told is done", || {
        locker.inspect("x").unwrap().iter().all(|(_, seen)| seen.is_ok())
    });
    assert_eq!(servers.having("resource"), 0, "a key is left on the server that was stopped");
    assert!(other.try_lock("resource", TTL).is_ok());
}

#[test]
fn two_of_five_that_are_down_are_not_missed() {
    let mut servers = RedisServers::start(5);
    let locker = locker(&servers);
    servers.0[0].kill();
    servers.0[3].stop();
    let held = locker.try_lock("resource", TTL).unwrap();
    let held = locker.extend(&held, TTL).unwrap();
    assert!(locker.is_valid(&held).unwrap());
    locker.unlock(&held).unwrap();
    servers.0[3].go_on();
}

#[test]
fn without_a_majority_it_is_told_in_time_and_nothing_is_left() {
    let (servers, locker, other) = three();
    settle(&locker);
    servers.0[0].stop();
    servers.0[2].stop();
    let time = Deadline::after(Duration::from_secs(20));
    let error = locker.try_lock("resource", TTL).unwrap_err();
    assert!(time.elapsed() < ms(1000), "{:?} for a time-out of 100 ms", time.elapsed());
    let LockError::NoQuorum { errors, .. } = &error else { panic!("{error}") };
    assert!(errors.iter().all(|error| error.why.contains("no answer within 100 ms")), "{error}");
    servers.0[0].go_on();
    servers.0[2].go_on();
    eventually("all that they were told is done", || {
        locker.inspect("x").unwrap().iter().all(|(_, seen)| seen.is_ok())
    });
    assert_eq!(servers.having("resource"), 0, "a key is left on a server that was stopped");
    assert!(other.try_lock("resource", TTL).is_ok());
}

#[test]
fn an_extension_that_fails_keeps_what_is_held() {
    let (servers, locker, other) = three();
    let held = locker.try_lock("resource", TTL).unwrap();
    settle(&locker);
    servers.0[0].stop();
    servers.0[1].stop();
    assert!(matches!(locker.extend(&held, TTL), Err(LockError::NoQuorum { .. })));
    servers.0[0].go_on();
    servers.0[1].go_on();
    eventually("the servers answer again", || locker.is_valid(&held).unwrap_or(false));
    assert!(matches!(other.try_lock("resource", TTL), Err(LockError::Busy { .. })));
    assert_eq!(locker.extend(&held, TTL).unwrap().token(), held.token());
}

#[test]
fn servers_that_forget_give_a_lock_twice_without_the_guard() {
    let (mut servers, locker, other) = three();
    let held = locker.try_lock("resource", TTL).unwrap();
    settle(&locker);
    servers.0[0].restart();
    servers.0[1].restart();
    // Known limit: that is what the guard is for. The token is greater all the same.
    let second = other.try_lock("resource", TTL).unwrap();
    assert!(second.token() > held.token());
}

#[test]
fn servers_that_forget_have_no_vote_until_the_longest_lock_has_ended() {
    let mut servers = RedisServers::start(3);
    let guarded =
        |ttl| builder(&servers).restart_guard(RestartGuard::LongestTtl).longest_ttl(ttl).build().unwrap();
    let (locker, other, strict) = (guarded(ms(1000)), guarded(ms(1000)), guarded(Duration::from_hours(1)));
    let held =
        until("the servers vote", Duration::from_secs(20), || locker.try_lock("resource", ms(1000)).ok());
    let error = strict.try_lock("other", TTL).unwrap_err().to_string();
    assert!(error.contains("does not vote for another 3"), "{error}");
    settle(&locker);
    servers.0[0].restart();
    servers.0[1].restart();
    let error = other.try_lock("resource", ms(1000)).unwrap_err();
    // The third still has the key, or it has run out by now: in no case is there a majority.
    assert!(error.to_string().contains("restarted"), "{error}");
    let second =
        until("they vote again", Duration::from_secs(20), || other.try_lock("resource", ms(1000)).ok());
    assert!(second.token() > held.token());
    assert!(other.now() >= held.until(), "the second was granted while the first was held");
}

#[test]
fn a_server_that_keeps_everything_votes_at_once() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut servers = RedisServers((0..3).map(|_| RedisServer::with(&options, &[])).collect());
    let build = || builder(&servers).restart_guard(RestartGuard::LongestTtl).build().unwrap();
    let (locker, other) = (build(), build());
    let held = locker.try_lock("resource", TTL).unwrap();
    settle(&locker);
    for server in &mut servers.0 {
        server.restart();
    }
    assert!(matches!(other.try_lock("resource", TTL), Err(LockError::Busy { .. })));
    assert!(locker.extend(&held, TTL).is_ok());
    locker.unlock(&held).unwrap();
    assert!(other.try_lock("resource", TTL).unwrap().token() > held.token());
}

#[test]
fn tokens_grow_also_when_the_fences_are_lost() {
    let (servers, locker, other) = three();
    let first = locker.try_lock("resource", TTL).unwrap();
    settle(&locker);
    servers.ask(&["FLUSHALL"]);
    let second = other.try_lock("resource", TTL).unwrap();
    assert!(second.token() > first.token());
}

#[test]
fn tokens_are_compared_as_numbers_beyond_what_lua_can_count() {
    let (servers, locker, _) = three();
    let great = "9007199254740993000";
    servers.ask(&["SET", "{resource}:fence", great]);
    let first = locker.try_lock("resource", TTL).unwrap();
    assert_eq!(first.token(), 9_007_199_254_740_993_001);
    locker.unlock(&first).unwrap();
    assert_eq!(locker.try_lock("resource", TTL).unwrap().token(), 9_007_199_254_740_993_002);
}

#[test]
fn rubbish_on_a_server_is_an_error_of_that_server() {
    let (servers, locker, _) = three();
    servers.0[0].ask(&["SET", "{resource}:fence", "rubbish"]);
    assert!(locker.try_lock("resource", TTL).is_ok());
    servers.0[1].ask(&["DEL", "other"]);
    servers.0[1].ask(&["LPUSH", "other", "x"]);
    servers.0[2].ask(&["LPUSH", "other", "x"]);
    let error = locker.try_lock("other", TTL).unwrap_err();
    assert!(
        matches!(error, LockError::NoQuorum { .. }) && error.to_string().contains("WRONGTYPE"),
        "{error}"
    );
    servers.0[1].ask(&["SET", "{third}:fence", "18446744073709551615"]);
    servers.0[0].ask(&["SET", "{third}:fence", "18446744073709551615"]);
    let error = locker.try_lock("third", TTL).unwrap_err();
    assert!(matches!(error, LockError::TokensExhausted), "{error}");
}

/// The clocks of two servers jump over the end of a lock: then two hold it, which no client
/// can prevent. The second has the greater token.
#[test]
fn a_clock_that_jumps_gives_a_lock_twice_and_the_second_token_is_greater() {
    let shift = ShiftedTime::new();
    let mut servers: Vec<RedisServer> = (0..2).map(|_| RedisServer::with(&[], &shift.variables())).collect();
    servers.push(RedisServer::start());
    let servers = RedisServers(servers);
    let (locker, other) = (locker(&servers), locker(&servers));
    let held = locker.try_lock("resource", Duration::from_mins(1)).unwrap();
    settle(&locker);
    assert!(matches!(other.try_lock("resource", TTL), Err(LockError::Busy { .. })));
    shift.set(120);
    // Known limit: Redis lets keys end by the wall clock.
    let second =
        until("the jump is noticed", Duration::from_secs(20), || other.try_lock("resource", TTL).ok());
    assert!(second.token() > held.token());
    assert!(locker.left(&held) > ms(20_000), "the first believes to hold it still");
    assert!(!locker.is_valid(&held).unwrap(), "and is told if it asks");
}

/// Five servers, six clients, kills and stops: no two holds overlap, and tokens grow.
#[test]
fn with_the_guard_no_two_holds_overlap_whatever_happens_to_servers() {
    let chaos = LockChaos { servers: 5, clients: 6, time: Duration::from_secs(5), ..LockChaos::default() };
    let figures = chaos.run();
    println!("{figures}");
    assert_eq!((figures.overlaps, figures.tokens_not_growing), (0, 0), "{figures}");
    assert!(figures.holds > 0, "{figures}");
}

/// Votes that are split between them are no lock: one of them must get it, and at once.
#[test]
fn of_many_who_ask_at_the_same_moment_exactly_one_gets_it() {
    let servers = RedisServers::start(3);
    let lockers: Vec<_> = (0..6).map(|_| locker(&servers)).collect();
    for locker in &lockers {
        settle(locker);
    }
    for round in 0..20 {
        let resource = format!("resource {round}");
        let start = std::sync::Barrier::new(lockers.len());
        let ask = |locker: &hornpipe_lock::Locker| {
            start.wait();
            match locker.try_lock(&resource, TTL) {
                Ok(_) => true,
                Err(LockError::Busy { .. }) => false,
                Err(error) => panic!("{error}"),
            }
        };
        let got: Vec<bool> = std::thread::scope(|scope| {
            let ask = &ask;
            let threads: Vec<_> = lockers.iter().map(|locker| scope.spawn(move || ask(locker))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(got.iter().filter(|got| **got).count(), 1, "round {round}: {got:?}");
    }
}
