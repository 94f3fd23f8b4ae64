//! Legal but unwise: what `check` warns of.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{
        code,
        compile::{Compiled, plain_path},
        diagnostic::Findings,
        lint_cookies, lint_proxied, lint_rules,
        model::{
            Config,
            farm::{Affinity, Balance, Farm, Server, Verify},
            name::{HeaderName, PathPrefix},
            publish,
            value::Timeout,
        },
        preset::{Preset, Protocol},
        read::At,
    },
    site::{
        Action, HostPattern, PathPattern, Rule, Site,
        path::{meets, publishes, under},
    },
};

/// Below this a long poll of a Lync client breaks before it has any use.
const SHORT: Duration = Duration::from_secs(60);

/// Adds warnings about a configuration that compiles.
pub fn lint(config: &Config, compiled: &Compiled, findings: &mut Findings) {
    let entries = config.publish.as_ref().map_or(&[][..], |list| list.items.as_slice());
    let farms = || config.farms.iter().flat_map(|farms| &farms.items);
    let site = &compiled.site;
    lint_proxied::lint(config, site, findings);
    // A rule with a fault of its own may be meant for any farm.
    let broken = config.publish.as_ref().is_none_or(|list| list.broken);
    let complete = !broken && compiled.written.len() == entries.len();
    let used: HashSet<&str> = site.rules.iter().filter_map(|rule| farm_of(rule, site)).collect();
    for (name, farm) in farms() {
        lint_farm(name, farm, findings);
        if complete && !used.contains(name.as_str()) {
            findings
                .add(code::UNUSED_FARM, &name.mark, format!("farm `{}` is not used", name.value))
                .help("publish it, or remove it".to_string());
        }
    }
    lint_rules::lint(entries, compiled, findings);
    lint_cookies::lint(entries, compiled, findings);
    let written: HashMap<&str, &Farm> =
        farms().map(|(name, farm)| (name.as_str(), &farm.value)).collect();
    for (rule, index) in site.rules.iter().zip(&compiled.written) {
        if let Some(entry) = entries.get(*index) {
            lint_host(rule, entry, config, site, findings);
            let removed = entry.response_headers.iter().filter_map(|all| all.remove.as_ref());
            for header in removed.flat_map(|list| &list.items) {
                lint_hidden(header, "remove", findings);
            }
            lint_reach(rule, entry, site, findings);
            match farm_of(rule, site) {
                Some(name) => {
                    if let Some(farm) = written.get(name) {
                        lint_paths(rule, entry, farm, findings);
                        lint_protocol(rule, entry, (name, farm), findings);
                        lint_timeout(
                            entry.timeout.as_ref(),
                            farm,
                            "the farm's counts then",
                            findings,
                        );
                    }
                }
                None => lint_rules::idle(entry, &rule.action, findings),
            }
        }
    }
}

/// The farm that a rule leads to.
fn farm_of<'a>(rule: &Rule, site: &'a Site) -> Option<&'a str> {
    match rule.action {
        Action::Forward(id) => site.farms.get(id.0).map(|farm| &*farm.name),
        Action::Deny | Action::Redirect(_) | Action::Respond(_) => None,
    }
}

fn lint_timeout(
    timeout: Option<&At<Timeout>>,
    farm: &Farm,
    otherwise: &str,
    findings: &mut Findings,
) {
    let timeout = timeout.filter(|timeout| timeout.0 < SHORT);
    if let Some(timeout) = timeout.filter(|_| farm.preset.value == Preset::Lync) {
        findings
            .add(code::SHORT_TIMEOUT, &timeout.mark, "Lync clients poll for longer than that")
            .help(format!("leave it out: {otherwise}"));
    }
}

fn lint_farm(name: &At<String>, farm: &Farm, findings: &mut Findings) {
    let verify = &farm.tls.verify;
    if verify.value == Verify::Off {
        findings
            .add(code::VERIFY_OFF, &verify.mark, "the servers' certificates are not verified")
            .help("name your authority: `tls: { verify: chain, ca: … }`".to_string());
    }
    lint_timeout(farm.timeout.as_ref(), farm, "the preset says 30m", findings);
    let servers = farm.servers.as_ref().map_or(&[][..], |list| list.items.as_slice());
    // With faults nobody knows what the others are like.
    let complete = farm.servers.as_ref().is_some_and(|list| !list.broken);
    if !servers.is_empty() && servers.iter().all(|server| server.weight.0 == 0) {
        let message = format!("every server of farm `{}` has weight 0", name.value);
        findings
            .add(code::NO_WEIGHT, &name.mark, message)
            .help("give at least one of them a weight".to_string());
    }
    lint_balance(farm, servers, complete, findings);
    for header in farm.hide_headers.iter().flat_map(|list| &list.items) {
        lint_hidden(header, "hide_headers", findings);
    }
}

