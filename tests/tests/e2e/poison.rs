//! A request that ends every worker is poison: it is answered, kept, and can be mended.

use hornpipe_proto::Status;
use hornpipe_tests::harness::{
    Broker, Client, Ended, Folder, Process, Serve, hornpipe, python, refused, script,
};

/// Workers that `abort` and `exit3` end until the program is mended.
fn start(workers: u32, folder: &Folder) -> Broker {
    let program = [
        python().into_os_string(),
        script("crashing_worker.py").into(),
        folder.file("mended").into_os_string(),
    ];
    Serve::bare(workers).program(program).start()
}

fn operate(broker: &Broker, words: &[&str], more: &[&str]) -> Ended {
    let (port, control) = (broker.frontend_port().to_string(), broker.control().display().to_string());
    let arguments = [words, &[port.as_str()], more, &["--control", control.as_str()]].concat();
    Process::run(hornpipe(), &arguments)
}

#[test]
fn a_request_that_ends_every_worker_is_poison_and_ends_no_more_than_its_attempts() {
    let folder = Folder::new();
    let broker = start(2, &folder);
    for (body, end) in [("abort", "killed by signal 6"), ("exit3", "exit code 3")] {
        let told = format!("ERR poison 2 workers ended while they had it, the last: {end}");
        assert_eq!(broker.ask(body), told);
    }
    let report = broker.wait_until("all are there again", |report| report.pool.ready == 2);
    assert_eq!(report.pool.exited, 4, "one death for each attempt");
    assert_eq!((refused(&report, Status::Poison), report.requests.retried), (2, 2));
    assert_eq!(broker.ask("fine"), "FINE");
    broker.check_counters();
}

#[test]
fn poison_among_many_costs_the_others_nothing() {
    let folder = Folder::new();
    let broker = start(4, &folder);
    let clients: Vec<Client> = (0..60).map(|_| broker.client()).collect();
    let is_poison = |number: usize| number.is_multiple_of(50);
    let numbers: Vec<usize> = (0..300).collect();
    for round in numbers.chunks(clients.len()) {
        for (number, client) in round.iter().zip(&clients) {
            client.send(&[if is_poison(*number) { b"abort" } else { b"fine!" }]);
        }
        for (number, client) in round.iter().zip(&clients) {
            let answer = client.receive().remove(0);
            let expected = if is_poison(*number) { &b"ERR poison "[..] } else { b"FINE!" };
            assert!(answer.starts_with(expected), "{number}: {}", String::from_utf8_lossy(&answer));
        }
    }
    let report = broker.wait_until("all are there again", |report| report.pool.ready == 4);
    assert_eq!((report.pool.exited, refused(&report, Status::Poison)), (12, 6));
    broker.check_counters();
}

#[test]
fn poison_is_listed_shown_tried_again_and_gone_when_the_program_is_mended() {
    let folder = Folder::new();
    let broker = start(2, &folder);
    let none = operate(&broker, &["poison", "list"], &[]);
    assert_eq!((none.code(), none.stdout.as_str()), (Some(0), "no request is in quarantine\n"));
    assert!(broker.ask("abort me").starts_with("ERR poison "));

    let list = operate(&broker, &["poison", "list"], &[]);
    assert!(list.stdout.contains("killed by SIGABRT"), "{}", list.stdout);
    let show = operate(&broker, &["poison", "show"], &["1"]);
    assert!(show.stdout.contains("8 B, 1 frame"), "{}", show.stdout);
    assert_eq!(show.stdout.matches("killed by SIGABRT").count(), 2, "{}", show.stdout);
    let body = operate(&broker, &["poison", "show"], &["1", "--body"]);
    assert_eq!(body.stdout, "abort me");

    let still = operate(&broker, &["poison", "retry"], &["1"]);
    assert_eq!((still.code(), still.stdout.as_str()), (Some(4), ""), "{}", still.stderr);
    assert!(still.stderr.contains("poison"), "{}", still.stderr);
    std::fs::write(folder.file("mended"), "").unwrap();
    let mended = operate(&broker, &["poison", "retry"], &["1"]);
    assert_eq!((mended.code(), mended.stdout.as_str()), (Some(0), "ABORT ME\n"), "{}", mended.stderr);
    let gone = operate(&broker, &["poison", "show"], &["1"]);
    assert_eq!(gone.code(), Some(1), "{}", gone.stdout);
    broker.check_counters();
}

#[test]
fn a_large_body_comes_out_of_quarantine_as_it_went_in_and_can_be_dropped() {
    let folder = Folder::new();
    let broker = start(2, &folder);
    let body = format!("abort {}", "0123456789".repeat(70_000));
    assert!(broker.ask(&body).starts_with("ERR poison "));
    assert!(broker.ask("exit3").starts_with("ERR poison "));
    let shown = operate(&broker, &["poison", "show"], &["1", "--body"]);
    assert!(shown.stdout == body, "{} bytes of {}", shown.stdout.len(), body.len());
    let dropped = operate(&broker, &["poison", "drop"], &["1"]);
    assert_eq!(dropped.stdout, "1 request is forgotten\n", "{}", dropped.stderr);
    assert_eq!(operate(&broker, &["poison", "drop"], &["1"]).code(), Some(1));
    assert_eq!(operate(&broker, &["poison", "drop"], &["--all"]).stdout, "1 request is forgotten\n");
    let json = operate(&broker, &["poison", "list"], &["--json"]);
    assert!(json.stdout.contains("\"entries\": []"), "{}", json.stdout);
}

#[test]
fn a_worker_killed_from_outside_makes_no_poison() {
    let broker = Broker::demo(2);
    assert_eq!(broker.ask("kill9"), "ERR lost 2 workers ended without a reply, the last: killed by signal 9");
    assert!(broker.ask("exit 3").starts_with("ERR poison "));
    let report = broker.status();
    assert_eq!((refused(&report, Status::Lost), refused(&report, Status::Poison)), (1, 1));
}

#[test]
fn with_one_attempt_nothing_is_poison() {
    let broker = Serve::demo(1).options(["--attempts", "1"]).start();
    assert_eq!(broker.ask("exit 3"), "ERR lost its worker ended without a reply: exit code 3");
}
