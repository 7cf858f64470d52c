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
    fails_as(&[], "wrong_worker.py", wrong, line)
}

/// The same of any program with faults.
#[track_caller]
fn fails_as(options: &[&str], program: &str, wrong: &str, line: &str) -> String {
    let (python, program) = (python(), script(program));
    let (code, checks) = conform(options, &[python.as_os_str(), program.as_os_str(), OsStr::new(wrong)]);
    assert_eq!((code, results(&checks, "failed")), (Some(1), vec![line]), "{wrong}: {checks:#?}");
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
    assert!(checks["jobs ahead"].contains("in their order"), "{checks:#?}");
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
        (Some(0), vec!["jobs ahead", "parts", "taken back", "waiting"]),
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
        (Some(0), vec!["jobs ahead", "parts", "taken back", "waiting"]),
        "{checks:#?}"
    );
    assert!(checks["credits"].contains("4 at once"), "{checks:#?}");
}

#[test]
fn a_plain_worker_is_not_tried_for_what_it_cannot_know() {
    let folder = Folder::new();
    let program = compiled_example("reverse.c", &folder);
    let (code, checks) = conform(&[], &[program.as_os_str()]);
    let details = vec!["cancel", "jobs ahead", "parts", "stop", "taken back", "unknown keys"];
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
fn one_that_mistakes_jobs_ahead_of_their_time_fails_there() {
    assert!(fails_as(&[], "wrong_claimer.py", "order", "jobs ahead").contains("in the order they came"));
    assert!(fails_as(&[], "wrong_claimer.py", "unclaimed", "jobs ahead").contains("claim each job"));
    assert!(fails_as(&[], "wrong_claimer.py", "taken", "taken back").contains("was taken back"));
}

/// What the adapter does for a program is shown, and not tried.
fn of_the_adapter(checks: &BTreeMap<String, String>) -> usize {
    checks.values().filter(|told| told.contains("does not apply: its adapter")).count()
}

/// What does not apply to the program, beside what its adapter does.
fn others(checks: &BTreeMap<String, String>) -> Vec<&str> {
    let shown = checks.iter().filter(|(_, told)| told.starts_with("not_applicable"));
    shown.filter(|(_, told)| !told.contains("its adapter")).map(|(check, _)| check.as_str()).collect()
}

/// They wait for each other's time to pass, so they do so together.
fn at_once(trials: &[fn()]) {
    std::thread::scope(|scope| {
        for trial in trials {
            scope.spawn(trial);
        }
    });
}

#[test]
fn a_program_of_lines_or_each_is_tried_for_what_is_left_to_it() {
    at_once(&[
        || {
            let (code, checks) =
                conform(&["--lines"], &["grep", "-a", "--line-buffered", ""].map(OsStr::new));
            let expected = vec!["cancel", "line breaks", "output after end"];
            assert_eq!((code, others(&checks)), (Some(0), expected), "{checks:#?}");
            assert_eq!(of_the_adapter(&checks), 16, "{checks:#?}");
        },
        || {
            let framed = ["--lines", "--framing", "netstring", "--slow", "sleep 60"];
            let (python, program) = (python(), script("wrong_program.py"));
            let words = [python.as_os_str(), program.as_os_str(), OsStr::new("netstring")];
            let (code, checks) = conform(&framed, &words);
            assert_eq!((code, others(&checks)), (Some(0), vec!["output after end"]), "{checks:#?}");
        },
        || {
            let (code, checks) = conform(&["--each"], &["tr", "a-z", "A-Z"].map(OsStr::new));
            let expected = vec!["TERM", "cancel", "idle", "in pieces", "next message", "one answer"];
            assert_eq!((code, others(&checks)), (Some(0), expected), "{checks:#?}");
        },
    ]);
}

#[test]
fn a_program_of_lines_or_each_fails_at_the_line_that_says_why() {
    // It is watched for long, and no longer than until the fault is seen.
    fn fails(wrong: &str, line: &str, why: &str) {
        let told = fails_as(&["--lines", "--watch", "10s"], "wrong_program.py", wrong, line);
        assert!(told.contains(why), "{told}");
    }
    // What is known only when the time is over takes a program that is quick to start.
    fn fails_in_time(program: &[&str], line: &str, why: &str) {
        let program: Vec<&OsStr> = program.iter().map(OsStr::new).collect();
        let (code, checks) = conform(&["--lines", "--timeout", "3s"], &program);
        assert_eq!((code, results(&checks, "failed")), (Some(1), vec![line]), "{checks:#?}");
        assert!(checks[line].contains(why), "{checks:#?}");
    }
    at_once(&[
        || fails("banner", "one answer", "without being asked"),
        || fails("twice", "one answer", "and so on"),
        || {
            let told = fails_as(&["--lines"], "wrong_program.py", "once", "next message");
            assert!(told.contains("it ended with exit code 0"), "{told}");
        },
        || fails_in_time(&["sed", "s/a/b/"], "answer", "flush"),
        || {
            fails_in_time(
                &["sh", "-c", "grep -a --line-buffered ''; sleep 60"],
                "end of input",
                "did not end",
            );
        },
        || {
            let (python, program) = (python(), script("wrong_program.py"));
            let words = [python.as_os_str(), program.as_os_str(), OsStr::new("eager")];
            let (code, checks) = conform(&["--lines", "--watch", "1s"], &words);
            // Whoever answers a part also answers the beginning of a long one.
            let expected = vec!["in pieces", "large body"];
            assert_eq!((code, results(&checks, "failed")), (Some(1), expected), "{checks:#?}");
        },
        || {
            let told = fails_as(&["--each"], "wrong_program.py", "leaves", "output after end");
            assert!(told.contains("left behind"), "{told}");
        },
    ]);
}

#[test]
fn what_is_no_worker_is_told_in_one_line() {
    let words = ["conform", "--timeout", "20s", "--", "sh", "-c", "exit 3"];
    let ended = Process::run(hornpipe(), &words);
    assert_eq!(ended.code(), Some(1));
    let line = "register        FAILED  it did not say `waiting`: it ended with exit code 3\n";
    assert!(ended.stdout.contains(line), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("1 ok, 1 failed, 20 not applicable\n"), "{}", ended.stdout);

    let ended = Process::run(hornpipe(), &["conform", "--", "/no/such/worker"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("cannot execute \"/no/such/worker\""), "{}", ended.stderr);
}
