use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    route::{
        properties::{any_host, any_path, any_site},
        testing::{ask, forward, site},
    },
    site::{Action, Condition, Redirect, Rewrite, Schemes, Template, Test},
};

fn explained(rules: Vec<Rule>, url: &str) -> Explanation {
    let site = site(&["contoso.com"], rules);
    let asked = Asked::new(url).unwrap();
    let (listener, _) = asked.listener(&site).unwrap();
    let question = asked.question(listener, asked.https, asked.from);
    explain(&Table::new(&site), &site, &question)
}

fn named(rule: Rule, name: &str, change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule { name: name.into(), ..rule };
    change(&mut rule);
    rule
}

fn post() -> Condition {
    Condition::Method(Test::Is(vec!["POST".into()]))
}

#[test]
fn every_rival_has_its_reason() {
    let http = Schemes { https: false, http: true };
    let rules = vec![
        forward("*.contoso.com", ""),
        forward("meet.*", ""),
        named(forward("a.contoso.com", ""), "short", |_| {}),
        named(forward("a.contoso.com", "/a/b"), "taken", |_| {}),
        named(forward("a.contoso.com", "/a/b"), "posts", |rule| rule.when = vec![post()]),
        named(forward("a.contoso.com", "/a/b"), "plain", |rule| rule.schemes = http),
        named(forward("a.contoso.com", "/a/b/c"), "longer", |_| {}),
        named(forward("a.contoso.com", "/a"), "elsewhere", |rule| {
            rule.listeners = Some(vec!["plain".into()]);
        }),
    ];
    let told = explained(rules, "https://a.contoso.com/A/b?x=y");
    assert_eq!(told.rule.as_ref().unwrap().name, "taken");
    assert_eq!(told.rule.unwrap().place, "test:1:1");
    assert_eq!(told.host_pattern.as_deref(), Some("a.contoso.com"));
    let hosts: Vec<_> =
        told.host_rivals.iter().map(|r| format!("{}: {}", r.pattern, r.why)).collect();
    assert_eq!(hosts, ["*.contoso.com: less specific than a.contoso.com"]);
    let rivals: Vec<_> =
        told.rivals.iter().map(|r| format!("{} [{}] {}", r.rule, r.code, r.why)).collect();
    assert_eq!(
        rivals,
        [
            "posts [condition] its condition does not hold: method is POST",
            "plain [scheme] it is not published on https",
            "short [shorter_path] its path is shorter than that of taken",
            "elsewhere [listener] only on listener plain",
            "longer [path] its path /a/b/c does not take it",
        ]
    );
    let toward = told.toward.unwrap();
    assert_eq!((&*toward.farm, &*toward.target, toward.rewritten), ("lync", "/A/b?x=y", false));
    assert_eq!((&*toward.scheme, toward.timeout_seconds), ("https", 200.0));
}

#[test]
fn rules_of_one_path_are_told_in_their_order() {
    let get = Condition::Method(Test::Is(vec!["GET".into()]));
    let rules = vec![
        named(forward("a.x", ""), "without", |_| {}),
        named(forward("a.x", ""), "first", |rule| rule.when = vec![get.clone()]),
        named(forward("a.x", ""), "second", |rule| rule.when = vec![get]),
    ];
    let told = explained(rules, "https://a.x/");
    let rivals: Vec<_> = told.rivals.iter().map(|r| (&*r.rule, &*r.code, &*r.why)).collect();
    assert_eq!(
        rivals,
        [
            ("second", "order", "first is asked first"),
            ("without", "order", "first has conditions, which hold, and is asked first"),
        ]
    );
}

