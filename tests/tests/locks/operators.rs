//! `hornpipe lock status`, `release` and `doctor`.

use hornpipe_tests::harness::{Ended, Folder, Process, RedisServer, RedisServers, ShiftedTime, hornpipe};
use serde_json::Value as Json;

use crate::common::{TTL, locker, settle};

fn lock(words: &[&str], place: &str) -> Ended {
    Process::run(hornpipe(), &[&["lock"], words, &["--servers", place]].concat())
}

fn json(ended: &Ended) -> Json {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[test]
fn status_tells_who_holds_it_and_how_each_server_has_it() {
    let mut servers = RedisServers::start(3);
    let ended = lock(&["status", "job"], &servers.list());
    assert!(ended.stdout.starts_with("job is free\n"), "{}", ended.stdout);
    let locker = locker(&servers);
    let held = locker.lock("job", TTL).unwrap();
    settle(&locker);
    servers.0[2].kill();
    let ended = lock(&["status", "job"], &servers.list());
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("job is held, for 2"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains(held.value()) && ended.stdout.contains("nobody listens"),
        "{}",
        ended.stdout
    );
    let status = json(&lock(&["status", "job", "--json"], &servers.list()));
    assert_eq!(status["held"], true);
    assert_eq!(status["servers"][0]["holder"], held.value());
    assert_eq!(status["servers"][1]["token"], held.token());
    assert_eq!(status["servers"][2]["holder"], Json::Null);
    assert!(status["life_ms"].as_u64().unwrap() > 20_000, "{status}");
    servers.0[1].kill();
    let ended = lock(&["status", "job", "--json"], &servers.list());
    assert_eq!((ended.code(), &json(&ended)["held"]), (Some(69), &Json::Null));
}

/// A server whose clock was set back keeps its keys for as long.
#[test]
fn a_lock_that_lives_longer_than_any_can_is_told_with_its_server() {
    let shift = ShiftedTime::new();
    let mut servers = vec![RedisServer::with(&[], &shift.variables())];
    servers.extend((0..2).map(|_| RedisServer::start()));
    let servers = RedisServers(servers);
    let locker = locker(&servers);
    let _held = locker.lock("job", TTL).unwrap();
    settle(&locker);
    shift.set(-420);
    let ended = lock(&["status", "job"], &servers.list());
    let told = format!("{} keeps it longer than any lock", servers.0[0].name());
    assert!(ended.stderr.contains(&told), "{}{}", ended.stdout, ended.stderr);
    assert!(!ended.stderr.contains(&servers.0[1].name()), "{}", ended.stderr);
}

#[test]
fn a_lock_is_taken_from_its_holder_only_by_force_and_its_token_is_remembered() {
    let servers = RedisServers::start(3);
    let locker = locker(&servers);
    let held = locker.lock("job", TTL).unwrap();
    assert_eq!(lock(&["release", "job"], &servers.list()).code(), Some(2));
    assert!(locker.is_valid(&held).unwrap());
    assert_eq!(lock(&["release", "job", "--force"], &servers.list()).code(), Some(0));
    assert!(!locker.is_locked("job").unwrap());
    assert!(locker.lock("job", TTL).unwrap().token() > held.token());
}

#[test]
fn a_file_is_shown_and_not_taken_from_who_lives() {
    let folder = Folder::new();
    let place = format!("file:{}", folder.path().display());
    let locker = hornpipe_lock::Locker::files(folder.path());
    let held = locker.lock("job", TTL).unwrap();
    let status = json(&lock(&["status", "job", "--json"], &place));
    assert_eq!((&status["held"], &status["life_ms"]), (&Json::Bool(true), &Json::Null));
    let ended = lock(&["release", "job", "--force"], &place);
    assert_eq!(ended.code(), Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains("only the end of that process"), "{}", ended.stderr);
    locker.unlock(&held).unwrap();
    assert_eq!(lock(&["release", "job", "--force"], &place).code(), Some(0));
    assert!(lock(&["status", "job"], &place).stdout.starts_with("job is free\n"));
    let ended = lock(&["doctor"], &place);
    assert_eq!(ended.code(), Some(0));
    assert!(ended.stdout.contains("this machine alone"), "{}", ended.stdout);
}

#[test]
fn doctor_finds_three_good_servers_fit() {
    let servers = RedisServers(
        (0..3).map(|_| RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"], &[])).collect(),
    );
    let ended = lock(&["doctor"], &servers.list());
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("aof always") && ended.stdout.ends_with("fit for locks\n"),
        "{}",
        ended.stdout
    );
    assert_eq!(json(&lock(&["doctor", "--json"], &servers.list()))["findings"], Json::Array(Vec::new()));
}

#[test]
fn doctor_names_what_is_wrong_with_each_server() {
    let shift = ShiftedTime::new();
    shift.set(120);
    let master = RedisServer::start();
    let port = master.port().to_string();
    let mut servers = RedisServers(vec![
        RedisServer::with(&[], &shift.variables()),
        RedisServer::with(&["--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lru"], &[]),
        RedisServer::with(&["--replicaof", &format!("127.0.0.1 {port}")], &[]),
        RedisServer::start(),
    ]);
    let dead = servers.0[3].name();
    servers.0[3].kill();
    let list = format!("{},{}", servers.list(), servers.0[0].url().replace("127.0.0.1", "localhost"));
    let ended = lock(&["doctor", "--json"], &list);
    assert_eq!(ended.code(), Some(1), "{}", ended.stdout);
    let diagnosis = json(&ended);
    let findings = diagnosis["findings"].as_array().unwrap();
    let expect = |server: Option<&str>, weight: &str, word: &str| {
        let is_it = |finding: &Json| {
            finding["server"].as_str() == server
                && finding["weight"] == weight
                && finding["advice"].as_str().unwrap().contains(word)
        };
        assert!(findings.iter().any(is_it), "no {weight} of {word} for {server:?}: {findings:#?}");
    };
    expect(Some(&servers.0[0].name()), "warning", "ahead of this machine");
    expect(Some(&servers.0[1].name()), "problem", "noeviction");
    expect(Some(&servers.0[2].name()), "problem", "name its master");
    expect(Some(&servers.0[0].name()), "warning", "no vote");
    expect(Some(&dead), "problem", "nobody listens there");
    expect(None, "problem", "are one server");
    let offset = diagnosis["servers"][0]["clock_offset_ms"].as_i64().unwrap();
    assert!((119_000..121_000).contains(&offset), "{offset}");
    let text = lock(&["doctor"], &list).stdout;
    assert!(text.ends_with("not fit for locks\n") && text.contains("slave"), "{text}");
}
