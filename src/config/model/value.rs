//! Values with a unit or a range.

use std::time::Duration;

use serde_yaml::Value as Yaml;

use crate::config::{
    code,
    diagnostic::Findings,
    node::Node,
    read::{Read, bad, scalar},
};

/// Longest duration: more would overflow the clock somewhere.
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// `true` or `false`.
impl Read for bool {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match scalar(node, "`true` or `false`", findings)?.text.as_str() {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => {
                bad(
                    node,
                    code::WRONG_TYPE,
                    "`true` or `false`",
                    "write `true` or `false`",
                    findings,
                );
                None
            }
        }
    }

    fn show(&self) -> Yaml {
        Yaml::from(*self)
    }
}

/// Any text but the empty one.
impl Read for String {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        Some(scalar(node, "a text", findings)?.text.clone())
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.clone())
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<const MIN: u64, const MAX: u64>(pub u64);

/// A number of things of which at least one must be allowed.
pub type Count = Number<1, 1_000_000_000>;

impl<const MIN: u64, const MAX: u64> Number<MIN, MAX> {
    /// The number as a size of memory.
    pub fn usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The number as 32 bits.
    pub fn u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Read for Number<MIN, MAX> {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let expected = format!("a whole number from {MIN} to {MAX}");
        let number = scalar(node, &expected, findings)?.text.parse();
        let help = match number {
            Ok(number) if (MIN..=MAX).contains(&number) => return Some(Self(number)),
            Ok(number) if number < MIN => format!("the least is {MIN}"),
            Ok(_) => format!("the most is {MAX}"),
            Err(_) => format!("write digits alone: {MIN} to {MAX}"),
        };
        bad(node, code::RANGE, &expected, help, findings);
        None
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.0)
    }
}

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(pub u16);

impl Read for Port {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match scalar(node, "a port", findings)?.text.parse() {
            Ok(port) if port > 0 => Some(Self(port)),
            _ => {
                bad(node, code::PORT, "a port", "a port is a number from 1 to 65535", findings);
                None
            }
        }
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.0)
    }
}

/// A duration with a unit; may be `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

impl Period {
    /// A number of seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl Read for Period {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "a duration", findings)?.text;
        let help = match humantime::parse_duration(text) {
            // Bare `0` would pass; a unit is always asked for.
            Ok(duration) if duration <= YEAR && text.ends_with(char::is_alphabetic) => {
                return Some(Self(duration));
            }
            Ok(duration) if duration > YEAR => "at most a year: `365d`".to_string(),
            _ if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) => {
                format!("a unit is missing: `{text}s` for seconds, `{text}m` for minutes")
            }
            _ => "durations look like `200ms`, `30s`, `15m`, `1h 30m`, `2d`".to_string(),
        };
        bad(node, code::DURATION, "a duration", help, findings);
        None
    }

    fn show(&self) -> Yaml {
        Yaml::from(humantime::format_duration(self.0).to_string())
    }
}

/// A duration longer than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Duration);

impl Timeout {
    /// A number of seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl Read for Timeout {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let Period(duration) = Period::read(node, findings)?;
        if duration.is_zero() {
            bad(
                node,
                code::DURATION,
                "a timeout",
                "a timeout is longer than nothing; `365d` is as good as none",
                findings,
            );
            return None;
        }
        Some(Self(duration))
    }

    fn show(&self) -> Yaml {
        Period(self.0).show()
    }
}

/// A number of bytes with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    const UNITS: [(&'static str, u64); 9] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];

    fn parse(text: &str) -> Option<Self> {
        let at = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at_checked(at)?;
        let unit = unit.trim_start();
        let factor = Self::UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
        number.parse::<u64>().ok()?.checked_mul(factor).map(Self)
    }

    /// The size as one of memory.
    pub fn usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Read for Size {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "a size", findings)?.text;
        if let Some(size) = Self::parse(text) {
            return Some(size);
        }
        let help = if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
            format!("a unit is missing: `{text}KiB`, `{text}MiB`, or `{text}B` for bytes")
        } else {
            "sizes look like `512B`, `128KiB`, `64MiB`, `2GiB`, `64MB`".to_string()
        };
        bad(node, code::SIZE, "a size", help, findings);
        None
    }

    fn show(&self) -> Yaml {
        let unit =
            Self::UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        let (name, factor) = unit.unwrap_or(&("B", 1));
        Yaml::from(format!("{}{name}", self.0 / factor))
    }
}

