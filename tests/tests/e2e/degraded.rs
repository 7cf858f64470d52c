//! Workers that cannot be had: the others serve, the machine has peace, the log stays
//! short, and everything is as before once the cause is gone.

use std::path::Path;
use std::time::Duration;

use hornpipe_proto::control::{ControlRequest, Scale};
use hornpipe_tests::harness::{Breakable, Broker, PidsLimit, Process, Serve, let_pass, send};
use nix::sys::signal::Signal::SIGKILL;

fn breakable(workers: u32) -> (Broker, Breakable) {
    let program = Breakable::new();
    (Serve::bare(workers).program(program.program()).start(), program)
}

fn deaths_told(broker: &Broker) -> usize {
    broker.log().lines().filter(|line| line.contains("worker died")).count()
}

#[test]
fn workers_that_end_at_once_are_a_degraded_pool_with_few_forks_and_few_lines() {
    let (broker, program) = breakable(3);
    program.break_it();
    broker.order(&ControlRequest::Scale(Scale::To(11)));
    let report = broker.wait_until("it is degraded", |report| {
        report.pool.degraded.as_ref().is_some_and(|why| why.starts_with("8 of 11 workers cannot start"))
    });
    assert!(report.pool.degraded.unwrap().ends_with("exit code 3"));
    assert_eq!(report.phase, "serving");
    let_pass(Duration::from_secs(5));
    let report = broker.status();
    // The earliest moments of a slot's forks, in milliseconds after its first.
    let forks = [0, 100, 300, 700, 1500, 3100, 6300, 12_700, 22_700, 32_700, 42_700, 52_700];
    let most = forks.iter().filter(|after| **after <= report.uptime_ms).count() as u64;
    assert!(report.pool.spawned <= 3 + 8 * most, "{} forks", report.pool.spawned);
    let seconds = usize::try_from(report.uptime_ms / 1000).unwrap();
    let told = deaths_told(&broker);
    assert!(8 <= told && told <= 8 + seconds + 2, "{told} lines in {seconds} s");
    let log = broker.log();
    assert!(log.contains("the database is not there") && log.contains("untold="), "{log}");
    assert_eq!(log.matches("degraded").count(), 1, "{log}");
    for number in 0..20 {
        assert_eq!(broker.ask(&format!("echo {number}")), number.to_string());
    }
    program.mend();
    let report = broker
        .wait_until("all are there", |report| report.pool.ready == 11 && report.pool.degraded.is_none());
    assert_eq!(report.pool.target, 11);
    assert_eq!(broker.log().matches("restored").count(), 1);
}

#[test]
fn a_pool_whose_program_is_mended_serves_again_by_itself() {
    let (broker, program) = breakable(2);
    program.break_it();
    for pid in broker.workers().into_values() {
        send(pid, SIGKILL);
    }
    broker.wait_until("it fails", |report| report.phase == "failing" && report.pool.degraded.is_some());
    assert!(broker.ask("echo x").starts_with("ERR unavailable"));
    program.mend();
    broker.wait_until("it serves", |report| report.phase == "serving" && report.pool.ready == 2);
    assert_eq!(broker.ask("echo x"), "x");
    broker.wait_until("nothing is missing", |report| report.pool.degraded.is_none());
}

/// Sets how many descriptors the parent may have.
fn limit_descriptors(broker: &Broker, limit: &str) {
    let (pid, limit) = (broker.pid().to_string(), format!("--nofile={limit}:"));
    let ended = Process::run("prlimit", &["--pid", &pid, &limit]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
}

#[test]
fn a_parent_without_descriptors_goes_on_with_what_lives() {
    let broker = Broker::demo(2);
    // Not one more than it has.
    let taken = |number: &u32| Path::new(&format!("/proc/{}/fd/{number}", broker.pid())).exists();
    let free = (0..1024).find(|number| !taken(number)).unwrap();
    limit_descriptors(&broker, &free.to_string());
    broker.order(&ControlRequest::Scale(Scale::To(4)));
    broker.wait_until("it is degraded", |report| {
        report
            .pool
            .degraded
            .as_ref()
            .is_some_and(|why| why.starts_with("2 of 4 workers cannot start: cannot fork"))
    });
    for number in 0..50 {
        assert_eq!(broker.ask(&format!("echo {number}")), number.to_string());
    }
    let_pass(Duration::from_secs(2));
    let seconds = usize::try_from(broker.status().uptime_ms / 1000).unwrap();
    let told = deaths_told(&broker);
    assert!(told <= 2 + seconds + 2, "{told} lines in {seconds} s");
    limit_descriptors(&broker, "1024");
    broker.wait_until("all are there", |report| report.pool.ready == 4 && report.pool.degraded.is_none());
    assert_eq!(broker.ask("echo x"), "x");
    broker.check_counters();
}

#[test]
fn a_parent_that_may_not_fork_goes_on_with_what_lives() {
    let Some(group) = PidsLimit::new() else { return };
    let broker = Broker::demo(2);
    group.take_in(broker.pid());
    group.close();
    let killed = broker.workers()[&0];
    send(killed, SIGKILL);
    let report = broker.wait_until("it is degraded", |report| report.pool.degraded.is_some());
    let why = report.pool.degraded.unwrap();
    assert!(why.starts_with("1 of 2 workers cannot start: cannot fork: "), "{why}");
    assert_eq!((report.phase.as_str(), report.pool.ready), ("serving", 1));
    for number in 0..50 {
        assert_eq!(broker.ask(&format!("echo {number}")), number.to_string());
    }
    group.open();
    broker.wait_until("all are there", |report| report.pool.ready == 2 && report.pool.degraded.is_none());
    assert_eq!(broker.ask("echo x"), "x");
    broker.check_counters();
}
