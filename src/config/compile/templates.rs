//! Texts with captures: taken apart once, and nothing in them that the request cannot have.

use crate::{
    config::{
        code,
        compile::arc,
        diagnostic::Findings,
        read::At,
        source::Mark,
        template::{Piece, pieces},
    },
    site::{Condition, Part, PathPattern, Template},
};

/// Which captures a rule has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// The highest `{R:n}`.
    rule: u8,
    /// The highest `{C:n}`; `None` without a `matches`.
    condition: Option<u8>,
    /// Conditions are at fault, so nothing is known of their captures.
    unknown: bool,
}

impl Scope {
    /// The captures of a rule with this path and these conditions (`None`: with faults).
    pub(super) fn new(path: &PathPattern, when: Option<&[Condition]>) -> Self {
        let last = when.unwrap_or_default().iter().rev().find_map(Condition::pattern);
        let groups = |pattern: &crate::site::Pattern| {
            u8::try_from(pattern.0.captures_len().saturating_sub(1)).unwrap_or(u8::MAX).min(9)
        };
        Self {
            rule: if matches!(path, PathPattern::Exact(_)) { 0 } else { 1 },
            condition: last.map(groups),
            unknown: when.is_none(),
        }
    }
}

/// Where a template stands, which decides what may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The `to` of a redirect.
    Url,
    /// The `path` of a rewrite.
    Path,
    /// The `query` of a rewrite.
    Query,
    /// The value of a header.
    Field,
}

/// Takes a text apart; `None` after a finding.
pub(super) fn template(
    text: &str,
    shown: &str,
    mark: &Mark,
    kind: Kind,
    scope: Scope,
    findings: &mut Findings,
) -> Option<Template> {
    let mut parts = Vec::new();
    for piece in pieces(text) {
        let part = match piece {
            Piece::Text(text) => Ok(Part::Text(arc(text))),
            Piece::Variable(name) => variable(name, scope).and_then(|part| fits(part, kind)),
        };
        match part {
            Ok(part) => parts.push(part),
            Err(help) => {
                // SECURITY: of a text from the environment not even a piece is shown.
                let message = match piece {
                    Piece::Variable(name) if shown == text => format!("`{{{name}}}` has no value"),
                    _ => format!("a variable in `{shown}` has no value here"),
                };
                findings.add(code::TEMPLATE, mark, message).help(help);
                return None;
            }
        }
    }
    Some(Template { parts })
}

fn variable(name: &str, scope: Scope) -> Result<Part, String> {
    let upper = name.to_ascii_uppercase();
    let number = |digits: &str| digits.parse::<u8>().unwrap_or(u8::MAX);
    match upper.split_once(':') {
        Some(("R", digits)) => match number(digits) {
            number if number <= scope.rule => Ok(Part::Rule(number)),
            _ if scope.rule == 0 => {
                Err("an exact path has nothing behind it: there is only `{R:0}`".to_string())
            }
            _ => Err("there are `{R:0}`, the whole path, and `{R:1}`, what follows the rule's \
                      `path`; parts of it: `when: [{ path: ~, matches: … }]` and `{C:1}`"
                .to_string()),
        },
        Some(("C", digits)) => match (number(digits), scope.condition) {
            (number, _) if scope.unknown => Ok(Part::Condition(number)),
            (number, Some(groups)) if number <= groups => Ok(Part::Condition(number)),
            (_, Some(0)) => {
                Err("the last `matches` has no groups: put parentheses around what you need"
                    .to_string())
            }
            (_, Some(groups)) => {
                Err(format!("the groups of the last `matches` are `{{C:0}}` to `{{C:{groups}}}`"))
            }
            (_, None) => Err("add a condition with `matches` to `when`".to_string()),
        },
        None => match upper.as_str() {
            "HTTP_HOST" => Ok(Part::Host),
            "HTTPS" => Ok(Part::Https),
            "QUERY_STRING" => Ok(Part::Query),
            "REMOTE_ADDR" => Ok(Part::Source),
            "REQUEST_URI" => Ok(Part::Target),
            "URL" => Ok(Part::Path),
            _ => Err(known()),
        },
        Some(_) => Err(known()),
    }
}

fn known() -> String {
    "there are {R:n}, {C:n}, {HTTP_HOST}, {HTTPS}, {QUERY_STRING}, {REMOTE_ADDR}, {REQUEST_URI} \
     and {URL}"
        .to_string()
}

fn fits(part: Part, kind: Kind) -> Result<Part, String> {
    match (&part, kind) {
        (Part::Target, Kind::Path | Kind::Query) => {
            Err("it is path and query: write {URL} in `path` and {QUERY_STRING} in `query`"
                .to_string())
        }
        (Part::Query, Kind::Path) => Err("it belongs in `query`".to_string()),
        _ => Ok(part),
    }
}

