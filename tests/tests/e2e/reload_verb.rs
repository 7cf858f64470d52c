//! `hornpipe reload --wait`: broken code changes nothing and says why, whichever way it is
//! broken; reloads under full load lose nothing; and `--reload-on`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hornpipe_proto::control::{ControlRequest, StatusReport};
use hornpipe_tests::harness::{Broker, Client, Ended, Folder, Process, Serve, hornpipe, python, send};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL};

/// Puts a script in its place in one step, as a deployment does.
fn deploy(path: &Path, body: &str) {
    let new = path.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, path).unwrap();
}

/// A broker whose workers are the demo worker, started by a script. Its probe appends a
/// line to a file in the directory where the script puts the worker.
fn start(script: &Path, folder: &Folder, workers: u32) -> Broker {
    deploy(script, &good(folder));
    Serve::bare(workers)
        .options(["--probe", "count probes", "--probe-timeout", "2s", "--boot-timeout", "2s"])
        .program([script, hornpipe().as_path()])
        .start()
}

fn good(folder: &Folder) -> String {
    format!("cd {} && exec \"$1\" worker demo", folder.path().display())
}

fn begin_reload(broker: &Broker, words: &[&str]) -> Process {
    let port = broker.frontend_port().to_string();
    let control = broker.control().display().to_string();
    let arguments: Vec<&str> =
        ["reload", &port, "--control", &control].into_iter().chain(words.iter().copied()).collect();
    Process::start(hornpipe(), &arguments)
}

/// Reloads, and asks all the while: nobody may notice.
fn reload(broker: &Broker, words: &[&str]) -> Ended {
    let client = broker.client();
    let mut verb = begin_reload(broker, words);
    while verb.is_running() {
        assert_eq!(client.ask_text("echo x"), "x");
    }
    verb.wait()
}

/// How many slots have a worker that could take a request or has one.
fn served_slots(report: &StatusReport) -> usize {
    let serves = |state: &str| matches!(state, "waiting" | "processing");
    let mut slots: Vec<u32> =
        report.workers.iter().filter(|worker| serves(&worker.state)).map(|worker| worker.slot).collect();
    slots.dedup();
    slots.len()
}

#[test]
fn broken_code_changes_nothing_and_the_verb_says_why() {
    let folder = Folder::new();
    let script = folder.file("worker");
    let broker = start(&script, &folder, 3);
    let workers = broker.workers();
    let python = python().display().to_string();
    let says_ready_and_dies = format!(
        "exec {python} -c \"import os, zmq; s = zmq.Context().socket(zmq.DEALER); \
         s.connect(os.environ['HORNPIPE_BACKEND']); s.send_multipart([b'', b'waiting']); s.recv_multipart(); \
         print('not even one', flush=True); os._exit(7)\""
    );
    let faults = [
        ("echo cannot find my library >&2; exit 9", vec!["exit code 9", "cannot find my library"]),
        (&says_ready_and_dies, vec!["exit code 7", "not even one"]),
        ("echo I am slow; exec sleep 4720", vec!["not ready in time", "I am slow"]),
        ("cd /proc && exec \"$1\" worker demo", vec!["answered with an error"]),
    ];
    for (body, words) in faults {
        deploy(&script, body);
        let ended = reload(&broker, &["--wait"]);
        assert_eq!(ended.code(), Some(1), "{body}: {}", ended.stderr);
        for word in words.into_iter().chain(["slot 0", "generation 0 keeps serving"]) {
            assert!(ended.stderr.contains(word), "{word:?} is not said of {body}: {}", ended.stderr);
        }
        assert_eq!(broker.workers(), workers, "{body}");
        assert_eq!(broker.status().pool.generation, 0, "{body}");
    }
    assert_eq!(broker.log().matches("last_words=\"cannot find my library\"").count(), 1, "{}", broker.log());

    deploy(&script, &good(&folder));
    let ended = reload(&broker, &["--wait"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "reloaded: generation 5, 3 workers\n"));
    let report = broker.status();
    assert!(report.workers.iter().all(|worker| worker.generation == 5 || worker.state == "exiting"));
    assert_eq!((report.pool.generation, report.pool.reload), (5, None));
    assert!(report.requests.refused.is_empty() && report.requests.retried == 0, "{:?}", report.requests);
    broker.check_counters();
}

#[test]
fn every_worker_of_a_reload_is_probed_once_and_no_probe_is_a_request() {
    let folder = Folder::new();
    let script = folder.file("worker");
    let broker = start(&script, &folder, 4);
    let begun = reload(&broker, &["--surge", "3"]);
    assert_eq!((begun.code(), begun.stdout.as_str()), (Some(0), "reload: generation 1 has begun\n"));
    broker.wait_until("all are new", |report| report.pool.generation == 1);
    assert_eq!(fs::read_to_string(folder.file("probes")).unwrap().lines().count(), 4);
    let report = broker.status();
    assert_eq!(report.pool.probed, 4);
    assert_eq!(report.requests.received, report.requests.answered);
}

