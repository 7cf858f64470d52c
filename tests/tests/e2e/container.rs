//! In a container: as process 1 that must reap whatever nobody else does, and in a control
//! group that allows fewer processors than there are.

use std::fs;

use hornpipe_tests::harness::{
    Broker, Folder, Process, ProcessorLimit, Serve, eventually, hornpipe, python, script, send, state_of,
    status_of, unshare,
};
use nix::sys::signal::Signal::{self, SIGINT, SIGTERM};

/// The children of a process, dead ones too.
fn children(parent: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parent_of = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<i32>().ok()
    };
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// A broker that is process 1 of its namespace, and its pid as seen from here.
fn process_one(words: &[&str]) -> (Broker, i32) {
    let program = [python().into_os_string(), script("zombie_maker.py").into()];
    let wrapper = [&["unshare"], words].concat();
    let broker = Serve::bare(2).program(program).options(["--drain", "20s"]).under(wrapper).start();
    let inside = children(broker.pid());
    assert_eq!((inside.len(), broker.status().pid), (1, 1), "{inside:?}");
    (broker, inside[0])
}

fn stops_well_at(signal: Signal) {
    let Some(words) = unshare() else { return };
    let (mut broker, pid) = process_one(words);
    let client = broker.client();
    client.send(&[b"sleep 700"]);
    broker.wait_for_in_flight(1);
    send(pid, signal);
    broker.wait_until("it drains", |report| report.phase == "draining");
    assert_eq!(client.receive(), [b"slept 700"]);
    // `unshare` ends as what it has started.
    assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());
    broker.wait_until_nothing_is_left();
}

#[test]
fn as_process_1_it_drains_at_term() {
    stops_well_at(SIGTERM);
}

#[test]
fn as_process_1_it_drains_at_int() {
    stops_well_at(SIGINT);
}

#[test]
fn as_process_1_it_reaps_the_orphans_of_its_workers_and_counts_none_of_them() {
    let Some(words) = unshare() else { return };
    let (mut broker, pid) = process_one(words);
    for _request in 0..5 {
        assert_eq!(broker.ask("x"), "X");
    }
    // A hundred orphans: their parent is process 1 now.
    let strangers = || {
        let workers = broker.session().members().len();
        (children(pid).into_iter().filter(|pid| state_of(*pid) == Some('Z')).count(), workers)
    };
    eventually("all orphans have ended and none is a zombie", || strangers() == (0, 5));
    let report = broker.status();
    assert_eq!((report.pool.spawned, report.pool.exited, report.workers.len()), (2, 0, 2));
    assert!(!broker.log().contains("worker died"), "{}", broker.log());
    send(pid, SIGTERM);
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn the_number_of_workers_is_the_processor_quota_of_the_control_group() {
    let Some(group) = ProcessorLimit::of(1) else { return };
    // Without `-n`: the harness always says it, so the command is written out here.
    let folder = Folder::new();
    let control = folder.file("control.sock");
    let command = format!(
        "echo $$ > {}; exec {} serve 0 0 --control {}",
        group.entrance().display(),
        hornpipe().display(),
        control.display()
    );
    let mut process = Process::start("sh", &["-c", &command]);
    let status = || status_of(&control);
    eventually("it serves", || status().is_some_and(|report| report.phase == "serving"));
    let report = status().unwrap();
    assert_eq!((report.pool.target, report.workers.len()), (1, 1));
    send(process.pid(), SIGTERM);
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
}
