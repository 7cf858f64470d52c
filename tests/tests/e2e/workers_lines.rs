//! `--lines`: a long-lived program, one line in, one line out.

use hornpipe_tests::harness::{Process, Serve, hornpipe};

fn lines(command: &str) -> Serve {
    Serve::bare(1).options(["--lines"]).program(["sh", "-c", command])
}

#[test]
fn each_request_is_a_line_and_so_is_its_reply() {
    let broker = Serve::bare(2).options(["--lines"]).program(["sed", "-u", "s/a/b/"]).start();
    let client = broker.client();
    for number in 0..50 {
        assert_eq!(client.ask_text(&format!("a{number}")), format!("b{number}"));
    }
    assert_eq!(client.ask(b""), b"");
    client.send(&[b"a", b"c"]);
    assert_eq!(client.receive(), [b"bc"]);
}

#[test]
fn the_program_is_the_same_for_all_requests() {
    let broker = lines("while read line; do echo $$ $line; done").start();
    let first = broker.ask("x");
    assert_eq!(broker.ask("x"), first);
}

#[test]
fn a_body_with_a_line_break_is_an_error_and_the_program_lives() {
    let broker = lines("while read line; do echo $$; done").start();
    let pid = broker.ask("x");
    let answer = broker.ask("two\nlines");
    assert!(answer.starts_with("ERR error "), "{answer}");
    assert_eq!(broker.ask("x"), pid);
}

#[test]
fn a_program_that_ends_is_replaced_and_its_request_goes_to_the_next_one() {
    // The first one ends at the request, the second one answers.
    let broker = lines("read line; [ -e \"$line\" ] || { : >\"$line\"; exit 5; }; echo second; read line");
    let broker = broker.start();
    let file = broker.folder().file("first").display().to_string();
    assert_eq!(broker.ask(&file), "second");
    let report = broker.status();
    assert_eq!(report.requests.retried, 1);
    let last = report.workers[0].last_exit.as_ref().unwrap();
    assert_eq!(last.reason, "exit code 5");
}

#[test]
fn a_program_that_speaks_unasked_is_replaced_before_its_words_are_taken_for_a_reply() {
    let broker = lines("while read line; do echo $line; [ $line = twice ] && echo unasked; done").start();
    let client = broker.client();
    assert_eq!(client.ask_text("once"), "once");
    assert_eq!(client.ask_text("twice"), "twice");
    for number in 0..5 {
        let text = format!("number {number}");
        assert_eq!(client.ask_text(&text), text);
    }
}

#[test]
fn a_time_out_replaces_the_program() {
    let broker = lines("while read line; do [ $line = hang ] && sleep 4714; echo $line; done")
        .options(["--timeout", "500ms"])
        .start();
    let answer = broker.ask("hang");
    assert!(answer.starts_with("ERR timeout "), "{answer}");
    assert_eq!(broker.ask("go on"), "go on");
}

#[test]
fn with_another_framing_any_body_is_one_message() {
    // A program that answers each netstring with the same, read in the simplest way there is.
    let echo = "$| = 1; while (defined(my $c = getc)) { my $n = ''; while ($c ne ':') { $n .= $c; $c = getc } \
                read(STDIN, my $b, $n + 1); print \"$n:$b\" }";
    let broker = Serve::bare(2)
        .options(["--lines"])
        .options(["--framing", "netstring"])
        .program(["perl", "-e", echo])
        .start();
    let client = broker.client();
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    for body in [&b"two\nlines\n"[..], b"", &bytes] {
        assert_eq!(client.ask(body), body);
    }
    client.send(&[b"one\n", b"", b"two"]);
    assert_eq!(client.receive(), [b"one\ntwo"]);
}

#[test]
fn a_service_of_the_file_has_a_framing_of_its_own() {
    let text = "frontend = 0\nbackend = 0\n[service.packed]\nlines = true\nframing = 'length'\nworkers = 1\nprogram = ['cat']\n";
    let broker = Serve::file(text, 1).start();
    let port = broker.frontend_port().to_string();
    let asked = Process::run(hornpipe(), &["req", "-s", "packed", &port, "two\nlines"]);
    assert_eq!(asked.stdout, "two\nlines\n", "{}", asked.stderr);
}
