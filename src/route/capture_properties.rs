//! Whatever a stranger sends: captures stay values. They lead to no other host, out of no
//! directory, to no denied path, and bring no control characters along.

use http::{HeaderMap, HeaderValue};
use proptest::{prelude::*, sample::select};
use regex::RegexBuilder;

use super::{
    Question, Values, condition, location,
    reading::readings,
    rewrite, rewritten,
    testing::{ask, forward, site},
};
use crate::site::{
    Condition, Part, Pattern, Redirect, Rewrite, Rule, Template, Test,
    path::{denied, under},
};

/// Bytes that mean something to somebody, and any others.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        select(vec![
            "/",
            "//",
            "\\",
            "..",
            "/../",
            "%2f",
            "%2e%2e",
            "%5c",
            "%0d%0a",
            "%00",
            "?",
            "#",
            "@",
            ":",
            "evil.example",
            "admin",
            "/cscp",
            "{R:1}",
            "&",
            "=",
            "%",
            "+",
            ";",
            "(S(x))",
            "\u{ff0f}",
            "a",
            "b",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn variable() -> impl Strategy<Value = Part> {
    select(vec![
        Part::Rule(0),
        Part::Rule(1),
        Part::Condition(1),
        Part::Query,
        Part::Host,
        Part::Path,
    ])
}

fn condition() -> impl Strategy<Value = Condition> {
    let all = || Pattern(RegexBuilder::new("(?s)^(.*)$").build().unwrap());
    prop_oneof![
        Just(Condition::Path(Test::Matches(all()))),
        Just(Condition::Query("q".into(), Test::Matches(all()))),
        Just(Condition::Url(Test::Matches(all()))),
        Just(Condition::Header(http::header::USER_AGENT, Test::Matches(all()))),
    ]
}

/// What a server should read where a variable was written into a query.
fn meant(variable: &Part, condition: &Condition, question: &Question<'_>) -> Option<Vec<u8>> {
    let path = question.target_path;
    let decoded = |text: &[u8]| rewrite::decode(text, false).unwrap_or_else(|| text.to_vec());
    Some(match (variable, condition) {
        (Part::Rule(0), _) => decoded(path.strip_prefix(b"/")?),
        (Part::Rule(_), _) => decoded(path.strip_prefix(b"/o/")?),
        (Part::Path, _) => decoded(path),
        (Part::Host, _) => question.host.as_bytes().to_vec(),
        (Part::Condition(_), Condition::Path(_)) => decoded(&rewrite::decode_necessary(path)),
        (Part::Condition(_), Condition::Url(_)) => decoded(&[path, b"?", question.query?].concat()),
        (Part::Condition(_), Condition::Query(name, _)) => {
            condition::parameters(question, name).next()?.into_owned()
        }
        (Part::Condition(_), Condition::Header(name, _)) => {
            question.headers.get(name).map_or_else(Vec::new, |value| value.as_bytes().to_vec())
        }
        _ => return None,
    })
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_value_leads_elsewhere_or_brings_controls(
        path in hostile(),
        query in hostile(),
        agent in hostile(),
        condition in condition(),
        variable in variable(),
        https: bool,
    ) {
        let path = [b"/o/".as_slice(), &path].concat();
        let query = [b"q=".as_slice(), &query].concat();
        let mut headers = HeaderMap::new();
        if let Ok(agent) = HeaderValue::from_bytes(&agent) {
            headers.insert(http::header::USER_AGENT, agent);
        }
        let slash = if variable == Part::Path { "" } else { "/" };
        let to = |within: &str| Rewrite {
            path: Some(Template { parts: vec![text(within), text(slash), variable.clone()] }),
            within: format!("{within}/").into(),
            query: Some(Template { parts: vec![text("v="), variable.clone(), text("&own=1")] }),
        };
        let site = site(&[], vec![]);
        let question = Question {
            https,
            target_path: &path,
            query: Some(&query),
            headers: &headers,
            ..ask("a.x", "/")
        };
        for within in ["", "/app"] {
            let when = vec![condition.clone()];
            let rule = Rule { when, rewrite: Some(to(within)), ..forward("a.x", "/o") };
            let values = Values::new(&rule, &question);

            for to in ["/", "https://m.x/", "https://m.x/?"] {
                let to = Template { parts: vec![text(to), variable.clone()] };
                let redirect = Redirect { to, status: 302, keep_path: false, keep_query: true };
                let Some(made) = location(&redirect, &values) else { continue };
                prop_assert!(made.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'), "{made}");
                let here = made.starts_with('/') && !made.starts_with("//");
                prop_assert!(here || made.starts_with("https://m.x/"), "{}", made);
            }

            let field = Template { parts: vec![variable.clone()] };
            if let Some(made) = values.field(&field) {
                prop_assert!(made.iter().all(|b| (0x20..0x7f).contains(b)));
                prop_assert!(HeaderValue::from_bytes(&made).is_ok());
            }

            let Ok(target) = rewritten(&rule, &site.farms[0], &values) else { continue };
            let target = String::from_utf8(target.expect("rewritten")).unwrap();
            prop_assert!(target.bytes().all(|b| b.is_ascii_graphic() && b != b'#'), "{}", target);
            let (path, query) = target.split_once('?').expect("a query of its own");
            let deny = || site.farms[0].deny_paths.iter().map(|path| &**path);
            let found = readings(path.as_bytes());
            for reading in found.iter().expect("few readings") {
                prop_assert!(under(reading, within.as_bytes()), "{}", path);
                prop_assert!(!denied(reading, deny(), []), "{}", path);
            }
            let own = query.split('&').next_back();
            prop_assert_eq!(own, Some("own=1"), "a value ends where it ends");
            if let Some(meant) = meant(&variable, &condition, &question) {
                let value = query.strip_prefix("v=").and_then(|q| q.strip_suffix("&own=1"));
                let spaced = value.expect("one value").replace('+', " ").into_bytes();
                let read = rewrite::decode(&spaced, false).unwrap_or(spaced);
                prop_assert_eq!(read, meant, "{} in {}", query, path);
            }
        }
    }
}
