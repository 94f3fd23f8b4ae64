//! Conditions of rules: one subject, one comparison, regular expressions compiled once.

use http::HeaderName;

use crate::{
    config::{
        code,
        compile::{arc, patterns::pattern},
        diagnostic::Findings,
        model::{
            net::Cidr,
            publish::{self, Scheme, Texts},
        },
        read::{At, List, Read, read_text},
        source::Mark,
    },
    site::{Condition, HostPattern, PathPattern, Pattern, Schemes, Test},
};

/// The conditions of a rule; `None` if one of them is at fault.
pub(super) fn compile(
    written: Option<&At<List<publish::Condition>>>,
    findings: &mut Findings,
) -> Option<Vec<Condition>> {
    let Some(list) = written else { return Some(Vec::new()) };
    let made: Vec<_> = list.items.iter().map(|entry| condition(entry, findings)).collect();
    made.into_iter().collect::<Option<Vec<_>>>().filter(|_| !list.broken)
}

fn condition(entry: &At<publish::Condition>, findings: &mut Findings) -> Option<Condition> {
    let named = [
        entry.header.as_ref().map(|at| ("header", &at.mark, None)),
        entry.query.as_ref().map(|at| ("query", &at.mark, None)),
    ];
    let valued = [
        ("method", &entry.method),
        ("scheme", &entry.scheme),
        ("source", &entry.source),
        ("path", &entry.path),
        ("url", &entry.url),
        ("host", &entry.host),
    ];
    let valued = valued.map(|(key, at)| at.as_ref().map(|at| (key, &at.mark, Some(&at.value))));
    let subjects: Vec<_> = named.into_iter().chain(valued).flatten().collect();
    let (key, mark, value) = match subjects.as_slice() {
        [one] => *one,
        [(first, ..), (second, mark, _), ..] => {
            let message = format!("`{first}` and `{second}` are two conditions");
            findings
                .add(code::CONDITION, mark, message)
                .help("make an entry of each: all entries of `when` must hold".to_string());
            return None;
        }
        [] if entry.broken => return None,
        [] => {
            findings.add(code::CONDITION, &entry.mark, "the condition does not say of what").help(
                "add one of: header, query, method, scheme, source, path, url, host".to_string(),
            );
            return None;
        }
    };
    let asked = asked(key, mark, value, entry, findings)?;
    Some(match key {
        "header" => {
            let name = HeaderName::from_bytes(entry.header.as_ref()?.0.as_bytes()).ok()?;
            if name == http::header::HOST {
                let message = "HTTP/2 has no `Host` header".to_string();
                findings
                    .add(code::CONDITION, mark, message)
                    .help("use `host`, which means the host however it was asked for".to_string());
                return None;
            }
            Condition::Header(name, test(&asked, exact, findings)?)
        }
        "query" => {
            let name = arc(&entry.query.as_ref()?.to_lowercase());
            Condition::Query(name, test(&asked, exact, findings)?)
        }
        "method" => Condition::Method(test(&asked, method, findings)?),
        "scheme" => Condition::Scheme(schemes(&asked, findings)?),
        "source" => {
            let network = |text: &At<String>, findings: &mut Findings| {
                read_text::<Cidr>(text, findings).map(|cidr| cidr.canonical())
            };
            Condition::Source(test(&asked, network, findings)?)
        }
        "url" => Condition::Url(test(&asked, url, findings)?),
        "path" => Condition::Path(test(&asked, read::<PathPattern>, findings)?),
        _ => Condition::Host(test(&asked, read::<HostPattern>, findings)?),
    })
}