/// A response header that clients need.
fn lint_hidden(header: &At<HeaderName>, list: &str, findings: &mut Findings) {
    if header.0 == "x-ms-diagnostics" {
        findings
            .add(code::DIAGNOSTICS_HIDDEN, &header.mark, "clients need X-Ms-diagnostics")
            .help(format!("take it out of `{list}`"));
    }
}

/// Settings of balancing that do nothing as they stand.
fn lint_balance(farm: &Farm, servers: &[At<Server>], complete: bool, findings: &mut Findings) {
    let limited = servers.iter().any(|server| server.max_requests.0 > 0);
    if farm.queue.size.0 > 0 && !limited && complete {
        findings
            .add(
                code::NO_EFFECT,
                &farm.queue.size.mark,
                "no server has `max_requests`: nobody waits",
            )
            .help("give the servers a limit: `- { address: …, max_requests: 500 }`".to_string());
    }
    if farm.affinity.value == Affinity::Source && farm.balance.value != Balance::RoundRobin {
        findings
            .add(
                code::NO_EFFECT,
                &farm.balance.mark,
                "`affinity: source` spreads clients by their address, whatever `balance` says",
            )
            .help("remove `balance`, or keep clients by a cookie".to_string());
    }
    let backup = |s: &At<Server>| s.backup.value;
    if let Some(first) = servers.first().filter(|_| complete && servers.iter().all(backup)) {
        // In this farm, though another one may say so.
        let mark = first.same_as.as_ref().map_or(&first.backup.mark, |farm| &farm.mark);
        findings
            .add(code::NO_EFFECT, mark, "every server of the farm is a backup")
            .help("remove `backup` from those that serve every day".to_string());
    }
}

fn lint_host(
    rule: &Rule,
    entry: &At<publish::Rule>,
    config: &Config,
    site: &Site,
    findings: &mut Findings,
) {
    let Some(host) = &entry.host else { return };
    let told = host.told();
    if matches!(rule.host, HostPattern::Prefix(_)) && site.domains.is_empty() {
        if config.domains.fault || config.domains.broken {
            return;
        }
        let message = match told.strip_suffix('*') {
            Some(start) => format!("`{told}` takes any name that starts with `{start}`"),
            None => format!("`{told}` takes any name that starts like it"),
        };
        findings
            .add(code::NO_DOMAINS, &host.mark, message)
            .help("say what the `*` may be: `domains: [contoso.com]`".to_string());
        return;
    }
    let on_tls = rule.schemes.https && reachable(rule, site, true);
    if !on_tls || site.certificates.is_empty() {
        return;
    }
    // Each name, and how a message may show it.
    let names: Vec<(String, String)> = match &rule.host {
        HostPattern::Exact(name) => vec![(name.to_string(), told)],
        HostPattern::Prefix(prefix) => {
            let shown = |domain: String| match told.strip_suffix('*') {
                Some(start) => format!("{start}{domain}"),
                None => told.clone(),
            };
            let domains = config.domains.items.iter();
            domains.map(|d| (format!("{prefix}.{}", d.0), shown(d.told()))).collect()
        }
        HostPattern::Suffix(suffix) => vec![(format!("*.{suffix}"), told)],
    };
    for (name, shown) in names {
        // A certificate's `*.contoso.com` covers the pattern of the same spelling.
        let covered = site.certificates.iter().any(|c| c.covers(&name) || c.names.contains(&name));
        if !covered {
            findings
                .add(code::UNCOVERED_HOST, &host.mark, format!("no certificate covers `{shown}`"))
                .help("clients will see a certificate for another name".to_string());
        }
    }
}

