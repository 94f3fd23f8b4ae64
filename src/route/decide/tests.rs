//! Verdicts on hosts, paths, schemes and conditions.

use super::*;
use crate::{
    route::testing::{LYNC, OTHER, ask, forward, site},
    site::{Condition, Part, PathPattern, Rewrite, Schemes, Template, Test},
};

const HTTPS: Schemes = Schemes { https: true, http: false };
const HTTP: Schemes = Schemes { https: false, http: true };

fn verdict(rules: Vec<Rule>, url: &str) -> String {
    let site = site(&["contoso.com"], rules);
    let table = Table::new(&site);
    let (scheme, rest) = url.split_once("://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let path = format!("/{path}");
    let https = scheme == "https";
    let listener = if https { 0 } else { 1 };
    let question = Question { listener, https, ..ask(host, &path) };
    let decision = decide(&table, &site, &question);
    let rule = decision.rule().map_or("-", |rule| &rule.name);
    match decision {
        Decision::Ambiguous => "ambiguous".into(),
        Decision::Deny { .. } => format!("deny {rule}"),
        Decision::Forward { farm: LYNC, .. } => format!("lync {rule}"),
        Decision::Forward { .. } => format!("other {rule}"),
        Decision::HostNotPublished => "no host".into(),
        Decision::PathNotPublished => "no path".into(),
        Decision::Redirect { redirect, .. } => {
            format!("redirect {}", redirect.to.fixed().unwrap())
        }
        Decision::Respond { respond, .. } => format!("respond {}", respond.status),
        Decision::ToHttps { .. } => format!("https {rule}"),
    }
}

fn with(rule: Rule, change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = rule;
    change(&mut rule);
    rule
}

#[test]
fn the_lync_estate() {
    let rules = || {
        let https = |host| with(forward(host, ""), |rule| rule.schemes = HTTPS);
        vec![https("meet.*"), https("dialin.*"), forward("lyncdiscover.*", "")]
    };
    for (url, expected) in [
        ("https://meet.contoso.com/Anna/AB12", "lync meet.*"),
        ("https://meet.contoso.com/admin/x", "deny meet.*"),
        ("https://meet.contoso.com/administrator", "lync meet.*"),
        ("http://meet.contoso.com/Anna", "https meet.*"),
        ("http://meet.contoso.com/admin", "deny meet.*"),
        ("http://lyncdiscover.contoso.com/", "lync lyncdiscover.*"),
        ("http://lyncdiscover.contoso.com/Autodiscover/x", "lync lyncdiscover.*"),
        ("http://lyncdiscover.contoso.com/ucwa", "https lyncdiscover.*"),
        ("http://lyncdiscover.contoso.com/cscp", "deny lyncdiscover.*"),
        ("http://lyncdiscover.contoso.com/%75cwa", "https lyncdiscover.*"),
        ("http://lyncdiscover.contoso.com/x/..%2fautodiscover", "ambiguous"),
        ("https://owa.contoso.com/", "no host"),
        ("https://meet.evil.example/", "no host"),
    ] {
        assert_eq!(verdict(rules(), url), expected, "{url}");
    }
}

#[test]
fn plain_paths_of_a_rule_without_https_are_not_published() {
    let rules = vec![with(forward("h.x", ""), |rule| rule.schemes = HTTP)];
    assert_eq!(verdict(rules.clone(), "http://h.x/ucwa"), "no path");
    assert_eq!(verdict(rules.clone(), "http://h.x/"), "lync h.x");
    assert_eq!(verdict(rules, "https://h.x/"), "no path");
}

#[test]
fn a_rewritten_path_that_is_only_for_https_makes_the_detour() {
    let path = "/autodiscover";
    let moved = |schemes| {
        with(forward("h.x", path), |rule| {
            rule.schemes = schemes;
            rule.rewrite = Some(Rewrite {
                path: Some(Template { parts: vec![Part::Text("/".into()), Part::Rule(1)] }),
                within: "/".into(),
                query: None,
            });
        })
    };
    let both = || vec![moved(Schemes { https: true, http: true })];
    for (url, expected) in [
        ("https://h.x/autodiscover/ucwa", "lync h.x/autodiscover"),
        ("http://h.x/autodiscover/autodiscover/y", "lync h.x/autodiscover"),
        ("http://h.x/autodiscover/ucwa", "https h.x/autodiscover"),
        // What is denied is said when the path is rewritten, on both schemes alike.
        ("http://h.x/autodiscover/admin", "lync h.x/autodiscover"),
    ] {
        assert_eq!(verdict(both(), url), expected, "{url}");
    }
    let ucwa = "http://h.x/autodiscover/ucwa";
    assert_eq!(verdict(vec![moved(HTTP)], ucwa), "no path");
    let apart = vec![with(forward("h.x", path), |rule| rule.schemes = HTTPS), moved(HTTP)];
    assert_eq!(verdict(apart, ucwa), "https h.x/autodiscover");
}

#[test]
fn two_rules_may_share_a_path_by_scheme() {
    let other = |rule: &mut Rule| {
        rule.schemes = HTTP;
        rule.action = Action::Forward(OTHER);
        rule.name = "plain".into();
    };
    let rules = || {
        let lync = with(forward("h.x", ""), |rule| rule.schemes = HTTPS);
        vec![lync, with(forward("h.x", ""), other)]
    };
    assert_eq!(verdict(rules(), "https://h.x/ucwa"), "lync h.x");
    assert_eq!(verdict(rules(), "http://h.x/ucwa"), "other plain");
}

#[test]
fn a_more_specific_host_or_path_never_falls_back() {
    let rules = || {
        let only_plain = with(forward("a.x", "/b"), |rule| rule.schemes = HTTP);
        vec![forward("*.x", ""), forward("a.x", "/a"), only_plain]
    };
    assert_eq!(verdict(rules(), "https://a.x/c"), "no path");
    assert_eq!(verdict(rules(), "https://a.x/b"), "no path");
    assert_eq!(verdict(rules(), "https://b.x/c"), "lync *.x");
}

#[test]
fn deny_redirect_and_allow_denied() {
    let to: Template = "https://m.x/".into();
    let to = Redirect { to, status: 302, keep_path: false, keep_query: true };
    let rules = || {
        vec![
            forward("a.x", ""),
            with(forward("a.x", "/x"), |rule| {
                rule.action = Action::Deny;
                rule.schemes = HTTPS;
            }),
            with(forward("a.x", "/old"), |rule| rule.action = Action::Redirect(to.clone())),
            with(forward("a.x", "/admin"), |rule| rule.allow_denied = vec!["/admin".into()]),
        ]
    };
    assert_eq!(verdict(rules(), "https://a.x/X/y"), "deny a.x/x");
    assert_eq!(verdict(rules(), "http://a.x/X/y"), "deny a.x/x");
    assert_eq!(verdict(rules(), "https://a.x/old/"), "redirect https://m.x/");
    assert_eq!(verdict(rules(), "https://a.x/admin/"), "lync a.x/admin");
    assert_eq!(verdict(rules(), "https://a.x/cscp"), "deny a.x");
    assert_eq!(verdict(rules(), "https://a.x/%61dmin"), "ambiguous");
    assert_eq!(verdict(rules(), "https://a.x/cscp/../cscp"), "deny a.x");
}

#[test]
fn what_all_readings_agree_on_is_forwarded_however_odd() {
    for path in ["a//b", "a/../b", "caf%C3%A9", "a%2Fb", "a;b=c", "(S(x))/a", "x:y", "a."] {
        assert_eq!(verdict(vec![forward("a.x", "")], &format!("https://a.x/{path}")), "lync a.x");
    }
    let too_many = format!("https://a.x/{}", "a/..%2f;x/%2561/.%20/\\b./(S(x))c%00");
    assert_eq!(verdict(vec![forward("a.x", "")], &too_many), "ambiguous");
}

fn when(rule: Rule, name: &str, condition: Condition) -> Rule {
    with(rule, |rule| {
        rule.when = vec![condition];
        rule.name = name.into();
    })
}

fn on_path(path: &str) -> Condition {
    Condition::Path(Test::Is(vec![PathPattern::Prefix(path.into())]))
}

fn get() -> Condition {
    Condition::Method(Test::Is(vec!["GET".into()]))
}

fn post() -> Condition {
    Condition::Method(Test::Is(vec!["POST".into()]))
}

#[test]
fn conditions_come_first_in_file_order_and_let_shorter_paths_have_it() {
    let rules = || {
        vec![
            forward("a.x", "/a"),
            when(forward("a.x", "/a"), "post", post()),
            when(forward("a.x", "/a"), "first", on_path("/a/b")),
            when(forward("a.x", "/a"), "second", get()),
            when(forward("a.x", "/a/c"), "never", post()),
            when(forward("a.x", "/d"), "never", post()),
            forward("*.x", ""),
        ]
    };
    assert_eq!(verdict(rules(), "https://a.x/a/b"), "lync first");
    assert_eq!(verdict(rules(), "https://a.x/a"), "lync second");
    assert_eq!(verdict(rules(), "https://a.x/a/c"), "lync second", "the shorter path");
    assert_eq!(verdict(rules(), "https://a.x/d"), "no path", "never another host");
    let fallback = vec![forward("a.x", "/a"), when(forward("a.x", "/a"), "post", post())];
    assert_eq!(verdict(fallback, "https://a.x/a"), "lync a.x/a");
}

#[test]
fn readings_that_meet_different_conditions_are_ambiguous() {
    let rules = || vec![when(forward("a.x", ""), "b", on_path("/b")), forward("a.x", "")];
    assert_eq!(verdict(rules(), "https://a.x/b/c"), "lync b");
    assert_eq!(verdict(rules(), "https://a.x/c"), "lync a.x");
    assert_eq!(verdict(rules(), "https://a.x/B%2fc"), "ambiguous");
    assert_eq!(verdict(rules(), "https://a.x/%62/c"), "ambiguous");
    assert_eq!(verdict(rules(), "https://a.x/c/../b"), "ambiguous");
    assert_eq!(verdict(rules(), "https://a.x/b/x/../c"), "lync b");
}

#[test]
fn a_rule_with_conditions_on_https_alone_makes_a_detour() {
    let rules = || {
        vec![
            when(with(forward("a.x", ""), |rule| rule.schemes = HTTPS), "secure", get()),
            with(forward("a.x", "/c"), |rule| {
                rule.schemes = HTTPS;
                rule.action = Action::Respond(Respond { status: 503, page: None });
            }),
        ]
    };
    assert_eq!(verdict(rules(), "http://a.x/b"), "https secure");
    assert_eq!(verdict(rules(), "http://a.x/c"), "https a.x/c");
    assert_eq!(verdict(rules(), "https://a.x/c"), "respond 503");
}