/// `50%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u8);

impl Read for Percent {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "a percentage", findings)?.text;
        let number = text.strip_suffix('%').and_then(|n| n.trim_end().parse().ok());
        match number {
            Some(number @ 0..=100) => Some(Self(number)),
            _ => {
                bad(
                    node,
                    code::PERCENTAGE,
                    "a percentage",
                    "a percentage looks like `50%`",
                    findings,
                );
                None
            }
        }
    }

    fn show(&self) -> Yaml {
        Yaml::from(format!("{}%", self.0))
    }
}

/// Status codes, inclusive ranges: `200-399`, `200,401`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(pub Vec<(u16, u16)>);

impl StatusSet {
    fn parse(text: &str) -> Option<Self> {
        let range = |part: &str| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            let fine = (100..=599).contains(&low) && (100..=599).contains(&high) && low <= high;
            fine.then_some((low, high))
        };
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Self)
    }
}

impl Read for StatusSet {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let set = Self::parse(&scalar(node, "a set of status codes", findings)?.text);
        if set.is_none() {
            bad(
                node,
                code::STATUS,
                "a set of status codes",
                "write it like \"200-399\" or \"200,401\"",
                findings,
            );
        }
        set
    }

    fn show(&self) -> Yaml {
        let part = |(low, high): &(u16, u16)| {
            if low == high { low.to_string() } else { format!("{low}-{high}") }
        };
        Yaml::from(self.0.iter().map(part).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::testing::{codes, value};

    #[test]
    fn durations_have_units() {
        assert_eq!(value::<Period>("1h 30m"), Some(Period::secs(5400)));
        assert_eq!(value::<Period>("200s"), Some(Period::secs(200)));
        assert_eq!(value::<Period>("0s"), Some(Period::secs(0)));
        for wrong in ["200", "0", "-5s", "5 lightyears", "3000y", "[1s]", "\"\""] {
            assert_eq!(value::<Period>(wrong), None, "{wrong}");
        }
        assert_eq!(codes::<Timeout>("0s"), ["E020"]);
        assert_eq!(Period::secs(5400).show(), Yaml::from("1h 30m"));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(value::<Size>("64MiB"), Some(Size(64 << 20)));
        assert_eq!(value::<Size>("64 mb"), Some(Size(64_000_000)));
        assert_eq!(value::<Size>("0B"), Some(Size(0)));
        for wrong in ["64", "64M", "MiB", "-1KiB", "99999999999999TiB", "1.5GiB"] {
            assert_eq!(codes::<Size>(wrong), ["E021"], "{wrong}");
        }
        for size in [0, 1, 1000, 1024, 30_000_000, 128 << 10] {
            let shown = Size(size).show();
            assert_eq!(Size::parse(shown.as_str().unwrap()), Some(Size(size)), "{shown:?}");
        }
    }

    #[test]
    fn ports_percentages_and_numbers_have_ranges() {
        assert_eq!(value::<Port>("443"), Some(Port(443)));
        assert_eq!(value::<Port>("\"8080\""), Some(Port(8080)));
        assert_eq!(codes::<Port>("0"), ["E022"]);
        assert_eq!(codes::<Port>("65536"), ["E022"]);
        assert_eq!(codes::<Port>("https"), ["E022"]);
        assert_eq!(value::<Percent>("50%"), Some(Percent(50)));
        assert_eq!(codes::<Percent>("50"), ["E028"]);
        assert_eq!(codes::<Percent>("101%"), ["E028"]);
        assert_eq!(codes::<Count>("0"), ["E029"]);
        assert_eq!(codes::<Count>("1.5"), ["E029"]);
    }

    #[test]
    fn status_sets_are_numbers_and_ranges() {
        assert_eq!(value::<StatusSet>("200-399"), Some(StatusSet(vec![(200, 399)])));
        let several = StatusSet(vec![(200, 200), (401, 403)]);
        assert_eq!(value::<StatusSet>("200, 401-403"), Some(several.clone()));
        assert_eq!(several.show(), Yaml::from("200,401-403"));
        for wrong in ["399-200", "99", "600", "2xx", "200,", "200;401"] {
            assert_eq!(codes::<StatusSet>(wrong), ["E026"], "{wrong}");
        }
    }
}
