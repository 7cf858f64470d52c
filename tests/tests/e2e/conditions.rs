//! What workers run under: limits, niceness, umask and environment, and nobody else does.

use std::fs;

use hornpipe_tests::harness::{Broker, Process, Serve, hornpipe};

/// A program for each request that prints what it runs under.
fn printing(command: &str) -> Serve {
    Serve::bare(1).options(["--each"]).program(["sh", "-c", command])
}

fn ask(broker: &Broker) -> Vec<String> {
    broker.ask("").lines().map(str::to_owned).collect()
}

fn limit_of(pid: i32, name: &str) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

#[test]
fn workers_and_their_programs_have_the_limits_that_are_asked_for() {
    let broker = printing("ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -t")
        .options(["--rlimit", "nofile=200:300", "--rlimit", "core=0", "--rlimit", "cpu=90s"])
        .start();
    assert_eq!(ask(&broker), ["200", "300", "0", "90"]);
    assert_eq!(limit_of(broker.workers()[&0], "Max open files"), ["200", "300"]);
    for other in [broker.pid(), broker.router_pid()] {
        assert_ne!(limit_of(other, "Max open files"), ["200", "300"], "a limit is for workers alone");
    }
}

#[test]
fn workers_have_the_niceness_and_the_umask_that_are_asked_for() {
    let broker = printing("nice; umask").options(["--nice", "7", "--umask", "027"]).start();
    assert_eq!(ask(&broker), ["7", "0027"]);
}

#[test]
fn a_program_that_speaks_the_protocol_runs_under_them_too() {
    let command = format!("umask; echo \"$COLOUR\"; exec {} worker demo", hornpipe().display());
    let options = ["--umask", "077", "--env", "COLOUR=deep blue", "--rlimit", "nofile=123"];
    let broker = Serve::bare(1).program(["sh", "-c", &command]).options(options).start();
    assert_eq!(limit_of(broker.workers()[&0], "Max open files"), ["123", "123"]);
    let log = broker.log();
    assert!(log.contains("line=0077") && log.contains("line=\"deep blue\""), "{log}");
}

#[test]
fn a_variable_reaches_the_programs_and_its_path_finds_them() {
    let folder = hornpipe_tests::harness::Folder::new();
    let tool = folder.file("tool-of-this-test");
    fs::write(&tool, "#!/bin/sh\necho \"$A|$B|$HORNPIPE_SLOT\"\n").unwrap();
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:/bin:/usr/bin", folder.path().display());
    let broker = Serve::bare(1)
        .options(["--each", "--env", "A=1 = one", "--env", "B=", "--env", &path])
        .program(["tool-of-this-test"])
        .start();
    assert_eq!(ask(&broker), ["1 = one||0"]);
}

#[test]
fn a_limit_that_the_kernel_refuses_is_told() {
    // More open files than the kernel lets anybody have.
    let outcome = Serve::demo(1).options(["--rlimit", "nofile=4000000000"]).run();
    assert_eq!(outcome.ended.code(), Some(3), "{}", outcome.ended.stderr);
    let sentence = "cannot set its limit nofile to 4000000000:4000000000: operation not permitted";
    assert!(outcome.ended.stderr.contains(sentence), "{}", outcome.ended.stderr);
    assert_eq!(outcome.left, "");
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    for (option, value, sentence) in [
        ("--rlimit", "files=3", "there is no limit \"files\" here"),
        ("--rlimit", "as=3", "add a unit: 3MiB or 3B"),
        ("--rlimit", "nofile=2:1", "the soft limit, which comes first, is more than the hard one"),
        ("--nice", "20", "20 is not in -20..=19"),
        ("--umask", "888", "a umask is octal, from 000 to 777"),
        ("--env", "A", "--env A: write NAME=VALUE"),
        ("--env", "HORNPIPE_SLOT=1", "names that begin with HORNPIPE_ are the broker's own"),
    ] {
        let outcome = Process::run(hornpipe(), &["serve", "0", "0", option, value]);
        assert_eq!(outcome.code(), Some(2), "{option} {value}");
        assert!(outcome.stderr.contains(sentence), "{option} {value}: {}", outcome.stderr);
    }
}
