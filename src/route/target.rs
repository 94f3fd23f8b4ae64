//! The target that goes to a server: the client's own, or what the rule's `rewrite` makes of it.

use super::{
    published::{Published, published},
    reading::readings,
    template::{Spot, Values, escape},
};
use crate::{
    reason::{self, Reason},
    site::{Farm, Part, Rule, Template, path::under},
};

/// Rewrites path and query as the rule says; `None`: the client's own bytes go on.
///
/// SECURITY: a capture is written by a stranger. So the new path is read in every way in which the
/// client's was, all its readings stay below the fixed start of the rule's `path`, and the farm's
/// `deny_paths` and `plain_paths` are asked again. Test: no_capture_reaches_a_denied_path
///
/// # Errors
/// The new path is denied, has readings that lead elsewhere, or is only for https (which
/// [`super::decide()`] has turned into a redirect before).
pub fn rewritten(rule: &Rule, farm: &Farm, values: &Values<'_>) -> Result<Option<Vec<u8>>, Reason> {
    let Some(rewrite) = &rule.rewrite else { return Ok(None) };
    let question = values.question();
    let mut target = match &rewrite.path {
        None => question.path().to_vec(),
        Some(path) => {
            let path = filled(path, values, Spot::Path).ok_or(reason::AMBIGUOUS_PATH)?;
            check(path.as_bytes(), rule, farm, &rewrite.within, question.https)?;
            path.into_bytes()
        }
    };
    let query = match &rewrite.query {
        None => question.query.map(<[u8]>::to_vec),
        Some(query) => {
            let query = filled(query, values, Spot::Query).ok_or(reason::AMBIGUOUS_PATH)?;
            Some(query.into_bytes()).filter(|query| !query.is_empty())
        }
    };
    if let Some(query) = query {
        target.push(b'?');
        target.extend_from_slice(&query);
    }
    Ok(Some(target))
}

fn filled(template: &Template, values: &Values<'_>, spot: Spot) -> Option<String> {
    let mut out = String::new();
    for part in &template.parts {
        match part {
            Part::Text(text) => escape(&mut out, text.as_bytes(), |_| false),
            part => values.push(&mut out, part, spot)?,
        }
    }
    Some(out)
}

fn check(path: &[u8], rule: &Rule, farm: &Farm, within: &str, https: bool) -> Result<(), Reason> {
    let readings = readings(path);
    let all = || readings.iter().into_iter().flatten();
    let says = |wanted| all().any(|reading| published(farm, rule, reading, https) == wanted);
    if says(Published::Denied) {
        return Err(reason::DENIED);
    }
    if readings.iter().is_none() || !all().all(|reading| stays(reading, within)) {
        return Err(reason::AMBIGUOUS_PATH);
    }
    if says(Published::OnlyHttps) { Err(reason::HTTPS_ONLY) } else { Ok(()) }
}

