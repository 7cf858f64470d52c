//! Programs that tell messages apart by more than line breaks, and get it wrong.

use std::time::Duration;

use hornpipe_proto::worker::{JobMeta, ReplyStatus};
use hornpipe_worker::State;

use crate::broker::Broker;
use crate::process::Process;

/// Answers each message with the same, unless it says what bytes to write instead of an answer.
const NETSTRINGS: &str = r#"
    $| = 1;
    while (defined(my $digit = getc)) {
        my $length = '';
        while ($digit ne ':') { $length .= $digit; $digit = getc; }
        read STDIN, my $body, $length;
        getc;
        if ($body =~ s/^raw //) { print $body; }
        elsif ($body =~ s/^last //) { print $body; exit 4; }
        elsif ($body eq 'drop by drop') { for (split //, '3:abc,') { syswrite STDOUT, $_; select undef, undef, undef, 0.01; } }
        else { print length($body), ":$body,"; }
    }"#;

const LENGTHS: &str = r"
    $| = 1;
    while (read STDIN, my $head, 4) {
        read STDIN, my $body, unpack 'N', $head;
        if ($body =~ s/^raw //) { print $body; }
        elsif ($body =~ s/^last //) { print $body; exit 4; }
        else { print pack('N', length $body), $body; }
    }";

const BOTH: [(&str, &str); 2] = [("netstring", NETSTRINGS), ("length", LENGTHS)];

/// The longest reply.
const LIMIT: usize = 9 * 1024 * 1024;

fn start((framing, script): (&str, &str)) -> (Broker, Process) {
    let mut broker = Broker::new();
    let process = Process::start_limited(&broker, framing, LIMIT, &["perl", "-e", script]);
    broker.expect_worker();
    (broker, process)
}

#[test]
fn any_body_goes_in_and_comes_back() {
    for kind in BOTH {
        let (mut broker, mut process) = start(kind);
        let all: Vec<u8> = (0..=u8::MAX).cycle().take(8 * 1024 * 1024).collect();
        for body in [&b"hello"[..], b"", b"two\nlines\n", b"\0\xff\r\n:,", &all] {
            assert!(broker.ask(body) == body, "{}: {} bytes", kind.0, body.len());
        }
        let joined = broker.ask_with(&JobMeta::default(), &[b"one", b"", b"two"]).1;
        assert_eq!(joined, [b"onetwo"], "frames are joined");
        broker.stop();
        assert!(process.wait().success());
    }
}

#[test]
fn an_answer_may_come_drop_by_drop() {
    let (mut broker, _process) = start(BOTH[0]);
    assert_eq!(broker.ask(b"drop by drop"), b"abc");
    assert_eq!(broker.ask(b"next"), b"next");
}

#[test]
fn an_answer_that_cannot_be_read_is_an_error_and_the_end() {
    let too_much = format!("the program announced a reply of more than {LIMIT} bytes");
    for (kind, answer, message) in [
        (
            BOTH[0],
            &b"ahoy"[..],
            "the program's reply cannot be read: a netstring begins with its length in digits",
        ),
        (BOTH[0], b"04:ahoy,", "the program's reply cannot be read: the length of a netstring begins with 0"),
        (
            BOTH[0],
            b"4;ahoy,",
            "the program's reply cannot be read: no colon behind the length of a netstring",
        ),
        (BOTH[0], b"3:ahoy,", "the program's reply cannot be read: no comma behind a netstring"),
        (BOTH[0], b"99999999999999999999999:", &too_much),
        (BOTH[1], b"\xff\xff\xff\xff", &too_much),
    ] {
        let (mut broker, mut process) = start(kind);
        assert_eq!(broker.ask_in_vain(&[b"raw ", answer].concat()), message);
        assert_eq!(process.wait().code(), Some(1), "{answer:?}");
    }
}

#[test]
fn what_cannot_be_read_and_was_not_asked_for_is_no_clients_error() {
    let mut broker = Broker::new();
    let file = broker.folder.0.join("file");
    let script = "while [ ! -e \"$0\" ]; do sleep 0.01; done; echo welcome; exec sleep 300";
    let program = ["sh", "-c", script, file.to_str().unwrap()];
    let mut process = Process::start(&broker, "netstring", &program);
    broker.expect_worker();
    broker.send_job("token", &JobMeta::default(), &[b"question"]);
    broker.expect_state(State::Processing);
    std::fs::write(&file, "").unwrap();
    assert_eq!(process.wait().code(), Some(1));
    assert!(broker.hears_nothing_for(Duration::from_millis(20)));
}

#[test]
fn an_answer_that_ends_with_its_program_halfway_is_none() {
    for (kind, answer) in
        [(BOTH[0], &b"last 5:aho"[..]), (BOTH[0], b"last 4:ahoy"), (BOTH[1], b"last \0\0\0\x05ahoy")]
    {
        let (mut broker, mut process) = start(kind);
        broker.send_job("token", &JobMeta::default(), &[answer]);
        broker.expect_state(State::Processing);
        assert_eq!(process.wait().code(), Some(4));
        assert!(broker.hears_nothing_for(Duration::from_millis(20)));
    }
}

#[test]
fn what_lies_behind_an_answer_is_nobodys_and_the_end() {
    for (kind, answer) in [(BOTH[0], &b"raw 3:one,3:two,"[..]), (BOTH[1], b"raw \0\0\0\x03one\0")] {
        let (mut broker, mut process) = start(kind);
        let (meta, body) = broker.ask_with(&JobMeta::default(), &[answer]);
        assert_eq!((meta.status, body), (ReplyStatus::Ok, vec![b"one".to_vec()]));
        assert_eq!(process.wait().code(), Some(1));
    }
}