/// The `to` of a redirect.
///
/// SECURITY: what a stranger writes must not become part of another host's name. Test:
/// only_the_host_asked_for_stands_in_a_host
pub(super) fn url(
    to: &At<crate::config::model::name::Target>,
    scope: Scope,
    findings: &mut Findings,
) -> Option<Template> {
    let shown = to.raw.as_deref().unwrap_or(&to.value.0);
    let made = template(&to.value.0, shown, &to.mark, Kind::Url, scope, findings)?;
    let mut parts = made.parts.iter();
    let first = match parts.next() {
        Some(Part::Text(text)) => text,
        _ => "",
    };
    let ends = |text: &str| text.contains(['/', '?', '#']);
    let open = match first.split_once("://") {
        Some((_, authority)) => !ends(authority),
        None => false,
    };
    let stranger = |part: &Part| match part {
        Part::Text(text) => ends(text).then_some(false),
        // Both begin with a slash.
        Part::Path | Part::Target => Some(false),
        Part::Host => None,
        _ => Some(true),
    };
    if open && parts.find_map(stranger).unwrap_or(false) {
        findings
            .add(code::TEMPLATE, &to.mark, "a capture would become part of the host's name")
            .help(
                "put a `/` in front of it; of the variables only {HTTP_HOST} may stand there"
                    .to_string(),
            );
        return None;
    }
    if doubled(&made) {
        let message = format!("`{shown}` has two slashes in a row");
        findings.add(code::TEMPLATE, &to.mark, message).help(DOUBLED.to_string());
        return None;
    }
    Some(made)
}

/// The remedy for [`doubled`].
pub(super) const DOUBLED: &str =
    "`{URL}` and `{REQUEST_URI}` bring their own slash: leave it out in front";

/// Whether a slash in front of a variable that begins with one would make two of them in a path.
pub(super) fn doubled(made: &Template) -> bool {
    let path = made
        .parts
        .iter()
        .take_while(|part| !matches!(part, Part::Text(text) if text.contains(['?', '#'])));
    let path: Vec<&Part> = path.collect();
    path.windows(2).any(
        |pair| matches!(pair, [Part::Text(text), Part::Path | Part::Target] if text.ends_with('/')),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use regex::Regex;

    use super::*;
    use crate::{
        config::{model::name::Target, source::Source},
        site::{Pattern, Test},
    };

    pub(in crate::config::compile) fn scope(groups: Option<&str>) -> Scope {
        let pattern = |text| Pattern(Regex::new(text).unwrap());
        let when: Vec<_> = groups
            .map(|text| Condition::Method(Test::Matches(pattern(text))))
            .into_iter()
            .collect();
        Scope::new(&PathPattern::Any, Some(&when))
    }

    pub(in crate::config::compile) fn at<T>(value: T) -> At<T> {
        let source = Source::new(std::path::Path::new("t.yaml"), String::new());
        At::implied(value, &Mark::start(&source))
    }

    fn parts(text: &str, kind: Kind, scope: Scope) -> Option<Vec<Part>> {
        let mut findings = Findings::default();
        let mark = at(()).mark;
        let made = template(text, text, &mark, kind, scope, &mut findings);
        assert_eq!(made.is_none(), findings.errors() > 0, "{text}");
        made.map(|made| made.parts)
    }

    #[test]
    fn captures_must_exist() {
        let text = |text: &str| Part::Text(text.into());
        let three = scope(Some("(a)(b)(c)"));
        let parsed = parts("/x/{R:1}{c:3}-{C:0}{Url}", Kind::Field, three).unwrap();
        let expected = [
            text("/x/"),
            Part::Rule(1),
            Part::Condition(3),
            text("-"),
            Part::Condition(0),
            Part::Path,
        ];
        assert_eq!(parsed, expected);
        for bad in ["{R:2}", "{C:4}", "{C:999}", "{X:1}", "{SERVER_NAME}", "{HTTP_HOST:1}"] {
            assert_eq!(parts(bad, Kind::Field, three), None, "{bad}");
        }
        assert_eq!(parts("{C:0}", Kind::Field, scope(None)), None);
        assert_eq!(parts("{C:1}", Kind::Field, scope(Some("a"))), None);
        let exact = Scope::new(&PathPattern::Exact("/a".into()), Some(&[]));
        assert!(parts("{R:0}", Kind::Field, exact).is_some());
        assert_eq!(parts("{R:1}", Kind::Field, exact), None);
        let faulty = Scope::new(&PathPattern::Any, None);
        assert!(parts("{C:9}", Kind::Field, faulty).is_some(), "one mistake, one finding");
    }

    #[test]
    fn only_the_host_asked_for_stands_in_a_host() {
        let fine = |to: &str| {
            let mut findings = Findings::default();
            let scope = scope(Some("(a)"));
            let made = url(&at(Target(to.to_string())), scope, &mut findings);
            assert_eq!(made.is_none(), findings.errors() > 0, "{to}");
            made.is_some()
        };
        for to in [
            "https://h/{R:1}",
            "https://{HTTP_HOST}/{R:0}",
            "https://{HTTP_HOST}:8443{REQUEST_URI}",
            "https://www.{HTTP_HOST}{URL}?{QUERY_STRING}",
            "https://h?x={C:1}",
            "/x?back=/{URL}",
            "/{R:1}",
        ] {
            assert!(fine(to), "{to}");
        }
        for to in [
            "https://h{R:1}",
            "https://h{C:1}/x",
            "https://{C:1}/",
            "https://{HTTP_HOST}{R:0}",
            "https://{HTTP_HOST}.{QUERY_STRING}/",
            "https://h:{REMOTE_ADDR}",
            // Two slashes.
            "https://h/{URL}",
            "/{REQUEST_URI}",
        ] {
            assert!(!fine(to), "{to}");
        }
    }
}
