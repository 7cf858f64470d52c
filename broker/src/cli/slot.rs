//! `hornpipe status --slot`: which request killed my worker?

use hornpipe_proto::control::{FlightReport, SlotReport};

use super::output::harmless;
use super::table::{age, table};

/// One slot on a screen of 100 columns: its processes, how the last ones ended, what they had.
pub(super) fn screen(report: &SlotReport) -> String {
    let mut lines = vec![format!("slot {}", report.slot)];
    let worker = |worker: &hornpipe_proto::control::WorkerReport| {
        [
            worker.incarnation.to_string(),
            worker.pid.map_or("-".into(), |pid| pid.to_string()),
            worker.state.clone(),
            age(worker.age_ms),
            worker.requests.to_string(),
            worker.generation.to_string(),
        ]
    };
    if report.workers.is_empty() {
        lines.push("closed: what is left is what it had before".into());
    } else {
        let head = ["INC", "PID", "STATE", "AGE", "REQUESTS", "GEN"];
        lines.extend(table(head, report.workers.iter().map(worker).collect()));
    }
    for incarnation in &report.adopted {
        lines.push(format!(
            "incarnation {incarnation} is an earlier router's: what that gave it is not known"
        ));
    }
    if !report.exits.is_empty() {
        let exit = |exit: &hornpipe_proto::control::ExitReport| {
            [
                exit.incarnation.to_string(),
                exit.pid.map_or("-".into(), |pid| pid.to_string()),
                age(exit.ago_ms),
                cut(&harmless(&exit.reason), 70),
            ]
        };
        lines.push(String::new());
        lines.extend(table(["INC", "PID", "ENDED", "WHY"], report.exits.iter().map(exit).collect()));
    }
    lines.push(String::new());
    lines.extend(flights(&report.flights));
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn flights(flights: &[FlightReport]) -> Vec<String> {
    if flights.is_empty() {
        return vec!["no requests yet".into()];
    }
    let row = |flight: &FlightReport| {
        let outcome = match &flight.ending {
            Some(ending) => format!("{}: {}", flight.outcome, harmless(ending)),
            None => flight.outcome.clone(),
        };
        [
            flight.incarnation.to_string(),
            cut(&harmless(&flight.name), 16),
            flight.client.to_string(),
            flight.attempt.to_string(),
            amount(flight.size),
            flight.reply_size.map_or("-".into(), amount),
            time(flight.wait_us),
            time(flight.run_us),
            memory(flight),
            cut(&outcome, 26),
        ]
    };
    let head = ["INC", "REQUEST", "CLIENT", "TRY", "SIZE", "REPLY", "WAIT", "RUN", "MEMORY", "OUTCOME"];
    table(head, flights.iter().map(row).collect())
}

fn memory(flight: &FlightReport) -> String {
    match (flight.memory_before, flight.memory_after) {
        (Some(before), Some(after)) => format!("{}>{}", amount(before), amount(after)),
        _ => "-".into(),
    }
}

/// A number of bytes in at most five signs.
fn amount(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let mut scaled = bytes;
    for unit in units {
        if scaled < 10_000 {
            return format!("{scaled}{unit}");
        }
        scaled /= 1024;
    }
    format!("{scaled}P")
}

/// A time in at most six signs, as exact as they allow.
fn time(microseconds: u64) -> String {
    match microseconds {
        0..10_000 => format!("{microseconds}us"),
        10_000..10_000_000 => format!("{}ms", microseconds / 1000),
        _ => age(microseconds / 1000),
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use hornpipe_proto::control::ExitReport;

    use super::*;

    #[test]
    fn the_longest_of_everything_fits_a_screen() {
        let flight = FlightReport {
            incarnation: 1234,
            name: "n".repeat(64),
            client: 123_456,
            attempt: 2,
            size: 67_108_864,
            reply_size: Some(67_108_864),
            wait_us: 9_999_999,
            run_us: 86_400_000_000 * 9,
            outcome: "lost".into(),
            ending: Some("announced: \x1b[31m and more of it, and still more".into()),
            memory_before: None,
            memory_after: None,
        };
        let report = SlotReport {
            slot: 1023,
            workers: Vec::new(),
            adopted: vec![7],
            exits: vec![ExitReport {
                incarnation: 1234,
                pid: Some(4_194_304),
                reason: "r".repeat(200),
                ago_ms: 86_400_000,
            }],
            flights: vec![flight],
        };
        let screen = screen(&report);
        let longest = screen.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{longest:?}\n{screen}");
        assert!(!screen.contains('\x1b'));
    }
}
