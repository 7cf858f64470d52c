//! The adapter for a long-lived program that reads a line and answers a line.

use std::fs;
use std::time::Duration;

use hornpipe_proto::worker::{Control, JobMeta};
use hornpipe_worker::State;

use crate::broker::{Broker, eventually};
use crate::process::{Process, is_alive};

/// Answers each line with the same, and does what some lines say.
const SCRIPT: &str = r#"while read -r line; do case "$line" in
    pid) echo $$;;
    exit*) exit ${line#exit };;
    kill) kill -9 $$;;
    two) echo one; echo two;;
    none) exec >&-;;
    note) echo note >&2; echo noted;;
    slow) printf a; sleep 0.01; printf b; sleep 0.01; echo c;;
    half) printf half; exit 6;;
    deaf) exec <&-; echo closed; sleep 300;;
    flood) head -c 3000000 /dev/zero >&2; echo flooded;;
    fork) sleep 300 & exit 8;;
    orphan) (sleep 0.01 &); echo left;;
    long) head -c 5000 /dev/zero | tr '\0' x; echo;;
    sleep*) echo $$ > "${line#sleep }"; sleep 300;;
    *) printf '%s\n' "$line";;
esac; done; echo finished >&2"#;

fn start() -> (Broker, Process) {
    let mut broker = Broker::new();
    let process = Process::start_limited(&broker, "lines", 4096, &["bash", "-c", SCRIPT]);
    broker.expect_worker();
    (broker, process)
}

#[test]
fn one_program_answers_line_by_line() {
    let (mut broker, mut process) = start();
    let pid = broker.ask(b"pid");
    for body in [&b"hello"[..], b"", b"carriage return\r", "größer".as_bytes()] {
        assert_eq!(broker.ask(body), body);
    }
    assert_eq!(broker.ask_with(&JobMeta::default(), &[b"one ", b"", b"line"]).1, [b"one line"]);
    assert_eq!(broker.ask(b"note"), b"noted");
    assert_eq!(broker.ask(b"pid"), pid);
    broker.stop();
    assert!(process.wait().success());
    assert_eq!(process.errors(), "note\nfinished\n");
}

#[test]
fn lines_longer_than_a_pipe_go_in_and_come_back() {
    let mut broker = Broker::new();
    let _process = Process::start(&broker, "lines", &["cat"]);
    broker.expect_worker();
    let line = vec![b'x'; 8 * 1024 * 1024];
    assert!(broker.ask(&line) == line);
}

#[test]
fn a_body_with_a_line_break_is_refused_and_not_sent() {
    let (mut broker, _process) = start();
    assert!(broker.ask_in_vain(b"one\ntwo").contains("line break"));
    assert!(broker.ask_in_vain(b"one\n").contains("line break"));
    assert_eq!(broker.ask(b"three"), b"three");
}

#[test]
fn a_program_that_ends_holding_a_request_takes_the_worker_with_it() {
    for (line, code) in [("exit 7", 7), ("exit 0", 0), ("kill", 128 + 9)] {
        let (mut broker, mut process) = start();
        broker.send_job("token", &JobMeta::default(), &[line.as_bytes()]);
        broker.expect_state(State::Processing);
        assert_eq!(process.wait().code(), Some(code));
        assert!(broker.hears_nothing_for(Duration::from_millis(20)));
    }
}

#[test]
fn an_idle_program_that_ends_takes_the_worker_with_it() {
    let mut broker = Broker::new();
    let script = "while [ ! -e \"$0\" ]; do sleep 0.01; done; exit 9";
    let file = broker.folder.0.join("file");
    let mut process = Process::start(&broker, "lines", &["sh", "-c", script, file.to_str().unwrap()]);
    broker.expect_worker();
    fs::write(&file, "").unwrap();
    assert_eq!(process.wait().code(), Some(9));
}

#[test]
fn a_program_that_closes_its_output_is_ended() {
    let (mut broker, mut process) = start();
    broker.send_job("token", &JobMeta::default(), &[b"none"]);
    broker.expect_state(State::Processing);
    process.wait();
}

#[test]
fn a_line_that_nobody_asked_for_ends_program_and_worker() {
    let (mut broker, mut process) = start();
    assert_eq!(broker.ask(b"two"), b"one");
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.errors().starts_with("two\n"));

    // It may be over before the broker has heard anything.
    let broker = Broker::new();
    let mut process = Process::start(&broker, "lines", &["sh", "-c", "echo welcome; exec cat"]);
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.errors().starts_with("welcome\n"));
}

