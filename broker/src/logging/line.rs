//! One event as one line: of text for people, or of JSON.
//!
//! No byte of a value can end the line, colour it or move the cursor, and a line
//! is never longer than a pipe takes in one piece.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::{Colour, LogFormat};

/// A pipe takes so many bytes in one piece or not at all (PIPE_BUF): several
/// processes may write to it, and their lines must not mix. The rest is room for
/// the news that lines were dropped.
const LIMIT: usize = 4096 - 128;

/// Values are cut to the first of these lengths that makes the line fit.
const VALUE_LIMITS: [usize; 5] = [LIMIT, LIMIT / 2, 512, 64, 8];

/// `2026-11-22T10:00:00.123`: the microseconds that follow tell nobody anything.
const TIME_LEN: usize = 23;

/// Of these, `2026-11-22T10:00:00`.
const SECOND_LEN: usize = 19;

/// An event, taken apart.
#[derive(Debug)]
pub(super) struct Line {
    time: String,
    level: Level,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut line = Self::new(*event.metadata().level(), "");
        event.record(&mut line);
        line
    }

    /// A line that no event stands behind.
    pub(super) fn new(level: Level, message: &str) -> Self {
        let mut time = String::new();
        // Without the time, the rest is still worth telling.
        SystemTime.format_time(&mut Writer::new(&mut time)).ok();
        time.truncate(TIME_LEN);
        time.push('Z');
        Self { time, level, message: message.to_owned(), fields: Vec::new() }
    }

    /// The news that lines are missing.
    pub(super) fn dropped(count: u64) -> Self {
        let mut line = Self::new(Level::WARN, "log lines dropped");
        line.fields.push(("count", count.into()));
        line
    }

    /// The news that lines of one kind are missing.
    pub(super) fn left_out(level: Level, message: &str, count: u64) -> Self {
        let mut line = Self::new(level, "lines left out");
        line.fields.push(("of", message.into()));
        line.add("left_out", count);
        line
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// What tells one kind of line from another.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// When it was said, to the second.
    pub(super) fn second(&self) -> &str {
        self.time.get(..SECOND_LEN).unwrap_or(&self.time)
    }

    pub(super) fn add(&mut self, name: &'static str, count: u64) {
        self.fields.push((name, count.into()));
    }

    #[cfg(test)]
    pub(super) fn at(time: &str, level: Level, message: &str) -> Self {
        Self { time: time.to_owned(), ..Self::new(level, message) }
    }

    /// The line with its line break.
    pub(super) fn render(&self, format: LogFormat, colour: Colour) -> String {
        let mut line = String::new();
        for limit in VALUE_LIMITS {
            line.clear();
            // Writing to a `String` cannot fail.
            match format {
                LogFormat::Text => self.render_text(&mut line, colour, limit).ok(),
                LogFormat::Json => self.render_json(&mut line, limit).ok(),
            };
            line.push('\n');
            if line.len() <= LIMIT {
                return line;
            }
        }
        // Known limit: an event with hundreds of fields is cut in the middle, in JSON too.
        line.truncate(line.floor_char_boundary(LIMIT - 1));
        line.push('\n');
        line
    }

    fn render_text(&self, line: &mut String, colour: Colour, limit: usize) -> fmt::Result {
        let (paint, plain) = match colour {
            Colour::OnTerminals => (paint_of(self.level), "\x1b[0m"),
            Colour::Never => ("", ""),
        };
        write!(line, "{} {paint}{:>5}{plain}", self.time, self.level.as_str())?;
        if !self.message.is_empty() {
            line.push(' ');
            line.push_str(&without_controls(&cut(&self.message, limit)));
        }
        for (name, value) in &self.fields {
            match value {
                Value::String(text) if is_bare(text) => write!(line, " {name}={}", cut(text, limit))?,
                Value::String(text) => write!(line, " {name}={:?}", cut(text, limit))?,
                other => write!(line, " {name}={other}")?,
            }
        }
        Ok(())
    }

    fn render_json(&self, line: &mut String, limit: usize) -> fmt::Result {
        let text = |text: &str| quoted(&cut(text, limit));
        write!(line, "{{\"timestamp\":{},\"level\":{}", text(&self.time), text(self.level.as_str()))?;
        if !self.message.is_empty() {
            write!(line, ",\"message\":{}", text(&self.message))?;
        }
        for (name, value) in &self.fields {
            let name = Value::from(*name);
            match value {
                Value::String(value) => write!(line, ",{name}:{}", text(value))?,
                other => write!(line, ",{name}:{other}")?,
            }
        }
        line.push('}');
        Ok(())
    }
}

