//! Filling templates in: what a request puts into paths, queries, URLs and header values.

use std::{borrow::Cow, cell::OnceCell};

use super::{
    Question,
    condition::{Captures, captures},
    rewrite::is_necessary,
};
use crate::site::{Part, PathPattern, Rule, Template};

/// What the variables of a rule stand for in one request; captures are looked for once, and only
/// if something asks for them.
pub struct Values<'a> {
    rule: &'a Rule,
    question: &'a Question<'a>,
    captures: OnceCell<Option<Captures>>,
}

/// Where a value goes, which decides what is escaped in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Path,
    Query,
}

/// What a part stands for.
struct Value<'v> {
    text: Cow<'v, [u8]>,
    /// Whether a `%` in it is no escape.
    decoded: bool,
    /// Whether it is one value, so that in a query `&` in it is no separator and `+` no space.
    single: bool,
    /// Whether it comes from a path of which some escapes were decoded to compare it.
    unescaped: bool,
}

impl<'a> Values<'a> {
    /// The values that `question`, which `rule` took, gives.
    pub fn new(rule: &'a Rule, question: &'a Question<'a>) -> Self {
        Self { rule, question, captures: OnceCell::new() }
    }

    /// The request.
    pub(super) fn question(&self) -> &'a Question<'a> {
        self.question
    }

    /// A header value: what the client sent, with controls and everything outside ASCII escaped,
    /// for which http.sys answers 400. `None` if a capture cannot be had.
    ///
    /// SECURITY: no control character gets out, so a value never becomes a second header. Test:
    /// no_value_leads_elsewhere_or_brings_controls
    pub fn field(&self, template: &Template) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for part in &template.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Target => visible(&mut out, &self.target(), |_| false),
                part => {
                    let value = self.value(part)?;
                    visible(&mut out, &value.text, |b| value.unescaped && is_necessary(b));
                }
            }
        }
        // Spaces at the ends are not part of a value.
        Some(out.trim_ascii().to_vec())
    }

    /// Appends what a variable stands for, escaped for its place; nothing for fixed text. `None`
    /// if a capture cannot be had.
    pub(super) fn push(&self, out: &mut String, part: &Part, spot: Spot) -> Option<()> {
        let value = self.value(part)?;
        escape(out, &value.text, |byte| match byte {
            b'%' => value.decoded,
            b'?' => spot == Spot::Path,
            b'&' | b'+' => spot == Spot::Query && value.single,
            _ => false,
        });
        Some(())
    }

    /// Appends path and query as one value of a query or fragment, of which nothing means anything
    /// there: what reads it gets the client's own URL.
    pub(super) fn push_target(&self, out: &mut String) {
        escape(out, &self.target(), |byte| matches!(byte, b'%' | b'&' | b'+' | b'?'));
    }

    /// Path and query as sent.
    fn target(&self) -> Vec<u8> {
        let mut target = self.question.path().to_vec();
        if let Some(query) = self.question.query {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        target
    }

    fn value(&self, part: &Part) -> Option<Value<'_>> {
        let question = self.question;
        // Only a query brings several values along.
        let single = *part != Part::Query;
        let plain = |text: Cow<'a, [u8]>| Value { text, decoded: false, single, unescaped: false };
        let borrowed = |text: &'a [u8]| plain(Cow::Borrowed(text));
        Some(match part {
            Part::Text(_) | Part::Target => borrowed(b""),
            Part::Rule(number) => borrowed(self.path_capture(*number)),
            Part::Condition(number) => {
                let found = self.captures.get_or_init(|| captures(self.rule, question)).as_ref()?;
                let group = found.groups.get(usize::from(*number)).map_or(&[][..], Vec::as_slice);
                let (text, decoded) = (Cow::Borrowed(group), found.decoded);
                Value { text, decoded, single, unescaped: !decoded }
            }
            Part::Host => borrowed(question.host.as_bytes()),
            Part::Https => borrowed(if question.https { b"on" } else { b"off" }),
            Part::Query => borrowed(question.query.unwrap_or_default()),
            Part::Source => {
                plain(Cow::Owned(question.source.to_canonical().to_string().into_bytes()))
            }
            Part::Path => borrowed(question.path()),
        })
    }

    /// `{R:0}` and `{R:1}`: the path, and what follows as many segments as the rule's own path
    /// has. The first reading is under that path, and it has the segments of the client's bytes.
    fn path_capture(&self, number: u8) -> &'a [u8] {
        let path = self.question.path();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let own = match &self.rule.path {
            PathPattern::Prefix(prefix) if number > 0 => {
                prefix.trim_matches('/').split('/').count()
            }
            _ => 0,
        };
        path.splitn(own + 1, |byte| *byte == b'/').nth(own).unwrap_or_default()
    }
}

