//! Whether the conditions of a rule hold, and what they captured.

use std::{borrow::Cow, cell::RefCell};

use http::HeaderValue;

use super::{Question, rewrite, table::Table};
use crate::site::{Condition, Rule, path::takes};

/// Judges the conditions of rules for one request.
pub(super) struct Conditions<'a> {
    table: &'a Table,
    question: &'a Question<'a>,
    /// Rules and whether they hold but for the path: a path with many readings must not cost as
    /// many searches of the header. Allocates only for rules with conditions.
    known: RefCell<Vec<(usize, bool)>>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(table: &'a Table, question: &'a Question<'a>) -> Self {
        Self { table, question, known: RefCell::default() }
    }

    /// Whether all conditions of `rule` hold for this reading of the path.
    pub(super) fn hold(&self, rule: &Rule, reading: &[u8]) -> bool {
        let here = |condition: &Condition| match condition {
            Condition::Path(test) => test.holds(reading, |pattern| takes(pattern, reading)),
            _ => true,
        };
        rule.when.is_empty() || (rule.when.iter().all(here) && self.hold_elsewhere(rule))
    }

    /// The first condition of `rule` that does not hold for this reading of the path.
    pub(super) fn broken<'r>(&self, rule: &'r Rule, reading: &[u8]) -> Option<&'r Condition> {
        rule.when.iter().find(|condition| match condition {
            Condition::Path(test) => !test.holds(reading, |pattern| takes(pattern, reading)),
            other => !self.judge(other),
        })
    }

    fn hold_elsewhere(&self, rule: &Rule) -> bool {
        let known = self.known.borrow().iter().find(|(index, _)| *index == rule.index).copied();
        if let Some((_, hold)) = known {
            return hold;
        }
        let hold = rule.when.iter().all(|condition| self.judge(condition));
        self.known.borrow_mut().push((rule.index, hold));
        hold
    }

    /// Everything but the path.
    fn judge(&self, condition: &Condition) -> bool {
        let question = self.question;
        let equal = |value: &std::sync::Arc<str>, text: &[u8]| value.as_bytes() == text;
        match condition {
            Condition::Header(name, test) => {
                let values = question.headers.get_all(name).iter().map(HeaderValue::as_bytes);
                test.holds_among(values, equal)
            }
            Condition::Query(name, test) => test.holds_among(parameters(question, name), equal),
            Condition::Method(test) => {
                let method = question.method.as_bytes();
                test.holds(method, |value| equal(value, method))
            }
            Condition::Scheme(schemes) => {
                if question.https {
                    schemes.https
                } else {
                    schemes.http
                }
            }
            Condition::Source(test) => {
                let source = question.source.to_canonical();
                test.holds(b"", |network| network.contains(&source))
            }
            Condition::Host(test) => test.holds(question.host.as_bytes(), |pattern| {
                self.table.matches(pattern, question.host)
            }),
            Condition::Path(_) => true,
        }
    }
}

/// What the last `matches` of a rule captured.
#[derive(Debug)]
pub(super) struct Captures {
    /// `{C:0}`, `{C:1}` …
    pub(super) groups: Vec<Vec<u8>>,
    /// Whether a `%` in them is no escape any more.
    pub(super) decoded: bool,
}

/// The captures of a rule that took this request; `None` if it has none, or if the path matches
/// only in another reading than the client's own.
pub(super) fn captures(rule: &Rule, question: &Question<'_>) -> Option<Captures> {
    let last = |condition: &Condition| condition.pattern().is_some();
    let condition = rule.when.iter().rev().find(|condition| last(condition))?;
    let regex = &condition.pattern()?.0;
    let groups = |text: &[u8]| {
        let found = regex.captures(text)?;
        let group = |group: Option<regex::bytes::Match<'_>>| {
            group.map_or_else(Vec::new, |group| group.as_bytes().to_vec())
        };
        Some(found.iter().map(group).collect())
    };
    let groups = match condition {
        Condition::Header(name, _) => {
            let mut values = question.headers.get_all(name).iter().map(HeaderValue::as_bytes);
            values.find_map(groups).or_else(|| groups(b""))
        }
        Condition::Query(name, _) => {
            parameters(question, name).find_map(|value| groups(&value)).or_else(|| groups(b""))
        }
        Condition::Method(_) => groups(question.method.as_bytes()),
        Condition::Host(_) => groups(question.host.as_bytes()),
        // In the client's letter case, which the server may mind.
        Condition::Path(_) => groups(&rewrite::decode_necessary(question.path())),
        Condition::Scheme(_) | Condition::Source(_) => None,
    }?;
    Some(Captures { groups, decoded: matches!(condition, Condition::Query(..)) })
}

/// The values of a query parameter, decoded as ASP.NET does.
///
/// SECURITY: `?%61=b` is `?a=b` to the server, so it is to a condition. Test:
/// parameters_are_decoded
fn parameters<'q>(question: &Question<'q>, name: &str) -> impl Iterator<Item = Cow<'q, [u8]>> {
    let pairs = question.query.unwrap_or_default().split(|byte| *byte == b'&');
    pairs.filter_map(move |pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let (key, value) = (parts.next()?, parts.next().unwrap_or_default());
        decoded(key).eq_ignore_ascii_case(name.as_bytes()).then(|| decoded(value))
    })
}

fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    Cow::Owned(rewrite::decode(&spaced, true).unwrap_or(spaced))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};
    use ipnet::IpNet;
    use regex::bytes::RegexBuilder;

    use super::*;
    use crate::{
        route::testing::{ask, forward, site},
        site::{HostPattern, PathPattern, Pattern, Schemes, Test},
    };

    fn pattern(text: &str) -> Pattern {
        Pattern(RegexBuilder::new(text).case_insensitive(true).build().unwrap())
    }

    fn with(condition: Condition) -> Rule {
        Rule { when: vec![condition], ..forward("a.x", "") }
    }

    fn holds(condition: Condition, question: &Question<'_>) -> bool {
        let table = Table::new(&site(&["x"], vec![]));
        Conditions::new(&table, question).hold(&with(condition), question.target_path)
    }

    fn is<T>(value: T) -> Test<T> {
        Test::Is(vec![value])
    }

    #[test]
    fn every_kind_of_subject_is_judged() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("One"));
        headers.append("x-a", HeaderValue::from_static("two"));
        let question = Question {
            method: "POST",
            headers: &headers,
            query: Some(b"q=v&empty&q=w"),
            source: "::ffff:10.1.2.3".parse().unwrap(),
            ..ask("meet.x", "/A/b")
        };
        let header = |test| Condition::Header(HeaderName::from_static("x-a"), test);
        let query = |name: &str, test| Condition::Query(name.into(), test);
        let net = |net: &str| net.parse::<IpNet>().unwrap();
        let prefix = |path: &str| PathPattern::Prefix(path.into());
        for (condition, expected) in [
            (header(Test::Present), true),
            (header(is("two".into())), true),
            (header(is("one".into())), false),
            (header(Test::Not(vec!["two".into()])), false),
            (header(Test::Matches(pattern("^ONE$"))), true),
            (query("q", is("w".into())), true),
            (query("q", is("W".into())), false),
            (query("empty", Test::Present), true),
            (query("none", Test::Present), false),
            (query("none", Test::Not(vec!["x".into()])), true),
            (Condition::Method(is("POST".into())), true),
            (Condition::Method(Test::Not(vec!["POST".into()])), false),
            (Condition::Scheme(Schemes { https: true, http: false }), true),
            (Condition::Scheme(Schemes { https: false, http: true }), false),
            (Condition::Source(is(net("10.0.0.0/8"))), true),
            (Condition::Source(Test::Not(vec![net("10.0.0.0/8")])), false),
            (Condition::Source(is(net("2001:db8::/32"))), false),
            (Condition::Path(is(prefix("/a"))), true),
            (Condition::Path(Test::Not(vec![prefix("/a/b")])), false),
            (Condition::Path(is(PathPattern::Exact("/a".into()))), false),
            (Condition::Path(Test::Matches(pattern("^/a/B$"))), true),
            (Condition::Host(is(HostPattern::Prefix("meet".into()))), true),
            (Condition::Host(is(HostPattern::Exact("x".into()))), false),
            (Condition::Host(Test::Matches(pattern("^MEET"))), true),
        ] {
            assert_eq!(holds(condition.clone(), &question), expected, "{condition:?}");
        }
    }

    #[test]
    fn all_conditions_must_hold() {
        let table = Table::new(&site(&[], vec![]));
        let post = Condition::Method(is("POST".into()));
        let rule = Rule { when: vec![Condition::Path(Test::Present), post], ..forward("a.x", "") };
        let get = ask("a.x", "/");
        assert!(!Conditions::new(&table, &get).hold(&rule, b"/"));
        let question = Question { method: "POST", ..get };
        assert!(Conditions::new(&table, &question).hold(&rule, b"/"));
    }

    #[test]
    fn parameters_are_decoded() {
        let found = |query: &str| {
            let question = Question { query: Some(query.as_bytes()), ..ask("a.x", "/") };
            holds(Condition::Query("a b".into(), is("c/ä+".into())), &question)
        };
        assert!(found("a+b=c%2f%C3%A4%2B"));
        assert!(found("x&A%20B=c/%c3%a4%2b"));
        assert!(!found("a+b=c%2f%C3%A4+"));
    }

    #[test]
    fn captures_come_from_the_last_pattern_in_the_clients_letters() {
        let path = |text| Condition::Path(Test::Matches(pattern(text)));
        let host = Condition::Host(Test::Matches(pattern("^(a)")));
        let question = ask("a.x", "/Old/%C3%A4%20b/C");
        let groups = |when: Vec<Condition>| {
            let captured = captures(&Rule { when, ..forward("a.x", "") }, &question)?;
            Some(captured.groups.iter().map(|g| String::from_utf8_lossy(g).into_owned()).collect())
        };
        let texts =
            |texts: &[&str]| Some(texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            groups(vec![host.clone(), path("^/old/(.*)/(c)(d)?$")]),
            texts(&["/Old/ä b/C", "ä b", "C", ""])
        );
        assert_eq!(groups(vec![path("^/old"), host]), texts(&["a", "a"]));
        assert_eq!(groups(vec![]), None);
        assert_eq!(groups(vec![path("never")]), None);
    }
}
