//! HUP with changed code on the disk: good code takes over, broken code changes nothing
//! but the log.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hornpipe_tests::harness::{Broker, Folder, Serve, eventually};
use nix::sys::signal::Signal::SIGHUP;

/// Puts a script in its place in one step, as a deployment does.
fn deploy(path: &Path, body: &str) {
    let new = path.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, path).unwrap();
}

fn start(script: &Path) -> Broker {
    deploy(script, "while read line; do echo one $line; done");
    let broker = Serve::bare(3).options(["--lines"]).program([script]).start();
    // A worker is ready before its shell has opened the script. One that has answered has it.
    for _each in 0..3 {
        assert_eq!(broker.ask("x"), "one x");
    }
    broker
}

#[test]
fn new_code_takes_over() {
    let folder = Folder::new();
    let script = folder.file("worker");
    let broker = start(&script);
    assert_eq!(broker.ask("x"), "one x");
    deploy(&script, "while read line; do echo two $line; done");
    assert_eq!(broker.ask("x"), "one x");
    broker.signal(SIGHUP);
    broker.wait_until("all are new", |report| {
        report.workers.len() == 3 && report.workers.iter().all(|worker| worker.generation == 1)
    });
    for _ in 0..3 {
        assert_eq!(broker.ask("x"), "two x");
    }
}

#[test]
fn broken_code_changes_nothing_but_the_log() {
    let folder = Folder::new();
    let script = folder.file("worker");
    let broker = start(&script);
    let workers = broker.workers();
    for (times, broken) in ["echo cannot find my library >&2; exit 9", "kill -9 $$"].into_iter().enumerate() {
        deploy(&script, broken);
        broker.signal(SIGHUP);
        let told = |log: &str| log.matches("reload failed").count() == times + 1;
        eventually("the failure is told", || told(&broker.log()));
        for _ in 0..6 {
            assert_eq!(broker.ask("x"), "one x");
        }
        assert_eq!(broker.workers(), workers);
        assert_eq!(broker.status().pool.generation, 0);
    }
    broker.wait_for_log("cannot find my library");

    // The next reload, of good code, is none the worse for it.
    deploy(&script, "while read line; do echo three $line; done");
    broker.signal(SIGHUP);
    broker.wait_until("all are new", |report| {
        report.workers.len() == 3
            && report.workers.iter().all(|worker| worker.generation > 0 && worker.state == "waiting")
    });
    assert_eq!(broker.ask("x"), "three x");
}

#[test]
fn a_program_that_is_gone_changes_nothing_either() {
    let folder = Folder::new();
    let script = folder.file("worker");
    let broker = start(&script);
    let workers = broker.workers();
    fs::remove_file(&script).unwrap();
    broker.signal(SIGHUP);
    eventually("the failure is told", || broker.log().contains("reload failed"));
    assert_eq!(broker.workers(), workers);
    assert_eq!(broker.ask("x"), "one x");
}

#[test]
fn new_code_that_is_never_ready_changes_nothing_either() {
    let folder = Folder::new();
    let script = folder.file("worker");
    deploy(&script, "exec \"$@\"");
    let binary = hornpipe_tests::harness::hornpipe();
    let program = [script.as_os_str(), binary.as_os_str(), "worker".as_ref(), "demo".as_ref()];
    let broker = Serve::bare(2).options(["--boot-timeout", "500ms"]).program(program).start();
    let workers = broker.workers();
    deploy(&script, "exec sleep 4719");
    broker.signal(SIGHUP);
    eventually("the failure is told", || broker.log().contains("reload failed"));
    assert_eq!(broker.workers(), workers);
    assert_eq!(broker.ask("echo x"), "x");
}
