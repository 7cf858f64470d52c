//! `--each`: a program that runs once for each request.

use std::fs;

use hornpipe_proto::client::RequestMeta;
use hornpipe_tests::harness::{Broker, Client, Serve, eventually};

fn each(command: &str) -> Serve {
    Serve::bare(1).options(["--each"]).program(["sh", "-c", command])
}

fn command_runs(broker: &Broker, words: &str) -> bool {
    let runs = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).replace('\0', " ").starts_with(words)
    };
    broker.session().members().iter().any(runs)
}

#[test]
fn the_body_is_the_programs_input_and_its_output_the_reply_byte_for_byte() {
    let broker = Serve::bare(1).options(["--each"]).program(["cat"]).start();
    let client = broker.client();
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    for body in [&b"hello\n"[..], b"no line break", b"", &bytes] {
        assert_eq!(client.ask(body), body);
    }
    client.send(&[b"one", b"", b"two"]);
    assert_eq!(client.receive(), [b"onetwo"]);
}

#[test]
fn eight_mebibytes_go_through_a_program() {
    let broker = Serve::bare(1).options(["--each"]).program(["cat"]).start();
    let body = vec![b'x'; 8 * 1024 * 1024];
    assert!(broker.client().ask(&body) == body);
}

#[test]
fn a_program_that_fails_is_an_error_with_its_last_words_and_the_worker_lives() {
    let broker =
        each("read verb; case $verb in ok) echo fine;; *) echo no such page >&2; exit 3;; esac").start();
    let workers = broker.workers();
    assert_eq!(broker.ask("bad\n"), "ERR error exit code 3: no such page");
    assert_eq!(broker.ask("ok\n"), "fine\n");
    assert_eq!(broker.workers(), workers);
    broker.wait_for_log("no such page");
}

#[test]
fn a_program_that_is_killed_is_an_error_and_the_worker_lives() {
    let broker = each("read verb; [ $verb = ok ] || kill -9 $$; echo fine").start();
    let workers = broker.workers();
    assert_eq!(broker.ask("bad\n"), "ERR error killed by SIGKILL");
    assert_eq!(broker.ask("ok\n"), "fine\n");
    assert_eq!(broker.workers(), workers);
}

#[test]
fn the_program_is_told_of_its_request_and_its_worker() {
    let variables =
        "$HORNPIPE_REQUEST_ID $HORNPIPE_REQUEST_ATTEMPT $HORNPIPE_REQUEST_TIMEOUT_MS $HORNPIPE_SLOT";
    let broker = each(&format!("echo {variables}")).start();
    let client = Client::dealer(broker.frontend());
    let meta = RequestMeta { id: "abc".into(), timeout_ms: Some(30_000), ..RequestMeta::default() };
    client.send_native(&meta, b"");
    let (_meta, body) = client.receive_native();
    let words = String::from_utf8(body.concat()).unwrap();
    let words: Vec<&str> = words.split_whitespace().collect();
    let slot = broker.status().workers[0].slot.to_string();
    assert_eq!((words[0], words[1], words[3]), ("abc", "1", slot.as_str()));
    let left: u32 = words[2].parse().unwrap();
    assert!(10_000 < left && left <= 30_000, "{left}");
}

#[test]
fn settings_of_the_broker_are_none_of_the_programs_business() {
    let broker = each("env | grep -c ^HORNPIPE_ATTEMPTS || true").start();
    assert_eq!(broker.ask("").trim(), "0");
}

#[test]
fn a_time_out_ends_the_program_with_all_that_it_has_started() {
    let broker = each("sleep 4711 & sleep 4712").options(["--timeout", "500ms"]).start();
    let answer = broker.ask("x");
    assert!(answer.starts_with("ERR timeout "), "{answer}");
    eventually("its processes are gone", || !command_runs(&broker, "sleep 471"));
    broker.wait_for_idle(1);
}

#[test]
fn a_killed_worker_takes_its_program_along_and_the_request_goes_to_another() {
    let broker =
        each("read verb; if [ -e \"$verb\" ]; then echo second; else : >\"$verb\"; sleep 4713; fi").start();
    let pid = broker.workers()[&0];
    let client = broker.client();
    let file = broker.folder().file("first");
    client.send(&[format!("{}\n", file.display()).as_bytes()]);
    eventually("the program runs", || command_runs(&broker, "sleep 4713"));
    hornpipe_tests::harness::send(pid, nix::sys::signal::Signal::SIGKILL);
    assert_eq!(client.receive(), [b"second\n"]);
    assert!(!command_runs(&broker, "sleep 4713"), "the program of a dead worker runs on");
}