/// What a condition asks, as written.
enum Asked<'a> {
    Present,
    Is(&'a Texts),
    Not(&'a Texts),
    Matches(Pattern),
}

fn asked<'a>(
    key: &str,
    mark: &Mark,
    value: Option<&'a Texts>,
    entry: &'a publish::Condition,
    findings: &mut Findings,
) -> Option<Asked<'a>> {
    let comparisons = [
        entry.is.as_ref().map(|at| ("is", &at.mark)),
        entry.matches.as_ref().map(|at| ("matches", &at.mark)),
        entry.not.as_ref().map(|at| ("not", &at.mark)),
    ];
    let comparisons: Vec<_> = comparisons.into_iter().flatten().collect();
    let value = value.filter(|value| !value.0.is_empty());
    match (value, comparisons.as_slice()) {
        (_, [(first, _), (second, mark), ..]) => {
            findings
                .add(code::CONDITION, mark, format!("`{first}` and `{second}` in one condition"))
                .help("make an entry of each: all entries of `when` must hold".to_string());
            return None;
        }
        (Some(_), [(second, at)]) => {
            let message = format!("`{key}` has a value already, and `{second}` gives another one");
            findings
                .add(code::CONDITION, at, message)
                .help(format!("leave the subject empty: `{{ {key}: ~, {second}: … }}`"));
            return None;
        }
        (Some(value), []) => return Some(Asked::Is(value)),
        (None, []) if matches!(key, "header" | "query") => return Some(Asked::Present),
        (None, []) if entry.broken => return None,
        (None, []) => {
            findings
                .add(code::CONDITION, mark, format!("`{key}` is compared with nothing"))
                .help(format!("write `{{ {key}: VALUE }}`, or add `is`, `not` or `matches`"));
            return None;
        }
        (None, [_]) => {}
    }
    for (texts, not) in [(&entry.is, false), (&entry.not, true)] {
        let Some(texts) = texts else { continue };
        if texts.0.is_empty() {
            let word = if not { "not" } else { "is" };
            findings
                .add(code::EMPTY_VALUE, &texts.mark, format!("`{word}` has no value"))
                .help("for an empty or missing one: `matches: \"^$\"`".to_string());
            return None;
        }
        return Some(if not { Asked::Not(texts) } else { Asked::Is(texts) });
    }
    let matches = entry.matches.as_ref()?;
    let instead = match key {
        "source" => "addresses are compared as networks: `{ source: 10.0.0.0/8 }`",
        "scheme" => "write `{ scheme: https }` or `{ scheme: http }`",
        _ => return pattern(key, matches, findings).map(Asked::Matches),
    };
    findings
        .add(code::CONDITION, &matches.mark, format!("`matches` is not for `{key}`"))
        .help(instead.to_string());
    None
}

fn test<T>(
    asked: &Asked<'_>,
    read: impl Fn(&At<String>, &mut Findings) -> Option<T>,
    findings: &mut Findings,
) -> Option<Test<T>> {
    let mut all = |texts: &Texts| -> Option<Vec<T>> {
        let read: Vec<_> = texts.0.iter().map(|text| read(text, findings)).collect();
        read.into_iter().collect()
    };
    Some(match asked {
        Asked::Present => Test::Present,
        Asked::Is(texts) => Test::Is(all(texts)?),
        Asked::Not(texts) => Test::Not(all(texts)?),
        Asked::Matches(pattern) => Test::Matches(pattern.clone()),
    })
}

fn exact(text: &At<String>, _: &mut Findings) -> Option<std::sync::Arc<str>> {
    Some(arc(text))
}

fn read<T: Read>(text: &At<String>, findings: &mut Findings) -> Option<T> {
    read_text(text, findings).map(|at| at.value)
}

fn method(text: &At<String>, findings: &mut Findings) -> Option<std::sync::Arc<str>> {
    let token = http::Method::from_bytes(text.as_bytes()).is_ok();
    if token && !text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Some(arc(text));
    }
    let upper = text.to_uppercase();
    let help = match text.raw {
        None if token => format!("methods are written in capitals: `{upper}`"),
        _ => "methods look like `POST` or `RPC_IN_DATA`".to_string(),
    };
    findings
        .add(code::CONDITION, &text.mark, format!("`{}` is not a method", text.shown()))
        .help(help);
    None
}

fn schemes(asked: &Asked<'_>, findings: &mut Findings) -> Option<Schemes> {
    let test = test(asked, read::<Scheme>, findings)?;
    let is = |wanted: Scheme| test.holds(b"", |scheme| *scheme == wanted);
    Some(Schemes { https: is(Scheme::Https), http: is(Scheme::Http) })
}

