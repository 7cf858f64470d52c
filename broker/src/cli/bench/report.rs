//! What came of it, for people and for programs.

use std::fmt::Write;

use hornpipe_client::load::Band;
use serde_json::{Value, json};

use super::Made;
use super::chaos::Toll;

/// The longest bar of the picture.
const BAR_WIDTH: u64 = 50;

pub(super) fn as_text(made: &Made) -> String {
    let outcome = &made.outcome;
    let counts = &outcome.counts;
    let latency = &outcome.latency;
    let mut text = format!(
        "sent      {} in {:.2} s\nright     {} ({:.0} a second)\nwrong     {}\nlost      {}\ndoubled   {}\n",
        counts.sent,
        outcome.elapsed.as_secs_f64(),
        counts.ok,
        outcome.rate,
        counts.wrong,
        counts.lost,
        counts.doubled
    );
    let others = [("late", counts.late), ("stray", counts.stray), ("unsent", counts.unsent)];
    let errors = counts.errors.iter().map(|(status, count)| (status.as_str(), *count));
    for (what, count) in errors.chain(others.into_iter().filter(|(_, count)| *count != 0)) {
        // Writing to a `String` cannot fail.
        writeln!(text, "{what:<9} {count}").ok();
    }
    if let Some(toll) = &made.toll {
        toll_as_text(toll, &mut text);
    }
    let times = [
        ("min", latency.min),
        ("mean", latency.mean),
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p999),
        ("max", latency.max),
    ];
    let times = times.map(|(what, microseconds)| format!("{what} {}", time(microseconds)));
    writeln!(text, "took      {}", times.join("   ")).ok();
    bands_as_text(&outcome.bands, &mut text);
    text
}

fn toll_as_text(toll: &Toll, text: &mut String) {
    writeln!(text, "killed    {} workers, one every {:?}", toll.killed, toll.every).ok();
    let done = match &toll.ledger {
        None => "not counted: the workers are not `hornpipe worker demo`".to_owned(),
        Some(runs) => {
            let how =
                if runs.has_keys { "each asked for twice with one key" } else { "the broker knows no keys" };
            format!(
                "{} of {} pieces of work once, {} lost with their worker, {} twice ({how})",
                runs.once, runs.asked, runs.unknown, runs.doubled
            )
        }
    };
    writeln!(text, "done      {done}").ok();
}

/// A line for each band of times, as long as it is full.
fn bands_as_text(bands: &[Band], text: &mut String) {
    let fullest = bands.iter().map(|band| band.count).max().unwrap_or_default().max(1);
    for band in bands {
        let width = usize::try_from((band.count * BAR_WIDTH).div_ceil(fullest)).unwrap_or_default();
        writeln!(text, "to {:>9}  {:<50} {}", time(band.limit), "#".repeat(width), band.count).ok();
    }
}

/// In the unit that reads best.
fn time(microseconds: f64) -> String {
    match microseconds {
        short if short < 1e3 => format!("{short:.0} us"),
        middling if middling < 1e6 => format!("{:.2} ms", middling / 1e3),
        long => format!("{:.2} s", long / 1e6),
    }
}

/// One object in one line.
pub(super) fn as_json(made: &Made) -> String {
    let Made { outcome, toll } = made;
    let counts = &outcome.counts;
    let latency = &outcome.latency;
    let errors: serde_json::Map<String, Value> =
        counts.errors.iter().map(|(status, count)| (status.as_str().to_owned(), (*count).into())).collect();
    let bands: Vec<Value> =
        outcome.bands.iter().map(|band| json!({ "to_us": band.limit, "count": band.count })).collect();
    let object = json!({
        "right": made.is_right(),
        "sent": counts.sent,
        "ok": counts.ok,
        "wrong": counts.wrong,
        "lost": counts.lost,
        "doubled": counts.doubled,
        "errors": errors,
        "late": counts.late,
        "stray": counts.stray,
        "unsent": counts.unsent,
        "elapsed_ms": outcome.elapsed.as_secs_f64() * 1e3,
        "rate": outcome.rate,
        "latency_us": {
            "min": latency.min,
            "mean": latency.mean,
            "p50": latency.p50,
            "p90": latency.p90,
            "p99": latency.p99,
            "p999": latency.p999,
            "max": latency.max,
        },
        "bands": bands,
        "chaos": toll.as_ref().map(toll_as_json),
    });
    format!("{object}\n")
}

