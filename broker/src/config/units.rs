//! Durations and sizes as operators write them: a number with its unit.
//!
//! Written here because what matters is to refuse a bare number and to say
//! which units there are; the crates for this take bare numbers, months, or
//! `1G` in one of two meanings.

use std::fmt;
use std::time::Duration;

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// More digits than this after the point mean nothing in any unit here.
const FRACTION_DIGITS: usize = 9;

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitError {
    /// It does not begin with a number.
    NoNumber,
    /// The number has no unit.
    NoUnit {
        /// Two ways to write it.
        example: String,
    },
    /// The unit is not one of ours.
    UnknownUnit {
        /// What stands in its place.
        unit: String,
        /// All there are.
        known: String,
    },
    /// It is beyond what can be counted.
    TooLarge,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("a number with a unit is expected"),
            Self::NoUnit { example } => write!(f, "add a unit: {example}"),
            Self::UnknownUnit { unit, known } => write!(f, "{unit:?} is not a unit here; there are {known}"),
            Self::TooLarge => f.write_str("the number is too large"),
        }
    }
}

impl std::error::Error for UnitError {}

/// A duration: `250ms`, `30s`, `1.5m`, `1h`.
///
/// # Errors
/// Says what is missing.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text);
    if unit.is_empty() && !number.is_empty() {
        return Err(UnitError::NoUnit { example: format!("{number}s or {number}ms") });
    }
    quantity(number, unit, DURATION_UNITS).map(Duration::from_nanos)
}

/// A duration that may be nothing, which needs no unit.
///
/// # Errors
/// Says what is missing.
pub(super) fn duration_or_zero(text: &str) -> Result<Duration, UnitError> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

/// A duration, where a bare number means seconds: for options that other
/// programs had before us.
///
/// # Errors
/// As [`duration`], but for a missing unit.
pub fn duration_or_seconds(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text);
    let unit = if unit.is_empty() { "s" } else { unit };
    quantity(number, unit, DURATION_UNITS).map(Duration::from_nanos)
}

/// A size in bytes: `512B`, `10kB`, `64MiB`.
///
/// # Errors
/// Says what is missing.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    if unit.is_empty() && !number.is_empty() {
        return Err(UnitError::NoUnit { example: format!("{number}MiB or {number}B") });
    }
    quantity(number, unit, SIZE_UNITS)
}

/// A duration as an operator would write it.
pub fn show_duration(duration: Duration) -> String {
    show(duration.as_nanos(), DURATION_UNITS)
}

/// A size as an operator would write it.
pub fn show_size(bytes: u64) -> String {
    show(u128::from(bytes), SIZE_UNITS)
}

/// In the largest unit that leaves no fraction.
fn show(quantity: u128, units: &[(&str, u64)]) -> String {
    let fitting = |(_, factor): &&(&str, u64)| quantity.is_multiple_of(u128::from(*factor)) && quantity != 0;
    let largest = units.iter().filter(fitting).max_by_key(|(_, factor)| *factor).or(units.first());
    largest.map(|(unit, factor)| format!("{}{unit}", quantity / u128::from(*factor))).unwrap_or_default()
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn quantity(number: &str, unit: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    if number.is_empty() {
        return Err(UnitError::NoNumber);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(|| {
        let known: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        UnitError::UnknownUnit { unit: unit.to_owned(), known: known.join(", ") }
    })?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') || FRACTION_DIGITS < fraction.len() {
        return Err(UnitError::NoNumber);
    }
    let digits = |text: &str| text.parse::<u128>().map_err(|_beyond| UnitError::TooLarge);
    let scale = fraction.chars().fold(1_u128, |scale, _digit| scale * 10);
    let factor = u128::from(*factor);
    let whole = digits(whole)?.checked_mul(factor).ok_or(UnitError::TooLarge)?;
    let total = whole.checked_add(digits(fraction)? * factor / scale).ok_or(UnitError::TooLarge)?;
    u64::try_from(total).map_err(|_beyond| UnitError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_its_unit() {
        for (text, milliseconds) in
            [("250ms", 250), ("30s", 30_000), ("1.5m", 90_000), ("1h", 3_600_000), ("2 s", 2_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn a_size_is_a_number_with_its_unit() {
        for (text, bytes) in [
            ("512B", 512),
            ("10kB", 10_000),
            ("64MiB", 64 << 20),
            ("0.5GiB", 1 << 29),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        let told = |error: UnitError| error.to_string();
        assert_eq!(told(duration("30").unwrap_err()), "add a unit: 30s or 30ms");
        assert_eq!(told(size("64").unwrap_err()), "add a unit: 64MiB or 64B");
        assert_eq!(told(duration("1d").unwrap_err()), "\"d\" is not a unit here; there are ms, s, m, h");
        assert!(told(size("1G").unwrap_err()).contains("MiB, GB, GiB"));
        for text in ["", "s", "-1s", ".5s", "1.s", "1.2.3s", "1.0000000000s", "+1s", "soon"] {
            assert_eq!(duration(text), Err(UnitError::NoNumber), "{text:?}");
        }
        for text in ["99999999999h", "9999999999999999999999999999999999999999999s"] {
            assert_eq!(duration(text), Err(UnitError::TooLarge), "{text}");
        }
        assert_eq!(size("99999999999GiB"), Err(UnitError::TooLarge));
    }

    #[test]
    fn a_bare_number_means_seconds_only_where_it_always_did() {
        assert_eq!(duration_or_seconds("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration_or_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration_or_seconds("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["250ms", "30s", "90s", "2m", "1h", "0ms"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["1B", "10kB", "64MiB", "256MiB", "1GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }
}
