//! Whether the conditions of a rule hold, and what they captured.

use std::{borrow::Cow, cell::RefCell, collections::HashMap};

use http::{HeaderName, header};

use super::{Question, rewrite, table::Table};
use crate::site::{Condition, Rule, path::takes};

/// Judges the conditions of rules for one request.
pub(super) struct Conditions<'a> {
    table: &'a Table,
    question: &'a Question<'a>,
    /// Rules and whether they hold but for the path: a path with many readings must not cost as
    /// many searches of the header, nor many rules as many looks at all those before. Allocates only
    /// for rules with conditions.
    known: RefCell<HashMap<usize, bool>>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(table: &'a Table, question: &'a Question<'a>) -> Self {
        Self { table, question, known: RefCell::default() }
    }

    /// Whether all conditions of `rule` hold for this reading of the path.
    pub(super) fn hold(&self, rule: &Rule, reading: &[u8]) -> bool {
        let here = |condition: &Condition| match condition {
            Condition::Path(test) => test.holds(reading, |pattern| takes(pattern, reading)),
            // Judged once, below.
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
        let known = self.known.borrow().get(&rule.index).copied();
        known.unwrap_or_else(|| {
            let hold = rule.when.iter().all(|condition| self.judge(condition));
            self.known.borrow_mut().insert(rule.index, hold);
            hold
        })
    }

    /// Everything but the path.
    fn judge(&self, condition: &Condition) -> bool {
        let question = self.question;
        let equal = |value: &std::sync::Arc<str>, text: &[u8]| value.as_bytes() == text;
        match condition {
            Condition::Header(name, test) => test.holds_among(fields(question, name), equal),
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
            Condition::Url(test) => {
                let same = |value: &std::sync::Arc<str>, url: &[u8]| {
                    url.eq_ignore_ascii_case(value.as_bytes())
                };
                test.holds_among(urls(question).into_iter(), same)
            }
            Condition::Path(_) => true,
        }
    }
}

/// The fields of this name as the server gets them.
///
/// COMPAT: HTTP/2 clients may send `Cookie` in pieces; the server gets one. Test:
/// cookies_are_one_text_however_they_came
fn fields<'q>(question: &Question<'q>, name: &HeaderName) -> impl Iterator<Item = Cow<'q, [u8]>> {
    let mut values: Vec<Cow<'q, [u8]>> =
        question.headers.get_all(name).iter().map(|value| value.as_bytes().into()).collect();
    if name == header::COOKIE && values.len() > 1 {
        values = vec![Cow::Owned(values.join(&b"; "[..]))];
    }
    values.into_iter()
}

/// Path and query as sent, decoded once and decoded twice; the same ones only once.
///
/// SECURITY: a server may decode them before it looks at them, and what is behind it again. Test:
/// an_url_is_asked_about_in_every_encoding
fn urls<'q>(question: &Question<'q>) -> Vec<Cow<'q, [u8]>> {
    let sent = match question.query {
        None => Cow::Borrowed(question.path()),
        Some(query) => Cow::Owned([question.path(), b"?", query].concat()),
    };
    let mut all = vec![sent];
    let mut done = 0;
    for _ in 0..2 {
        let fresh = all.iter().skip(done);
        // Not every server knows `%uXXXX`.
        let both = |url| [false, true].map(|unicode| rewrite::decode(url, unicode));
        let mut decoded: Vec<_> = fresh.flat_map(|url| both(url)).flatten().collect();
        decoded.dedup();
        done = all.len();
        all.extend(decoded.into_iter().map(Cow::Owned));
    }
    all
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
    let pattern = condition.pattern()?;
    let groups = |text: &[u8]| pattern.captures(text);
    // Of a path, and of a URL as it was sent, the client's escapes are still in them.
    let mut decoded = !matches!(condition, Condition::Path(_));
    let groups = match condition {
        Condition::Header(name, _) => {
            fields(question, name).find_map(|value| groups(&value)).or_else(|| groups(b""))
        }
        Condition::Query(name, _) => {
            parameters(question, name).find_map(|value| groups(&value)).or_else(|| groups(b""))
        }
        Condition::Method(_) => groups(question.method.as_bytes()),
        Condition::Host(_) => groups(question.host.as_bytes()),
        // In the client's letter case, which the server may mind.
        Condition::Path(_) => groups(&rewrite::decode_necessary(question.path())),
        Condition::Url(_) => urls(question).iter().enumerate().find_map(|(number, url)| {
            decoded = number > 0;
            groups(url)
        }),
        Condition::Scheme(_) | Condition::Source(_) => None,
    }?;
    Some(Captures { groups, decoded })
}

