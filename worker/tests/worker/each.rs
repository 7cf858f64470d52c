//! The adapter for a program that runs once for each request.

use std::fs;

use hornpipe_proto::worker::{Control, JobMeta, ReplyStatus};
use hornpipe_worker::{ServeError, Settings, State, each};
use nix::sys::signal::{Signal, kill};

use crate::broker::{Broker, eventually};
use crate::process::{Process, is_alive};

fn start(program: &[&str]) -> (Broker, Process) {
    let mut broker = Broker::new();
    let process = Process::start(&broker, "each", program);
    broker.expect_worker();
    (broker, process)
}

#[test]
fn the_body_goes_in_and_the_output_comes_back_byte_for_byte() {
    let (mut broker, mut process) = start(&["cat"]);
    for body in [&b"hello\n"[..], b"", b"\0\xff\r\n"] {
        assert_eq!(broker.ask(body), body);
    }
    assert_eq!(broker.ask_with(&JobMeta::default(), &[b"one", b"", b"two"]).1, [b"onetwo"]);
    broker.stop();
    assert!(process.wait().success());
}

#[test]
fn eight_mebibytes_go_in_and_come_back() {
    let (mut broker, _process) = start(&["cat"]);
    let body: Vec<u8> = (0..=u8::MAX).cycle().take(8 * 1024 * 1024).collect();
    assert!(broker.ask(&body) == body);
}

#[test]
fn a_program_need_not_read_its_input() {
    let (mut broker, _process) = start(&["sh", "-c", "echo done"]);
    assert_eq!(broker.ask(&vec![0; 8 * 1024 * 1024]), b"done\n");
}

#[test]
fn a_program_may_close_its_output_long_before_it_ends() {
    let (mut broker, _process) = start(&["sh", "-c", "echo done; exec >/dev/null 2>&1; cat"]);
    assert_eq!(broker.ask(&vec![0; 1024 * 1024]), b"done\n");
}

#[test]
fn a_program_that_writes_much_to_both_outputs_does_not_block() {
    let (mut broker, mut process) = start(&[
        "sh",
        "-c",
        "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2",
    ]);
    broker.send_job("token", &JobMeta::default(), &[b""]);
    broker.send_control(&Control::Stop);
    // Read here as the parent of a pool would.
    assert_eq!(process.errors().len(), 6_000_000);
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("token").1.concat().len(), 3_000_000);
}

#[test]
fn exit_codes_and_signals_are_errors_with_the_last_words() {
    let (mut broker, _process) = start(&["sh"]);
    assert_eq!(broker.ask_in_vain(b"exit 3"), "exit code 3");
    assert_eq!(broker.ask_in_vain(b"echo half; echo broken >&2; exit 4"), "exit code 4: broken");
    assert_eq!(broker.ask_in_vain(b"kill -9 $$"), "killed by SIGKILL");
    assert_eq!(broker.ask_in_vain(b"kill -40 $$"), "killed by signal 40");
    let message = broker.ask_in_vain(b"seq 10000 >&2; exit 1");
    assert!(message.starts_with("exit code 1: "), "{message}");
    assert!(message.ends_with("9999\n10000"), "{message}");
    assert!(message.len() < 3000);
    assert_eq!(broker.ask(b"echo alive"), b"alive\n");
}

#[test]
fn what_a_program_says_on_standard_error_goes_to_the_workers() {
    let (mut broker, mut process) = start(&["sh", "-c", "echo note >&2; echo reply"]);
    assert_eq!(broker.ask(b""), b"reply\n");
    broker.stop();
    assert!(process.wait().success());
    assert_eq!(process.errors(), "note\n");
}

