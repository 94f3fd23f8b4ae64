//! Properties of routing as a whole: it equals a naive reference, no spelling of a host changes
//! the verdict, and no spelling of a denied path gets through.

use proptest::{prelude::*, sample::select};

use super::{
    Decision, Question, Table, decide, normalize_host,
    reading::{Readings, readings},
    testing::{OTHER, ask, forward, site},
};
use crate::site::{
    Action, Condition, HostPattern, PathPattern, Redirect, Respond, Rule, Schemes, Site, Test,
};

/// A verdict that can be compared: what happens, and by which rule.
type Verdict = (&'static str, Option<usize>);

fn verdict(decision: &Decision<'_>) -> Verdict {
    let name = match decision {
        Decision::Ambiguous => "ambiguous",
        Decision::Deny { .. } => return ("deny", None),
        Decision::Forward { .. } => "forward",
        Decision::HostNotPublished => "no host",
        Decision::PathNotPublished => "no path",
        Decision::Redirect { .. } => "redirect",
        Decision::Respond { .. } => "respond",
        Decision::ToHttps { .. } => "https",
    };
    (name, decision.rule().map(|rule| rule.index))
}

/// The contract, written down as slowly as possible.
fn reference(site: &Site, question: &Question<'_>) -> Verdict {
    let listener = &site.listeners[question.listener].name;
    let here: Vec<_> = site
        .rules
        .iter()
        .filter(|rule| rule.listeners.as_ref().is_none_or(|names| names.contains(listener)))
        .collect();
    let rank = |rule: &Rule| host_rank(site, &rule.host, question.host);
    let Some(best) = here.iter().filter_map(|rule| rank(rule)).max() else {
        return ("no host", None);
    };
    let rules: Vec<_> = here.into_iter().filter(|rule| rank(rule) == Some(best)).collect();
    let all = match readings(question.target_path) {
        Readings::Plain(path) => vec![path.to_ascii_lowercase()],
        Readings::Several(all) => all,
        Readings::TooMany => return ("ambiguous", None),
    };
    let mut verdicts: Vec<Verdict> = all
        .iter()
        .map(|reading| {
            let path = String::from_utf8_lossy(reading).into_owned();
            let mut taking: Vec<&Rule> = rules.iter().map(|rule| &***rule).collect();
            taking.retain(|rule| rule.when.iter().all(|c| condition(c, question, &path)));
            let Some(best) = taking.iter().filter_map(|r| path_rank(&r.path, &path)).max() else {
                return ("no path", None);
            };
            taking.retain(|rule| path_rank(&rule.path, &path) == Some(best));
            taking.sort_by_key(|rule| rule.when.is_empty());
            let rules = taking.iter();
            let https = rules.clone().find(|rule| rule.schemes.https);
            let http = rules.clone().find(|rule| rule.schemes.http);
            let Some(rule) = (if question.https { https } else { http.or(https) }) else {
                return ("no path", None);
            };
            if rule.action == Action::Deny {
                return ("deny", None);
            }
            if let Action::Forward(farm) = rule.action {
                let farm = &site.farms[farm.0];
                if farm.deny_paths.iter().any(|denied| {
                    covers(denied, &path)
                        && !rule
                            .allow_denied
                            .iter()
                            .any(|a| a.len() >= denied.len() && covers(a, &path))
                }) {
                    return ("deny", None);
                }
                let plain = farm.plain_paths.is_empty()
                    || farm.plain_paths.iter().any(|entry| match entry.strip_prefix('=') {
                        Some(exact) => exact == path,
                        None => covers(entry, &path),
                    });
                if !question.https && rule.schemes.http && !plain {
                    return match https {
                        Some(rule) => ("https", Some(rule.index)),
                        None => ("no path", None),
                    };
                }
            }
            if !question.https && !rule.schemes.http {
                return ("https", Some(rule.index));
            }
            let what = match rule.action {
                Action::Redirect(_) => "redirect",
                Action::Respond(_) => "respond",
                _ => "forward",
            };
            (what, Some(rule.index))
        })
        .collect();
    verdicts.dedup();
    if let [one] = verdicts.as_slice() { *one } else { ("ambiguous", None) }
}

fn condition(condition: &Condition, question: &Question<'_>, path: &str) -> bool {
    match condition {
        Condition::Method(Test::Is(methods)) => methods.iter().any(|m| **m == *question.method),
        Condition::Scheme(schemes) => {
            (question.https && schemes.https) || (!question.https && schemes.http)
        }
        Condition::Path(Test::Is(paths)) => paths.iter().any(|p| path_rank(p, path).is_some()),
        Condition::Path(Test::Not(paths)) => !paths.iter().any(|p| path_rank(p, path).is_some()),
        other => panic!("{other:?} is not among those that are tried"),
    }
}

fn when() -> impl Strategy<Value = Vec<Condition>> {
    let prefix = |path: &str| PathPattern::Prefix(path.into());
    let all = vec![
        Condition::Method(Test::Is(vec!["POST".into()])),
        Condition::Method(Test::Is(vec!["GET".into(), "POST".into()])),
        Condition::Scheme(Schemes { https: false, http: true }),
        Condition::Path(Test::Is(vec![prefix("/a"), PathPattern::Exact("/b".into())])),
        Condition::Path(Test::Not(vec![prefix("/a/b")])),
    ];
    prop_oneof![3 => Just(vec![]), 2 => proptest::collection::vec(select(all), 1..3)]
}

fn host_rank(site: &Site, pattern: &HostPattern, host: &str) -> Option<(u8, usize)> {
    match pattern {
        HostPattern::Exact(name) => (**name == *host).then_some((2, 0)),
        HostPattern::Prefix(prefix) => {
            let rest = host.strip_prefix(&format!("{prefix}."))?;
            let under = |domain: &String| rest == domain || rest.ends_with(&format!(".{domain}"));
            let takes = site.domains.is_empty() || site.domains.iter().any(under);
            takes.then_some((1, prefix.len()))
        }
        HostPattern::Suffix(suffix) => {
            host.ends_with(&format!(".{suffix}")).then_some((0, suffix.len()))
        }
    }
}

fn path_rank(pattern: &PathPattern, path: &str) -> Option<(usize, bool)> {
    match pattern {
        PathPattern::Any => Some((0, false)),
        PathPattern::Prefix(prefix) => covers(prefix, path).then_some((prefix.len(), false)),
        PathPattern::Exact(exact) => (**exact == *path).then_some((exact.len(), true)),
    }
}

fn covers(prefix: &str, path: &str) -> bool {
    path == prefix || path.starts_with(&format!("{prefix}/"))
}

fn action() -> impl Strategy<Value = Action> {
    let redirect = Redirect { to: "/".into(), status: 302, keep_path: true, keep_query: true };
    prop_oneof![
        4 => Just(forward("x", "").action),
        2 => Just(Action::Forward(OTHER)),
        1 => Just(Action::Deny),
        1 => Just(Action::Redirect(redirect)),
        1 => Just(Action::Respond(Respond { status: 503, page: None })),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let hosts = vec!["a.*", "a.b.*", "a.b.c", "b.c", "*.c", "*.b.c", "*.a.b.c", "a.c", "b.*"];
    let paths = vec!["", "", "/a", "/a/b", "=/a", "=/", "/b", "/admin", "=/a/b"];
    let schemes = vec![(true, false), (false, true), (true, true)];
    let listeners = vec![None, None, Some("tls"), Some("plain")];
    let allowed = vec![None, None, Some("/admin"), Some("/admin/a")];
    let parts = (select(hosts), select(paths), select(schemes), select(listeners));
    (parts, action(), when(), select(allowed)).prop_map(|(parts, action, when, allowed)| {
        let (host, path, (https, http), listener) = parts;
        Rule {
            schemes: Schemes { https, http },
            listeners: listener.map(|name: &str| vec![name.into()]),
            allow_denied: allowed.into_iter().map(Into::into).collect(),
            action,
            when,
            ..forward(host, path)
        }
    })
}

pub(super) fn any_site() -> impl Strategy<Value = Site> {
    let domains = select(vec![vec![], vec!["c"], vec!["b.c", "d"], vec!["x"]]);
    (domains, proptest::collection::vec(rule(), 0..10))
        .prop_map(|(domains, rules)| site(&domains, rules))
}

pub(super) fn any_host() -> impl Strategy<Value = String> {
    proptest::collection::vec(select(vec!["a", "b", "c", "x"]), 1..5).prop_map(|l| l.join("."))
}

pub(super) fn any_path() -> impl Strategy<Value = String> {
    let parts = vec![
        "a", "b", "/", "/a", "/b", "/admin", "/Admin", "/a/b", "/x", "%61", "%2f", "/..", "//", ".",
    ];
    proptest::collection::vec(select(parts), 0..5).prop_map(|parts| format!("/{}", parts.concat()))
}

/// Spells `path` so that a server may well read it as `path` again.
fn spelt(path: &'static str) -> impl Strategy<Value = String> {
    let letter = |letter: char| {
        let code = u32::from(letter);
        if letter == '/' {
            let all = vec![
                "/",
                "//",
                "/./",
                "/x/../",
                "\\",
                "%2f",
                "%5C",
                "%252f",
                "%u002f",
                "/;x/",
                "/(S(x))/",
                "/%2e/",
                "/y/%2E%2e/",
                "/%c0%af",
                "%uff0f",
                "/y/.. /",
            ];
            select(all).prop_map(str::to_owned).boxed()
        } else {
            select(vec![
                letter.to_string(),
                letter.to_ascii_uppercase().to_string(),
                format!("%{code:02x}"),
                format!("%{:02X}", u32::from(letter.to_ascii_uppercase())),
                format!("%25{code:02x}"),
                format!("%u{code:04x}"),
                format!("%25u{code:04X}"),
                format!("%u{:04x}", code + 0xfee0),
            ])
            .boxed()
        }
    };
    let end =
        select(vec!["", "/", ".", "..", "%20", " .", "/x", ";a", "%00", "::$data", "%2f.", "\\"]);
    (path.chars().map(letter).collect::<Vec<_>>(), end).prop_map(|(letters, end)| {
        // The guard lets only targets with a leading slash come this far.
        let text = letters.concat() + end;
        if text.starts_with('/') { text } else { format!("/{text}") }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn routing_equals_the_naive_reference(
        site in any_site(),
        host in any_host(),
        path in any_path(),
        https: bool,
        listener in 0usize..2,
        post: bool,
    ) {
        let table = Table::new(&site);
        let method = if post { "POST" } else { "GET" };
        let question = Question { listener, https, method, ..ask(&host, &path) };
        let decision = decide(&table, &site, &question);
        prop_assert_eq!(verdict(&decision), reference(&site, &question));
    }

    #[test]
    fn case_trailing_dot_and_port_change_no_verdict(
        site in any_site(),
        host in any_host(),
        path in any_path(),
        https: bool,
        upper: bool,
        dot: bool,
        port: bool,
    ) {
        let table = Table::new(&site);
        let question = Question { https, ..ask(&host, &path) };
        let plain = verdict(&decide(&table, &site, &question));
        let shout = |text: &str| if upper { text.to_uppercase() } else { text.to_owned() };
        let mut spelt = shout(&host);
        spelt.push_str(if dot { "." } else { "" });
        spelt.push_str(if port { ":8443" } else { "" });
        let host = normalize_host(spelt.as_bytes()).unwrap();
        let path = shout(&path);
        let question = Question { https, ..ask(&host, &path) };
        prop_assert_eq!(verdict(&decide(&table, &site, &question)), plain);
    }

    #[test]
    fn no_spelling_of_a_denied_path_is_forwarded(
        path in prop_oneof![spelt("/admin"), spelt("/cscp"), spelt("/reach/admin")],
        https: bool,
    ) {
        let site = site(&[], vec![forward("h.x", ""), forward("h.x", "/reach")]);
        let table = Table::new(&site);
        let question = Question { https, ..ask("h.x", &path) };
        let decision = decide(&table, &site, &question);
        prop_assert!(
            matches!(decision, Decision::Deny { .. } | Decision::Ambiguous),
            "{} got {:?}", path, verdict(&decision)
        );
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        site in any_site(),
        path in proptest::collection::vec(any::<u8>(), 0..60),
        host in "\\PC{0,20}",
        listener: usize,
    ) {
        let table = Table::new(&site);
        let question = Question { listener, target_path: &path, ..ask(&host, "") };
        let _ = decide(&table, &site, &question);
    }
}
