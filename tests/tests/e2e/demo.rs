//! `hornpipe demo`: the tour goes to its end, with Python's index or without, and leaves nothing.

use hornpipe_tests::harness::{DEADLINE, Ended, Process, hornpipe, python};

fn tour(options: &[&str]) -> Ended {
    let mut tour = Process::start(hornpipe(), &[&["demo", "--fast"], options].concat());
    // Many steps, each of which has its own deadline.
    tour.wait_for(5 * DEADLINE).unwrap_or_else(|| panic!("it does not end:\n{}", tour.stdout()))
}

/// What both tours show, in this order.
#[track_caller]
fn assert_shown(ended: &Ended, pieces: &[&str]) {
    assert_eq!(ended.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    let mut rest = ended.stdout.as_str();
    for piece in pieces {
        let Some((_, behind)) = rest.split_once(piece) else {
            panic!("{piece:?} is missing, or comes too early:\n{}", ended.stdout);
        };
        rest = behind;
    }
    assert!(!ended.stdout.contains(" 0 requests in"), "{}", ended.stdout);
}

#[test]
fn the_index_is_loaded_once_and_survives_all_that_is_done_to_its_workers() {
    let python = python();
    let ended = tour(&["--python", python.to_str().unwrap()]);
    assert_shown(
        &ended,
        &[
            "-- python3 -m hornpipe search.py\n",
            ", 8 workers ready after ",
            "  memory ",
            " MB shared once + ",
            " files, ",
            "asyncio/",
            "$ kill -TTIN ",
            "  12 workers",
            "$ kill -9 ",
            " works again after ",
            "  slept 1000\n",
            "attempt 2",
            "reload",
            "generation 1, 12 workers\n",
            " 0 lost or wrong, ",
        ],
    );
}

#[test]
fn without_python_it_says_what_is_missing_and_goes_on_with_the_demo_worker() {
    let ended = tour(&["--python", "/no/such/python"]);
    assert_shown(
        &ended,
        &[
            "No index today (/no/such/python cannot be run: ",
            "--python PATH names another",
            "-- hornpipe worker demo\n",
            "  AHOY\n",
            "  slept 1000\n",
            "attempt 2",
            "generation 1, 12 workers\n",
            " 0 lost or wrong, ",
        ],
    );
}
