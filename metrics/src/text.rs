//! The text format that Prometheus reads, version 0.0.4.
//!
//! A family's samples have to stand together: whoever writes one holds its `Family`, and the next one can be begun only
//! when that is gone.

use crate::cells::Distribution;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// The `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; the name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// `Family::distribution`; the name is the one without `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// A sample's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A number of things.
    Whole(u64),
    /// A number that may be below zero.
    Signed(i64),
    /// A span of time; written in seconds, to the nanosecond.
    Seconds(Duration),
}

impl From<u64> for Value {
    fn from(whole: u64) -> Value {
        Value::Whole(whole)
    }
}

impl From<usize> for Value {
    fn from(whole: usize) -> Value {
        Value::Whole(whole as u64)
    }
}

impl From<u32> for Value {
    fn from(whole: u32) -> Value {
        Value::Whole(u64::from(whole))
    }
}

impl From<i64> for Value {
    fn from(signed: i64) -> Value {
        Value::Signed(signed)
    }
}

impl From<Duration> for Value {
    fn from(span: Duration) -> Value {
        Value::Seconds(span)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Value {
        Value::Whole(u64::from(yes))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Whole(whole) => write!(out, "{whole}"),
            Value::Signed(signed) => write!(out, "{signed}"),
            Value::Seconds(span) if span.subsec_nanos() == 0 => write!(out, "{}", span.as_secs()),
            Value::Seconds(span) => {
                let digits = format!("{:09}", span.subsec_nanos());
                write!(out, "{}.{}", span.as_secs(), digits.trim_end_matches('0'))
            }
        }
    }
}

/// A text that is being written.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family. Each name may be begun once. `help` is one sentence.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        debug_assert!(is_name(name), "{name:?} is no name of a metric");
        debug_assert!(kind != Kind::Counter || name.ends_with("_total"), "{name:?} is a counter without `_total`");
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, help, false);
        // Writing into a string cannot fail.
        let _ = writeln!(self.0, "\n# TYPE {name} {word}");
        Family { out: &mut self.0, name }
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.0
    }
}

/// A family whose samples are being written.
#[derive(Debug)]
pub struct Family<'a> {
    out: &'a mut String,
    name: &'a str,
}

impl Family<'_> {
    /// One sample. No two of a family may have the same labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) -> &mut Self {
        self.line("", labels, None, value.into());
        self
    }

    /// The samples of a histogram.
    pub fn distribution(&mut self, labels: &[(&str, &str)], seen: &Distribution) -> &mut Self {
        let mut count = 0;
        for (bucket, seen_there) in seen.counts.iter().enumerate() {
            count += seen_there;
            let bound = seen.bounds.get(bucket).map_or_else(|| "+Inf".to_owned(), |end| Value::from(*end).to_string());
            self.line("_bucket", labels, Some(&bound), Value::Whole(count));
        }
        self.line("_sum", labels, None, Value::Seconds(seen.sum));
        self.line("_count", labels, None, Value::Whole(count));
        self
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: Value) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (name, text) in labels.iter().copied().chain(bound) {
            debug_assert!(is_name(name) && !name.contains(':'), "{name:?} is no name of a label");
            self.out.push(before);
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, text, true);
            self.out.push('"');
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

/// A line's end would begin a sample of its own, so it is written as two characters; so are the characters that end a
/// label's value.
fn escape(out: &mut String, text: &str, quoted: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_' || first == ':')
        && characters.all(|other| other.is_ascii_alphanumeric() || other == '_' || other == ':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::Histogram;

    #[test]
    fn a_family_is_written_with_its_help_its_type_and_its_samples() {
        let mut text = Text::default();
        text.family("a_requests_total", Kind::Counter, "Requests.")
            .sample(&[("service", "shop/production/web"), ("class", "2xx")], 3u64)
            .sample(&[("service", "shop/production/web"), ("class", "5xx")], 0u64);
        text.family("a_skew_seconds", Kind::Gauge, "Skew.").sample(&[], -2i64);
        assert_eq!(
            text.finish(),
            "# HELP a_requests_total Requests.\n\
             # TYPE a_requests_total counter\n\
             a_requests_total{service=\"shop/production/web\",class=\"2xx\"} 3\n\
             a_requests_total{service=\"shop/production/web\",class=\"5xx\"} 0\n\
             # HELP a_skew_seconds Skew.\n\
             # TYPE a_skew_seconds gauge\n\
             a_skew_seconds -2\n"
        );
    }

    #[test]
    fn a_histogram_is_written_cumulatively_and_ends_at_infinity() {
        const BOUNDS: &[Duration] = &[Duration::from_micros(2_500), Duration::from_secs(1)];
        let histogram = Histogram::new(BOUNDS);
        for millis in [1, 2, 500, 1_500] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut text = Text::default();
        text.family("a_seconds", Kind::Histogram, "Durations.").distribution(&[("s", "x")], &(&histogram).into());
        assert_eq!(
            text.finish().lines().skip(2).collect::<Vec<_>>(),
            [
                "a_seconds_bucket{s=\"x\",le=\"0.0025\"} 2",
                "a_seconds_bucket{s=\"x\",le=\"1\"} 3",
                "a_seconds_bucket{s=\"x\",le=\"+Inf\"} 4",
                "a_seconds_sum{s=\"x\"} 2.003",
                "a_seconds_count{s=\"x\"} 4",
            ]
        );
    }

    #[test]
    fn what_a_label_says_cannot_begin_a_sample_of_its_own() {
        let mut text = Text::default();
        text.family("a", Kind::Gauge, "One\nline \\.").sample(&[("x", "\"} 1\nb 2\\")], 7u64);
        assert_eq!(text.finish(), "# HELP a One\\nline \\\\.\n# TYPE a gauge\na{x=\"\\\"} 1\\nb 2\\\\\"} 7\n");
    }
}