#[test]
fn who_waits_for_a_reload_hears_how_it_was_cut_short() {
    let folder = Folder::new();
    let script = folder.file("worker");
    let broker = start(&script, &folder, 2);
    let begin = |words: &[&str]| {
        deploy(&script, "exec sleep 4721");
        let before = broker.status().pool.reload;
        let verb = begin_reload(&broker, words);
        broker.wait_until("a reload is under way", |report| {
            report.pool.reload.is_some() && report.pool.reload != before
        });
        verb
    };
    let mut first = begin(&["--wait"]);
    let mut second = begin(&["--wait", "--json"]);
    let superseded = first.wait();
    assert_eq!(superseded.code(), Some(1));
    assert!(
        superseded.stderr.contains("superseded by another reload: generation 2"),
        "{}",
        superseded.stderr
    );
    assert!(send(broker.router_pid(), SIGKILL));
    let orphaned = second.wait();
    assert_eq!(orphaned.code(), Some(5), "{}", orphaned.stderr);
    assert!(orphaned.stderr.contains("its router restarts"), "{}", orphaned.stderr);

    let mut impatient = begin_reload(&broker, &["--wait", "--timeout", "100ms"]);
    assert_eq!(impatient.wait().code(), Some(5));
    let mut third = begin(&["--wait"]);
    broker.order(&ControlRequest::Stop { now: false });
    let stopped = third.wait();
    assert_eq!(stopped.code(), Some(1), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("the broker is stopping"), "{}", stopped.stderr);
}

#[test]
fn twenty_reloads_at_full_load_lose_nothing_and_never_fall_below_the_target() {
    let broker = Serve::demo(4).options(["--surge", "2"]).start();
    let clients: Vec<Client> = (0..8).map(|_number| broker.client()).collect();
    for client in &clients {
        client.send(&[b"sleep 3"]);
    }
    let mut report = broker.status();
    for generation in 1..=20 {
        if generation % 2 == 0 {
            broker.signal(SIGHUP);
        } else {
            broker.order(&ControlRequest::Reload { surge: None, wait: false });
        }
        while report.pool.generation != generation {
            for client in &clients {
                if let Some(answer) = client.receive_within(std::time::Duration::ZERO) {
                    assert_eq!(answer, [b"slept 3"]);
                    client.send(&[b"sleep 3"]);
                }
            }
            report = broker.status();
            assert!(served_slots(&report) >= 4, "generation {generation}: {report:#?}");
        }
    }
    for client in &clients {
        assert_eq!(client.receive(), [b"slept 3"]);
    }
    let report = broker.status();
    assert_eq!((report.requests.received, report.requests.retried), (report.requests.answered, 0));
    broker.check_counters();
}

#[test]
fn a_change_on_the_disk_is_a_reload() {
    let folder = Folder::new();
    let (script, source) = (folder.file("worker"), folder.file("source"));
    fs::create_dir_all(source.join("package")).unwrap();
    deploy(&script, "exec \"$1\" worker demo");
    let paths = [&script, &source].map(|path| path.display().to_string());
    let broker = Serve::bare(1)
        .options(["--reload-on", &paths[0], "--reload-on", &paths[1]])
        .program([script.as_path(), hornpipe().as_path()])
        .start();
    let client = broker.client();
    // Asked all the while: a worker that answers has proven itself.
    let wait_for = |generation: u32| {
        broker.wait_until(&format!("generation {generation} serves"), |report| {
            assert_eq!(client.ask_text("echo x"), "x");
            report.pool.generation == generation && report.pool.reload.is_none()
        });
    };
    deploy(&script, "exec \"$1\" worker demo # changed");
    wait_for(1);
    fs::create_dir_all(source.join("package/new")).unwrap();
    wait_for(2);
    for ignored in ["package/.worker.py.swp", "package/worker.py~", ".hidden"] {
        fs::write(source.join(ignored), "x").unwrap();
    }
    fs::create_dir(source.join("__pycache__")).unwrap();
    fs::write(source.join("__pycache__/worker.pyc"), "x").unwrap();
    fs::write(source.join("package/new/worker.py"), "x").unwrap();
    wait_for(3);
    let log = broker.log();
    assert!(log.contains("package/new/worker.py"), "{log}");
    assert_eq!(log.matches("changed on the disk").count(), 3, "{log}");

    // Broken, told, and tried again at the next change.
    deploy(&script, "exit 9");
    hornpipe_tests::harness::eventually("the failure is told", || broker.log().contains("reload failed"));
    assert_eq!(client.ask_text("echo x"), "x");
    deploy(&script, "exec \"$1\" worker demo");
    wait_for(5);
}

#[test]
fn a_path_that_is_not_there_is_refused_at_the_start() {
    let outcome = Serve::demo(1).options(["--reload-on", "/dev/no-such"]).run();
    assert_eq!(outcome.ended.code(), Some(2), "{}", outcome.ended.stderr);
    assert!(outcome.ended.stderr.contains("--reload-on: there is no /dev/no-such"));
}
