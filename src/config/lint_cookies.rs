//! Affinity cookies that overwrite each other.

use std::collections::{HashMap, HashSet};

use crate::{
    config::{code, compile::Compiled, diagnostic::Findings, model::publish, read::At},
    site::{Action, Affinity, FarmId, HostPattern, Site},
};

/// Warns where rules of one host lead to farms that use one cookie name for different servers: a
/// cookie says which server, so each farm would replace what the other one wrote.
pub(super) fn lint(entries: &[At<publish::Rule>], compiled: &Compiled, findings: &mut Findings) {
    let site = &compiled.site;
    // Of each host and cookie, the farms in the order of the rules.
    let mut used: HashMap<(&HostPattern, &str), Vec<FarmId>> = HashMap::new();
    let mut told: HashSet<(FarmId, FarmId)> = HashSet::new();
    let mut servers: HashMap<FarmId, HashSet<&str>> = HashMap::new();
    let mut apart: HashMap<(FarmId, FarmId), bool> = HashMap::new();
    for (rule, index) in site.rules.iter().zip(&compiled.written) {
        let Action::Forward(farm) = rule.action else { continue };
        let (Some(cookie), Some(entry)) = (cookie(site, farm), entries.get(*index)) else {
            continue;
        };
        let farms = used.entry((&rule.host, cookie)).or_default();
        if farms.contains(&farm) {
            continue;
        }
        servers.entry(farm).or_insert_with(|| names(site, farm));
        let own = servers.get(&farm);
        let disjoint = |other: &FarmId| {
            let pair = (farm.min(*other), farm.max(*other));
            *apart.entry(pair).or_insert_with(|| {
                own.zip(servers.get(other)).is_some_and(|(own, other)| own.is_disjoint(other))
            })
        };
        let other = farms.iter().copied().find(disjoint);
        farms.push(farm);
        let Some(other) = other.filter(|other| told.insert((*other, farm))) else { continue };
        let name = |farm: FarmId| site.farms.get(farm.0).map_or("", |farm| &*farm.name);
        let mark = entry.farm.as_ref().map_or(&entry.mark, |farm| &farm.mark);
        // SECURITY: the cookie's name may come from the environment, so it is not shown.
        let (other, farm) = (name(other), name(farm));
        let message =
            format!("farms `{other}` and `{farm}` share a host and a cookie name, but no server");
        findings
            .add(code::COOKIE_SHARED, mark, message)
            .help("give one of them a cookie of its own: `affinity: { cookie: NAME }`".to_string());
    }
}

fn cookie(site: &Site, farm: FarmId) -> Option<&str> {
    match &site.farms.get(farm.0)?.affinity {
        Affinity::Cookie(name) => Some(name),
        Affinity::None | Affinity::Source => None,
    }
}

fn names(site: &Site, farm: FarmId) -> HashSet<&str> {
    let servers = site.farms.get(farm.0).map_or(&[][..], |farm| farm.servers.as_slice());
    servers.iter().map(|server| &*server.name).collect()
}
