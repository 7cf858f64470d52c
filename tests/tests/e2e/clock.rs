//! The wall clock jumps by a day, and nothing happens but other dates in the log.

use std::fs;
use std::path::Path;

use hornpipe_tests::harness::{Broker, Chaos, Folder, Serve, faketime};
use std::time::Duration;

/// Sets the wall clock of everything that the broker has started.
fn jump(file: &Path, offset: &str) {
    // Renamed into its place, so that nobody reads half a line.
    let new = file.with_extension("new");
    fs::write(&new, format!("{offset}\n")).unwrap();
    fs::rename(new, file).unwrap();
}

/// The day of the last line that the broker has logged.
fn today(broker: &Broker) -> String {
    broker.ask("exit 3");
    let line = broker.log().lines().last().expect("a death is told").to_owned();
    line.split('T').next().unwrap().to_owned()
}

#[test]
fn a_wall_clock_that_jumps_by_a_day_changes_nothing_but_the_dates_in_the_log() {
    let Some(library) = faketime() else { return };
    let folder = Folder::new();
    let offset = folder.file("offset");
    jump(&offset, "+0");
    let broker = Serve::demo(3)
        .options(["--timeout", "10s", "--attempts", "1"])
        .variable("LD_PRELOAD", library)
        .variable("FAKETIME_TIMESTAMP_FILE", offset.as_os_str())
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start();
    let workers = broker.workers();
    for day in ["+1d", "-1d", "+0"] {
        let waiting = broker.client();
        waiting.send(&[b"sleep 500"]);
        broker.wait_for_in_flight(1);
        jump(&offset, day);
        assert_eq!(waiting.receive(), [b"slept 500"], "{day}");
        let time = Duration::from_secs(1);
        let load = Chaos { clients: 2, time, requests: 0, kill_every: Duration::from_hours(1) };
        load.run(&broker).check();
    }
    let report = broker.wait_for_idle(3);
    assert_eq!(broker.workers(), workers, "a worker was replaced");
    assert_eq!((report.pool.exited, report.router_life), (0, 1));
    assert!(report.requests.refused.iter().all(|(_status, count)| *count == 0), "{report:#?}");
    broker.check_counters();

    // That the clock did jump is seen in the log.
    let days = ["+1d", "-1d"].map(|day| {
        jump(&offset, day);
        today(&broker)
    });
    assert_ne!(days[0], days[1], "the clock never jumped:\n{}", broker.log());
}
