//! `hornpipe conform`: which workers keep to the protocol, and which line says why one does not.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use hornpipe_tests::harness::{
    DEADLINE, Folder, Process, compiled_example, hornpipe, python, script, source,
};
use serde_json::Value;

/// Longer than anything should take on a busy machine: good workers do not use it up.
const PATIENCE: [&str; 5] = ["conform", "--timeout", "20s", "--watch", "400ms"];

/// The exit code, and of each check how it went.
fn conform(options: &[&str], program: &[&OsStr]) -> (Option<i32>, BTreeMap<String, String>) {
    let program: Vec<&str> = program.iter().map(|word| word.to_str().unwrap()).collect();
    let mut trial = Process::start(hornpipe(), &[&PATIENCE, options, &["--json", "--"], &program].concat());
    // Twenty checks, each of which has its own deadline.
    let ended = trial.wait_for(5 * DEADLINE).expect("it comes to an end");
    let told: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    let checks = told["checks"].as_array().unwrap().iter();
    let checks: BTreeMap<String, String> = checks
        .map(|one| (text(&one["check"]), format!("{}: {}", text(&one["result"]), text(&one["why"]))))
        .collect();
    let failed = checks.values().filter(|told| told.starts_with("failed")).count();
    assert_eq!(told["failed"].as_u64(), u64::try_from(failed).ok());
    (ended.code(), checks)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn results<'a>(checks: &'a BTreeMap<String, String>, result: &str) -> Vec<&'a str> {
    let of_it = checks.iter().filter(|(_, told)| told.starts_with(result));
    of_it.map(|(check, _)| check.as_str()).collect()
}

/// Tries a worker with one fault; the line that must say so.
#[track_caller]
fn fails(wrong: &str, line: &str) -> String {
    let (python, worker) = (python(), script("wrong_worker.py"));
    let (code, checks) = conform(&[], &[python.as_os_str(), worker.as_os_str(), OsStr::new(wrong)]);
    assert_eq!((code, results(&checks, "failed")), (Some(1), vec![line]), "{checks:#?}");
    checks[line].clone()
}

#[test]
fn our_rust_worker_keeps_to_all_of_it() {
    let hornpipe = hornpipe();
    let options = ["--body", "echo x", "--slow", "sleep 60000", "--parts", "parts 20 0"];
    let words = [hornpipe.as_os_str(), OsStr::new("worker"), OsStr::new("demo")];
    let (code, checks) = conform(&options, &words);
    assert_eq!((code, results(&checks, "not_applicable")), (Some(0), vec!["waiting"]), "{checks:#?}");
    assert!(checks["parts"].contains("20 parts"), "{checks:#?}");
}

#[test]
fn our_python_worker_keeps_to_all_of_it() {
    let (folder, python) = (Folder::new(), python());
    let app = folder.file("app.py");
    std::fs::write(
        &app,
        "import time\nfrom hornpipe import worker\n\n@worker\ndef work(body: bytes, ctx) -> bytes:\n    \
         while body == b'slow' and not ctx.cancelled:\n        time.sleep(0.01)\n    return body\n",
    )
    .unwrap();
    let path = format!("PYTHONPATH={}", source("../python/src").display());
    let words = [OsStr::new("env"), OsStr::new(&path), python.as_os_str()];
    let words = [&words[..], &[OsStr::new("-m"), OsStr::new("hornpipe"), app.as_os_str()]].concat();
    let (code, checks) = conform(&["--slow", "slow"], &words);
    assert_eq!(
        (code, results(&checks, "not_applicable")),
        (Some(0), vec!["parts", "waiting"]),
        "{checks:#?}"
    );
}

/// Its first job may come before it has begun to wait, and a cancel before the job's task has.
#[test]
fn our_python_worker_that_runs_several_at_once_keeps_to_all_of_it() {
    let (folder, python) = (Folder::new(), python());
    let app = folder.file("app.py");
    let text = "from hornpipe import worker\n\n@worker(credits=4)\nasync def work(body: bytes) -> bytes:\n    return body\n";
    std::fs::write(&app, text).unwrap();
    let path = format!("PYTHONPATH={}", source("../python/src").display());
    let words = [OsStr::new("env"), OsStr::new(&path), python.as_os_str()];
    let words = [&words[..], &[OsStr::new("-m"), OsStr::new("hornpipe"), app.as_os_str()]].concat();
    let (code, checks) = conform(&[], &words);
    assert_eq!(
        (code, results(&checks, "not_applicable")),
        (Some(0), vec!["parts", "waiting"]),
        "{checks:#?}"
    );
    assert!(checks["credits"].contains("4 at once"), "{checks:#?}");
}

#[test]
fn a_plain_worker_is_not_tried_for_what_it_cannot_know() {
    let folder = Folder::new();
    let program = compiled_example("reverse.c", &folder);
    let (code, checks) = conform(&[], &[program.as_os_str()]);
    let details = vec!["cancel", "parts", "stop", "unknown keys"];
    assert_eq!((code, results(&checks, "not_applicable")), (Some(0), details), "{checks:#?}");
}

#[test]
fn one_that_forgets_the_token_fails_at_the_token() {
    assert!(fails("token", "token").contains("\"forgotten\""));
}

#[test]
fn one_that_answers_twice_fails_at_one_reply() {
    fails("twice", "one reply");
}

#[test]
fn one_that_asks_for_more_than_its_credits_fails_at_the_credits() {
    fails("credits", "credits");
}

#[test]
fn one_that_spins_without_a_broker_fails_at_its_absence() {
    assert!(fails("spin", "broker gone").contains("all of a processor"));
}

#[test]
fn one_that_says_rubbish_or_names_itself_fails_there() {
    fails("rubbish", "messages");
    fails("identity", "identity");
}

#[test]
fn one_that_hides_its_beginning_fails_there() {
    fails("silent", "processing");
}

#[test]
fn what_is_no_worker_is_told_in_one_line() {
    let words = ["conform", "--timeout", "20s", "--", "sh", "-c", "exit 3"];
    let ended = Process::run(hornpipe(), &words);
    assert_eq!(ended.code(), Some(1));
    let line = "register        FAILED  it did not say `waiting`: it ended with exit code 3\n";
    assert!(ended.stdout.contains(line), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("1 ok, 1 failed, 18 not applicable\n"), "{}", ended.stdout);

    let ended = Process::run(hornpipe(), &["conform", "--", "/no/such/worker"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("cannot execute \"/no/such/worker\""), "{}", ended.stderr);
}
