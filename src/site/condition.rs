//! Conditions of publish rules.

use std::{borrow::Cow, sync::Arc};

use http::HeaderName;
use ipnet::IpNet;
use regex::Regex;

use super::{HostPattern, PathPattern, Schemes};

/// One entry of a rule's `when`.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A request header. Of several fields with one name each is asked; a missing one counts as
    /// empty for `matches` (URL Rewrite does the same).
    Header(HeaderName, Test<Arc<str>>),
    /// A query parameter, decoded; its name is lower case and compares without letter case, as in
    /// ASP.NET. A missing one counts as empty for `matches`.
    Query(Arc<str>, Test<Arc<str>>),
    /// The method.
    Method(Test<Arc<str>>),
    /// The client's protocol is one of these.
    Scheme(Schemes),
    /// The client's address.
    Source(Test<IpNet>),
    /// The path, in every reading of it.
    Path(Test<PathPattern>),
    /// Path and query together, as sent and decoded; letter case does not matter.
    Url(Test<Arc<str>>),
    /// The host, normalised.
    Host(Test<HostPattern>),
}

impl Condition {
    /// The regular expression of a `matches`, whose groups are `{C:0}` to `{C:9}`.
    pub fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::Header(_, test) | Self::Query(_, test) | Self::Method(test) | Self::Url(test) => {
                test.pattern()
            }
            Self::Source(test) => test.pattern(),
            Self::Path(test) => test.pattern(),
            Self::Host(test) => test.pattern(),
            Self::Scheme(_) => None,
        }
    }
}

/// What is asked of a subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Test<T> {
    /// It is there.
    Present,
    /// It equals one of these.
    Is(Vec<T>),
    /// It equals none of these.
    Not(Vec<T>),
    /// A regular expression matches somewhere in it.
    Matches(Pattern),
}

impl<T> Test<T> {
    /// Judges one text that is there; `equal` compares it with a value.
    pub fn holds(&self, text: &[u8], equal: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Present => true,
            Self::Is(values) => values.iter().any(equal),
            Self::Not(values) => !values.iter().any(equal),
            Self::Matches(pattern) => pattern.is_match(text),
        }
    }

    /// Judges a subject that may be there several times, or not at all.
    pub fn holds_among<B: AsRef<[u8]>>(
        &self,
        mut texts: impl Iterator<Item = B>,
        equal: impl Fn(&T, &[u8]) -> bool,
    ) -> bool {
        match self {
            Self::Present => texts.next().is_some(),
            Self::Is(values) => texts.any(|text| values.iter().any(|v| equal(v, text.as_ref()))),
            Self::Not(values) => !texts.any(|text| values.iter().any(|v| equal(v, text.as_ref()))),
            Self::Matches(pattern) => match texts.next() {
                None => pattern.is_match(b""),
                Some(first) => {
                    pattern.is_match(first.as_ref())
                        || texts.any(|text| pattern.is_match(text.as_ref()))
                }
            },
        }
    }

    fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::Matches(pattern) => Some(pattern),
            Self::Present | Self::Is(_) | Self::Not(_) => None,
        }
    }
}

/// A regular expression, compiled once; linear in the length of what it is asked about.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl Pattern {
    /// Whether it matches somewhere in `text`.
    ///
    /// SECURITY: bytes that are no UTF-8 are asked about as U+FFFD. As bytes neither `.` nor
    /// `[^x]` would match them, and `/a%ff/x` would pass a denial of `^/.*/x`. Test:
    /// bytes_that_are_no_text_hide_nothing
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.0.is_match(&String::from_utf8_lossy(text))
    }

    /// What its groups match in `text`, the whole match first, in the bytes of `text`; an empty
    /// one for a group that takes no part. `None` if it does not match.
    pub fn captures(&self, text: &[u8]) -> Option<Vec<Vec<u8>>> {
        let asked = String::from_utf8_lossy(text);
        let found = self.0.captures(&asked)?;
        let own = |at| match asked {
            Cow::Borrowed(_) => at,
            Cow::Owned(_) => original(text, at),
        };
        let group = |group: Option<regex::Match<'_>>| {
            let range = group.map(|group| own(group.start())..own(group.end()));
            range.and_then(|range| text.get(range)).unwrap_or_default().to_vec()
        };
        Some(found.iter().map(group).collect())
    }
}

/// The place in `text` of the byte at `at` in its lossy form.
fn original(text: &[u8], at: usize) -> usize {
    let (mut lossy, mut own) = (0, 0);
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().len();
        if at <= lossy + valid {
            break;
        }
        lossy += valid
            + if chunk.invalid().is_empty() { 0 } else { char::REPLACEMENT_CHARACTER.len_utf8() };
        own += valid + chunk.invalid().len();
    }
    own + at.saturating_sub(lossy)
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_the_bytes_that_were_asked_about() {
        let captures = |pattern: &str, text: &[u8]| {
            Pattern(Regex::new(pattern).unwrap()).captures(text).unwrap()
        };
        assert_eq!(captures("(b)(x)?", b"abc"), [&b"b"[..], b"b", b""]);
        let text = b"\xff/\xc3\xa4\xe2\x82/\xfe\xfez";
        assert_eq!(
            captures("^(.)/(ä.)/(.*)(z)$", text)[1..],
            [&b"\xff"[..], b"\xc3\xa4\xe2\x82", b"\xfe\xfe", b"z"]
        );
        assert_eq!(captures("/([^/]*)$", text), [&b"/\xfe\xfez"[..], b"\xfe\xfez"]);
        assert_eq!(captures("$", text), [b""]);
    }

    #[test]
    fn a_subject_may_be_there_never_once_or_often() {
        let equal = |value: &&str, text: &[u8]| value.as_bytes() == text;
        let judge = |test: Test<&'static str>| {
            [&[][..], &["a"], &["b"], &["b", "a"]].map(|v| test.holds_among(v.iter(), equal))
        };
        let matches = |pattern| Test::Matches(Pattern(Regex::new(pattern).unwrap()));
        assert_eq!(judge(Test::Present), [false, true, true, true]);
        assert_eq!(judge(Test::Is(vec!["a", "c"])), [false, true, false, true]);
        assert_eq!(judge(Test::Not(vec!["a", "c"])), [true, false, true, false]);
        assert_eq!(judge(matches("a")), [false, true, false, true]);
        assert_eq!(judge(matches("^$")), [true, false, false, false]);
    }
}
