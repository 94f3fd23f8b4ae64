//! Legal but unwise: what `check` warns of.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{
        code,
        compile::Compiled,
        diagnostic::Findings,
        model::{
            Config,
            farm::{Farm, Verify},
            publish,
        },
        preset::Preset,
        read::At,
    },
    site::{Action, HostPattern, PathPattern, Rule, Site},
};

/// Below this a long poll of a Lync client breaks before it has any use.
const SHORT: Duration = Duration::from_secs(60);

/// Adds warnings about a configuration that compiles.
pub fn lint(config: &Config, compiled: &Compiled, findings: &mut Findings) {
    let entries = config.publish.as_ref().map_or(&[][..], |list| list.items.as_slice());
    // A rule with a fault of its own may be meant for any farm.
    let broken = config.publish.as_ref().is_none_or(|list| list.broken);
    let complete = !broken && compiled.written.len() == entries.len();
    for (name, farm) in config.farms.iter().flat_map(|farms| &farms.items) {
        lint_farm(name, farm, findings);
        if complete && !is_used(name, &compiled.site) {
            findings
                .add(code::UNUSED_FARM, &name.mark, format!("farm `{}` is not used", name.value))
                .help("publish it, or remove it".to_string());
        }
    }
    for (rule, index) in compiled.site.rules.iter().zip(&compiled.written) {
        if let Some(entry) = entries.get(*index) {
            lint_host(rule, entry, &compiled.site, findings);
            lint_reach(rule, entry, &compiled.site, findings);
            lint_effect(rule, entry, &compiled.site, findings);
        }
    }
}

fn is_used(name: &str, site: &Site) -> bool {
    site.rules.iter().any(|rule| match rule.action {
        Action::Forward(id) => site.farms.get(id.0).is_some_and(|farm| &*farm.name == name),
        Action::Deny | Action::Redirect(_) => false,
    })
}

fn lint_farm(name: &At<String>, farm: &Farm, findings: &mut Findings) {
    let verify = &farm.tls.verify;
    if verify.value == Verify::Off {
        findings
            .add(code::VERIFY_OFF, &verify.mark, "the servers' certificates are not verified")
            .help("name your authority: `tls: { verify: chain, ca: … }`".to_string());
    }
    let timeout = farm.timeout.as_ref().filter(|timeout| timeout.0 < SHORT);
    if let Some(timeout) = timeout.filter(|_| farm.preset.value == Preset::Lync) {
        findings
            .add(code::SHORT_TIMEOUT, &timeout.mark, "Lync clients poll for longer than that")
            .help("leave it out: the preset says 30m".to_string());
    }
    let servers = farm.servers.as_ref().map_or(&[][..], |list| list.items.as_slice());
    if !servers.is_empty() && servers.iter().all(|server| server.weight.0 == 0) {
        let message = format!("every server of farm `{}` has weight 0", name.value);
        findings
            .add(code::NO_WEIGHT, &name.mark, message)
            .help("give at least one of them a weight".to_string());
    }
    for header in farm.hide_headers.iter().flat_map(|list| &list.items) {
        if header.0 == "x-ms-diagnostics" {
            findings
                .add(code::DIAGNOSTICS_HIDDEN, &header.mark, "clients need X-Ms-diagnostics")
                .help("take it out of `hide_headers`".to_string());
        }
    }
}

