//! `hornpipe top` in a pseudo-terminal: keys do what they say, and the terminal is as it
//! was, however the view ends.

use hornpipe_tests::harness::{Broker, Ended, Process, hornpipe, python, script};

/// Plays these steps, as `tests/python/terminal.py` has them.
fn play(broker: &Broker, steps: &[&str]) -> Ended {
    let (program, port) = (hornpipe().display().to_string(), broker.frontend_port().to_string());
    let (script, control) =
        (script("terminal.py").display().to_string(), broker.control().display().to_string());
    let words = [script.as_str(), &program, "top", &port, "--control", &control, "--"];
    let words: Vec<&str> = words.into_iter().chain(steps.iter().copied()).collect();
    Process::run(python(), &words)
}

const RESTORED: &str = "code 0\nleft the screen True\nshows the cursor True\ncooked again True\n";

#[test]
fn plus_and_yes_are_one_worker_more_and_q_quits() {
    let broker = Broker::demo(2);
    let ended = play(
        &broker,
        &[
            "WAIT:SERVING",
            "KEY:+",
            "WAIT:One worker more? y/n",
            "KEY:n",
            "WAIT:up/down select",
            "KEY:+",
            "WAIT:One worker more? y/n",
            "KEY:y",
            "WAIT:workers: 2 -> 3",
            "KEY:q",
        ],
    );
    assert_eq!(ended.stdout, RESTORED, "{}", ended.stderr);
    assert_eq!(broker.status().pool.target, 3);
}

#[test]
fn the_selected_slot_is_recycled_and_the_pool_paused_and_resumed() {
    let broker = Broker::demo(3);
    let before = broker.workers();
    let ended = play(
        &broker,
        &[
            "WAIT:SERVING",
            "KEY:j",
            "KEY:r",
            "WAIT:Another process for slot 1?",
            "KEY:y",
            "WAIT:slot 1: incarnation 1 goes",
            "KEY:p",
            "WAIT:Pause:",
            "KEY:y",
            "WAIT:PAUSED",
            "KEY:p",
            "WAIT:Resume:",
            "KEY:y",
            "WAIT:SERVING",
            "KEY:?",
            "WAIT:Whatever changes something",
            "KEY:\u{3}",
        ],
    );
    assert_eq!(ended.stdout, RESTORED, "{}", ended.stderr);
    broker.wait_until("slot 1 alone has another process", |_| {
        let after = broker.workers();
        after.len() == 3 && after[&0] == before[&0] && after[&1] != before[&1] && after[&2] == before[&2]
    });
    assert_eq!(broker.status().phase, "serving");
}

#[test]
fn it_follows_the_size_of_the_terminal_and_the_life_of_the_router() {
    let broker = Broker::demo(2);
    let kill = format!("KILL:{}", broker.router_pid());
    let ended = play(
        &broker,
        &[
            "WAIT:SERVING",
            "SIZE:200x60",
            "WAIT:LAST EXIT",
            &kill,
            "UNTIL:router 2",
            "SIZE:80x24",
            "WAIT:LAST EXIT",
            "SIGNAL:15",
        ],
    );
    assert_eq!(ended.stdout, RESTORED, "{}", ended.stderr);
}

#[test]
fn without_a_terminal_it_is_one_picture_and_without_a_broker_an_error() {
    let broker = Broker::demo(1);
    let (port, control) = (broker.frontend_port().to_string(), broker.control().display().to_string());
    let once = Process::run(hornpipe(), &["top", &port, "--control", &control]);
    assert_eq!(once.code(), Some(0), "{}", once.stderr);
    assert!(once.stdout.contains("SERVING") && once.stdout.contains("SLOT"), "{}", once.stdout);
    assert!(!once.stdout.contains('\x1b'));
    let none = Process::run(hornpipe(), &["top", "1", "--control", "/no/such/socket"]);
    assert_eq!(none.code(), Some(5));
}