#[test]
fn a_line_beyond_the_limit_is_an_error_and_the_end() {
    let (mut broker, mut process) = start();
    assert_eq!(broker.ask_in_vain(b"long"), "the program wrote a line of more than 4096 bytes");
    assert_eq!(process.wait().code(), Some(1));
}

#[test]
fn a_cancelled_request_ends_program_and_worker() {
    let (mut broker, mut process) = start();
    let file = broker.folder.0.join("pid");
    broker.send_job("token", &JobMeta::default(), &[format!("sleep {}", file.display()).as_bytes()]);
    broker.expect_state(State::Processing);
    eventually("it has begun", || fs::read(&file).is_ok_and(|text| text.ends_with(b"\n")));
    broker.cancel("token");
    assert_eq!(process.wait().code(), Some(128 + 15));
    assert!(!is_alive(fs::read_to_string(&file).unwrap().trim()));
}

#[test]
fn an_answer_may_come_drop_by_drop() {
    let (mut broker, _process) = start();
    assert_eq!(broker.ask(b"slow"), b"abc");
    assert_eq!(broker.ask(b"next"), b"next");
}

#[test]
fn a_last_line_without_its_line_break_is_no_answer() {
    let (mut broker, mut process) = start();
    broker.send_job("token", &JobMeta::default(), &[b"half"]);
    broker.expect_state(State::Processing);
    assert_eq!(process.wait().code(), Some(6));
    assert!(broker.hears_nothing_for(Duration::from_millis(20)));
}

#[test]
fn what_a_program_writes_before_it_reads_its_question_is_no_answer() {
    let mut broker = Broker::new();
    let file = broker.folder.0.join("file");
    let script = "while [ ! -e \"$0\" ]; do sleep 0.01; done; echo early; exec sleep 300";
    let mut process = Process::start(&broker, "lines", &["sh", "-c", script, file.to_str().unwrap()]);
    broker.expect_worker();
    broker.send_job("token", &JobMeta::default(), &[b"question"]);
    broker.expect_state(State::Processing);
    fs::write(&file, "").unwrap();
    assert_eq!(process.wait().code(), Some(1));
    assert!(broker.hears_nothing_for(Duration::from_millis(20)));
    assert!(process.errors().starts_with("early\n"));
}

#[test]
fn a_program_that_closes_its_input_is_asked_nothing_more() {
    let (mut broker, mut process) = start();
    assert_eq!(broker.ask(b"deaf"), b"closed");
    broker.send_job("token", &JobMeta::default(), &[b"question"]);
    broker.expect_state(State::Processing);
    process.wait();
    assert!(broker.hears_nothing_for(Duration::from_millis(20)));
}

#[test]
fn a_flood_on_standard_error_holds_up_no_answer() {
    let (mut broker, mut process) = start();
    broker.send_job("token", &JobMeta::default(), &[b"flood"]);
    broker.send_control(&Control::Stop);
    // Read here as the parent of a pool would.
    assert_eq!(process.errors().len(), 3_000_000 + "finished\n".len());
    broker.expect_state(State::Processing);
    assert_eq!(broker.expect_reply("token").1, [b"flooded"]);
}

#[test]
fn a_program_has_ended_when_it_has_and_not_when_its_child_lets_go_of_its_output() {
    let (mut broker, mut process) = start();
    broker.send_job("token", &JobMeta::default(), &[b"fork"]);
    broker.expect_state(State::Processing);
    assert_eq!(process.wait().code(), Some(8));
}

#[test]
fn what_a_program_leaves_behind_is_reaped() {
    let (mut broker, process) = start();
    for _ in 0..5 {
        assert_eq!(broker.ask(b"orphan"), b"left");
    }
    eventually("the program alone is left", || process.children().len() == 1);
}

#[test]
fn a_program_that_cannot_be_executed_is_refused() {
    let broker = Broker::new();
    let mut process = Process::start(&broker, "lines", &["no-such-program"]);
    assert_eq!(process.wait().code(), Some(3));
    let script = broker.folder.0.join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut process = Process::start(&broker, "lines", &[script.to_str().unwrap()]);
    assert_eq!(process.wait().code(), Some(3));
    assert!(broker.hears_nothing_for(Duration::from_millis(20)));
}