/// Ten thousand rules of one host, each of which could have been the one: half of them under
/// conditions, half of them on another listener. What is told stays short, and is told quickly.
#[test]
fn of_many_rivals_few_are_told() {
    let mut rules = vec![named(forward("a.contoso.com", ""), "taken", |_| {})];
    for n in 0..5000 {
        rules.push(named(forward("a.contoso.com", ""), &format!("posts{n}"), |rule| {
            rule.when = vec![post()];
        }));
        rules.push(named(forward("*.contoso.com", &format!("/{n}")), "else", |rule| {
            rule.listeners = Some(vec!["plain".into()]);
        }));
    }
    rules.push(named(forward("*.contoso.com", ""), "here", |_| {}));
    let begun = std::time::Instant::now();
    let told = explained(rules, "https://a.contoso.com/");
    assert_eq!((told.rivals.len(), told.rivals_left_out), (20, 4980));
    assert_eq!(told.rivals[0].code, "condition");
    let hosts: Vec<_> = told.host_rivals.iter().map(|r| (&*r.pattern, &*r.why)).collect();
    assert_eq!(hosts, [("*.contoso.com", "less specific than a.contoso.com")]);
    // Asking each rule about each other one took minutes.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn hosts_that_nothing_publishes_have_near_misses() {
    let elsewhere = named(forward("meet.y.z", ""), "e", |rule| {
        rule.listeners = Some(vec!["plain".into()]);
    });
    let told = explained(vec![forward("meet.*", ""), elsewhere], "https://meet.y.z/");
    assert_eq!(told.verdict.outcome, Outcome::HostNotPublished);
    assert_eq!((told.verdict.status, told.host_pattern), (Some(421), None));
    let rivals: Vec<_> = told.host_rivals.iter().map(|r| (&*r.pattern, &*r.why)).collect();
    assert_eq!(
        rivals,
        [
            ("meet.*", "what follows is none of `domains`, nor under one"),
            ("meet.y.z", "only on listener plain"),
        ]
    );
}

#[test]
fn answers_of_frontgates_own_are_told_with_status_and_location() {
    let to: Template = "https://m.x/".into();
    let redirect = Redirect { to, status: 307, keep_path: true, keep_query: true };
    let lead = |template: &str| {
        let path = Some(Template {
            parts: vec![crate::site::Part::Text(template.into()), crate::site::Part::Rule(1)],
        });
        Some(Rewrite { path, within: "".into(), query: None })
    };
    let rules = || {
        vec![
            named(forward("a.x", "/old"), "old", |rule| {
                rule.action = Action::Redirect(redirect.clone())
            }),
            named(forward("a.x", "/new"), "new", |rule| rule.rewrite = lead("/")),
            forward("a.x", ""),
        ]
    };
    let verdict = |url: &str| {
        let told = explained(rules(), url).verdict;
        (told.outcome, told.status, told.reason.unwrap_or_default(), told.location)
    };
    let some = |text: &str| Some(text.to_owned());
    let at = |outcome, status, reason: &str, location| {
        (outcome, Some(status), reason.to_owned(), location)
    };
    assert_eq!(
        verdict("https://a.x/old/p?q"),
        at(Outcome::Redirect, 307, "redirected", some("https://m.x/old/p?q"))
    );
    assert_eq!(
        verdict("http://a.x/ucwa?z"),
        at(Outcome::ToHttps, 301, "https_only", some("https://a.x/ucwa?z"))
    );
    assert_eq!(verdict("https://a.x/cscp"), at(Outcome::Deny, 404, "denied", None));
    // Through a rewrite it is denied as well, and nothing goes to the farm.
    assert_eq!(verdict("https://a.x/new/cscp"), at(Outcome::Deny, 404, "denied", None));
    assert_eq!(explained(rules(), "https://a.x/new/cscp").toward, None);
    let new = explained(rules(), "https://a.x/new/b?c").toward.unwrap();
    assert_eq!((&*new.target, new.rewritten), ("/b?c", true));
    let told = explained(rules(), "https://a.x/x/..%2fold");
    assert_eq!(told.verdict.outcome, Outcome::Ambiguous);
    assert!(told.readings.iter().any(|r| r.path == "/old" && r.outcome == Outcome::Redirect));
    assert!(told.readings.iter().any(|r| r.rule.as_deref() == Some("a.x")));
}

