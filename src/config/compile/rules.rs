//! Publish rules: names resolved, equal ones refused.

use std::sync::Arc;

use crate::{
    config::{
        code,
        compile::{arc, collision, farms::Placed, not_empty},
        diagnostic::{Findings, nearest},
        model::{
            Config,
            listener::Listener,
            publish::{self, Scheme},
        },
        read::{At, List},
        source::Mark,
    },
    site::{Action, FarmId, PathPattern, Redirect, Rule, Schemes},
};

/// The rules, and for each its index in the model.
pub(super) fn compile(
    config: &Config,
    farms: &[Placed],
    findings: &mut Findings,
) -> (Vec<Arc<Rule>>, Vec<usize>) {
    not_empty(config.publish.as_ref(), "publish", findings);
    let mut rules: Vec<(Arc<Rule>, &Mark)> = Vec::new();
    let mut written = Vec::new();
    let entries = config.publish.iter().flat_map(|list| &list.items);
    for (index, entry) in entries.enumerate() {
        let listeners = listeners(entry, config, findings);
        let schemes = schemes(entry, findings);
        let action = action(entry, farms, findings);
        let Some(host) = &entry.host else { continue };
        let Some(action) = action else { continue };
        let rule = Rule {
            index: rules.len(),
            name: entry.name.as_ref().map_or_else(|| default_name(entry), |name| arc(name)),
            host: host.value.clone(),
            path: entry.path.value.clone(),
            schemes,
            listeners,
            action,
            allow_denied: entry
                .allow_denied
                .iter()
                .flat_map(|list| &list.items)
                .map(|path| arc(&path.0))
                .collect(),
            timeout: entry.timeout.as_ref().map(|timeout| timeout.0),
            body_size: entry.body_size.as_ref().map(|size| size.0),
            body_timeout: entry.body_timeout.0,
            place: entry.place(),
        };
        if let Some((_, first)) = rules.iter().find(|(other, _)| equal(other, &rule)) {
            let message = "another rule takes the same host, path and scheme".to_string();
            collision(code::EQUAL_RULES, first, &host.mark, message, findings);
        }
        rules.push((Arc::new(rule), &host.mark));
        written.push(index);
    }
    (rules.into_iter().map(|(rule, _)| rule).collect(), written)
}

fn default_name(entry: &publish::Rule) -> Arc<str> {
    let host = entry.host.as_ref().map(|host| host.to_string()).unwrap_or_default();
    match &entry.path.value {
        PathPattern::Any => arc(&host),
        PathPattern::Prefix(path) => arc(&format!("{host}{path}")),
        PathPattern::Exact(path) => arc(&format!("{host}={path}")),
    }
}

fn equal(a: &Rule, b: &Rule) -> bool {
    let common = match (&a.listeners, &b.listeners) {
        (Some(a), Some(b)) => a.iter().any(|name| b.contains(name)),
        _ => true,
    };
    let scheme = (a.schemes.https && b.schemes.https) || (a.schemes.http && b.schemes.http);
    a.host == b.host && a.path == b.path && scheme && common
}

fn schemes(entry: &publish::Rule, findings: &mut Findings) -> Schemes {
    not_empty(Some(&entry.schemes), "schemes", findings);
    let has = |scheme| entry.schemes.items.iter().any(|s| s.value == scheme);
    Schemes { https: has(Scheme::Https), http: has(Scheme::Http) }
}

fn listeners(
    entry: &publish::Rule,
    config: &Config,
    findings: &mut Findings,
) -> Option<Vec<Arc<str>>> {
    let wanted = entry.listeners.as_ref()?;
    not_empty(Some(wanted), "listeners", findings);
    let known = config.listeners.as_ref().map(|list| &list.value);
    let names: Vec<String> = known.into_iter().flat_map(names).collect();
    for name in &wanted.items {
        let complete = known.is_some_and(|list| !list.broken);
        if complete && !names.contains(&name.value) {
            let near = nearest(name, names.iter().map(String::as_str));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("no listener is called `{}`", name.shown());
            findings
                .add(code::UNKNOWN_LISTENER, &name.mark, message)
                .help(help.unwrap_or_else(|| format!("there are: {}", names.join(", "))));
        }
    }
    Some(wanted.items.iter().map(|name| arc(name)).collect())
}

fn names(listeners: &List<Listener>) -> impl Iterator<Item = String> {
    listeners.items.iter().filter_map(|listener| match &listener.name {
        Some(name) => Some(name.value.clone()),
        None => listener.address.as_ref().map(|address| address.to_string()),
    })
}

/// What the rule does; `None` after a finding.
fn action(entry: &At<publish::Rule>, farms: &[Placed], findings: &mut Findings) -> Option<Action> {
    let deny = Some(&entry.deny).filter(|deny| deny.value);
    let set = [
        entry.farm.as_ref().map(|farm| ("farm", &farm.mark)),
        deny.map(|deny| ("deny", &deny.mark)),
        entry.redirect.as_ref().map(|redirect| ("redirect", &redirect.mark)),
        entry.respond.as_ref().map(|respond| ("respond", &respond.mark)),
    ];
    let set: Vec<(&str, &Mark)> = set.into_iter().flatten().collect();
    if let [(first, _), (second, mark), ..] = set.as_slice() {
        findings
            .add(code::EXCLUSIVE, mark, format!("`{first}` and `{second}` exclude each other"))
            .help("write one rule for each".to_string());
        return None;
    }
    if let Some(farm) = &entry.farm {
        return farm_id(farm, farms, findings).map(Action::Forward);
    }
    if deny.is_some() {
        return Some(Action::Deny);
    }
    if let Some(redirect) = &entry.redirect {
        return Some(Action::Redirect(Redirect {
            to: arc(&redirect.to.as_ref()?.0),
            status: redirect.status.0,
            keep_path: redirect.keep_path.value,
            keep_query: redirect.keep_query.value,
        }));
    }
    if set.is_empty() && !entry.broken {
        findings
            .add(code::EXCLUSIVE, &entry.mark, "the rule does not say what to do")
            .help("add `farm: NAME`, `deny: true` or `redirect: URL`".to_string());
    }
    None
}

fn farm_id(farm: &At<String>, farms: &[Placed], findings: &mut Findings) -> Option<FarmId> {
    if let Ok(at) = farms.binary_search_by(|(known, _)| known.name.as_ref().cmp(farm.as_str())) {
        return Some(FarmId(at));
    }
    let names = farms.iter().map(|(farm, _)| farm.name.as_ref());
    let near = nearest(farm, names.clone());
    let defined = farms.iter().find(|(farm, _)| near == Some(farm.name.as_ref()));
    let help = match defined {
        Some((near, mark)) => {
            format!("did you mean `{}`? (defined at {})", near.name, mark.seen_from(&farm.mark))
        }
        None if farms.is_empty() => "define it under `farms`".to_string(),
        None => format!("there are: {}", names.collect::<Vec<_>>().join(", ")),
    };
    let message = format!("no farm named `{}`", farm.shown());
    findings.add(code::UNKNOWN_FARM, &farm.mark, message).help(help);
    None
}