/// At most so many bytes, and a sign that there were more.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut start = text.to_owned();
    start.truncate(text.floor_char_boundary(limit));
    start.push('…');
    start
}

/// What a terminal obeys: control characters, and those that turn the direction of writing.
fn is_obeyed(letter: char) -> bool {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns
}

/// As JSON has it, and what it leaves that a terminal obeys in digits.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for letter in Value::from(text).to_string().chars() {
        if is_obeyed(letter) {
            // Writing to a `String` cannot fail. None of these has more than four digits.
            write!(quoted, "\\u{:04x}", u32::from(letter)).ok();
        } else {
            quoted.push(letter);
        }
    }
    quoted
}

/// A message is not quoted, so that constant ones read well.
fn without_controls(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        if is_obeyed(letter) { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    shown
}

/// Whether a value can stand without quotes.
fn is_bare(text: &str) -> bool {
    let fits =
        |letter: char| letter.is_alphanumeric() || (letter.is_ascii_graphic() && !"\"=\\".contains(letter));
    !text.is_empty() && text.chars().all(fits)
}

fn paint_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

impl Line {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.take(field, Value::from(value.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::Subscriber;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    struct Collect(Arc<Mutex<Vec<Line>>>);

    impl<S: Subscriber> Layer<S> for Collect {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            self.0.lock().unwrap().push(Line::of(event));
        }
    }

    fn line_of(log: impl FnOnce()) -> Line {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Collect(Arc::clone(&lines)));
        tracing::subscriber::with_default(subscriber, log);
        let mut line = lines.lock().unwrap().pop().unwrap();
        assert_eq!(line.time.len(), "2026-11-22T10:00:00.123Z".len(), "{}", line.time);
        line.time = "T".to_owned();
        line
    }

    fn text_of(log: impl FnOnce()) -> String {
        line_of(log).render(LogFormat::Text, Colour::Never)
    }

    #[test]
    fn a_line_of_text_reads_left_to_right() {
        let reason = "exit code 3";
        let text = text_of(|| tracing::info!(slot = 3, pid = 4711_i32, reason = %reason, "worker left"));
        assert_eq!(text, "T  INFO worker left slot=3 pid=4711 reason=\"exit code 3\"\n");
        let text = text_of(|| tracing::error!(target: "worker", line = "hello", empty = "", ok = true));
        assert_eq!(text, "T ERROR line=hello empty=\"\" ok=true\n");
    }

    #[test]
    fn a_line_of_json_is_flat() {
        let line = line_of(|| tracing::warn!(slot = 3, share = 0.5, line = "say \"x\"\n", "worker left"));
        let text = line.render(LogFormat::Json, Colour::OnTerminals);
        assert_eq!(
            text,
            "{\"timestamp\":\"T\",\"level\":\"WARN\",\"message\":\"worker left\",\"slot\":3,\"share\":0.5,\
             \"line\":\"say \\\"x\\\"\\n\"}\n"
        );
    }

    #[test]
    fn no_value_can_end_the_line_or_colour_it() {
        let evil = "a\nb\x1b[31m\r\u{9b}c\u{202e}";
        for text in [
            text_of(|| tracing::info!(plain = evil, shown = %evil, debug = ?evil, "{evil}")),
            line_of(|| tracing::info!(plain = evil, shown = %evil, "{evil}"))
                .render(LogFormat::Json, Colour::Never),
        ] {
            let body = text.strip_suffix('\n').unwrap();
            let harmless = |letter: char| !letter.is_control() && letter != '\u{202e}';
            assert!(body.chars().all(harmless), "{body:?}");
        }
    }

    #[test]
    fn a_line_fits_into_a_pipe_whatever_its_values() {
        let long = "é\0".repeat(3000);
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = line_of(|| tracing::info!(slot = 3, line = %long, more = %long, "{long}"));
            let text = line.render(format, Colour::Never);
            assert!(text.len() <= LIMIT && text.ends_with('\n'), "{}", text.len());
            assert!(text.contains('…') && text.contains("slot"), "{text}");
            if format == LogFormat::Json {
                serde_json::from_str::<Value>(&text).unwrap();
            }
        }
    }
}