/// The same site with names that tell its rules apart, without some of them.
fn without(site: &Site, name: Option<&str>) -> Vec<Rule> {
    let rules = site.rules.iter().map(|rule| {
        let index = rule.index;
        // The number of the first naming stays when rules before it are left out.
        let name: Arc<str> =
            if rule.name.starts_with('#') { rule.name.clone() } else { format!("#{index}").into() };
        Rule { name, ..(**rule).clone() }
    });
    rules.filter(|rule| Some(&*rule.name) != name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_is_what_is_decided(
        any in any_site(),
        host in any_host(),
        path in any_path(),
        https: bool,
        listener in 0usize..2,
        post: bool,
    ) {
        let domains: Vec<&str> = any.domains.iter().map(String::as_str).collect();
        let named = site(&domains, without(&any, None));
        let table = Table::new(&named);
        let method = if post { "POST" } else { "GET" };
        let question = Question { listener, https, method, ..ask(&host, &path) };
        let decision = decide(&table, &named, &question);
        let told = explain(&table, &named, &question);
        prop_assert_eq!(told.verdict.outcome, Outcome::of(&decision));
        prop_assert_eq!(told.toward.is_some(), matches!(decision, Decision::Forward { .. }));
        let reason = decision.reason(https).map(|reason| reason.code.to_owned());
        prop_assert_eq!(&told.verdict.reason, &reason);
        let taken = decision.rule().map(|rule| rule.name.to_string());
        prop_assert_eq!(told.rule.as_ref().map(|rule| rule.name.clone()), taken.clone());

        // Every rule of the host is either the one, or has a reason why it is not.
        if let Some(paths) = table.host(listener, &host) {
            let mut known: Vec<String> = told.rivals.iter().map(|r| r.rule.clone()).collect();
            known.extend(taken.clone());
            known.sort();
            let total = known.len();
            known.dedup();
            prop_assert_eq!(known.len(), total, "told twice");
            if !told.readings.is_empty() {
                prop_assert!(paths.rules().all(|rule| known.contains(&rule.name.to_string())));
            }
        }
        // What is said to have lost is not needed for the verdict.
        let one_reading = told.readings.len() == 1 && taken.is_some();
        for rival in told.rivals.iter().filter(|rival| one_reading && rival.code != "plain_paths") {
            let less = site(&domains, without(&named, Some(&rival.rule)));
            let table = Table::new(&less);
            let decision = decide(&table, &less, &question);
            prop_assert_eq!(Outcome::of(&decision), told.verdict.outcome, "{:?}", rival);
            if told.verdict.outcome != Outcome::Deny {
                prop_assert_eq!(decision.rule().map(|r| r.name.to_string()), taken.clone(), "{:?}", rival);
            }
        }
    }

    #[test]
    fn anything_can_be_asked_about(
        any in any_site(),
        url in "\\PC{0,40}",
        path in proptest::collection::vec(any::<u8>(), 0..40),
        listener: usize,
    ) {
        let table = Table::new(&any);
        if let Ok(asked) = Asked::new(&url) {
            let question = asked.question(listener, asked.https, asked.from);
            let told = explain(&table, &any, &question);
            let json = serde_json::to_string(&told).unwrap();
            prop_assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), told);
        }
        explain(&table, &any, &Question { target_path: &path, ..ask("a.b.c", "") });
    }
}

#[test]
fn a_farms_settings_are_told() {
    let rule = named(forward("a.x", ""), "r", |rule| {
        rule.body_size = Some(7);
        rule.timeout = Some(std::time::Duration::from_secs(9));
    });
    let toward = explained(vec![rule], "https://a.x:444/").toward.unwrap();
    assert_eq!((toward.body_size, toward.timeout_seconds), (Some(7), 9.0));
    assert_eq!(
        (&*toward.host, &*toward.balance, &*toward.affinity),
        ("a.x:444", "round_robin", "none")
    );
    assert!(toward.told_headers.iter().any(|name| name == "X-Forwarded-For"));
}
