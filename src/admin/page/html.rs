//! Writing HTML that cannot be broken out of.

use std::fmt::{self, Display, Write};

/// HTML in the making. Markup is always a constant of the program; everything else goes through
/// a place, `{}`, and is escaped there.
///
/// SECURITY: names come from configuration files, reasons from servers, addresses and URLs from
/// clients. Test: what_is_filled_in_is_only_text
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds markup, its places filled in order. A place inside a tag stands in double quotes.
    pub(super) fn put(&mut self, markup: &'static str, values: &[&dyn Display]) {
        let mut parts = markup.split("{}");
        self.0.push_str(parts.next().unwrap_or_default());
        let mut values = values.iter();
        for part in parts {
            if let Some(value) = values.next() {
                // A string takes everything.
                let _ = write!(Escaped(&mut self.0), "{value}");
            }
            self.0.push_str(part);
        }
        debug_assert!(values.next().is_none(), "more values than places: {markup}");
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                c if c.is_control() => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// A number of bytes for people.
pub(super) struct Bytes(pub(super) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[allow(clippy::cast_precision_loss)]
        let mut value = self.0 as f64;
        for unit in ["B", "kB", "MB", "GB"] {
            if value < 1000.0 {
                let digits = usize::from(unit != "B" && value < 10.0);
                return write!(f, "{value:.digits$} {unit}");
            }
            value /= 1000.0;
        }
        write!(f, "{value:.1} TB")
    }
}

/// A length of time for people.
pub(super) struct Age(pub(super) u64);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} min", seconds / 60),
            3600..172_800 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} d", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(markup: &'static str, values: &[&dyn Display]) -> String {
        let mut html = Html::default();
        html.put(markup, values);
        String::from_utf8(html.into_bytes()).unwrap()
    }

    #[test]
    fn what_is_filled_in_is_only_text() {
        let evil = "</td><script>alert('x')</script>\"&\u{1b}{}";
        assert_eq!(
            html("<td title=\"{}\">{}</td>", &[&evil, &1]),
            "<td title=\"&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}{}\">1</td>"
        );
    }

    #[test]
    fn numbers_are_for_people() {
        let bytes = [0, 999, 1000, 9_940, 25_000_000, 3_000_000_000, 7_000_000_000_000];
        let bytes: Vec<_> = bytes.into_iter().map(|n| Bytes(n).to_string()).collect();
        assert_eq!(bytes, ["0 B", "999 B", "1.0 kB", "9.9 kB", "25 MB", "3.0 GB", "7.0 TB"]);
        let ages = [0, 59, 60, 3599, 3600, 172_799, 172_800];
        let ages: Vec<_> = ages.into_iter().map(|n| Age(n).to_string()).collect();
        assert_eq!(ages, ["0 s", "59 s", "1 min", "59 min", "1 h", "47 h", "2 d"]);
    }
}
