//! Molds that are not Python's own: one that keeps to the protocol, and many that do not. What
//! our Python mold does is tried in `python/tests/test_mold.py`.

use std::path::Path;

use hornpipe_tests::harness::{Broker, Folder, Serve, python, script};

/// Two workers from a mold that is odd in this way; whichever follows it is good.
fn pool(mode: &str) -> (Broker, Folder) {
    let folder = Folder::new();
    let argv = [
        python().into_os_string(),
        script("odd_mold.py").into_os_string(),
        mode.into(),
        folder.path().as_os_str().to_owned(),
    ];
    let broker = Serve::bare(2).options(["--mold", "--boot-timeout", "2s"]).program(argv).start();
    broker.wait_for_idle(2);
    (broker, folder)
}

/// It serves although its first mold was odd, and the log says how.
fn survives(mode: &str, told: &str) {
    let (broker, _folder) = pool(mode);
    let log = broker.log();
    assert!(log.contains(told), "{mode}: {told} is not in\n{log}");
    assert!(!log.contains("router died"), "{mode}");
    serves(&broker);
}

fn serves(broker: &Broker) {
    for number in 0..8 {
        let reply = broker.ask(&number.to_string());
        let (slot, body) = reply.split_once(": ").unwrap_or_else(|| panic!("{reply}"));
        assert!(slot == "slot 0" || slot == "slot 1", "{reply}");
        assert_eq!(body, number.to_string());
    }
}

#[test]
fn a_mold_of_anothers_that_keeps_to_the_protocol_serves() {
    let (broker, _folder) = pool("good");
    serves(&broker);
    for pid in broker.workers().into_values() {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap();
        let (_name, rest) = stat.rsplit_once(')').unwrap();
        let parent: i32 = rest.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(parent, broker.pid());
    }
    let saved = "memory 1 MB shared once + 1 MB private = 1 MB; 2 separate copies: 1 MB";
    broker.wait_until("it is said what is saved", |_report| broker.screen().contains(saved));
}

#[test]
fn a_mold_that_says_what_is_no_word_costs_itself() {
    survives("rubbish", "mold cannot be understood, killing it");
    survives("long", "mold cannot be understood, killing it");
    survives("version", "mold speaks another version of the protocol than 1");
}

#[test]
fn a_mold_that_calls_somebody_else_its_worker_is_not_believed() {
    for mode in ["stranger", "router", "nobody"] {
        survives(mode, "mold calls a worker what is none of our children, killing it");
    }
}

#[test]
fn a_mold_that_hangs_is_ended_when_its_worker_is_not_ready_in_time() {
    survives("silent", "mold does not fork in time, killing it");
    survives("closes", "not ready in time");
}

#[test]
fn a_mold_that_cannot_fork_or_is_none_is_tried_again() {
    survives("failed", "no room in the harbour");
    survives("none", "this is no mold");
    survives("leaves", "exit code 9");
}

#[test]
fn a_worker_that_ends_before_its_mold_could_name_it_is_known_by_its_exit_code() {
    survives("dies", "exit code 7");
}

#[test]
fn words_about_orders_that_nobody_gave_are_of_no_account() {
    survives("doubled", "mold ready");
}