fn lint_host(rule: &Rule, entry: &At<publish::Rule>, site: &Site, findings: &mut Findings) {
    let Some(host) = &entry.host else { return };
    if let HostPattern::Prefix(prefix) = &rule.host
        && site.domains.is_empty()
    {
        let message = format!("`{prefix}.*` takes any name that starts with `{prefix}.`");
        findings
            .add(code::NO_DOMAINS, &host.mark, message)
            .help("say what the `*` may be: `domains: [contoso.com]`".to_string());
        return;
    }
    let on_tls = rule.schemes.https && reachable(rule, site, true);
    if !on_tls || site.certificates.is_empty() {
        return;
    }
    let names: Vec<String> = match &rule.host {
        HostPattern::Exact(name) => vec![name.to_string()],
        HostPattern::Prefix(prefix) => {
            site.domains.iter().map(|domain| format!("{prefix}.{domain}")).collect()
        }
        HostPattern::Suffix(suffix) => vec![format!("*.{suffix}")],
    };
    for name in names {
        // A certificate's `*.contoso.com` covers the pattern of the same spelling.
        let covered = site.certificates.iter().any(|c| c.covers(&name) || c.names.contains(&name));
        if !covered {
            findings
                .add(code::UNCOVERED_HOST, &host.mark, format!("no certificate covers `{name}`"))
                .help("clients will see a certificate for another name".to_string());
        }
    }
}

fn lint_reach(rule: &Rule, entry: &At<publish::Rule>, site: &Site, findings: &mut Findings) {
    let known = |name: &Arc<str>| site.listeners.iter().any(|listener| listener.name == *name);
    if rule.listeners.as_ref().is_some_and(|names| !names.iter().all(known)) {
        return;
    }
    let faults = [
        (rule.schemes.https && !reachable(rule, site, true), "https", "has `tls`"),
        (rule.schemes.http && !reachable(rule, site, false), "http", "is plain"),
    ];
    for (_, scheme, what) in faults.iter().filter(|(fault, ..)| *fault) {
        let mark = if entry.schemes.explicit { &entry.schemes.mark } else { &entry.mark };
        let message = format!("published on {scheme}, but none of its listeners {what}");
        findings
            .add(code::UNREACHABLE_RULE, mark, message)
            .help("add such a listener, or change `schemes`".to_string());
    }
}

/// Whether a listener of the rule speaks the scheme.
fn reachable(rule: &Rule, site: &Site, tls: bool) -> bool {
    site.listeners.iter().any(|listener| {
        let meant = rule.listeners.as_ref().is_none_or(|names| names.contains(&listener.name));
        meant && listener.tls.is_some() == tls
    })
}

fn lint_effect(rule: &Rule, entry: &At<publish::Rule>, site: &Site, findings: &mut Findings) {
    let Action::Forward(farm) = rule.action else {
        let idle = [
            ("allow_denied", entry.allow_denied.as_ref().map(|at| &at.mark)),
            ("body_size", entry.body_size.as_ref().map(|at| &at.mark)),
            ("timeout", entry.timeout.as_ref().map(|at| &at.mark)),
        ];
        for (key, mark) in idle.into_iter().filter_map(|(key, mark)| Some((key, mark?))) {
            findings
                .add(code::NO_EFFECT, mark, format!("`{key}` has no effect without `farm`"))
                .help("remove it".to_string());
        }
        return;
    };
    let Some(farm) = site.farms.get(farm.0) else { return };
    for path in entry.allow_denied.iter().flat_map(|list| &list.items) {
        if !farm.deny_paths.iter().any(|denied| **denied == *path.0) {
            let message = format!("`{}` is not among the farm's `deny_paths`", path.0);
            findings
                .add(code::NO_EFFECT, &path.mark, message)
                .help(format!("denied are: {}", farm.deny_paths.join(", ")));
        }
    }
    let prefix = match &rule.path {
        PathPattern::Any => return,
        PathPattern::Prefix(path) | PathPattern::Exact(path) => path,
    };
    let under = |denied: &str| {
        prefix.strip_prefix(denied).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let denied = farm.deny_paths.iter().find(|denied| under(denied));
    if let Some(denied) = denied.filter(|denied| !rule.allow_denied.contains(*denied)) {
        let message = format!("the farm's `deny_paths` refuse everything under `{denied}`");
        findings
            .add(code::UNREACHABLE_RULE, &entry.path.mark, message)
            .help(format!("to publish it all the same: `allow_denied: [{denied}]`"));
    }
}