fn url(text: &At<String>, findings: &mut Findings) -> Option<std::sync::Arc<str>> {
    if text.starts_with('/') {
        return Some(arc(text));
    }
    findings
        .add(code::CONDITION, &text.mark, format!("`{}` is no path with a query", text.shown()))
        .help("it starts with `/`: `/x?a=b`; for a part of it use `matches`".to_string());
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{node, source::Source};

    pub(in crate::config::compile) fn compiled(text: &str) -> (Option<Vec<Condition>>, Findings) {
        let source = Source::new(std::path::Path::new("t.yaml"), format!("{text}\n"));
        let mut findings = Findings::default();
        let node = node::parse(&source, &mut findings).unwrap();
        let list = crate::config::read::read_at(&node, &mut findings);
        let conditions = list.and_then(|list| compile(Some(&list), &mut findings));
        assert_eq!(conditions.is_none(), findings.errors() > 0, "{text}: {findings:?}");
        (conditions, findings)
    }

    pub(in crate::config::compile) fn one(text: &str) -> Condition {
        compiled(text).0.unwrap().remove(0)
    }

    pub(in crate::config::compile) fn codes(text: &str) -> Vec<&'static str> {
        compiled(text).1.iter().map(|finding| finding.code.id).collect()
    }

    #[test]
    fn a_subject_carries_its_value_or_a_comparison() {
        let is = |value: &str| Test::Is(vec![arc(value)]);
        assert_eq!(one("[{ method: POST }]"), Condition::Method(is("POST")));
        assert_eq!(one("[{ method: ~, is: POST }]"), Condition::Method(is("POST")));
        assert_eq!(one("[{ method, is: POST }]"), Condition::Method(is("POST")));
        let not = Test::Not(vec![arc("GET"), arc("HEAD")]);
        assert_eq!(one("[{ method: ~, not: [GET, HEAD] }]"), Condition::Method(not));
        let name = HeaderName::from_static("x-a");
        assert_eq!(one("[{ header: X-A }]"), Condition::Header(name.clone(), Test::Present));
        assert_eq!(one("[{ header: X-A, is: b }]"), Condition::Header(name, is("b")));
        assert_eq!(one("[{ query: Q }]"), Condition::Query(arc("q"), Test::Present));
        let http = Schemes { https: false, http: true };
        assert_eq!(one("[{ scheme: http }]"), Condition::Scheme(http));
        assert_eq!(one("[{ scheme: ~, not: https }]"), Condition::Scheme(http));
        let path = PathPattern::Prefix("/owa".into());
        assert_eq!(one("[{ path: /OWA/ }]"), Condition::Path(Test::Is(vec![path])));
        let nets = ["10.0.0.0/8", "192.0.2.7/32"].map(|net| net.parse().unwrap()).to_vec();
        let source = Condition::Source(Test::Is(nets));
        assert_eq!(one("[{ source: [\"::ffff:10.1.2.3/104\", 192.0.2.7] }]"), source);
        assert!(one("[{ path: ~, matches: \"^/X/(.*)\" }]").pattern().unwrap().is_match(b"/x/y"));
        assert_eq!(one("[{ url: \"/x?a=b\" }]"), Condition::Url(is("/x?a=b")));
    }

    #[test]
    fn everything_else_is_a_finding() {
        for (text, code) in [
            ("[{ is: x }]", "E061"),
            ("[{}]", "E061"),
            ("[{ header: X-A, path: /x }]", "E061"),
            ("[{ header: X-A, is: a, not: b }]", "E061"),
            ("[{ path: /x, matches: y }]", "E061"),
            ("[{ path: ~ }]", "E061"),
            ("[{ method: [] }]", "E061"),
            ("[{ method: post }]", "E061"),
            ("[{ scheme: ~, matches: http }]", "E061"),
            ("[{ source: ~, matches: \"10.*\" }]", "E061"),
            ("[{ header: X-A, is: ~ }]", "E008"),
            ("[{ header: ~, is: a }]", "E008"),
            ("[{ scheme: ftp }]", "E010"),
            ("[{ source: 10.0.0.0/33 }]", "E025"),
            ("[{ path: x }]", "E024"),
            ("[{ url: \"x?y\" }]", "E061"),
            ("[{ url: ~ }]", "E061"),
            ("[{ url: ~, matches: \"(?-i)x\" }]", "E060"),
            ("[{ header: Host, is: a }]", "E061"),
            ("[{ header: HOST }]", "E061"),
            ("[{ host: \"a b\" }]", "E023"),
            ("[{ header: \"X A\" }]", "E035"),
            ("[{ path: ~, matches: \"(\" }]", "E060"),
            ("[{ path: ~, matches: \"(?=x)\" }]", "E060"),
            ("[{ path: ~, matches: '(\\w{500}){50}' }]", "E060"),
            ("[{ heder: X-A }]", "E005"),
            ("x", "E009"),
        ] {
            assert_eq!(codes(text), [code], "{text}");
        }
    }
}
