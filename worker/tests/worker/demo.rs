//! The worker that does as it is told.

use std::os::unix::process::ExitStatusExt;

use hornpipe_proto::worker::JobMeta;
use hornpipe_worker::{DEMO_VERBS, State};
use nix::sys::signal::{Signal, kill};

use crate::broker::{Broker, eventually};
use crate::process::Process;

fn start() -> (Broker, Process) {
    let mut broker = Broker::new();
    let process = Process::start(&broker, "demo", &[]);
    broker.expect_worker();
    (broker, process)
}

#[test]
fn the_verbs_do_what_they_say() {
    let (mut broker, process) = start();
    assert_eq!(broker.ask(b"echo a b\xff"), b"a b\xff");
    assert_eq!(broker.ask(b"upper quiet"), b"QUIET");
    assert_eq!(broker.ask(b"pid"), process.pid().to_string().as_bytes());
    assert_eq!(broker.ask(b"sleep 20"), b"slept 20");
    assert_eq!(broker.ask(b"alloc 3"), b"allocated 3 MiB");
    assert_eq!(broker.ask_in_vain(b"fail for a reason"), "for a reason");
    assert_eq!(broker.ask_in_vain(b"sleep well"), "a number is expected");
    assert!(broker.ask_in_vain(b"dance").ends_with(DEMO_VERBS));
    let count = format!("count {}", broker.folder.0.join("lines").display());
    assert_eq!(broker.ask(count.as_bytes()), b"1");
    assert_eq!(broker.ask(count.as_bytes()), b"2");
}

#[test]
fn a_cancelled_sleep_is_over() {
    let (mut broker, _process) = start();
    broker.send_job("token", &JobMeta::default(), &[b"sleep 600000"]);
    broker.expect_state(State::Processing);
    broker.cancel("token");
    assert_eq!(broker.expect_reply("token").0.message.as_deref(), Some("cancelled"));
}

#[test]
fn it_ends_in_every_way() {
    let (broker, mut process) = start();
    broker.send_job("token", &JobMeta::default(), &[b"exit 7"]);
    assert_eq!(process.wait().code(), Some(7));

    let (broker, mut process) = start();
    broker.send_job("token", &JobMeta::default(), &[b"kill9"]);
    assert_eq!(process.wait().signal(), Some(9));
}

#[test]
fn a_stopped_one_goes_on_when_it_is_let() {
    let (mut broker, process) = start();
    broker.send_job("token", &JobMeta::default(), &[b"stop"]);
    let stat = format!("/proc/{}/stat", process.pid());
    eventually("it is stopped", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
    kill(process.pid(), Signal::SIGCONT).unwrap();
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("token").1, [b"continued"]);
}

#[test]
fn it_misbehaves_on_the_wire_when_asked() {
    let (mut broker, _process) = start();
    broker.send_job("token", &JobMeta::default(), &[b"junk"]);
    broker.expect_state(State::Processing);
    assert_eq!(broker.receive_frames(), [b"rubbish"]);
    broker.send_job("token", &JobMeta::default(), &[b"twice upon a time"]);
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("token").1, [b"upon a time"]);
    assert_eq!(broker.expect_reply("token").1, [b"upon a time"]);
    assert_eq!(broker.ask(b"echo x"), b"x");
}
