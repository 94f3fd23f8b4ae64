//! What rules get without saying it, and what is told of rules and farms among themselves.

use std::fs;

use crate::{
    config::{Outcome, load_with, render},
    site::Schemes,
};

fn load(text: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("main.yaml");
    let start = "listeners: [{ address: \"0.0.0.0:80\" }]\n";
    fs::write(&path, format!("{start}{text}")).unwrap();
    load_with(&path, &|_| None)
}

/// Codes and lines of all findings but those about https, which nothing listens for here.
fn told(outcome: &Outcome) -> Vec<(&'static str, usize)> {
    let kept = outcome.findings.iter().filter(|finding| finding.code.id != "W007");
    let text = render::text(&outcome.findings, false);
    let lines: Vec<usize> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--> ")?.split(':').nth(1)?.parse().ok())
        .collect();
    let all = outcome.findings.iter().map(|finding| finding.code.id).zip(lines);
    let found: Vec<_> = all.filter(|(id, _)| *id != "W007").collect();
    assert_eq!(found.len(), kept.count(), "{text}");
    found
}

#[test]
fn a_denial_holds_on_both_schemes() {
    let outcome = load(
        "farms: { a: { servers: [fe01] } }\n\
         publish:\n\
         - { host: a.contoso.com, farm: a, schemes: [https, http] }\n\
         - { host: a.contoso.com, deny: true, when: [{ header: X-Evil }] }\n\
         - { host: a.contoso.com, path: /x, deny: true }\n\
         - { host: a.contoso.com, path: /y, deny: true, schemes: [http] }\n\
         - { host: a.contoso.com, path: /z, farm: a }\n",
    );
    let effective = outcome.effective.as_deref().unwrap();
    let shown = effective.matches("schemes:\n  - https\n  - http\n").count();
    assert_eq!(shown, 3, "{effective}");
    let site = outcome.site.unwrap();
    let schemes: Vec<Schemes> = site.rules.iter().map(|rule| rule.schemes).collect();
    let both = Schemes { https: true, http: true };
    let expected = [
        both,
        both,
        both,
        Schemes { https: false, http: true },
        Schemes { https: true, http: false },
    ];
    assert_eq!(schemes, expected);
    // Nothing is said of a scheme that nobody asked for; the last rule cannot be reached.
    let unreachable = outcome.findings.iter().filter(|finding| finding.code.id == "W007");
    assert_eq!(unreachable.count(), 2, "{}", render::text(&outcome.findings, false));
}

#[test]
fn a_condition_that_plain_http_is_not_asked_is_told() {
    let rule = |schemes: &str, more: &str| {
        let outcome = load(&format!(
            "farms: {{ a: {{ servers: [fe01] }} }}\n\
             publish:\n\
             - {{ host: a.contoso.com, farm: a, schemes: {schemes} }}\n\
             - {{ host: a.contoso.com, {more} }}\n"
        ));
        told(&outcome).into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    let when = "when: [{ header: X-A }]";
    let both = "[https, http]";
    assert_eq!(rule(both, &format!("respond: {{ status: 503 }}, {when}")), ["W019"]);
    assert_eq!(rule(both, &format!("redirect: /sorry, {when}")), ["W019"]);
    assert!(rule("[https]", &format!("redirect: /sorry, {when}")).is_empty());
    for fine in [
        format!("redirect: /sorry, {when}, schemes: [https]"),
        format!("redirect: /sorry, {when}, schemes: [http, https]"),
        format!("redirect: /sorry, {when}, path: /x"),
        format!("deny: true, {when}"),
    ] {
        assert!(rule(both, &fine).is_empty(), "{fine}");
    }
}

#[test]
fn farms_of_one_host_do_not_overwrite_each_others_cookie() {
    let rules = |farms: &str| {
        told(&load(&format!(
            "farms:\n{farms}\npublish:\n\
             - {{ host: a.contoso.com, path: /a, farm: a, schemes: [http] }}\n\
             - {{ host: a.contoso.com, path: /b, farm: b, schemes: [http] }}\n\
             - {{ host: a.contoso.com, path: /c, farm: b, schemes: [http] }}\n\
             - {{ host: b.contoso.com, farm: b, schemes: [http] }}\n"
        )))
    };
    let farm = |name: &str, servers: &str, cookie: &str| {
        format!("  {name}: {{ servers: [{servers}], affinity: {{ cookie: {cookie} }} }}\n")
    };
    let a = farm("a", "fe01, fe02", "X");
    assert_eq!(rules(&format!("{a}{}", farm("b", "fe03", "X"))), [("W018", 8)]);
    assert!(rules(&format!("{a}{}", farm("b", "fe03", "Y"))).is_empty());
    assert!(rules(&format!("{a}{}", farm("b", "fe03, fe02", "X"))).is_empty());
    assert!(rules(&format!("{a}{}", farm("b", "{ same_as: a }", "X"))).is_empty());
    let apart = farm("b", "fe03", "X");
    let outcome = load(&format!(
        "farms:\n{a}{apart}publish:\n- {{ host: a.contoso.com, farm: a, schemes: [http] }}\n\
         - {{ host: b.contoso.com, farm: b, schemes: [http] }}\n"
    ));
    assert!(outcome.findings.is_empty(), "each host has cookies of its own");
}

#[test]
fn what_is_wrong_with_a_farm_is_told_at_its_own_place() {
    let farms = |text: &str| {
        let used: String = text
            .lines()
            .map(|line| {
                let name = line.trim().split(':').next().unwrap();
                format!("- {{ host: {name}.contoso.com, farm: {name}, schemes: [http] }}\n")
            })
            .collect();
        told(&load(&format!("farms:\n{text}publish:\n{used}")))
    };
    // Every server a backup: of each farm on its own.
    let backup =
        "  a: { servers: [{ address: fe01, backup: true }] }\n  b: { servers: [{ same_as: a }] }\n";
    assert_eq!(farms(backup), [("W010", 3), ("W010", 4)]);
    // A queue waits for nothing, wherever the servers come from.
    let queue =
        "  a: { servers: [fe01] }\n  b: { servers: [{ same_as: a }], queue: { size: 10 } }\n";
    assert_eq!(farms(queue), [("W010", 4)]);
    let limited = queue.replace("[fe01]", "[{ address: fe01, max_requests: 5 }]");
    assert!(farms(&limited).is_empty());
    // Clients need it, whoever takes it out.
    let outcome = load(
        "farms: { a: { servers: [fe01] } }\n\
         publish:\n\
         - { host: a.contoso.com, farm: a, schemes: [http], response_headers: { remove: [Server, X-Ms-Diagnostics] } }\n",
    );
    assert_eq!(told(&outcome), [("W011", 4)]);
}
