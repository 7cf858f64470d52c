//! A start that cannot succeed says why, with an exit code of its own, and leaves nothing.

use std::time::Duration;

use hornpipe_tests::harness::{Broker, Outcome, Process, Serve, eventually, hornpipe};

fn expect(outcome: &Outcome, code: i32, words: &[&str]) {
    let stderr = &outcome.ended.stderr;
    assert_eq!(outcome.ended.code(), Some(code), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not said:\n{stderr}");
    }
    assert_eq!(outcome.left, "", "processes are left behind");
    assert!(outcome.ended.waited < Duration::from_secs(15), "it took {:?}", outcome.ended.waited);
}

#[test]
fn the_start_up_screen_tells_how_to_go_on() {
    let broker = Broker::demo(2);
    let port = broker.frontend_port().to_string();
    let endpoints = [broker.frontend(), broker.backend()];
    eventually("the screen is printed", || broker.screen().contains("stop"));
    let screen = broker.screen();
    let words =
        [endpoints[0], endpoints[1], &broker.pid().to_string(), &port, "worker", "scale", "status", "stop"];
    for word in words {
        assert!(screen.contains(word), "{word:?} is not on the screen:\n{screen}");
    }
    assert!(screen.lines().count() <= 24);
}

#[test]
fn a_second_instance_on_the_same_ports_is_refused_and_the_first_is_undisturbed() {
    let first = Broker::demo(2);
    let workers = first.workers();
    let (frontend, backend) = (first.frontend_port().to_string(), first.backend_port().to_string());
    let holder = first.pid().to_string();
    for ports in [(frontend.as_str(), backend.as_str()), (&frontend, "0"), ("0", &backend)] {
        let outcome = Serve::demo(2).ports(ports.0, ports.1).run();
        let taken = if ports.0 == "0" { ports.1 } else { ports.0 };
        expect(&outcome, 4, &[taken, &holder]);
    }
    for _ in 0..10 {
        let pid: i32 = first.ask("pid").parse().unwrap();
        assert!(workers.values().any(|worker| *worker == pid), "a foreign worker has answered");
    }
    assert_eq!(first.workers(), workers);
}

#[test]
fn a_second_instance_on_the_same_control_socket_is_refused() {
    let first = Broker::demo(1);
    let control = first.control().display().to_string();
    let outcome = Process::run(hornpipe(), &["serve", "0", "0", "--control", &control]);
    assert_eq!(outcome.code(), Some(4), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&control), "{}", outcome.stderr);
    assert_eq!(first.ask("echo x"), "x");
}

#[test]
fn a_program_that_does_not_exist_is_told_at_once() {
    let outcome = Serve::bare(2).program(["/no/such/program"]).run();
    expect(&outcome, 3, &["/no/such/program"]);
    let outcome = Serve::bare(2).program(["no-such-program-anywhere"]).run();
    expect(&outcome, 3, &["no-such-program-anywhere"]);
    for adapter in ["--each", "--lines"] {
        let outcome = Serve::bare(2).options([adapter]).program(["/no/such/program"]).run();
        expect(&outcome, 3, &["/no/such/program"]);
    }
}

#[test]
fn a_file_that_is_no_program_is_told_at_once() {
    let outcome = Serve::bare(1).program(["/etc/passwd"]).run();
    expect(&outcome, 3, &["/etc/passwd"]);
}

#[test]
fn a_program_that_cannot_start_is_told_with_its_last_words() {
    let command = "echo the database is not there >&2; exit 17";
    let outcome = Serve::bare(2).program(["sh", "-c", command]).run();
    expect(&outcome, 3, &["the database is not there", "17"]);
}

#[test]
fn a_program_that_is_killed_at_its_start_is_told() {
    let outcome = Serve::bare(2).program(["sh", "-c", "kill -SEGV $$"]).run();
    expect(&outcome, 3, &["SIGSEGV"]);
}

#[test]
fn a_program_that_speaks_no_protocol_is_told_of_the_adapters() {
    let outcome = Serve::bare(2).program(["cat"]).run();
    expect(&outcome, 3, &["did you mean --each"]);
    let outcome = Serve::bare(2).program(["true"]).run();
    expect(&outcome, 3, &["did you mean --each"]);
}

#[test]
fn ports_out_of_range_are_usage_errors() {
    for port in ["65536", "-1", "99999999999", "tcp", "", "1.5"] {
        for ports in [(port, "0"), ("0", port)] {
            let outcome = Serve::bare(1).ports(ports.0, ports.1).run();
            expect(&outcome, 2, &[]);
            assert!(!outcome.ended.stderr.is_empty());
        }
    }
}

#[test]
fn the_same_port_twice_is_a_usage_error() {
    let outcome = Serve::bare(1).ports("16660", "16660").run();
    expect(&outcome, 2, &["16660"]);
}

#[test]
fn ports_for_other_machines_need_a_word_more() {
    let outcome = Serve::bare(1).ports("*:0", "0").run();
    expect(&outcome, 2, &["--insecure"]);
    let broker = Serve::bare(1).ports("*:0", "0").options(["--insecure"]).start();
    let client = hornpipe_tests::harness::Client::req(&format!("tcp://127.0.0.1:{}", broker.frontend_port()));
    assert_eq!(client.ask(b"x"), b"x");
}

#[test]
fn nothing_listens_beyond_loopback_by_itself() {
    let broker = Serve::bare(1).start();
    for endpoint in [broker.frontend(), broker.backend()] {
        assert!(endpoint.starts_with("tcp://127.0.0.1:"), "{endpoint}");
    }
}

#[test]
fn no_workers_of_its_own_is_a_pool_too() {
    let broker = Serve::bare(0).start();
    eventually("the screen is printed", || broker.screen().contains("backend"));
    let report = broker.status();
    assert_eq!((report.pool.target, report.workers.len()), (0, 0));
}

#[test]
fn options_that_make_no_sense_are_usage_errors() {
    let wrong: [&[&str]; 9] = [
        &["--timeout", "soon"],
        &["--timeout", "5"],
        &["--attempts", "0"],
        &["--max-body", "lots"],
        &["--workers", "-3"],
        &["--workers", "100000"],
        &["--log-level", "loud"],
        &["--no-such-option"],
        &["--each", "--lines"],
    ];
    for options in wrong {
        let arguments: Vec<&str> = ["serve", "0", "0"].iter().chain(options).copied().collect();
        let ended = Process::run(hornpipe(), &arguments);
        assert_eq!(ended.code(), Some(2), "{options:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty());
    }
}

#[test]
fn misspelt_settings_in_the_environment_are_told() {
    let binary = hornpipe();
    let ended = Process::run("env", &["HORNPIPE_ATEMPTS=3", binary.to_str().unwrap(), "serve", "0", "0"]);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("HORNPIPE_ATEMPTS"), "{}", ended.stderr);
    let ended = Process::run("env", &["HORNPIPE_ATTEMPTS=lots", binary.to_str().unwrap(), "serve", "0", "0"]);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
}
