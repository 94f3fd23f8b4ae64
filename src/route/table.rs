//! The rules of a site, laid out for looking up.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::rewrite;
use crate::site::{Action, FarmId, HostPattern, Listener, PathPattern, Rule, Site, path::under};

/// Finds rules by listener, host and path. Made once a site; the cost of a lookup depends on the
/// length of the host name and on how many paths that one host has, never on how many hosts exist.
#[derive(Debug)]
pub struct Table {
    listeners: Vec<Hosts>,
    domains: HashSet<Box<str>>,
}

impl Table {
    /// Lays out the rules of `site`.
    pub fn new(site: &Site) -> Self {
        let listeners = site.listeners.iter().map(|listener| Hosts::new(site, listener)).collect();
        let domain = |domain: &String| domain.trim_matches('.').to_lowercase().into_boxed_str();
        Self { listeners, domains: site.domains.iter().map(domain).collect() }
    }

    /// What is published under `host` (normalised) on a listener (its index in the site), by the
    /// most specific pattern that takes the host: exact, then the longest `prefix.*`, then the
    /// longest `*.suffix`. There is no second choice, so a more specific host never falls back.
    pub fn host(&self, listener: usize, host: &str) -> Option<&Paths> {
        let hosts = self.listeners.get(listener)?;
        hosts.exact.get(host).or_else(|| self.prefix(hosts, host)).or_else(|| suffix(hosts, host))
    }

    fn prefix<'t>(&self, hosts: &'t Hosts, host: &str) -> Option<&'t Paths> {
        if hosts.prefix_labels == 0 {
            return None;
        }
        let (last, _) = host.match_indices('.').take(hosts.prefix_labels).last()?;
        host.get(..=last)?.rmatch_indices('.').find_map(|(dot, _)| {
            let (prefix, rest) = (host.get(..dot)?, host.get(dot + 1..)?);
            hosts.prefix.get(prefix).filter(|_| self.is_domain(rest))
        })
    }

    /// Whether a host pattern takes `host` (normalised).
    pub(super) fn matches(&self, pattern: &HostPattern, host: &str) -> bool {
        let behind = |prefix: &str| host.strip_prefix(prefix)?.strip_prefix('.');
        match pattern {
            HostPattern::Exact(name) => **name == *host,
            HostPattern::Prefix(prefix) => behind(prefix).is_some_and(|rest| self.is_domain(rest)),
            HostPattern::Suffix(suffix) => parents(host).skip(1).any(|name| *name == **suffix),
        }
    }

    /// Whether `name` is one of the site's domains or lies under one, by whole labels.
    fn is_domain(&self, name: &str) -> bool {
        !name.is_empty()
            && (self.domains.is_empty()
                || parents(name).any(|parent| self.domains.contains(parent)))
    }
}

/// The paths of one host pattern on one listener.
#[derive(Debug, Default)]
pub struct Paths {
    /// Longest first, exact before prefix.
    entries: Vec<Entry>,
}

impl Paths {
    /// The rules for each path pattern that takes this reading of a path, the longest pattern
    /// first; of one pattern those with conditions, in file order, and then those without, which
    /// are equal but for their schemes.
    pub fn find(&self, reading: &[u8]) -> impl Iterator<Item = &[Arc<Rule>]> {
        self.entries
            .iter()
            .filter(move |entry| entry.takes(reading))
            .map(|entry| entry.rules.as_slice())
    }

    /// Every rule, those of longer paths first.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.entries.iter().flat_map(|entry| &entry.rules)
    }

    /// The farms that any path of this host leads to.
    pub fn farms(&self) -> impl Iterator<Item = FarmId> {
        self.rules().filter_map(|rule| match rule.action {
            Action::Forward(farm) => Some(farm),
            Action::Deny | Action::Redirect(_) | Action::Respond(_) => None,
        })
    }

    fn add(&mut self, rule: &Arc<Rule>) {
        let (exact, path) = match &rule.path {
            PathPattern::Any => (false, ""),
            PathPattern::Prefix(prefix) => (false, prefix.trim_end_matches('/')),
            PathPattern::Exact(path) => (true, &**path),
        };
        let path = rewrite::lower_case(path.as_bytes().to_vec());
        let same = |entry: &&mut Entry| entry.exact == exact && entry.path == path;
        match self.entries.iter_mut().find(same) {
            Some(entry) => entry.rules.push(Arc::clone(rule)),
            None => self.entries.push(Entry { exact, path, rules: vec![Arc::clone(rule)] }),
        }
    }

    fn sort(&mut self) {
        self.entries.sort_by_key(|entry| (std::cmp::Reverse(entry.path.len()), !entry.exact));
        for entry in &mut self.entries {
            entry.rules.sort_by_key(|rule| rule.when.is_empty());
        }
    }
}

#[derive(Debug)]
struct Entry {
    exact: bool,
    path: Vec<u8>,
    rules: Vec<Arc<Rule>>,
}