/// A request's target as the value of a header.
pub fn target_value(target: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(target.len());
    visible(&mut out, target, |_| false);
    out
}

/// Appends `bytes` percent-encoding everything that has no place in a URL, and what `also` says.
/// Escapes already there stay.
///
/// SECURITY: a CR or LF here would let a stranger write headers of our answer, and browsers read
/// `\` as `/`. Test: nothing_but_visible_ascii_gets_out
pub(super) fn escape(out: &mut String, bytes: &[u8], also: impl Fn(u8) -> bool) {
    for &byte in bytes {
        let escaped =
            matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
        if byte.is_ascii_graphic() && !escaped && !also(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Appends `bytes`, with controls, everything outside ASCII, and what `also` says, escaped.
fn visible(out: &mut Vec<u8>, bytes: &[u8], also: impl Fn(u8) -> bool) {
    for &byte in bytes {
        if !(0x20..0x7f).contains(&byte) || also(byte) {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        route::testing::{ask, forward},
        site::{Condition, Pattern, Test},
    };

    fn field(path: &str, asked: &str, parts: Vec<Part>) -> String {
        let (rule, question) = (forward("a.x", path), ask("a.x", asked));
        let template = Template { parts };
        let made = Values::new(&rule, &question).field(&template).unwrap();
        String::from_utf8_lossy(&made).into_owned()
    }

    #[test]
    fn what_follows_the_rules_path_is_taken_from_the_clients_bytes() {
        for (path, asked, all, rest) in [
            ("", "/Old/X?y", "Old/X?y", "Old/X?y"),
            ("/old", "/Old/X%20y/", "Old/X%20y/", "X%20y/"),
            ("/old", "/old", "old", ""),
            ("/old", "/old/", "old/", ""),
            ("/a/b", "/A/b//c", "A/b//c", "/c"),
            ("/größe", "/Gr%C3%B6%C3%9Fe/x", "Gr%C3%B6%C3%9Fe/x", "x"),
        ] {
            assert_eq!(field(path, asked, vec![Part::Rule(0)]), all);
            assert_eq!(field(path, asked, vec![Part::Rule(1)]), rest);
        }
    }

    #[test]
    fn captures_of_a_path_keep_the_clients_escapes() {
        let all = Pattern(regex::Regex::new("^/(.*)$").unwrap());
        let when = vec![Condition::Path(Test::Matches(all))];
        let (rule, question) =
            (Rule { when, ..forward("a.x", "") }, ask("a.x", "/a%20b%2Fc%C3%A4%7b+"));
        let template = Template { parts: vec![Part::Condition(1)] };
        let made = Values::new(&rule, &question).field(&template).unwrap();
        assert_eq!(String::from_utf8(made).unwrap(), "a%20b%2Fc%C3%A4%7B+");
    }

    #[test]
    fn request_values_are_named_as_in_url_rewrite() {
        let (rule, mut question) = (forward("a.x", ""), ask("a.x", "/p"));
        question.query = Some(b"a=b");
        question.source = "::ffff:192.0.2.7".parse().unwrap();
        let values = Values::new(&rule, &question);
        let field =
            |part| String::from_utf8(values.field(&Template { parts: vec![part] }).unwrap());
        assert_eq!(field(Part::Host).unwrap(), "a.x");
        assert_eq!(field(Part::Https).unwrap(), "on");
        assert_eq!(field(Part::Query).unwrap(), "a=b");
        assert_eq!(field(Part::Source).unwrap(), "192.0.2.7");
        assert_eq!(field(Part::Path).unwrap(), "/p");
        assert_eq!(field(Part::Target).unwrap(), "/p?a=b");
        // http.sys answers 400 to bytes outside ASCII.
        let (question, path) = (ask("a.x", "/ä\u{7f}"), Template { parts: vec![Part::Path] });
        assert_eq!(Values::new(&rule, &question).field(&path).unwrap(), b"/%C3%A4%7F");
        assert_eq!(target_value("/ä?b=%20\t".as_bytes()), b"/%C3%A4?b=%20%09");
        let none = Template { parts: vec![Part::Condition(1)] };
        assert_eq!(values.field(&none), None, "no condition, no capture");
    }
}
