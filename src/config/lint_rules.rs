//! Publish rules that are legal and never match, or say what has no effect.

use std::sync::Arc;

use crate::{
    config::{code, compile::Compiled, diagnostic::Findings, model::publish, read::At},
    site::{Action, Condition, HostPattern, PathPattern, Rule, Test, path::meets},
};

/// Adds warnings about the rules among themselves and about their conditions.
pub(super) fn lint(entries: &[At<publish::Rule>], compiled: &Compiled, findings: &mut Findings) {
    let rules: Vec<(&Arc<Rule>, &At<publish::Rule>)> = compiled
        .site
        .rules
        .iter()
        .zip(&compiled.written)
        .filter_map(|(rule, index)| Some((rule, entries.get(*index)?)))
        .collect();
    for (at, (rule, entry)) in rules.iter().enumerate() {
        let Some(when) = entry.when.as_ref().filter(|_| !rule.when.is_empty()) else { continue };
        if entry.path.fault || entry.schemes.fault {
            continue;
        }
        for (condition, written) in rule.when.iter().zip(&when.items) {
            if let Some(why) = contradiction(rule, condition) {
                findings
                    .add(code::UNREACHABLE_RULE, &written.mark, format!("never holds: {why}"))
                    .help("change the condition, or the rule".to_string());
            }
        }
        lint_schemes(rule, entry, &rules, findings);
        let earlier = rules.iter().take(at).find(|(earlier, _)| shadows(earlier, rule));
        if let Some((_, earlier)) = earlier {
            let place = earlier.mark.seen_from(&entry.mark);
            findings
                .add(
                    code::UNREACHABLE_RULE,
                    &when.mark,
                    format!("the rule at {place} takes every request that this one could"),
                )
                .related(&earlier.mark, "the other one is here")
                .help("put the rule with more conditions first".to_string());
        }
    }
}

/// A condition that is asked on https alone, where the rule behind it serves plain http too.
fn lint_schemes(
    rule: &Arc<Rule>,
    entry: &At<publish::Rule>,
    rules: &[(&Arc<Rule>, &At<publish::Rule>)],
    findings: &mut Findings,
) {
    let own = matches!(rule.action, Action::Redirect(_) | Action::Respond(_));
    if !own || entry.schemes.explicit || rule.schemes.http {
        return;
    }
    let common = |other: &Rule| match (&rule.listeners, &other.listeners) {
        (Some(own), Some(others)) => own.iter().any(|name| others.contains(name)),
        _ => true,
    };
    let passes = |other: &Rule| {
        let after = other.when.is_empty() || other.index > rule.index;
        (&rule.host, &rule.path) == (&other.host, &other.path)
            && after
            && other.schemes.http
            && common(other)
    };
    if let Some((_, other)) = rules.iter().find(|(other, _)| passes(other)) {
        let place = other.mark.seen_from(&entry.mark);
        findings
            .add(
                code::SCHEME_GAP,
                &entry.mark,
                format!("on plain http the rule at {place} answers instead"),
            )
            .related(&other.mark, "the other one is here")
            .help(
                "add `schemes: [https, http]`, or `schemes: [https]` if that is what you want"
                    .to_string(),
            );
    }
}

/// Whether `first` takes every request that `second`, which stands behind it, asks for.
fn shadows(first: &Rule, second: &Rule) -> bool {
    let listeners = match (&first.listeners, &second.listeners) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(first), Some(second)) => second.iter().all(|name| first.contains(name)),
    };
    let schemes = (first.schemes.https || !second.schemes.https)
        && (first.schemes.http || !second.schemes.http);
    !first.when.is_empty()
        && (&first.host, &first.path) == (&second.host, &second.path)
        && listeners
        && schemes
        && first.when.iter().all(|condition| second.when.contains(condition))
}

/// Why a condition cannot hold for any request of its rule.
fn contradiction(rule: &Rule, condition: &Condition) -> Option<&'static str> {
    match condition {
        Condition::Scheme(schemes) => {
            let common =
                (schemes.https && rule.schemes.https) || (schemes.http && rule.schemes.http);
            // Plain http to a rule on https alone is redirected, if its conditions hold.
            let detour = schemes.http && rule.schemes.https;
            (!common && !detour).then_some("the rule's `schemes` leave no such request")
        }
        Condition::Path(Test::Is(patterns)) => {
            let meets = |pattern: &PathPattern| match pattern {
                PathPattern::Any => true,
                PathPattern::Prefix(prefix) => meets(&rule.path, prefix),
                PathPattern::Exact(exact) => meets(&rule.path, &format!("={exact}")),
            };
            (!patterns.iter().any(meets)).then_some("the rule's `path` leaves no such request")
        }
        Condition::Host(Test::Is(patterns)) => match &rule.host {
            HostPattern::Exact(host) => {
                let takes = |pattern: &HostPattern| match pattern {
                    HostPattern::Exact(name) => name == host,
                    HostPattern::Prefix(prefix) => host.starts_with(&format!("{prefix}.")),
                    HostPattern::Suffix(suffix) => host.ends_with(&format!(".{suffix}")),
                };
                (!patterns.iter().any(takes)).then_some("the rule's `host` is another one")
            }
            HostPattern::Prefix(_) | HostPattern::Suffix(_) => None,
        },
        _ => None,
    }
}

/// Settings that only a farm, or a page of Frontgate's own, can act on.
pub(super) fn idle(entry: &publish::Rule, action: &Action, findings: &mut Findings) {
    let rewrite_host = Some(&entry.rewrite_host).filter(|at| at.explicit && at.value);
    let response = entry.response_headers.as_ref().map(|at| &at.mark);
    let idle = [
        ("allow_denied", entry.allow_denied.as_ref().map(|at| &at.mark)),
        ("body_size", entry.body_size.as_ref().map(|at| &at.mark)),
        ("request_headers", entry.request_headers.as_ref().map(|at| &at.mark)),
        ("response_headers", response.filter(|_| !matches!(action, Action::Respond(_)))),
        ("rewrite", entry.rewrite.as_ref().map(|at| &at.mark)),
        ("rewrite_host", rewrite_host.map(|at| &at.mark)),
        ("timeout", entry.timeout.as_ref().map(|at| &at.mark)),
    ];
    for (key, mark) in idle.into_iter().filter_map(|(key, mark)| Some((key, mark?))) {
        findings
            .add(code::NO_EFFECT, mark, format!("`{key}` has no effect without `farm`"))
            .help("remove it".to_string());
    }
}