impl Entry {
    fn takes(&self, reading: &[u8]) -> bool {
        if self.exact {
            reading.eq_ignore_ascii_case(&self.path)
        } else {
            under(reading, &self.path)
        }
    }
}

/// The hosts of one listener.
#[derive(Debug, Default)]
struct Hosts {
    exact: HashMap<Arc<str>, Paths>,
    prefix: HashMap<Arc<str>, Paths>,
    suffix: HashMap<Arc<str>, Paths>,
    /// Labels of the longest prefix: longer ones need not be looked up.
    prefix_labels: usize,
}

impl Hosts {
    fn new(site: &Site, listener: &Listener) -> Self {
        let mut hosts = Self::default();
        let here = |rule: &&Arc<Rule>| {
            rule.listeners.as_ref().is_none_or(|names| names.contains(&listener.name))
        };
        for rule in site.rules.iter().filter(here) {
            let (map, name) = match &rule.host {
                HostPattern::Exact(name) => (&mut hosts.exact, name),
                HostPattern::Prefix(name) => {
                    hosts.prefix_labels = hosts.prefix_labels.max(name.split('.').count());
                    (&mut hosts.prefix, name)
                }
                HostPattern::Suffix(name) => (&mut hosts.suffix, name),
            };
            map.entry(Arc::clone(name)).or_default().add(rule);
        }
        for map in [&mut hosts.exact, &mut hosts.prefix, &mut hosts.suffix] {
            map.values_mut().for_each(Paths::sort);
        }
        hosts
    }
}

fn suffix<'t>(hosts: &'t Hosts, host: &str) -> Option<&'t Paths> {
    if hosts.suffix.is_empty() {
        return None;
    }
    parents(host).skip(1).find_map(|parent| hosts.suffix.get(parent))
}

/// A name and everything that it lies under, longest first.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::testing::{forward, site};

    fn found(table: &Table, host: &str) -> Option<String> {
        let rules = table.host(0, host)?.find(b"/").next()?;
        rules.first().map(|rule| rule.host.to_string())
    }

    #[test]
    fn exact_before_longest_prefix_before_longest_suffix() {
        let patterns =
            ["*.contoso.com", "*.emea.contoso.com", "meet.*", "meet.emea.*", "meet.us.contoso.com"];
        let rules = patterns.iter().map(|pattern| forward(pattern, "")).collect();
        let table = Table::new(&site(&["contoso.com"], rules));
        for (host, expected) in [
            ("meet.us.contoso.com", Some("meet.us.contoso.com")),
            ("meet.contoso.com", Some("meet.*")),
            ("meet.asia.contoso.com", Some("meet.*")),
            ("meet.emea.contoso.com", Some("meet.emea.*")),
            ("meet.x.emea.contoso.com", Some("meet.*")),
            ("owa.emea.contoso.com", Some("*.emea.contoso.com")),
            ("a.b.contoso.com", Some("*.contoso.com")),
            ("contoso.com", None),
            ("meet", None),
            ("meet.evil.example", None),
            ("meet.notcontoso.com", None),
            ("meet.contoso.com.evil.example", None),
            ("xmeet.fabrikam.com", None),
        ] {
            assert_eq!(found(&table, host).as_deref(), expected, "{host}");
            let takes = |text: &str| table.matches(&forward(text, "").host, host);
            assert_eq!(patterns.into_iter().any(takes), expected.is_some(), "{host}");
            assert!(expected.is_none_or(takes), "{host}");
        }
    }

    #[test]
    fn without_domains_the_star_is_anything_but_nothing() {
        let table = Table::new(&site(&[], vec![forward("meet.*", "")]));
        assert!(found(&table, "meet.any.example").is_some());
        assert_eq!(found(&table, "meet"), None);
    }

    #[test]
    fn the_longest_path_wins_and_exact_before_prefix() {
        let paths = ["", "/a", "/a/b", "=/a/b", "=/", "/größe"];
        let rules = paths.iter().map(|path| forward("h.x", path)).collect();
        let table = Table::new(&site(&[], rules));
        let name = |path: &str| {
            let rules = table.host(0, "h.x").unwrap().find(path.as_bytes()).next().unwrap();
            rules.first().unwrap().name.to_string()
        };
        assert_eq!(name("/A/B"), "h.x=/a/b");
        assert_eq!(name("/A/B/c"), "h.x/a/b");
        assert_eq!(name("/a/bc"), "h.x/a");
        assert_eq!(name("/"), "h.x=/");
        assert_eq!(name("/ab"), "h.x");
        assert_eq!(name("/größe/x"), "h.x/größe");
    }

    #[test]
    fn a_rule_exists_only_on_its_listeners() {
        let mut only_plain = forward("meet.x", "");
        only_plain.listeners = Some(vec!["plain".into()]);
        let table = Table::new(&site(&[], vec![only_plain]));
        assert!(table.host(0, "meet.x").is_none());
        assert!(table.host(1, "meet.x").is_some());
        assert!(table.host(7, "meet.x").is_none());
    }
}