fn toll_as_json(toll: &Toll) -> Value {
    let done = toll.ledger.as_ref().map(|runs| {
        json!({
            "asked": runs.asked,
            "once": runs.once,
            "unknown": runs.unknown,
            "doubled": runs.doubled,
            "keys": runs.has_keys,
        })
    });
    json!({ "every_ms": toll.every.as_secs_f64() * 1e3, "killed": toll.killed, "done": done })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hornpipe_client::load::{Counts, Latency, Outcome};
    use hornpipe_proto::Status;

    use super::super::ledger::Runs;
    use super::*;

    fn made() -> Made {
        let errors = [(Status::Busy, 2)].into_iter().collect();
        let band = |limit, count| Band { limit, count };
        let outcome = Outcome {
            counts: Counts { sent: 12, ok: 9, lost: 1, errors, late: 1, ..Counts::default() },
            elapsed: Duration::from_millis(1500),
            rate: 6.0,
            latency: Latency { min: 90.0, p50: 1500.0, max: 2_500_000.0, ..Latency::default() },
            bands: vec![band(1024.0, 1), band(2048.0, 0), band(4096.0, 8)],
        };
        Made { outcome, toll: None }
    }

    fn chaos(doubled: u64) -> Made {
        let ledger = Runs { asked: 10, once: 9 - doubled, unknown: 1, doubled, has_keys: true };
        let toll = Toll { every: Duration::from_millis(500), killed: 3, ledger: Some(ledger) };
        let mut made = Made { toll: Some(toll), ..made() };
        made.outcome.counts = Counts { sent: 12, ok: 12, ..Counts::default() };
        made
    }

    #[test]
    fn the_text_has_every_count_that_matters() {
        let expected = "\
sent      12 in 1.50 s
right     9 (6 a second)
wrong     0
lost      1
doubled   0
busy      2
late      1
took      min 90 us   mean 0 us   p50 1.50 ms   p90 0 us   p99 0 us   p99.9 0 us   max 2.50 s
to   1.02 ms  #######                                            1
to   2.05 ms                                                     0
to   4.10 ms  ################################################## 8
";
        assert_eq!(as_text(&made()), expected);
        let told = "killed    3 workers, one every 500ms\ndone      9 of 10 pieces of work once, 1 lost with their \
                    worker, 0 twice (each asked for twice with one key)\n";
        assert!(as_text(&chaos(0)).contains(told), "{}", as_text(&chaos(0)));
    }

    #[test]
    fn the_json_has_every_count_in_one_line() {
        let text = as_json(&made());
        assert_eq!(text.lines().count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["ok"], &value["right"]), (&9.into(), &false.into()));
        assert_eq!(value["errors"]["busy"], 2);
        assert_eq!(value["latency_us"]["p50"], 1500.0);
        assert_eq!(value["bands"][2]["count"], 8);
        assert!(value["chaos"].is_null());
        let value: Value = serde_json::from_str(&as_json(&chaos(0))).unwrap();
        assert_eq!((&value["chaos"]["killed"], &value["chaos"]["done"]["keys"]), (&3.into(), &true.into()));
    }

    #[test]
    fn what_is_lost_or_done_twice_under_chaos_is_not_right() {
        assert!(chaos(0).is_right());
        assert!(!chaos(1).is_right());
        let mut lost = chaos(0);
        lost.outcome.counts.errors.insert(Status::Lost, 1);
        assert!(!lost.is_right());
        lost.toll = None;
        assert!(lost.is_right(), "without chaos it is an error among others");
    }
}
