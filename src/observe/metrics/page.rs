//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::{Family, Kind};

/// The labels of a series, ready to be written: `{farm="a",server="b"`, without the closing brace.
#[derive(Clone, Debug, Default)]
pub struct Labels(String);

impl Labels {
    /// From names and values.
    pub fn new(all: &[(&str, &str)]) -> Self {
        all.iter().fold(Self::default(), |labels, (name, value)| labels.and(name, value))
    }

    /// With one more.
    pub fn and(&self, name: &str, value: &str) -> Self {
        let mut text = String::with_capacity(self.0.len() + name.len() + value.len() + 4);
        text.push_str(&self.0);
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        // SECURITY: names of rules may hold anything; none of it ends the value or the line.
        // Test: a_value_cannot_leave_its_label
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
        Self(text)
    }
}

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// An empty page with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Begins a metric. All its series have to follow at once.
    pub fn family(&mut self, family: &Family) -> Series<'_> {
        let Family { name, kind, help, .. } = family;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
        Series { text: &mut self.0, name }
    }

    /// A metric without labels.
    pub fn single(&mut self, family: &Family, value: impl Display) {
        debug_assert_ne!(family.kind, Kind::Histogram, "{family:?}");
        self.family(family).put(&Labels::default(), value);
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// The series of one metric.
pub struct Series<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Series<'_> {
    /// One series with its value.
    pub fn put(&mut self, labels: &Labels, value: impl Display) {
        self.line("", labels, "", value);
    }

    /// One series of many that differ in their last label, whose value needs no escaping.
    pub fn put_with(&mut self, labels: &Labels, name: &str, label: &str, value: impl Display) {
        let _ = writeln!(self.text, "{}{},{name}=\"{label}\"}} {value}", self.name, labels.0);
    }

    /// A histogram, from (upper bound, number of sizes up to it and above the one before). What
    /// is above the last bound comes in `above`.
    pub fn histogram(&mut self, labels: &Labels, buckets: &[(&str, u64)], above: u64, sum: f64) {
        let mut count = 0;
        for (bound, number) in buckets {
            count += number;
            self.line("_bucket", labels, bound, count);
        }
        count += above;
        self.line("_bucket", labels, "+Inf", count);
        self.line("_sum", labels, "", sum);
        self.line("_count", labels, "", count);
    }

    fn line(&mut self, suffix: &str, labels: &Labels, bound: &str, value: impl Display) {
        let text = &mut *self.text;
        text.push_str(self.name);
        text.push_str(suffix);
        text.push_str(&labels.0);
        if !bound.is_empty() {
            text.push_str(if labels.0.is_empty() { "{le=\"" } else { ",le=\"" });
            text.push_str(bound);
            text.push('"');
        }
        if !(labels.0.is_empty() && bound.is_empty()) {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FARM: Family =
        Family { name: "x_total", kind: Kind::Counter, labels: &["farm"], help: "Help." };

    #[test]
    fn a_value_cannot_leave_its_label() {
        let mut page = Page::default();
        page.family(&FARM).put(&Labels::new(&[("farm", "a\"} 1\nb\\")]), 7);
        let text = "# HELP x_total Help.\n# TYPE x_total counter\n\
                    x_total{farm=\"a\\\"} 1\\nb\\\\\"} 7\n";
        assert_eq!(page.into_text(), text);
    }

    #[test]
    fn a_histogram_adds_up() {
        let family = Family { name: "t", kind: Kind::Histogram, ..FARM };
        let mut page = Page::default();
        let labels = Labels::new(&[("farm", "a")]);
        page.family(&family).histogram(&labels, &[("0.5", 2), ("1800", 3)], 1, 2.5);
        let text = page.into_text();
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "t_bucket{farm=\"a\",le=\"0.5\"} 2",
                "t_bucket{farm=\"a\",le=\"1800\"} 5",
                "t_bucket{farm=\"a\",le=\"+Inf\"} 6",
                "t_sum{farm=\"a\"} 2.5",
                "t_count{farm=\"a\"} 6",
            ]
        );
    }
}
