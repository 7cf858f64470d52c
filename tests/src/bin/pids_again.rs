//! Gives the pids of dead workers to strangers, and fails if the broker signals one.
//!
//! To be run as the first process of a pid namespace, where nobody else takes the pids:
//! `unshare --pid --fork --mount-proc pids_again`
#![expect(clippy::print_stdout, reason = "its reader sits at a terminal")]
#![expect(clippy::indexing_slicing, reason = "it fails by panicking, as tests do")]

use std::fs;
use std::time::Duration;

use hornpipe_proto::control::{ControlRequest, Scale};
use hornpipe_tests::harness::{
    Broker, Deadline, HALT_TIMEOUT, Process, Serve, eventually, let_pass, python, script, send,
};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL};

/// Longer than everything that the broker had in store for the dead: TERM is followed
/// by KILL after 5 s.
const AFTERMATH: Duration = Duration::from_secs(7);

/// The number of the process that was started last, in this namespace.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

fn main() {
    assert_eq!(std::process::id(), 1, "a pid namespace is needed: unshare --pid --fork --mount-proc");
    let stubborn = [python().into_os_string(), script("stubborn_worker.py").into()];
    let timeout = format!("{}ms", HALT_TIMEOUT.as_millis());
    let broker = Serve::bare(4).program(stubborn).options(["--timeout", &timeout, "--drain", "10s"]).start();
    let before = broker.workers();
    // Two that have been told to end, and would be killed: one for its time-out, one for a
    // pool that shrinks. Both are killed by somebody else instead.
    let clients = [broker.client(), broker.client(), broker.client(), broker.client()];
    for client in &clients {
        client.send(&[b"hang"]);
    }
    broker.wait_for_in_flight(4);
    broker.order(&ControlRequest::Scale(Scale::To(1)));
    for client in &clients {
        assert!(client.receive()[0].starts_with(b"ERR timeout "));
    }
    let strangers: Vec<Stranger> = before.values().filter_map(|pid| Stranger::replace(*pid)).collect();
    // The one that stays may have been replaced under the pid of another.
    assert!(strangers.len() >= 3, "no pid was used again: {before:?}, {}", strangers.len());
    // A reload signals every worker of the old generation.
    broker.signal(SIGHUP);
    let_pass(AFTERMATH);
    expect_alive(&broker, strangers);
    churn(&broker);
}

/// Workers die and strangers are born, over and over, with the same few pids.
fn churn(broker: &Broker) {
    broker.wait_for_idle(1);
    let time = Deadline::after(Duration::from_secs(3));
    let mut strangers = Vec::new();
    while !time.is_over() {
        if let Some(pid) = broker.workers().into_values().next() {
            strangers.extend(Stranger::replace(pid));
        }
    }
    let exited = broker.status().pool.exited;
    assert!(exited > 5 && !strangers.is_empty(), "{exited} died, {} strangers", strangers.len());
    println!("{exited} workers died, and {} more strangers have their pids", strangers.len());
    expect_alive(broker, strangers);
}

fn expect_alive(broker: &Broker, mut strangers: Vec<Stranger>) {
    for stranger in &mut strangers {
        assert!(stranger.0.is_running(), "{} was signalled\n{}", stranger.0.pid(), broker.log());
    }
}

/// A process that has the pid of a dead worker and leads a group of that number.
#[derive(Debug)]
struct Stranger(Process);

impl Stranger {
    /// Kills a worker and takes its pid, unless the broker is quicker.
    fn replace(pid: i32) -> Option<Self> {
        let born = birth(pid);
        send(pid, SIGKILL);
        eventually("the parent has heard of the death", || birth(pid) != born);
        fs::write(LAST_PID, (pid - 1).to_string()).ok()?;
        // It becomes the leader of a session in its own place.
        let stranger = Process::start("setsid", &["sleep", "4724"]);
        (stranger.pid() == pid).then_some(Self(stranger))
    }
}

/// When the process that has this pid was started; it tells one from the next.
fn birth(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}