#[test]
fn a_program_knows_its_request() {
    let (mut broker, _process) = start(&["sh", "-c", "env | grep ^HORNPIPE_REQUEST | sort"]);
    let meta = JobMeta { id: "a\0b\n".into(), attempt: 2, ..JobMeta::default() };
    let reply = "HORNPIPE_REQUEST_ATTEMPT=2\nHORNPIPE_REQUEST_ID=a\u{fffd}b\n";
    assert_eq!(broker.ask_with(&meta, &[b""]).1, [reply.as_bytes()]);
    let meta = JobMeta { timeout_ms: Some(60_000), ..JobMeta::default() };
    let reply = String::from_utf8(broker.ask_with(&meta, &[b""]).1.remove(0)).unwrap();
    let timeout = reply.trim().rsplit("HORNPIPE_REQUEST_TIMEOUT_MS=").next().unwrap();
    assert!((50_000..=60_000).contains(&timeout.parse().unwrap()), "{reply}");
}

#[test]
fn programs_start_with_default_signals_in_the_workers_group() {
    let (mut broker, process) =
        start(&["sh", "-c", "trap '' PIPE; ps -o pgid= $$; grep ^Sig /proc/self/status"]);
    let reply = String::from_utf8(broker.ask(b"")).unwrap();
    assert_eq!(reply.lines().next().unwrap().trim(), process.pid().to_string());
    assert!(reply.contains("SigBlk:\t0000000000000000"), "{reply}");
    let (_, ignored) = reply.split_once("SigIgn:\t").unwrap();
    let ignored = u64::from_str_radix(ignored.lines().next().unwrap(), 16).unwrap();
    // Only the one the program itself ignores. Real-time signals are left as they were found.
    assert_eq!(ignored & 0x7fff_ffff, 1 << (Signal::SIGPIPE as u64 - 1), "{reply}");
}