fn lint_reach(rule: &Rule, entry: &At<publish::Rule>, site: &Site, findings: &mut Findings) {
    // With proxies in front, a listener has both schemes.
    let proxied = site.listeners.iter().any(|listener| listener.proxy_protocol.is_some());
    if !site.trusted_proxies.is_empty() || proxied {
        return;
    }
    let known = |name: &Arc<str>| site.listeners.iter().any(|listener| listener.name == *name);
    let unknown = rule.listeners.as_ref().is_some_and(|names| !names.iter().all(known));
    if unknown || entry.schemes.fault || entry.schemes.broken {
        return;
    }
    let (https, http) = (reachable(rule, site, true), reachable(rule, site, false));
    // A denial covers both without being asked to.
    let denies = matches!(rule.action, Action::Deny) && !entry.schemes.explicit;
    if denies && (https || http) {
        return;
    }
    let faults = [
        (rule.schemes.https && !https, "https", "has `tls`"),
        (rule.schemes.http && !http, "http", "is plain"),
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

/// A protocol of Exchange that goes by the health of another one.
fn lint_protocol(
    rule: &Rule,
    entry: &publish::Rule,
    (name, farm): (&str, &Farm),
    findings: &mut Findings,
) {
    let (Preset::Exchange(probed), PathPattern::Prefix(path)) = (farm.preset.value, &rule.path)
    else {
        return;
    };
    let of = |protocol: &Protocol| {
        under(path.as_bytes(), protocol.directory().to_ascii_lowercase().as_bytes())
    };
    // `/ecp` is denied there, or published on purpose.
    let own = Protocol::ALL.into_iter().find(of).filter(|own| *own != Protocol::Ecp);
    if let Some(own) = own.filter(|own| *own != probed) {
        let message = format!(
            "`{}` goes by the health of `{}`",
            entry.path.told(),
            probed.directory().to_ascii_lowercase()
        );
        let word = own.word();
        findings.add(code::FOREIGN_HEALTH, &entry.path.mark, message).help(format!(
            "make it a farm: `{word}: {{ preset: exchange/{word}, servers: [{{ same_as: {name} }}] }}`"
        ));
    }
}

/// What the farm's `deny_paths` and `plain_paths` leave of the rule.
fn lint_paths(rule: &Rule, entry: &publish::Rule, farm: &Farm, findings: &mut Findings) {
    let denied: Vec<&At<PathPrefix>> =
        farm.deny_paths.iter().flat_map(|list| &list.items).collect();
    let told = || denied.iter().map(|path| path.told()).collect::<Vec<_>>().join(", ");
    for path in entry.allow_denied.iter().flat_map(|list| &list.items) {
        let near = |other: &str| {
            under(path.0.as_bytes(), other.as_bytes()) || under(other.as_bytes(), path.0.as_bytes())
        };
        if !denied.iter().any(|denied| near(&denied.0)) {
            let message = format!("`{}` is not among the farm's `deny_paths`", path.told());
            let help = match denied.as_slice() {
                [] => "remove it: the farm denies nothing".to_string(),
                _ => format!("denied are: {}", told()),
            };
            findings.add(code::NO_EFFECT, &path.mark, message).help(help);
        }
    }
    if entry.path.fault {
        return;
    }
    let deny = denied.iter().map(|path| path.0.as_str());
    let allow = rule.allow_denied.iter().map(|path| &**path);
    if !publishes(&rule.path, deny, allow) {
        let by = denied.iter().filter(|denied| meets(&rule.path, &denied.0));
        let by = by.max_by_key(|denied| denied.0.len()).map(|denied| denied.told());
        let by = by.unwrap_or_default();
        findings
            .add(
                code::UNREACHABLE_RULE,
                &entry.path.mark,
                format!("the farm's `deny_paths` refuse everything under `{by}`"),
            )
            .help(format!("to publish it all the same: `allow_denied: [{by}]`"));
    }
    let plain = farm.plain_paths.as_ref().filter(|list| !list.items.is_empty() && !list.broken);
    let Some(plain) = plain.filter(|_| rule.schemes.http) else { return };
    if !plain.items.iter().any(|item| meets(&rule.path, &plain_path(item))) {
        let told: Vec<String> = plain.items.iter().map(At::told).collect();
        let mark = if entry.schemes.explicit { &entry.schemes.mark } else { &entry.path.mark };
        findings
            .add(
                code::UNREACHABLE_RULE,
                mark,
                "the farm's `plain_paths` keep every plain http request from it",
            )
            .help(format!("publish it on https; plain http may reach: {}", told.join(", ")));
    }
}