/// Whether a reading stays where [`crate::site::Rewrite::within`] says.
fn stays(reading: &[u8], within: &str) -> bool {
    match within.strip_suffix('/') {
        Some(directory) => under(reading, directory.as_bytes()),
        None => {
            reading.get(..within.len()).is_some_and(|s| s.eq_ignore_ascii_case(within.as_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::{
        route::{
            Question,
            testing::{ask, forward, site},
        },
        site::{Condition, Pattern, Rewrite, Test},
    };

    fn rewrite(path: Option<Vec<Part>>, within: &str, query: Option<Vec<Part>>) -> Rewrite {
        let template = |parts| Template { parts };
        let (path, query) = (path.map(template), query.map(template));
        Rewrite { path, within: within.into(), query }
    }

    fn made(rule: &Rule, question: &Question<'_>) -> Result<Option<String>, Reason> {
        let site = site(&[], vec![]);
        let made = rewritten(rule, &site.farms[0], &Values::new(rule, question))?;
        Ok(made.map(|target| String::from_utf8(target).unwrap()))
    }

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn path_and_query_change_apart() {
        let new = || Some(vec![text("/my new/"), Part::Rule(1)]);
        let both = || vec![text("p="), Part::Rule(1), text("&"), Part::Query];
        for (path, query, expected) in [
            (None, None, "/old/a%2fB?x=y&z"),
            (new(), None, "/my%20new/a%2fB?x=y&z"),
            (None, Some(vec![]), "/old/a%2fB"),
            (new(), Some(both()), "/my%20new/a%2fB?p=a%2fB&x=y&z"),
        ] {
            let within = if path.is_some() { "/my new/" } else { "" };
            let rule =
                Rule { rewrite: Some(rewrite(path, within, query)), ..forward("a.x", "/old") };
            let question = Question { query: Some(b"x=y&z"), ..ask("a.x", "/old/a%2fB") };
            assert_eq!(made(&rule, &question).unwrap().as_deref(), Some(expected));
        }
        assert_eq!(made(&forward("a.x", ""), &ask("a.x", "/x")).unwrap(), None);
    }

    #[test]
    fn captures_are_values_and_nothing_else() {
        let rule = Rule {
            rewrite: Some(rewrite(
                Some(vec![text("/n/"), Part::Rule(1)]),
                "/n/",
                Some(vec![text("a="), Part::Rule(1)]),
            )),
            ..forward("a.x", "/o")
        };
        let made = made(&rule, &ask("a.x", "/o/b&c=d{|}\u{e4}")).unwrap().unwrap();
        assert_eq!(made, "/n/b&c=d%7B%7C%7D%C3%A4?a=b%26c=d%7B%7C%7D%C3%A4");
    }

    #[test]
    fn no_capture_reaches_a_denied_path() {
        // Farm 0 denies /cscp and /admin.
        let open = Rule {
            rewrite: Some(rewrite(Some(vec![text("/"), Part::Rule(1)]), "", None)),
            ..forward("a.x", "/x")
        };
        for path in ["/x/admin", "/x/CSCP/y", "/x/%61dmin", "/x//admin", "/x/y/..%2fadmin"] {
            assert_eq!(made(&open, &ask("a.x", path)), Err(reason::DENIED), "{path}");
        }
        assert_eq!(made(&open, &ask("a.x", "/x/y")).unwrap().as_deref(), Some("/y"));
        let below = Rule {
            rewrite: Some(rewrite(Some(vec![text("/app/"), Part::Rule(1)]), "/app/", None)),
            ..forward("a.x", "/x")
        };
        for path in ["/x/..%2fother", "/x/%2e%2e/other", "/x/y/../../../other", "/x/..\\other"] {
            assert_eq!(made(&below, &ask("a.x", path)), Err(reason::AMBIGUOUS_PATH), "{path}");
        }
        let url = |start: &str, within: &str, variable| Rule {
            rewrite: Some(rewrite(Some(vec![text(start), variable]), within, None)),
            when: vec![Condition::Path(Test::Matches(Pattern(Regex::new("^/x(.*)").unwrap())))],
            ..forward("a.x", "")
        };
        let whole = url("/owa", "/owa/", Part::Path);
        for path in ["/../ews/x", "/..%2fews", "/%2e%2e/ews", "/x/../..\\ews", "/../owa2"] {
            assert_eq!(made(&whole, &ask("a.x", path)), Err(reason::AMBIGUOUS_PATH), "{path}");
        }
        assert_eq!(made(&whole, &ask("a.x", "/y")).unwrap().as_deref(), Some("/owa/y"));
        // A capture may begin with a slash as well.
        let part = url("/owa", "/owa", Part::Condition(1));
        for path in ["/x/../ews", "/x%2f..%2fews", "/x/y/../../ews"] {
            assert_eq!(made(&part, &ask("a.x", path)), Err(reason::AMBIGUOUS_PATH), "{path}");
        }
        assert_eq!(made(&part, &ask("a.x", "/x/y")).unwrap().as_deref(), Some("/owa/y"));
        assert_eq!(made(&part, &ask("a.x", "/x2")).unwrap().as_deref(), Some("/owa2"));
        let tricks = format!("/x/{}", "a/..%2f;x/%2561/.%20/\\b./(S(x))c%00");
        assert!(made(&below, &ask("a.x", &tricks)).is_err());
        let allowed = Rule { allow_denied: vec!["/admin".into()], ..open };
        assert!(made(&allowed, &ask("a.x", "/x/admin")).is_ok());
    }

    #[test]
    fn plain_http_reaches_only_what_it_may() {
        // Farm 0 has only / and /autodiscover on plain http.
        let rule = Rule {
            rewrite: Some(rewrite(Some(vec![text("/"), Part::Rule(1)]), "", None)),
            ..forward("a.x", "/x")
        };
        let plain = |path| Question { https: false, ..ask("a.x", path) };
        assert_eq!(made(&rule, &plain("/x/ucwa")), Err(reason::HTTPS_ONLY));
        assert!(made(&rule, &plain("/x/autodiscover/y")).is_ok());
        assert!(made(&rule, &ask("a.x", "/x/ucwa")).is_ok());
    }
}