#[test]
fn a_background_process_is_neither_waited_for_nor_killed_nor_left_unreaped() {
    let (mut broker, process) = start(&["sh", "-c", "sleep 300 & echo $!"]);
    let pids = [broker.ask(b""), broker.ask(b"")].map(|pid| String::from_utf8(pid).unwrap());
    for pid in &pids {
        assert!(is_alive(pid.trim()));
    }
    assert_eq!(process.children().len(), 2);
    for pid in &pids {
        kill(nix::unistd::Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    }
    eventually("the idle worker has reaped them", || process.children().is_empty());
}

#[test]
fn a_cancelled_program_is_ended_with_all_that_it_started() {
    let mut broker = Broker::new();
    let file = broker.folder.0.join("pids");
    // One that bears TERM, in a session of its own, without its parent.
    let script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$ >> \"$0\"; while :; do sleep 1; done' \"$0\" &) ; \
                  echo $$ >> \"$0\"; while :; do sleep 1; done";
    let process = Process::start(&broker, "each", &["sh", "-c", script, file.to_str().unwrap()]);
    broker.expect_worker();
    broker.send_job("token", &JobMeta::default(), &[b""]);
    broker.expect_state(State::Processing);
    let read = || fs::read_to_string(&file).unwrap_or_default();
    eventually("both have begun", || read().lines().count() == 2);
    broker.cancel("token");
    let (meta, _) = broker.expect_reply("token");
    assert_eq!((meta.status, meta.message.as_deref()), (ReplyStatus::Error, Some("cancelled")));
    for pid in read().lines() {
        assert!(!is_alive(pid));
    }
    eventually("nothing is left", || process.children().is_empty());
}

#[test]
fn a_cancelled_program_may_end_by_term() {
    let mut broker = Broker::new();
    let file = broker.folder.0.join("file");
    let script = "trap 'echo cleaned > \"$0\"; exit' TERM; echo begun > \"$0\"; while :; do sleep 0.01; done";
    let _process = Process::start(&broker, "each", &["sh", "-c", script, file.to_str().unwrap()]);
    broker.expect_worker();
    broker.send_job("token", &JobMeta::default(), &[b""]);
    broker.expect_state(State::Processing);
    eventually("it has begun", || fs::read(&file).is_ok_and(|text| text == b"begun\n"));
    broker.cancel("token");
    broker.expect_reply("token");
    assert_eq!(fs::read(&file).unwrap(), b"cleaned\n");
}

#[test]
fn too_much_output_is_an_error_and_the_limit_itself_is_not() {
    let mut broker = Broker::new();
    let _process = Process::start_limited(&broker, "each", 1000, &["sh"]);
    broker.expect_worker();
    assert_eq!(broker.ask(b"head -c 1000 /dev/zero").len(), 1000);
    let message = "the program wrote more than 1000 bytes";
    assert_eq!(broker.ask_in_vain(b"head -c 1001 /dev/zero"), message);
    assert_eq!(broker.ask_in_vain(b"yes"), message);
    assert_eq!(broker.ask(b"echo alive"), b"alive\n");
}

#[test]
fn output_may_come_drop_by_drop_and_end_without_a_line_break() {
    let (mut broker, _process) = start(&["sh", "-c", "for drop in a b c; do printf $drop; sleep 0.01; done"]);
    assert_eq!(broker.ask(b""), b"abc");
}

#[test]
fn a_child_that_floods_the_output_of_an_ended_program_is_not_waited_for() {
    let (mut broker, _process) = start(&["sh", "-c", "printf first; head -c 60000 /dev/zero; yes & exit 0"]);
    let reply = broker.ask(b"");
    assert!(reply.starts_with(b"first\0"));
    // What the program wrote is all there, and no more besides than fits into a pipe.
    assert!((60_005..=60_005 + 2 * 65_536).contains(&reply.len()), "{}", reply.len());
}

#[test]
fn endless_output_costs_the_worker_no_more_memory_than_a_reply_may_have() {
    const MIB: usize = 1024 * 1024;
    let mut broker = Broker::new();
    let process = Process::start_limited(&broker, "each", 8 * MIB, &["yes"]);
    broker.expect_worker();
    let before = process.peak_memory();
    assert_eq!(broker.ask_in_vain(b""), format!("the program wrote more than {} bytes", 8 * MIB));
    let used = process.peak_memory() - before;
    assert!(used < 24 * MIB, "{used} bytes for a limit of 8 MiB, and what a growing vector copies");
}

#[test]
fn a_program_dies_with_its_worker() {
    let (mut broker, mut process) = start(&["sh", "-c", "echo $$ > \"$(cat)\"; exec sleep 300"]);
    let file = broker.folder.0.join("pid");
    broker.send_job("token", &JobMeta::default(), &[file.to_str().unwrap().as_bytes()]);
    broker.expect_state(State::Processing);
    eventually("it has begun", || fs::read(&file).is_ok_and(|text| text.ends_with(b"\n")));
    let pid = fs::read_to_string(&file).unwrap();
    kill(process.pid(), Signal::SIGKILL).unwrap();
    process.wait();
    eventually("the program is gone", || !is_alive(pid.trim()));
}

#[test]
fn a_program_that_cannot_be_executed_is_refused_before_the_worker_waits() {
    let broker = Broker::new();
    let settings = Settings::new(&broker.endpoint);
    for (program, reason) in [
        ("no-such-program", "No such file"),
        ("/etc/passwd", "Permission denied"),
        ("/tmp", "Permission denied"),
    ] {
        match each(&settings, &[program.into()], |_state| ()) {
            Err(ServeError::NotExecutable { program: named, why }) => {
                assert_eq!(named, program);
                assert!(why.contains(reason), "{why}");
            }
            other => panic!("not refused: {other:?}"),
        }
    }
    assert!(matches!(each(&settings, &[], |_state| ()), Err(ServeError::NotExecutable { .. })));
    let mut process = Process::start(&broker, "each", &["no-such-program"]);
    assert_eq!(process.wait().code(), Some(3));
}

#[test]
fn a_program_that_vanished_fails_the_request_and_may_be_tried_elsewhere() {
    let mut broker = Broker::new();
    let program = broker.folder.0.join("program");
    std::os::unix::fs::symlink("/bin/cat", &program).unwrap();
    let _process = Process::start(&broker, "each", &[program.to_str().unwrap()]);
    broker.expect_worker();
    assert_eq!(broker.ask(b"x"), b"x");
    fs::remove_file(&program).unwrap();
    let (meta, _) = broker.ask_with(&JobMeta::default(), &[b"x"]);
    assert_eq!(meta.status, ReplyStatus::Retry);
    assert!(meta.message.unwrap().starts_with("cannot start "));
}