/// The values of a query parameter, decoded as ASP.NET does.
///
/// SECURITY: `?%61=b` is `?a=b` to the server, so it is to a condition. Test:
/// parameters_are_decoded
pub(super) fn parameters<'q>(
    question: &Question<'q>,
    name: &str,
) -> impl Iterator<Item = Cow<'q, [u8]>> {
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
    use http::{HeaderMap, HeaderValue};
    use ipnet::IpNet;
    use regex::RegexBuilder;

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
            (Condition::Url(is("/a/b?Q=v&empty&q=W".into())), true),
            (Condition::Url(is("/a/b".into())), false),
            (Condition::Host(is(HostPattern::Prefix("meet".into()))), true),
            (Condition::Host(is(HostPattern::Exact("x".into()))), false),
            (Condition::Host(Test::Matches(pattern("^MEET"))), true),
        ] {
            assert_eq!(holds(condition.clone(), &question), expected, "{condition:?}");
        }
    }

    #[test]
    fn an_url_is_asked_about_in_every_encoding() {
        let matches = || Condition::Url(Test::Matches(pattern("^/a.*?x.*power=b&")));
        let asks = |path: &str, query: &str, condition: Condition| {
            let question = Question { query: Some(query.as_bytes()), ..ask("a.x", path) };
            holds(condition, &question)
        };
        for (path, query) in [
            ("/a/b", "x&power=b&"),
            ("/a%3fx", "power=b&"),
            ("/%61", "x&%70ower=%62%26"),
            ("/%2561", "x&%2570ower%253db%2526"),
            ("/%u0061", "x&POWER=B&"),
            ("/%25u0061", "x&power=b&"),
            ("/a", "%ffx&power=b&"),
        ] {
            assert!(asks(path, query, matches()), "{path}?{query}");
            let not = Condition::Url(Test::Not(vec!["/a?b".into()]));
            assert!(asks(path, query, not), "{path}?{query}");
        }
        assert!(!asks("/a", "x&power=c&", matches()));
        for (path, query) in [("/A", "b"), ("/%61", "%62"), ("/%2561", "b"), ("/a", "%u0062")] {
            let not = Condition::Url(Test::Not(vec!["/x".into(), "/a?b".into()]));
            assert!(!asks(path, query, not), "{path}?{query}");
        }
    }

    #[test]
    fn cookies_are_one_text_however_they_came() {
        let name = header::COOKIE;
        let ends = || Condition::Header(name.clone(), Test::Matches(pattern("^a=b; (c)=d$")));
        for parts in [&["a=b; c=d"][..], &["a=b", "c=d"]] {
            let mut headers = HeaderMap::new();
            for part in parts {
                headers.append(&name, HeaderValue::from_static(part));
            }
            let question = Question { headers: &headers, ..ask("a.x", "/") };
            assert!(holds(ends(), &question), "{parts:?}");
            let is = Condition::Header(name.clone(), is("a=b; c=d".into()));
            assert!(holds(is, &question), "{parts:?}");
            let captured = captures(&with(ends()), &question).unwrap();
            assert_eq!(captured.groups[1], b"c");
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_nothing() {
        let deny = |text| Condition::Path(Test::Matches(pattern(text)));
        for pattern in ["^/.*/secret", "^/[^/]+/secret"] {
            for path in [&b"/a\xff/secret"[..], b"/a%ff/secret", b"/\xe4/secret"] {
                let question = Question { target_path: path, ..ask("a.x", "/") };
                let readings = super::super::reading::readings(path);
                let table = Table::new(&site(&["x"], vec![]));
                let conditions = Conditions::new(&table, &question);
                let rule = with(deny(pattern));
                let mut all = readings.iter().unwrap();
                assert!(all.all(|reading| conditions.hold(&rule, reading)), "{pattern} {path:?}");
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_bytes(b"X-BEResource=a/\xff~c").unwrap());
        let question =
            Question { headers: &headers, query: Some(b"q=a%ff%0ab"), ..ask("a.x", "/") };
        let cookie = Test::Matches(pattern("X-BEResource=(.+)/(.+)~(.+)"));
        assert!(holds(Condition::Header(header::COOKIE, cookie), &question));
        assert!(holds(
            Condition::Query("q".into(), Test::Matches(pattern("^(?s)a.+b$"))),
            &question
        ));
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
