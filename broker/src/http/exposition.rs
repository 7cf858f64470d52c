//! The text that Prometheus reads: families of samples, in its own format or as OpenMetrics.

use std::fmt::{Display, Write};

use super::request::Format;

/// What all names begin with.
const PREFIX: &str = "hornpipe_";

/// What kind of number a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Names and values of one sample's labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

#[derive(Debug)]
pub(super) struct Exposition {
    text: String,
    format: Format,
}

/// One family, whose samples must follow each other.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    pub(super) fn new(format: Format) -> Self {
        Self { text: String::with_capacity(32 * 1024), format }
    }

    /// Begins a family. The name of a counter ends with `_total`.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // OpenMetrics names the family, and Prometheus the samples.
        let family = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Prometheus => name,
        };
        self.push(format_args!("# HELP {PREFIX}{family} {help}\n# TYPE {PREFIX}{family} {word}\n"));
        Family { text: &mut self.text, name }
    }

    fn push(&mut self, line: impl Display) {
        push(&mut self.text, line);
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.push("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// The samples of a histogram: how many fell into each bucket and none below it, the
    /// bounds in microseconds, and the sum of all.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, bounds_us: &[u64], counts: &[u64], sum_us: u64) {
        let mut so_far = 0_u64;
        let bounds = bounds_us.iter().map(|bound| bucket_name(*bound)).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(counts) {
            so_far = so_far.saturating_add(*count);
            self.line("_bucket", labels, Some(&bound), so_far);
        }
        self.line("_sum", labels, None, seconds(sum_us));
        self.line("_count", labels, None, so_far);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        push(self.text, format_args!("{PREFIX}{}{suffix}", self.name));
        let bound = bound.map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            push(self.text, format_args!("{separator}{name}=\"{}\"", escaped(value)));
            separator = ',';
        }
        let end = if separator == ',' { "}" } else { "" };
        push(self.text, format_args!("{end} {value}\n"));
    }
}

fn push(text: &mut String, line: impl Display) {
    // A string takes everything.
    write!(text, "{line}").ok();
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Exactly, in seconds.
pub(super) fn seconds(microseconds: u64) -> String {
    format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000)
}

/// Both formats have the same, so that a change of format changes no series.
fn bucket_name(microseconds: u64) -> String {
    let text = seconds(microseconds);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: Format) -> String {
        let mut exposition = Exposition::new(format);
        exposition
            .family("a_total", Kind::Counter, "How many.")
            .sample(&[("x", "1"), ("y", "\"\\\n")], 7)
            .sample(&[], 8);
        exposition.family("t_seconds", Kind::Histogram, "How long.").histogram(
            &[("x", "1")],
            &[500, 1_000_000, 2_500_000],
            &[1, 0, 2, 3],
            60_000_001,
        );
        exposition.finish()
    }

    #[test]
    fn the_text_is_as_the_format_wants_it() {
        let samples = "hornpipe_a_total{x=\"1\",y=\"\\\"\\\\\\n\"} 7\nhornpipe_a_total 8\n";
        let histogram = "\
# HELP hornpipe_t_seconds How long.
# TYPE hornpipe_t_seconds histogram
hornpipe_t_seconds_bucket{x=\"1\",le=\"0.0005\"} 1
hornpipe_t_seconds_bucket{x=\"1\",le=\"1.0\"} 1
hornpipe_t_seconds_bucket{x=\"1\",le=\"2.5\"} 3
hornpipe_t_seconds_bucket{x=\"1\",le=\"+Inf\"} 6
hornpipe_t_seconds_sum{x=\"1\"} 60.000001
hornpipe_t_seconds_count{x=\"1\"} 6
";
        let head = |name: &str| format!("# HELP hornpipe_{name} How many.\n# TYPE hornpipe_{name} counter\n");
        assert_eq!(text(Format::Prometheus), format!("{}{samples}{histogram}", head("a_total")));
        assert_eq!(text(Format::OpenMetrics), format!("{}{samples}{histogram}# EOF\n", head("a")));
    }
}
