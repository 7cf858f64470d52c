//! Programs that the operator has run when something happens.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hornpipe_proto::control::{ControlRequest, Scale};
use hornpipe_tests::harness::{
    Breakable, Broker, Deadline, Folder, Process, Serve, eventually, hornpipe, send,
};
use nix::sys::signal::Signal::SIGKILL;

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn command_runs(broker: &Broker, words: &str) -> bool {
    let runs = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).replace('\0', " ").starts_with(words)
    };
    broker.session().members().iter().any(runs)
}

#[test]
fn a_hook_is_told_of_the_worker_that_starts_and_of_the_one_that_leaves() {
    let folder = Folder::new();
    let file = folder.file("happened");
    let variables = "$HORNPIPE_EVENT $HORNPIPE_SLOT.$HORNPIPE_INCARNATION $HORNPIPE_GENERATION $HORNPIPE_PID";
    let command = format!("echo \"{variables} $HORNPIPE_REASON\" >>{}", file.display());
    let start = format!("worker_start={command}");
    let exit = format!("worker_exit={command}");
    let broker = Serve::demo(1).options(["--hook", &start, "--hook", &exit]).start();
    let first = broker.workers()[&0];
    eventually("the start is told", || lines(&file) == [format!("worker_start 0.1 0 {first} ")]);
    send(first, SIGKILL);
    broker.wait_until("it is replaced", |report| {
        report.workers.iter().any(|worker| worker.incarnation == 2 && worker.state == "waiting")
    });
    eventually("the end is told", || {
        lines(&file).contains(&format!("worker_exit 0.1 0 {first} killed by SIGKILL"))
    });
    let second = broker.workers()[&0];
    eventually("the next is told", || lines(&file).contains(&format!("worker_start 0.2 0 {second} ")));
}

#[test]
fn a_reload_that_fails_runs_its_hook() {
    let folder = Folder::new();
    let (flag, file) = (folder.file("flag"), folder.file("happened"));
    let program = format!("[ -e {} ] && exit 9; exec {} worker demo", flag.display(), hornpipe().display());
    let hook = format!("reload_failed=echo \"$HORNPIPE_GENERATION $HORNPIPE_REASON\" >{}", file.display());
    let broker = Serve::bare(1).options(["--hook", &hook]).program(["sh", "-c", &program]).start();
    fs::write(&flag, "").unwrap();
    broker.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("it is told", || lines(&file) == ["1 exit code 9"]);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_pool_that_is_degraded_runs_its_hook_once() {
    let (folder, program) = (Folder::new(), Breakable::new());
    let file = folder.file("happened");
    let hook = format!("degraded=echo \"$HORNPIPE_EVENT $HORNPIPE_REASON\" >>{}", file.display());
    let broker = Serve::bare(1).options(["--hook", &hook]).program(program.program()).start();
    program.break_it();
    broker.order(&ControlRequest::Scale(Scale::To(2)));
    eventually("it is told", || lines(&file) == ["degraded 1 of 2 workers cannot start: exit code 3"]);
    broker.wait_until("it has failed again", |report| report.pool.exited >= 4);
    program.mend();
    broker.wait_until("all are there", |report| report.pool.ready == 2 && report.pool.degraded.is_none());
    assert_eq!(lines(&file).len(), 1);
}

#[test]
fn a_hook_that_fails_or_hangs_is_told_and_holds_up_nothing() {
    let hooks =
        ["--hook", "worker_start=echo such a pity; exit 3", "--hook", "worker_start=sleep 4731 & sleep 4732"];
    let broker = Serve::demo(2).options(hooks).start();
    eventually("the failure is told", || {
        let log = broker.log();
        log.contains("line=\"such a pity\"") && log.contains("hook failed hook=worker_start")
    });
    eventually("it hangs", || command_runs(&broker, "sleep 4732"));
    let served = Deadline::after(Duration::from_secs(10));
    assert_eq!(broker.ask("echo x"), "x");
    assert!(!served.is_over());
    eventually("it is killed with all that it has started", || !command_runs(&broker, "sleep 473"));
    eventually("which is told", || broker.log().contains("hook takes too long and is killed"));
}

#[test]
fn hooks_that_run_end_with_the_pool() {
    let mut broker = Serve::demo(1).options(["--hook", "worker_start=sleep 4733; sleep 4734"]).start();
    eventually("it runs", || command_runs(&broker, "sleep 4733"));
    broker.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(broker.wait().code(), Some(0));
    broker.wait_until_nothing_is_left();
}

#[test]
fn hooks_that_run_end_with_a_killed_parent() {
    let mut broker = Serve::demo(1).options(["--hook", "worker_start=sleep 4735; sleep 4736"]).start();
    broker.let_it_fail();
    eventually("it runs", || command_runs(&broker, "sleep 4735"));
    send(broker.pid(), SIGKILL);
    broker.wait();
    broker.wait_until_nothing_is_left();
}

#[test]
fn more_hooks_than_can_wait_are_dropped_and_told() {
    let mut serve = Serve::demo(4);
    for _ in 0..20 {
        serve = serve.options(["--hook", "worker_start=sleep 4737"]);
    }
    let broker = serve.start();
    eventually("it is told", || broker.log().contains("hooks dropped: too many wait"));
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_hook_for_nothing_that_happens_is_refused() {
    let outcome = Process::run(hornpipe(), &["serve", "0", "0", "--hook", "worker_died=true"]);
    assert_eq!(outcome.code(), Some(2));
    assert!(outcome.stderr.contains("there is no event \"worker_died\""), "{}", outcome.stderr);
}
