//! Reports as text: tables, ages, JSON, and names that cannot draw on the terminal.

use serde::Serialize;

/// For programs.
pub(super) fn json<T: Serialize>(report: &T) -> String {
    // A report holds no map with keys that are no text, which is all that can fail.
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

/// The same as one line.
pub(super) fn json_line<T: Serialize>(report: &T) -> String {
    serde_json::to_string(report).unwrap_or_default() + "\n"
}

/// Columns as wide as their widest cell, under a head.
pub(super) fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> Vec<String> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(ToOwned::to_owned)).chain(rows).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        cells.collect::<String>()
    };
    rows.iter().map(line).collect()
}

/// A time that has passed, in its two largest units.
pub(super) fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, 0) => format!("{milliseconds}ms"),
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes:02}m"),
        (days, hours, _, _) => format!("{days}d{hours:02}h"),
    }
}
