//! The text format of Prometheus.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>. A family is begun once and its samples follow it;
//! numbers keep their unit's name in the family's, and durations are seconds.

use std::fmt::{Display, Write as _};

use multicredit_store::stats::Distribution;

/// The media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
    /// A sum and a count.
    Summary,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// The unit of a histogram's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As they stand.
    Count,
    /// Microseconds, shown as seconds.
    Microseconds,
}

impl Unit {
    #[expect(clippy::cast_precision_loss, reason = "beyond 285 years of microseconds")]
    fn show(self, value: u64) -> f64 {
        match self {
            Self::Count => value as f64,
            Self::Microseconds => value as f64 / 1e6,
        }
    }
}

/// Labels of a sample, each a name and a value.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Begins a family; the samples that follow are its.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        self.family = name;
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
        self
    }

    /// A sample of the family.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The samples of a histogram of the family.
    pub fn histogram(&mut self, labels: Labels<'_>, unit: Unit, distribution: &Distribution) -> &mut Self {
        let mut so_far = 0;
        for (bound, count) in distribution.bounds.iter().zip(&distribution.counts) {
            so_far += count;
            self.line("_bucket", labels, Some(&unit.show(*bound).to_string()), so_far);
        }
        let count = distribution.count();
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, unit.show(distribution.sum));
        self.line("_count", labels, None, count);
        self
    }

    /// The samples of a summary of the family.
    pub fn summary(&mut self, labels: Labels<'_>, sum: f64, count: u64) -> &mut Self {
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count);
        self
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        let family = self.family;
        self.write(format_args!("{family}{suffix}"));
        let bound = bound.map(|bound| ("le", bound));
        for (index, (name, value)) in labels.iter().copied().chain(bound).enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{name}=\"{}\"", Escaped(value)));
        }
        let after = if labels.is_empty() && bound.is_none() { "" } else { "}" };
        self.write(format_args!("{after} {value}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = self.text.write_fmt(text);
    }
}

/// A label's value.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use multicredit_store::stats::Histogram;

    use super::*;

    #[test]
    fn a_sample_names_its_labels_and_escapes_their_values() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "How many.").sample(&[("x", "1\"\\\n"), ("y", "2")], 3);
        page.single("b_bytes", Kind::Gauge, "How large.", 4.5);
        let expected = "# HELP a_total How many.\n# TYPE a_total counter\na_total{x=\"1\\\"\\\\\\n\",y=\"2\"} 3\n\
                        # HELP b_bytes How large.\n# TYPE b_bytes gauge\nb_bytes 4.5\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn a_histogram_adds_its_buckets_up_and_shows_seconds() {
        let histogram = Histogram::of_durations();
        histogram.record_duration(Duration::from_micros(200));
        histogram.record_duration(Duration::from_millis(50));
        histogram.record_duration(Duration::from_secs(7));
        let mut page = Page::default();
        page.family("t_seconds", Kind::Histogram, "How long.");
        page.histogram(&[("path", "x")], Unit::Microseconds, &histogram.snapshot());
        let text = page.into_text();
        for line in [
            "t_seconds_bucket{path=\"x\",le=\"0.00025\"} 1",
            "t_seconds_bucket{path=\"x\",le=\"0.025\"} 1",
            "t_seconds_bucket{path=\"x\",le=\"0.05\"} 2",
            "t_seconds_bucket{path=\"x\",le=\"5\"} 2",
            "t_seconds_bucket{path=\"x\",le=\"+Inf\"} 3",
            "t_seconds_sum{path=\"x\"} 7.0502",
            "t_seconds_count{path=\"x\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
