//! Who has a dead worker's pid, and who was started by a dead worker.

use std::collections::BTreeSet;

use hornpipe_tests::harness::{Process, Serve, eventually, is_alive, python, script, send, unshare};
use nix::sys::signal::Signal::SIGKILL;

#[test]
fn a_stranger_that_gets_a_dead_workers_pid_is_never_signalled() {
    let Some(words) = unshare() else { return };
    let ended = Process::run("unshare", &[words, &[env!("CARGO_BIN_EXE_pids_again")]].concat());
    assert_eq!(ended.code(), Some(0), "{}\n{}", ended.stdout, ended.stderr);
}

#[test]
fn what_a_killed_worker_has_started_is_killed_with_it() {
    let worker = format!("exec {} {}", python().display(), script("plain_worker.py").display());
    // One that heeds no signal, one that has lost its parent, one that has children itself.
    let command = format!(
        "(trap '' TERM HUP INT; sleep 4720 & wait) & (sleep 4721 &) & sh -c 'sleep 4722 & sleep 4723' & {worker}"
    );
    let broker = Serve::bare(2).program(["sh", "-c", &command]).start();
    let others = BTreeSet::from([broker.pid(), broker.router_pid()]);
    let members = || BTreeSet::from_iter(broker.session().members());
    eventually("all are started", || {
        ["4720", "4721", "4722", "4723"]
            .iter()
            .all(|word| broker.session().describe().matches(&format!("] sleep {word}")).count() == 2)
    });
    let before: BTreeSet<i32> = members().difference(&others).copied().collect();
    for pid in broker.workers().into_values() {
        send(pid, SIGKILL);
    }
    eventually("nothing of them is left", || !before.iter().any(|pid| is_alive(*pid)));
    let report = broker.wait_for_idle(2);
    assert_eq!(report.pool.exited, 2, "only workers are counted");
    assert_eq!(broker.ask("x"), "X");
}
